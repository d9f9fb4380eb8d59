"""A trace: one pass gives the tensors that every method and both axioms need.

`compute_trace` runs the trunk and the head of a cut model on a batch and returns a `Trace`. The
trace holds the pass's tensors, and computes ablation drops and other passes on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.ablation.drops import Drops, within
from axiom_bench.cutting.graph_parts import Sides
from axiom_bench.cutting.images import (
    OtherInputs,
    are_several,
    bound,
    checked_images,
    checked_targets,
    network_errors,
    separate_inputs,
)
from axiom_bench.cutting.interventions import (
    MAX_ROWS,
    Part,
    Parts,
    checked_interventions,
    checked_other_images,
    effects,
    shapley_values,
)
from axiom_bench.cutting.joined import JoinedPass, JoinedPasses, JoinedRows
from axiom_bench.cutting.numerics import axes, dead_channels, generators
from axiom_bench.cutting.passes import Passes, full_precision
from axiom_bench.cutting.split_model import CachesResults, SplitModel, TracedNetwork
from axiom_bench.cutting.trunk_and_head import Capture, cast
from axiom_bench.errors import BenchError, is_out_of_memory

# images, or several inputs of which one is explained
Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
AnyTargets = Tensor | Sequence[int] | None  # None: the predicted classes

# The fields and cached properties of a Trace that have one row per image, so that a slice of the
# trace slices them.
TENSORS = ("images", "activations", "gradients", "scores", "logits", "targets")
OPTIONAL = ("interventions", "other_images", "first_images")
COMPUTED = ("drops", "ablation_drops", "part_effects", "part_shapley_values", "true_contributions")


@dataclass(frozen=True, eq=False)
class Trace(CachesResults):
    """The detached tensors of one batch. `trace[i:j]` is the trace of some of its images.

    Attributes:
        images: The images, (B, 3, H', W'). Signals are (B, C, L'), volumes (B, C, D', H', W').
        activations: F, (B, K, H, W), (B, K, L) or (B, K, D, H, W).
        gradients: g = dS/dF, in the shape of the activations.
        scores: S, (B,), the explained scores: the class's pre-softmax logit unless the cut has
            another output.
        logits: The logits, (B, C). Their softmax is the probability of each class.
        targets: The explained classes, (B,).
        network: Trunk and head, for passes over other activations and images of these rows.
        num_padding: The number of padded rows at the end, which repeat the last valid row; see
            `per_image`.
        interventions: The parts of each row's image, with versions of the image without each part.
            None if nothing needs them.
        other_images: Another image of the data set for each row, (B, 3, H', W'). None if nothing
            needs them.
        first_images: The images of the trace that `again` or `at` derived this trace from, which
            seed `generators`. None if the trace isn't derived.
        image_ids: The id of each row. None if the caller gave none, and for derived traces, which
            have other images.
        joined: The passes that rows of one image share. None if each row has passes of its own.
    """

    images: Tensor
    activations: Tensor
    gradients: Tensor
    scores: Tensor
    logits: Tensor
    targets: Tensor
    network: TracedNetwork
    num_padding: int = 0
    interventions: tuple[Parts, ...] | None = None
    other_images: Tensor | None = None
    first_images: Tensor | None = None
    image_ids: tuple[str, ...] | None = None
    joined: JoinedPasses | None = None
    _results: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        names = ("images", "activations", "logits")
        shapes = ", ".join(f"{name} {tuple(getattr(self, name).shape)}" for name in names)
        kind = f"{str(self.dtype).removeprefix('torch.')}, {self.images.device}"
        padding = f", num_padding {self.num_padding}" if self.num_padding else ""
        return f"Trace({shapes}, layer {self.layer!r}, {kind}{padding})"

    @property
    def has_gradients(self) -> bool:
        """True if any gradient of the valid rows isn't zero.

        If all are zero, maps that are made of gradients say nothing.
        """
        return bool(self.gradients[: self.num_valid].any())

    def __getitem__(self, rows: slice) -> Trace:
        if not isinstance(rows, slice):
            raise BenchError(
                f"Invalid index {rows!r} of a trace; give a slice, such as trace[0:1] for the "
                "first image."
            )
        fields: dict[str, Any] = {}
        for name in (*TENSORS, "network", "joined", *OPTIONAL, "image_ids"):
            value = getattr(self, name)
            if value is not None:
                fields[name] = value[rows]
        # The padded rows repeat the last valid row. Of these equal rows, the first that is selected
        # counts as valid.
        index = torch.arange(len(self))[rows]
        num_equal = int((index >= self.num_valid - 1).sum())
        part = replace(self, **fields, num_padding=max(0, num_equal - 1))
        for name in COMPUTED:
            if name in vars(self):
                value = vars(self)[name]
                vars(part)[name] = None if value is None else value[rows]
        for key, value in self._results.items():
            part._results[key] = value[rows]
        return part

    @property
    def cut_model(self) -> SplitModel:
        """The cut model that made the trace."""
        return self.network.cut_model

    @property
    def other_inputs(self) -> OtherInputs:
        """The network's inputs other than the images, (B, ...) each, in the given order."""
        return self.network.other_inputs

    @property
    def layer(self) -> str:
        """The dotted name of the target layer."""
        return self.cut_model.layer

    @property
    def dimensions(self) -> int:
        """The number of spatial axes: 1 for signals, 2 for images, 3 for volumes."""
        return self.activations.ndim - 2

    @property
    def dtype(self) -> torch.dtype:
        """The type of the activations and scores."""
        return self.activations.dtype

    @property
    def has_probability(self) -> bool:
        """True if a softmax over the logits is a probability.

        That holds for two or more classes that exclude each other.
        """
        return self.cut_model.output.softmax and self.logits.shape[1] > 1

    @property
    def passes(self) -> Passes:
        """The passes since the cut was made, counted in images.

        All traces of a cut share this count.
        """
        return self.cut_model.passes

    @property
    def num_valid(self) -> int:
        """The number of valid rows, which come before the padded rows."""
        return len(self) - self.num_padding

    @cached_property
    def classes_on_cpu(self) -> tuple[Tensor, Tensor]:
        """The explained classes (B,) and the classes of the highest logits (B,), on the CPU.

        Both are brought there in one copy.

        A copy from a GPU waits until all its work is done.
        """
        explained, predicted = torch.stack([self.targets, self.logits.argmax(1)]).cpu()
        return explained, predicted

    def per_image(self, compute: Callable[[int], Tensor]) -> Tensor:
        """Call a function for one valid row at a time, and stack the results.

        Args:
            compute: A function from the number of a row to its result, (...).

        Returns:
            The results, (B, ...). Padded rows repeat the last valid row's result.
        """
        rows = [compute(row) for row in range(self.num_valid)]
        return torch.stack(rows + rows[-1:] * self.num_padding)

    def generators(self, seed: int | str, rows: slice = slice(None)) -> list[torch.Generator]:
        """Return a CPU generator for each image of these rows.

        Its seed is made of `seed` and the image's pixels as first traced.

        The explanation of a perturbed copy thus draws the same numbers as the explanation of its
        image, on every device and at every batch size. The two explanations differ only by the
        effect of the perturbation.

        Args:
            seed: A number or name that all the generators share.
            rows: The rows of the trace; all by default.
        """
        first_images = self.images if self.first_images is None else self.first_images
        return generators(first_images[rows], seed)

    def head(self, activations: Tensor, rows: Tensor | None = None) -> Tensor:
        """Run the head on any activations at the layer.

        Args:
            activations: The activations, (R, K, H, W).
            rows: The image of each row of activations, (R,). None: one row per image, in order.

        Returns:
            The outputs, (R, C): logits unless the cut has another output.
        """
        return self.network.head(activations, rows)

    @full_precision()
    def gradient_of(self, scores: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute the gradient of other scores with respect to the activations, d scores / dF.

        This costs a backward pass through the head. It also costs a forward pass if the trace's own
        was too large to be kept.

        Args:
            scores: A differentiable function from the outputs (B, C) to scores (B,).

        Returns:
            The gradient, (B, K, H, W).
        """
        with torch.inference_mode(False), torch.enable_grad():
            leaf, outputs = self.network.head_pass(self.activations)
            (gradient,) = torch.autograd.grad(scores(outputs).sum(), leaf, retain_graph=True)
        return gradient

    def forward(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Run the whole model on other images.

        The outputs are differentiable with respect to the images.

        Args:
            images: The images, (R, 3, H', W').
            rows: The row of the trace whose `other_inputs` each image gets, (R,), for networks with
                several inputs. None: one image per row, in order.

        Returns:
            The outputs, (R, C). Column c is the score S of class c.
        """
        return self.network.forward(images, rows)

    def linear_head(self) -> Tensor:
        """Return the weight of the final layer, (C, K).

        Raises:
            BenchError: If the head isn't global average pooling and one linear layer.
        """
        return self.network.linear_head(self.activations)

    @cached_property
    def ablation_drops(self) -> Tensor:
        """The drop S - S_k of the score when channel k is set to zero, (B, K).

        Computed on first use.

        A dead channel's drop is 0. All drops are exact, unless the cut has a budget,
        `ablation_channels`.
        """
        return self.drops.values

    @cached_property
    @torch.inference_mode(False)
    @torch.no_grad()
    def drops(self) -> Drops:
        """The `ablation_drops`, with which of them are exact, and the error of the others.

        Computed on first use.
        """
        budget = self.cut_model.ablation_channels
        if budget is None or self._has_free_drops():
            values = self._ablate()
            return Drops(
                values=values,
                exact=torch.ones_like(values, dtype=torch.bool),
                error=values.new_zeros(len(values)),
            )
        gradient_times_input = self.gradients * self.activations
        return within(
            channels=budget,
            first_order=gradient_times_input.sum(axes(self.activations)),
            dead=dead_channels(self.activations),
            draws=self.generators("ablation_channels"),
            ablate=self._ablate,
        )

    def _has_free_drops(self) -> bool:
        """Return True if all drops cost less than a head pass, so that a budget saves nothing."""
        if self.joined is None:
            return self.network.has_free_drops(self.activations)
        return all(each.network.has_free_drops(each.activations) for each in self.joined)

    def _ablate(self, channels: Tensor | None = None) -> Tensor:
        """Compute the drops of these channels, (B, K) bool, or of all: (B, K)."""
        if self.joined is None:
            targets = self.targets[:, None]
            return self.network.ablation_drops(self.activations, targets, channels)[:, 0]
        return self.network.output_scale * self.joined.drops(self.targets, channels)

    @property
    def drops_cost(self) -> float:
        """The cost of all drops of an image in forward passes.

        It is estimated from the work of two drops. Rows that share passes share this cost.
        """
        network = self.network if self.joined is None else self.joined.passes[0].network
        cost = partial(network.drops_cost, self.activations, self.targets)
        return self.cut_model.once("drops cost", cost)

    @property
    def capture(self) -> Capture:
        """The way in which the model was split, and the reason why no faster way was possible."""
        return self.cut_model.trunk_and_head.capture

    @cached_property
    def true_contributions(self) -> Tensor | None:
        """The exact contribution of each channel and position, (B, K, H, W).

        It is None if the model can't compute it.

        `TracedNetwork.true_contributions` has the conditions.
        """
        return self.network.true_contributions(self.activations, self.targets)

    @cached_property
    @torch.inference_mode(False)
    @torch.no_grad()
    def part_effects(self) -> tuple[Tensor, ...]:
        """The drop in S when a part of `interventions` is removed, for each row (n_parts,).

        Computed on first use.

        The drop is S minus the mean of S over the part's versions. S is the score of this trace's
        model and target. Each version costs a forward pass.

        Raises:
            BenchError: If the trace has no interventions.
        """
        return self._values_of_parts(effects)

    @cached_property
    @torch.inference_mode(False)
    @torch.no_grad()
    def part_shapley_values(self) -> tuple[Tensor, ...]:
        """The Shapley value of each part, for each row (n_parts,).

        See `interventions.shapley_values`.

        n parts have 2^n - 1 sets that can be removed, each in as many versions as its parts have.
        Each version costs a forward pass.

        Raises:
            BenchError: If `interventions.shapley_values` raises it, or if the trace has no
                interventions.
        """
        return self._values_of_parts(shapley_values)

    def _values_of_parts(self, compute: Callable[..., tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Compute `effects` or `shapley_values` for this trace's rows.

        Padded rows repeat the values of the last valid row.
        """
        if self.interventions is None:
            raise BenchError(
                "This needs versions of the images without their parts, and these images have "
                "none; choose a data set that offers interventions, such as data=scenes, or pass "
                "axiom_bench.Batch(interventions=...)."
            )

        def score(images: Tensor, rows: Tensor) -> Tensor:
            return self.forward(images, rows).gather(1, self.targets[rows, None])[:, 0]

        limit = min(self.cut_model.rows_at_once(self.images[0]), MAX_ROWS)
        rows_at_once = 2 ** (limit.bit_length() - 1)  # the largest power of two within the limit
        parts = self.interventions[: self.num_valid]
        images = self.images[: len(parts)]
        scores = self.scores[: len(parts)]
        values = compute(images, scores, parts, score, rows_at_once, self.passes)
        return values + values[-1:] * self.num_padding

    def at(self, layer: str) -> Trace:
        """Trace the same images and targets at another layer of the same model.

        Passes are counted together.

        Args:
            layer: A dotted module name.
        """
        trace = compute_trace(
            self.cut_model.at(layer), self.images, self.targets, others=self.other_inputs
        )
        trace = self._with_extras(trace, self.num_padding)
        output_scale = self.network.output_scale
        return trace if output_scale == 1 else trace.scaled(output=output_scale)

    def again(
        self,
        images: Tensor | None = None,
        targets: Tensor | None = None,
        model: nn.Module | SplitModel | None = None,
        other_inputs: OtherInputs | None = None,
    ) -> Trace:
        """Trace other images, classes, other inputs, or another model at the same layer.

        None keeps this trace's.

        The new trace is padded like this one if its rows end in equally many equal rows; otherwise
        it isn't padded. If it has as many images as this trace, they count as versions of these
        images, row by row. The versions share the draws of these images; see `generators`.

        Args:
            images: The images, (R, 3, H', W').
            targets: The class indices, (R,).
            model: Another model, or a cut model of it from `cut_model.on(model)`. Passes are
                counted together.
            other_inputs: The network's inputs other than the images, (R, ...) each.
        """
        if isinstance(model, nn.Module):
            model = self.cut_model.on(model)
        cut_model = model or self.cut_model
        images = self.images if images is None else images
        targets = self.targets if targets is None else targets
        others = self.other_inputs if other_inputs is None else other_inputs
        trace = compute_trace(cut_model, images, targets, others=others)
        # The caller may have given each padded row another image. Then these rows count too.
        is_padded = len(images) == len(self)
        for values in (images, targets, *others):
            last_rows = values[self.num_valid - 1 :]
            is_padded = is_padded and bool((last_rows == last_rows[:1]).all())
        return self._with_extras(trace, self.num_padding if is_padded else 0)

    def _with_extras(self, trace: Trace, num_padding: int) -> Trace:
        """Set the padded rows of a derived trace.

        If it has as many rows, also copy the OPTIONAL fields of this one.
        """
        if len(trace) != len(self):
            return replace(trace, num_padding=num_padding)
        extras: dict[str, Any] = {name: getattr(self, name) for name in OPTIONAL}
        if self.first_images is None:
            extras["first_images"] = self.images
        return replace(trace, num_padding=num_padding, **extras)

    def scaled(self, output: float = 1.0, inputs: float = 1.0) -> Trace:
        """Return the trace of the same network with other scales of its scores and activations.

        A method on the score's scale follows `output`. `inputs` changes no map, since the head
        undoes it.

        Args:
            output: A factor of the scores.
            inputs: A factor of the activations, by which the head divides its input.
        """
        logits = self.logits
        if self.cut_model.output.are_logits:
            logits = logits * output
        return replace(
            self,
            activations=self.activations * inputs,
            gradients=self.gradients * (output / inputs),
            scores=self.scores * output,
            logits=logits,
            network=self.network.scaled(output, inputs),
        )


@dataclass(frozen=True)
class RowsOfImages:
    """The neighbouring rows of a trace that share an image.

    An image may have one row for each of its labels. A perturbed copy of the image is then
    classified once for all of these rows.
    """

    numbers: Tensor  # (B,), the number of each row's image; on the CPU
    places: Tensor  # (B,), the place of each row among the rows of its image; on the CPU
    # (B, most), the classes of all rows of a row's image, by place. If the image has fewer rows,
    # other classes follow.
    classes: Tensor

    def __getitem__(self, rows: slice) -> RowsOfImages:
        return RowsOfImages(self.numbers[rows], self.places[rows], self.classes[rows])


def rows_of_images(trace: Trace) -> RowsOfImages:
    """Find the rows of a trace that share an image, comparing the images once.

    Padded rows count as the last valid row.

    All images of a derived trace count as different. If two are equal, they may be versions of
    different first images, and then draw different numbers; see `Trace.generators`.
    """

    def compare() -> RowsOfImages:
        num_valid = trace.num_valid
        is_first = torch.ones(num_valid, dtype=torch.bool)  # the first row of an image
        if trace.first_images is None:
            changes = []
            for values in (trace.images, *trace.other_inputs):
                flat = values[:num_valid].reshape(num_valid, -1)
                changes.append((flat[1:] != flat[:-1]).any(1))
            is_first[1:] = torch.stack(changes).any(0).cpu()
        numbers = is_first.cumsum(0) - 1
        firsts = is_first.nonzero()[:, 0][numbers]
        places = torch.arange(num_valid) - firsts
        most = int(places.max()) + 1
        image_rows = (firsts[:, None] + torch.arange(most)).clamp(max=num_valid - 1)
        padded = torch.arange(len(trace)).clamp(max=num_valid - 1)
        classes = trace.targets[image_rows[padded].to(trace.targets.device)]
        return RowsOfImages(numbers[padded], places[padded], classes)

    return trace.once("rows of images", compare)


@full_precision()
def compute_trace(
    cut_model: SplitModel,
    images: Inputs,
    targets: AnyTargets,
    interventions: Sequence[Sequence[Part]] | None = None,
    other_images: Tensor | None = None,
    explained: int | str | None = None,
    others: OtherInputs = (),
) -> Trace:
    """Run one trunk pass, one head pass and its gradient. CutModel.trace documents the arguments.

    `others` are the other inputs if `images` is a tensor, and are ignored otherwise.
    """
    model = cut_model.model
    if are_several(images, model):
        inputs, images, others = separate_inputs(model, images, explained)
        cut_model.take(inputs)
    images = checked_images(images, model).to(cut_model.device, cut_model.dtype)
    cut_model = cut_model.for_size(images)
    with torch.inference_mode(False):
        # A tensor of inference mode can't be part of an autograd graph.
        images = images.clone() if images.is_inference() else images.detach()
        copied_others = tuple(values.detach().to(images.device, copy=True) for values in others)
        others = cast(copied_others, cut_model.others_dtype)
        joined = _joined_rows(cut_model, images, others)
        if joined:
            trace = _trace_joined_rows(cut_model, images, others, targets, joined)
        else:
            trace = _trace_rows(cut_model, images, others, targets)
    if interventions is not None:
        trace = replace(trace, interventions=checked_interventions(interventions, images))
    if other_images is not None:
        trace = replace(trace, other_images=checked_other_images(other_images, images))
    return trace


def _trace_rows(
    cut_model: SplitModel, images: Tensor, others: OtherInputs, targets: AnyTargets
) -> Trace:
    """Trace images with passes of their own."""
    activations, network_logits, network = _run(cut_model, images, others)
    with torch.enable_grad():
        outputs = cut_model.compute_outputs(network_logits)
        logits = cut_model.explained_logits(network_logits)
    targets = logits.argmax(1) if targets is None else checked_targets(targets, logits)
    scores = outputs.gather(1, targets[:, None])[:, 0]
    keeps_graph = network.head_values is not None
    gradients = _gradients(cut_model, scores, activations, network.sides, keeps_graph)
    return Trace(
        images=images,
        activations=activations.detach(),
        gradients=gradients,
        scores=scores.detach(),
        logits=logits.detach(),
        targets=targets,
        network=replace(network, kept_pass=(activations, outputs)) if keeps_graph else network,
    )


def _trace_joined_rows(
    cut_model: SplitModel,
    images: Tensor,
    others: OtherInputs,
    targets: AnyTargets,
    joined: Sequence[JoinedRows],
) -> Trace:
    """Trace images of which neighbouring rows share passes.

    Each image runs alone, so that its values don't depend on the others of a batch.
    """
    network = joined[0].network
    joined_cut = cut_model.once("joined rows", lambda: cut_model.on_same_modules(network))
    joined_cut = joined_cut.for_size(images)
    passes = []
    for rows in joined:
        activations, outputs, traced = _run(joined_cut, rows.image, (rows.inputs,))
        passes.append(JoinedPass(rows, traced, activations, outputs))
    logits = torch.cat([each.rows.logits(each.outputs) for each in passes])
    targets = logits.argmax(1) if targets is None else checked_targets(targets, logits)
    scores = logits.gather(1, targets[:, None])[:, 0]
    sizes = [len(rows) for rows in joined]
    image_of_row = torch.arange(len(joined)).repeat_interleave(torch.tensor(sizes))
    activations_by_image = torch.cat([each.activations.detach() for each in passes])
    of_passes = zip(passes, scores.split(sizes), targets.split(sizes), strict=True)
    gradients = [_joined_gradients(joined_cut, *arguments) for arguments in of_passes]
    traced_network = TracedNetwork(
        cut_model=cut_model,
        kept_sides=None,
        images=images,
        batch=len(images),
        other_inputs=others,
    )
    return Trace(
        images=images,
        activations=activations_by_image[image_of_row],
        gradients=torch.cat(gradients),
        scores=scores.detach(),
        logits=logits.detach(),
        targets=targets,
        network=traced_network,
        joined=JoinedPasses(tuple(each.without_graph() for each in passes)),
    )


def _joined_gradients(
    joined_cut: SplitModel, joined: JoinedPass, scores: Tensor, targets: Tensor
) -> Tensor:
    """Compute the gradient of each row's score, (R, K, *space). Equal rows share a pass."""
    gradients: dict[tuple[int, ...], Tensor] = {}
    keys = [(*row, target) for row, target in zip(joined.rows.keys, targets.tolist(), strict=True)]
    for key, score in zip(keys, scores, strict=True):
        if key not in gradients:
            sides = joined.network.sides
            gradients[key] = _gradients(joined_cut, score, joined.activations, sides, True)
    return torch.cat([gradients[key] for key in keys])


def _joined_rows(
    cut_model: SplitModel, images: Tensor, others: OtherInputs
) -> Sequence[JoinedRows]:
    """Split the model, and return the rows that share passes; none if each needs its own."""
    # a user's network may have a part of its own that is called `joined`
    if not hasattr(cut_model.model, "of_objects"):
        return ()
    with _running(cut_model, images, others):
        cut_model.split(images)
    if cut_model.trunk_and_head.output is not None:
        return ()
    network: Any = cut_model.model
    rows: Sequence[JoinedRows] = network.joined(images, *others)
    return rows


def _run(
    cut_model: SplitModel, images: Tensor, others: OtherInputs
) -> tuple[Tensor, Tensor, TracedNetwork]:
    """Run trunk and head.

    Returns:
        The activations, the network's logits (B, C) in their autograd graph, and the traced
        network.
    """
    with _running(cut_model, images, others):
        cut_model.split(images)
        # without a gradient: g = dS/dF needs that of the head only
        with torch.no_grad():
            activations, sides = cut_model.trunk(images, *others)
    activations = activations.detach().requires_grad_()
    with torch.enable_grad():
        logits, values = cut_model.head_with_values(activations, sides)
    network = TracedNetwork(
        cut_model=cut_model,
        kept_sides=sides,
        batch=len(images),
        head_values=values,
        other_inputs=others,
    )
    return activations, logits, network


@contextmanager
def _running(cut_model: SplitModel, images: Tensor, others: OtherInputs) -> Iterator[None]:
    """Bind the first image's other inputs, and turn the network's own errors into BenchErrors."""
    model = cut_model.model
    first_others = tuple(values[:1] for values in others)
    with bound(model, first_others), network_errors(model, images[:1]):
        yield


def _gradients(
    cut_model: SplitModel, scores: Tensor, activations: Tensor, sides: Sides, keeps_graph: bool
) -> Tensor:
    """Compute dS/dF, (B, K, H, W), or raise BenchError if there is no gradient."""
    if not scores.requires_grad and cut_model.output.function is not None:
        raise BenchError(
            f"The scores of the output function {cut_model.output.name} have no gradient; "
            "compute them without detach, no_grad, item or NumPy."
        )
    network = type(getattr(cut_model.model, "module", cut_model.model)).__name__
    gradients = None
    if scores.requires_grad:
        try:
            (gradients,) = torch.autograd.grad(
                scores.sum(), activations, retain_graph=keeps_graph, allow_unused=True
            )
        except Exception as error:  # a network's own backward pass may raise anything
            if is_out_of_memory(error):
                raise
            if "modified by an inplace operation" in str(error):
                raise BenchError(
                    f"{network} changes a tensor in place that its gradient needs; let its "
                    "forward change a clone() of it, or give read= (of objects) or output= a "
                    "function of what it was before."
                ) from error
            raise BenchError(
                f"The gradient of {network} fails ({str(error).splitlines()[0]}); change "
                "the network so that model(images)[0, 0].backward() runs, for "
                "images.requires_grad_()."
            ) from error
    if gradients is None:
        maps = activations.detach()
        # they do depend on the layer
        if not torch.equal(cut_model.head(maps, sides), cut_model.head(maps + 1, sides)):
            raise BenchError(
                f"The scores of {network} depend on the layer {cut_model.layer!r} and have no "
                "gradient there; compute them without detach, no_grad, inference_mode, item or "
                "NumPy."
            )
        raise BenchError(
            f"The scores don't depend on the layer {cut_model.layer!r}; choose one nearer to the "
            "output."
        )
    return gradients
