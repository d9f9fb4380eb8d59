"""The cut and its Trace: the tensors of one pass through a cut model, enough for every method and both axioms."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.ablation.drops import Drops, within
from axiom_bench.cutting.images import (
    OtherInputs,
    PixelsGiven,
    are_several,
    bound,
    checked_images,
    checked_targets,
    failures_of,
    pixels_note,
    taken_apart,
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
from axiom_bench.cutting.model_copy import check_finite, check_shapes
from axiom_bench.cutting.numerics import axes, dead_channels, generators
from axiom_bench.cutting.output import AnyOutput
from axiom_bench.cutting.passes import Passes, full_precision
from axiom_bench.cutting.split_model import GIBIBYTE, CachesResults, SplitModel, TracedNetwork
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trunk_and_head import Capture, cast
from axiom_bench.errors import BenchError, is_out_of_memory

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]  # images, or several inputs of which one is explained
TENSORS = ("images", "activations", "gradients", "scores", "logits", "targets")
OPTIONAL = ("interventions", "other_images", "first_images")
COMPUTED = ("drops", "ablation_drops", "part_effects", "part_shapley_values", "true_contributions")


@dataclass(frozen=True, eq=False)
class Trace(CachesResults):
    """Detached tensors of one batch. `trace[i:j]` is the trace of some of its images.

    Attributes:
        images: (B, 3, H', W'); of signals (B, C, L'), of volumes (B, C, D', H', W').
        activations: F, (B, K, H, W), (B, K, L) or (B, K, D, H, W).
        gradients: g = dS/dF, of the shape of the activations.
        scores: S, (B,), what is explained: the class's pre-softmax logit unless the cut has another output.
        logits: (B, C), whose softmax is the probability of each class.
        targets: (B,), the explained classes.
        network: trunk and head for other activations and images of these rows.
        num_padding: number of padded rows at the end, which repeat the last valid row; see `per_image`.
        interventions: per row the image's parts with versions of it without each; None where nothing asks for them.
        other_images: (B, 3, H', W'), another image of the data set for each row; None as above.
        first_images: those of the trace that `again` or `at` derived this one from: they seed `generators`; or None.
        image_ids: of each row; None where nobody gave any, and of derived traces, which are of other images.
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
        """Whether a gradient of the valid rows isn't zero."""
        return bool(self.gradients[: self.num_valid].any())

    def __getitem__(self, rows: slice) -> Trace:
        if not isinstance(rows, slice):
            raise BenchError(
                f"Invalid index {rows!r} of a trace; give a slice, such as trace[0:1] for the first image."
            )
        index = torch.arange(len(self))[rows]
        values = {name: getattr(self, name) for name in (*TENSORS, "network", *OPTIONAL, "image_ids")}
        changed: dict[str, Any] = {name: value[rows] for name, value in values.items() if value is not None}
        part = replace(self, **changed, num_padding=max(0, int((index >= self.num_valid - 1).sum()) - 1))
        computed = {name: vars(self)[name] for name in COMPUTED if name in vars(self)}
        vars(part).update({name: None if value is None else value[rows] for name, value in computed.items()})
        part._results.update({key: value[rows] for key, value in self._results.items()})
        return part

    @property
    def cut_model(self) -> SplitModel:
        """The cut model that the trace is of."""
        return self.network.cut_model

    @property
    def other_inputs(self) -> OtherInputs:
        """What the network takes beside the images, (B, ...) each, in the order in which they were given."""
        return self.network.others

    @property
    def layer(self) -> str:
        """The dotted name of the target layer."""
        return self.cut_model.layer

    @property
    def dimensions(self) -> int:
        """How many axes of space the activations have: 1 of signals, 2 of images, 3 of volumes."""
        return self.activations.ndim - 2

    @property
    def dtype(self) -> torch.dtype:
        """The type of activations and scores."""
        return self.activations.dtype

    @property
    def has_probability(self) -> bool:
        """Whether a softmax over the logits is a probability: of two or more classes that exclude each other."""
        return self.cut_model.output.softmax and self.logits.shape[1] > 1

    @property
    def passes(self) -> Passes:
        """Passes counted since the cut was made, in images; shared by all traces of a cut."""
        return self.cut_model.passes

    @property
    def num_valid(self) -> int:
        """Number of valid rows: the first ones, before the padded rows."""
        return len(self) - self.num_padding

    @cached_property
    def classes_on_cpu(self) -> tuple[Tensor, Tensor]:
        """The explained classes (B,) and those of the highest logits (B,), brought to the CPU in one copy."""
        explained, predicted = torch.stack([self.targets, self.logits.argmax(1)]).cpu()
        return explained, predicted

    def per_image(self, compute: Callable[[int], Tensor]) -> Tensor:
        """compute(row) -> (...) for each valid row, one at a time; padded rows repeat the last: (B, ...)."""
        rows = [compute(row) for row in range(self.num_valid)]
        return torch.stack(rows + rows[-1:] * self.num_padding)

    def generators(self, seed: int | str, rows: slice = slice(None)) -> list[torch.Generator]:
        """A CPU generator for each image of these rows, seeded by `seed` and the image's pixels as first traced.

        The explanation of a perturbed copy draws what that of the image drew, on every device and at every batch size,
        and so the two differ by what the perturbation does.
        """
        first = self.images if self.first_images is None else self.first_images
        return generators(first[rows], seed)

    def head(self, activations: Tensor, rows: Tensor | None = None) -> Tensor:
        """Outputs (R, C), logits unless the cut has another output, for any activations (R, K, H, W) at the layer.

        rows: (R,) the image that each row of activations belongs to; None for one row per image, in order.
        """
        return self.network.head(activations, rows)

    @full_precision()
    def gradient_of(self, scores: Callable[[Tensor], Tensor]) -> Tensor:
        """d scores / dF, (B, K, H, W), of other scores (B,) that the outputs (B, C) are made into.

        Costs a head pass backward; forward too where the trace's own is too large to be kept.
        """
        with torch.inference_mode(False), torch.enable_grad():
            leaf, outputs = self.network.head_pass(self.activations)
            (gradient,) = torch.autograd.grad(scores(outputs).sum(), leaf, retain_graph=True)
        return gradient

    def forward(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Outputs (R, C) of the whole model for other images, differentiable in them: column c is their S.

        rows: (R,) the row of the trace whose `other_inputs` each image has, for networks that take several inputs; None
        for one image per row, in order.
        """
        return self.network.forward(images, rows)

    def linear_head(self) -> Tensor:
        """The final layer's weight (C, K). Raises BenchError unless the head is global average pooling + linear."""
        return self.network.linear_head(self.activations)

    @cached_property
    def ablation_drops(self) -> Tensor:
        """S - S_k for each channel k set to zero: (B, K), exact unless the cut has a budget, `ablation_channels`; 0 for
        a dead channel. Computed on first use."""
        return self.drops.values

    @cached_property
    @torch.inference_mode(False)
    @torch.no_grad()
    def drops(self) -> Drops:
        """`ablation_drops`, which of them are exact, and the error of the others. Computed on first use."""
        budget = self.cut_model.ablation_channels
        if budget is None or self.network.has_free_drops(self.activations):
            values = self.network.ablation_drops(self.activations, self.targets)
            return Drops(values, torch.ones_like(values, dtype=torch.bool), values.new_zeros(len(values)))
        first_order = (self.gradients * self.activations).sum(axes(self.activations))
        dead = dead_channels(self.activations)
        ablate = partial(self.network.ablation_drops, self.activations, self.targets)
        return within(budget, first_order, dead, self.generators("ablation_channels"), ablate)

    @property
    def drops_cost(self) -> float:
        """Forward passes that all drops of an image cost, estimated from the work of two of them."""
        cost = partial(self.network.drops_cost, self.activations, self.targets)
        return self.cut_model.once("drops cost", cost)

    @property
    def capture(self) -> Capture:
        """How the model was split, and why no faster way was possible."""
        return self.cut_model.trunk_and_head.capture

    @cached_property
    def true_contributions(self) -> Tensor | None:
        """The exact contribution of each channel and position, (B, K, H, W); see TracedNetwork.true_contributions."""
        return self.network.true_contributions(self.activations, self.targets)

    @cached_property
    @torch.inference_mode(False)
    @torch.no_grad()
    def part_effects(self) -> tuple[Tensor, ...]:
        """Per row S - S without each part of `interventions`, the mean over the part's versions: (n_parts,) each.

        S is of this trace's model and target. Each version is a forward pass. Computed on first use.
        Raises BenchError where the trace has no interventions.
        """
        return self._of_parts(effects)

    @cached_property
    @torch.inference_mode(False)
    @torch.no_grad()
    def part_shapley_values(self) -> tuple[Tensor, ...]:
        """Per row the Shapley value of each part, (n_parts,) each; see `interventions.shapley_values`.

        n parts have 2^n - 1 sets to be without, of each as many versions as its parts: as many forward passes.
        Raises BenchError as that, and where the trace has no interventions.
        """
        return self._of_parts(shapley_values)

    def _of_parts(self, values: Callable[..., tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """`effects` or `shapley_values` of this trace's rows."""
        if self.interventions is None:
            raise BenchError(
                "This needs versions of the images without their parts, and these images have none; choose a data set "
                "that offers interventions, such as data=scenes, or pass axiom_bench.Batch(interventions=...)."
            )
        limit = min(self.cut_model.rows_at_once(self.images[0]), MAX_ROWS)

        def score(images: Tensor, index: Tensor) -> Tensor:
            return self.forward(images, index).gather(1, self.targets[index, None])[:, 0]

        rows, parts = 2 ** (limit.bit_length() - 1), self.interventions[: self.num_valid]
        images, scores = self.images[: len(parts)], self.scores[: len(parts)]
        answer = values(images, scores, parts, score, rows, self.passes)
        return answer + answer[-1:] * self.num_padding

    def at(self, layer: str) -> Trace:
        """The trace of the same images and targets at another layer of the same model; passes are counted together."""
        other = trace_of(self.cut_model.at(layer), self.images, self.targets, others=self.other_inputs)
        other = self._with_extras(other, self.num_padding)
        return other if self.network.output_scale == 1 else other.scaled(output=self.network.output_scale)

    def again(
        self,
        images: Tensor | None = None,
        targets: Tensor | None = None,
        model: nn.Module | SplitModel | None = None,
        other_inputs: OtherInputs | None = None,
    ) -> Trace:
        """The trace of other images, classes or other inputs, or of another model at the same layer; None keeps this
        trace's.

        model: another model, or a cut model of it, as `cut_model.on(model)` gives. Passes are counted together.
        The padded rows are as many as here where these rows end in as many equal ones; else there are none.
        As many images as here are taken for versions of these, row by row, and draw what these do; see `generators`.
        """
        cut_model = self.cut_model.on(model) if isinstance(model, nn.Module) else model or self.cut_model
        images, targets = self.images if images is None else images, self.targets if targets is None else targets
        others = self.other_inputs if other_inputs is None else other_inputs
        other = trace_of(cut_model, images, targets, others=others)
        last, parts = slice(self.num_valid - 1, None), (images, targets, *others)
        same = len(images) == len(self) and all((part[last] == part[last][:1]).all() for part in parts)
        return self._with_extras(other, self.num_padding if same else 0)

    def _with_extras(self, other: Trace, num_padding: int) -> Trace:
        """Another trace with so many padded rows; with this one's interventions and images where its rows are."""
        if len(other) != len(self):
            return replace(other, num_padding=num_padding)
        extras: dict[str, Any] = {name: getattr(self, name) for name in OPTIONAL}
        if self.first_images is None:
            extras["first_images"] = self.images
        return replace(other, num_padding=num_padding, **extras)

    def scaled(self, output: float = 1.0, inputs: float = 1.0) -> Trace:
        """The trace of the same network with its scores times `output`, and its activations times `inputs` with the
        head's input divided by it. A method on the score's scale follows the first, and the second changes nothing."""
        return replace(
            self,
            activations=self.activations * inputs,
            gradients=self.gradients * (output / inputs),
            scores=self.scores * output,
            logits=self.logits * output if self.cut_model.output.are_logits else self.logits,
            network=self.network.scaled(output, inputs),
        )


@dataclass(frozen=True)
class RowsOfImages:
    """Which neighbouring rows of a trace are of one image, as those of its labels are. numbers: the image of each row,
    (B,); places: of each row among those of its image, (B,); both on the CPU. classes: of all rows of each row's image,
    by their place, (B, most); where they are fewer than most, others stand behind them."""

    numbers: Tensor
    places: Tensor
    classes: Tensor

    def __getitem__(self, rows: slice) -> RowsOfImages:
        return RowsOfImages(self.numbers[rows], self.places[rows], self.classes[rows])


def rows_of_images(trace: Trace) -> RowsOfImages:
    """Those of a trace, compared once; padded rows are the last valid one."""

    def compared() -> RowsOfImages:
        valid = trace.num_valid
        is_first = torch.ones(valid, dtype=torch.bool)
        if trace.first_images is None:  # else equal images may be versions of different ones, and draw what these do
            inputs = [each[:valid].reshape(valid, -1) for each in (trace.images, *trace.other_inputs)]
            is_first[1:] = torch.stack([(each[1:] != each[:-1]).any(1) for each in inputs]).any(0).cpu()
        rows, numbers = torch.arange(valid), is_first.cumsum(0) - 1
        firsts = is_first.nonzero()[:, 0][numbers]
        places = rows - firsts
        others = (firsts[:, None] + torch.arange(int(places.max()) + 1)).clamp(max=valid - 1)
        padded = torch.arange(len(trace)).clamp(max=valid - 1)
        return RowsOfImages(numbers[padded], places[padded], trace.targets[others[padded].to(trace.targets.device)])

    return trace.once("rows of images", compared)


@full_precision()
def trace_of(
    cut_model: SplitModel,
    images: Inputs,
    targets: Tensor | Sequence[int] | None,
    interventions: Sequence[Sequence[Part]] | None = None,
    other_images: Tensor | None = None,
    explained: int | str | None = None,
    others: OtherInputs = (),
) -> Trace:
    """One trunk pass, one head pass and its gradient; see CutModel.trace. others: the other inputs, where images are a
    tensor."""
    model = cut_model.model
    if are_several(images, model):
        inputs, images, others = taken_apart(model, images, explained)
        cut_model.take(inputs)
    images = checked_images(images, model).to(cut_model.device, cut_model.dtype)
    cut_model = cut_model.for_size(images)
    model = cut_model.model
    with torch.inference_mode(False):
        images = images.clone() if images.is_inference() else images.detach()
        others = cast(tuple(each.detach().to(images.device, copy=True) for each in others), cut_model.dtype)
        with bound(model, tuple(each[:1] for each in others)), failures_of(model, images[:1]):
            cut_model.split(images)
            with torch.no_grad():
                activations, sides = cut_model.trunk(images, *others)
        activations = activations.detach().requires_grad_()
        with torch.enable_grad():
            network_logits, values = cut_model.head_with_values(activations, sides)
            outputs, logits = cut_model.outputs_of(network_logits), cut_model.class_logits_of(network_logits)
        targets = logits.argmax(1) if targets is None else checked_targets(targets, logits)
        scores = outputs.gather(1, targets[:, None])[:, 0]
        gradients = _gradients(cut_model, scores, activations, sides, values is not None)
    return Trace(
        images=images,
        activations=activations.detach(),
        gradients=gradients,
        scores=scores.detach(),
        logits=logits.detach(),
        targets=targets,
        network=TracedNetwork(
            cut_model, sides, len(images), values, None if values is None else (activations, outputs), others=others
        ),
        interventions=None if interventions is None else checked_interventions(interventions, images),
        other_images=None if other_images is None else checked_other_images(other_images, images),
    )


def _gradients(cut_model: SplitModel, scores: Tensor, activations: Tensor, sides: Any, keep: bool) -> Tensor:
    """dS/dF, (B, K, H, W). keep: the autograd graph. Raises BenchError where there is no gradient."""
    if not scores.requires_grad and cut_model.output.function is not None:
        raise BenchError(
            f"The scores of the output function {cut_model.output.name} have no gradient; "
            "compute them without detach, no_grad, item or NumPy."
        )
    gradients, network = None, type(getattr(cut_model.model, "module", cut_model.model)).__name__
    if scores.requires_grad:
        try:
            (gradients,) = torch.autograd.grad(scores.sum(), activations, retain_graph=keep, allow_unused=True)
        except Exception as error:  # a network's own backward pass may raise anything
            if is_out_of_memory(error):
                raise
            if "modified by an inplace operation" in str(error):
                raise BenchError(
                    f"{network} changes a tensor in place that its gradient needs; let its forward change a clone() "
                    "of it, or give read= (of objects) or output= a function of what it was before."
                ) from error
            raise BenchError(
                f"The gradient of {network} fails ({str(error).splitlines()[0]}); mend it so that "
                "model(images)[0, 0].backward() runs, for images.requires_grad_()."
            ) from error
    if gradients is None:
        maps = activations.detach()
        if not torch.equal(cut_model.head(maps, sides), cut_model.head(maps + 1, sides)):
            raise BenchError(
                f"The scores of {network} depend on the layer {cut_model.layer!r} and have no gradient there; "
                "compute them without detach, no_grad, inference_mode, item or NumPy."
            )
        raise BenchError(f"The scores don't depend on the layer {cut_model.layer!r}; choose one nearer to the output.")
    return gradients


class CutModel(SplitModel):
    """A model cut at a layer: `trunk -> activations -> head`. The user's model is never edited.

    Args:
        model: any nn.Module that maps images (B, C', H', W'), signals (B, C', L') or volumes (B, C', D', H', W') to
            logits (B, C), or to what `output` reads. Logits are
            found in a dict ("logits" or "out"), in an object with `.logits`, and made of (B,) and (B, C, H, W),
            squeezed or not.
        layer: a dotted module name.
        precision: "fp32", "tf32" or "bf16", for the trunk; `head_precision` likewise, for the head and the ablations.
        ablation_memory: bytes that the ablations may take beside the trace.
        reshape: for a transformer's layer: "tokens", a grid (H, W), or an object with to_maps and from_maps.
        output: what is explained: "probability", "margin" (z_c - the highest other logit), "rest", one of
            `axiom_bench.outputs`, or a function or module from what the model returns to scores (B, n). None: logits.
            Where the model returns probabilities, which the first trace recognises with a RecognisedOutput warning,
            those before its end. "logits", "probabilities" or "log_probabilities" say what it returns.
        ablation_channels: a budget for inner layers: of each image only so many channels, and a sample of the others,
            are ablated; see `Trace.drops`. None: all.

    Raises:
        BenchError: for an unknown layer (with the nearest names), precision, reshape, output or budget.
    """

    def trace(
        self,
        images: Inputs,
        targets: Tensor | None = None,
        interventions: Sequence[Sequence[Part]] | None = None,
        other_images: Tensor | None = None,
        explained: int | str | None = None,
        other_inputs: OtherInputs = (),
    ) -> Trace:
        """One trunk pass, one head pass and its gradient.

        images: (B, C', H', W'), or several inputs, with `explained` as `axiom_bench.trace` has it. targets: (B,) class
        indices; None: each image's predicted class. interventions: per image its parts; other_images: (B, C', H', W'),
        another image for each; see Trace. other_inputs: those of a trace before, where images are a tensor.
        Raises BenchError for a layer without such maps, a model without logits or scores, targets out of range.
        """
        trace = trace_of(self, images, targets, interventions, other_images, explained, other_inputs)
        if not self.holds(PixelsGiven) and (note := pixels_note(trace.images, self.normalisation)):
            self.once(PixelsGiven, lambda: note)
            warnings.warn(note, PixelsGiven, stacklevel=2)
        return trace


def cut(
    model: nn.Module,
    layer: str,
    precision: str = "fp32",
    head_precision: str = "fp32",
    ablation_memory: int = GIBIBYTE,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    ablation_channels: int | None = None,
) -> CutModel:
    """Cuts a model once at a layer, for many traces; arguments and errors are those of `CutModel`."""
    if isinstance(model, nn.Module):
        check_shapes(model)
        check_finite(model)
    cut_model = CutModel(model, layer, precision, head_precision, ablation_memory, reshape, output, ablation_channels)
    preprocessing = getattr(getattr(model, "loaded", None), "preprocessing", None)  # of `load_model`
    if preprocessing is not None and preprocessing.shape is None:
        cut_model.normalisation = preprocessing.mean, preprocessing.std
    return cut_model


def trace(
    model: nn.Module,
    layer: str,
    images: Inputs,
    targets: Tensor | None = None,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
    explained: int | str | None = None,
) -> Trace:
    """Cut and trace in one, for notebooks: one trunk pass, one head pass and its gradient.

    Activations, gradients and drops are those of Fu et al. 2020, arXiv:2008.02312, section 3: F, g = dS/dF and S - S_k.
    images: (B, C', H', W'), preprocessed as the model expects. targets: (B,) class indices; None: the predicted
    ones. The model isn't changed. Other arguments, and errors, are those of `CutModel` and its `trace`.

    A network with several inputs gets a tuple of tensors, in the order of forward's arguments, or a dict, by their
    names or as the one dict that forward takes. Each has a row for each image. explained: the place or name of what is
    explained, where several inputs have the axes of the network's convolutions. The others are `Trace.other_inputs`,
    and stay with their images in every pass.
    """
    return cut(model, layer, reshape=reshape, output=output).trace(images, targets, explained=explained)
