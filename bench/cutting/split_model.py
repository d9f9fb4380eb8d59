"""Run a model that is split at a layer into trunk and head, and count the passes.

Each part runs in its own precision.

`SplitModel` is the cut model without its `trace`. `TracedNetwork` is the cut model together with
the values that cross the cut for the images of one trace.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from axiom_bench.cutting.ablation.drops import ablation_drops, has_closed_form
from axiom_bench.cutting.ablation.graph import HeadGraph, Values
from axiom_bench.cutting.ablation.reading import linear_head_weight, read_head
from axiom_bench.cutting.graph_parts import Sides
from axiom_bench.cutting.images import (
    Normalisation,
    OtherInputs,
    SeveralInputs,
    bound,
    several_inputs,
)
from axiom_bench.cutting.model_copy import (
    layer_name,
    unwrapped,
)
from axiom_bench.cutting.numerics import dead_channels
from axiom_bench.cutting.output import AnyOutput, ScoredNetwork, check_output
from axiom_bench.cutting.passes import (
    Limits,
    Passes,
    arithmetic,
    check_precision,
    count_backward,
    full_precision,
    measured_outputs,
)
from axiom_bench.cutting.preparing import Uncut, copies, prepare
from axiom_bench.cutting.tokens import AnyReshape, check_reshape
from axiom_bench.cutting.trunk_and_head import TrunkAndHead, cast, select
from axiom_bench.errors import BenchError, type_name, unknown_name
from axiom_bench.notes import WARNINGS, Notes

GIBIBYTE = 2**30
# image sizes that get a graph of their own, for models whose graph depends on the size
MOST_SIZES = 8
T = TypeVar("T")


class CachesResults:
    """The base of objects that keep results by key, for as long as the object lives.

    Methods and metrics of one batch thus share what several of them need.
    """

    _results: dict[Hashable, Any]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the result for this key, which is computed on the first call.

        Several callers can thus share a result. A changed copy of the object computes its own.

        Args:
            key: The result's name and all parameters that the result depends on.
            compute: A function that returns the result.
        """
        if key not in self._results:
            self._results[key] = compute()
        result: T = self._results[key]
        return result

    def holds(self, key: Hashable) -> bool:
        """Return True if `once` has computed the result of this key."""
        return key in self._results

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the object in notebooks and hypothesis as `repr` does, not field by field."""
        printer.text(repr(self))


class SplitModel(CachesResults):
    """The base of CutModel: all of it except `trace`, since a Trace needs this class.

    See CutModel for the arguments.

    Attributes:
        mates: See `TrunkAndHead`. The first trace sets it; None before.
        notes: Get the first trace's findings about the network. By default they are warnings.
        follows_shapes: True if a graph that holds for one size of images is enough.
        finetuned: A copy of the model that was fine-tuned on images without some of their pixels,
            for the metric f_fidelity. Yours to set.
        normalisation: The mean and std of the images that the model takes. Images that aren't
            normalised with them get a PixelsGiven warning. None: not known.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        precision: str = "fp32",
        head_precision: str = "fp32",
        ablation_memory: int = GIBIBYTE,
        reshape: AnyReshape | None = None,
        output: AnyOutput | None = None,
        ablation_channels: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            advice = ""
            if isinstance(model, str):
                advice = f"; load a network by its name, ab.load_model({model!r})"
            raise BenchError(
                f"Invalid model: expected a torch.nn.Module, not {type_name(model)}{advice}."
            )
        self.precision = check_precision(precision)
        self.head_precision = check_precision(head_precision)
        self.limits = Limits(ablation_memory)
        self.reshape = check_reshape(reshape)
        self.output = check_output(output)
        if ablation_channels is not None and ablation_channels < 1:
            raise BenchError(
                f"Invalid ablation_channels={ablation_channels}; give the number of channels to "
                "ablate, or null: all."
            )
        self.ablation_channels = ablation_channels
        # Two copies until the first trace, which shows whether the user's hooks change a result.
        self.model, self._with_hooks = copies(model)
        self._has_hooks = False  # True once the user's hooks are known to change the scores
        self.layer = _checked_layer(unwrapped(model), self.model, layer)
        self.passes = Passes()
        self.mates: str | None = None
        self.notes: Notes = WARNINGS
        self.finetuned: nn.Module | None = None
        self.normalisation: Normalisation | None = None
        self.follows_shapes = True
        self._trunk_and_head: TrunkAndHead | None = None
        self._proved: TrunkAndHead | None = None
        self._results = {}

    def __repr__(self) -> str:
        place = f"{type(self.model).__name__} at {self.layer!r}"
        settings = f"output {self.output.name!r}, precision {self.precision!r}"
        return f"{type(self).__name__}({place}, {settings}, {self.device})"

    @property
    def ablation_memory(self) -> int:
        """The bytes that ablations and extra passes may take in addition to the trace."""
        return self.limits.memory

    @property
    def has_true_contributions(self) -> bool:
        """True if the model can compute its true contributions.

        It needs a method for them at this layer and to this output.
        """
        explains_logits = self.output.build is None and self.output.function is None
        method = getattr(self.model, "true_contributions", None)
        return (
            explains_logits
            and callable(method)
            and getattr(self.model, "truth_layer", self.layer) == self.layer
        )

    def rows_at_once(self, image: Tensor, with_gradient: bool = False) -> int:
        """Return the number of images of an extra pass; see Limits.

        Raises BenchError before the first trace.
        """
        return self.limits.rows_at_once(image, self.trunk_and_head.sizes, with_gradient)

    @property
    def device(self) -> torch.device:
        """The device of the model's first floating-point parameter."""
        return self._first_tensor().device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's first floating-point parameter.

        Images are cast to it; the head computes in it.
        """
        return self._first_tensor().dtype

    @property
    def others_dtype(self) -> torch.dtype:
        """The type that inputs other than the images are cast to.

        It is the model's. A place of a `PlacedScores` has at least float32, since half precision
        would round the number of a position or token to that of another.
        """
        has_places = hasattr(self.model, "of_objects")
        return torch.promote_types(self.dtype, torch.float32) if has_places else self.dtype

    def _first_tensor(self) -> Tensor:
        # an iterator, since every pass asks
        tensors = chain(self.model.parameters(), self.model.buffers())
        return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(()))

    @property
    def trunk_and_head(self) -> TrunkAndHead:
        """The trunk and the head, checked against the model.

        Raises BenchError before the first trace.
        """
        if self._trunk_and_head is None:
            raise BenchError(
                "The model isn't split before its first trace; call trace(images) first."
            )
        return self._trunk_and_head

    def take(self, inputs: SeveralInputs) -> None:
        """Turn this copy of the network into one that takes images only.

        Its other inputs are bound around each pass.

        Raises BenchError if the cut model was traced with other inputs before.
        """
        before = several_inputs(self.model)
        if before and (before.keys, before.explained) == (inputs.keys, inputs.explained):
            # a copy that was made during a pass still has the inputs of that pass
            before.other_inputs = ()
            return
        if before or self._trunk_and_head is not None:
            raise BenchError(
                "This cut model was traced with other inputs or another explained one; cut the "
                "model again."
            )
        for model in filter(None, (self.model, self._with_hooks)):
            inputs.give(model)

    def for_size(self, images: Tensor) -> Self:
        """Return this model cut for the size of images (B, C, *space).

        That is the model itself, unless it was captured for another size.

        At most MOST_SIZES sizes have graphs of their own. All others share a cut that needs no
        graph.
        """
        size = tuple(images.shape[2:])
        if self._trunk_and_head is None or self._trunk_and_head.capture.size in (None, size):
            return self
        sizes: list[tuple[int, ...]] = self.once("sizes", list)
        if size not in sizes and len(sizes) < MOST_SIZES - 1:
            sizes.append(size)
        has_graph = size in sizes
        return self.once(
            ("cut for", size if has_graph else None),
            lambda: self._recut(follows_shapes=has_graph),
        )

    def _recut(self, follows_shapes: bool) -> Self:
        """Cut the model at the same layer, for images of another size."""
        other = self._like(self._user_copy, self.layer)
        other.follows_shapes = follows_shapes
        other.finetuned = self.finetuned
        other.normalisation = self.normalisation
        return other

    def split(self, images: Tensor) -> TrunkAndHead:
        """Return trunk and head.

        The first call makes them, with the first of the images (B, 3, H', W').

        The network's other inputs must be bound around the call.
        """
        if self._trunk_and_head is None:
            uncut = Uncut(
                model=self.model,
                with_hooks=self._with_hooks,
                layer=self.layer,
                reshape=self.reshape,
                output=self.output,
                mates=self.mates,
                follows_shapes=self.follows_shapes,
                notes=self.notes,
                proved=self._proved,
            )
            cut = prepare(uncut, images)
            self.model = cut.model
            self._has_hooks = cut.model is self._with_hooks
            self._with_hooks = None
            self.output = cut.output
            self.mates = cut.trunk_and_head.mates
            self._trunk_and_head = cut.trunk_and_head
        return self._trunk_and_head

    @property
    def _user_copy(self) -> nn.Module:
        """The copy with all hooks, until the first trace finds that they change nothing.

        Another cut of the network starts from it, and checks the hooks again.
        """
        return self.model if self._with_hooks is None else self._with_hooks

    def trunk(self, images: Tensor, *others: Tensor) -> tuple[Tensor, Sides]:
        """Run the trunk on images (B, 3, H', W'), and count the pass.

        Returns:
            Activations (B, K, H, W) and side values, in the model's type.
        """
        with arithmetic(self.precision, self.device), bound(self.model, others):
            activations, sides = self.trunk_and_head.parts.trunk(images)
        self.passes.trunk_forward += len(images)
        count_backward(activations, self.passes, "trunk_backward")
        # otherwise half precision is the network's own, and its head expects it
        if self.precision == "bf16":
            sides = cast(sides, self.dtype)
        return activations.to(self.dtype), sides

    def head(self, activations: Tensor, sides: Sides) -> Tensor:
        """Compute outputs (R, C) for activations (R, K, H, W), and count the pass.

        Each row of the activations has one row of side values.

        An output is a class's logit unless the cut model has another `output`.
        """
        return self.compute_outputs(self._network_logits(activations, sides))

    def head_logits(self, activations: Tensor, sides: Sides) -> Tensor:
        """Compute logits (R, C) from the arguments of `head`.

        Their softmax is the probability of each class.
        """
        return self.explained_logits(self._network_logits(activations, sides))

    def forward(self, images: Tensor, *others: Tensor) -> Tensor:
        """Compute outputs (B, C) of the model in eval mode, and count a pass of trunk and head.

        The outputs are differentiable with respect to the images. Trunk and head run in their own
        precisions, so that these outputs equal those of a trace of the same images.
        """
        return self.compute_outputs(self._logits_of(images.to(self.device, self.dtype), *others))

    def forward_logits(self, images: Tensor, *others: Tensor) -> Tensor:
        """Compute logits (B, C) from the arguments of `forward`.

        Their softmax is the probability of each class.
        """
        return self.explained_logits(self._logits_of(images.to(self.device, self.dtype), *others))

    def run_network(self, images: Tensor, *others: Tensor, precision: str) -> Tensor:
        """Compute outputs (B, C) like `forward`, by the network itself, and count the pass.

        Each of its layers runs once. Trunk and head may run a layer twice, if torch.fx can't follow
        the network.
        """
        network = ScoredNetwork(self.model, self.trunk_and_head.scores)
        with arithmetic(precision, self.device):
            logits = network(images.to(self.device, self.dtype), others)
        self.passes.trunk_forward += len(images)
        count_backward(logits, self.passes, "trunk_backward")
        return self.compute_outputs(self._count_head(logits))

    def _logits_of(self, images: Tensor, *others: Tensor) -> Tensor:
        """Compute the network's own logits for images.

        A network may follow a box through changed images; see `BoxScores`.
        """
        sized = self.for_size(images)
        if sized is not self:
            first_others = tuple(values[:1] for values in others)
            with torch.no_grad(), bound(sized.model, first_others):
                sized.split(images)
            return sized._logits_of(images, *others)
        follow = getattr(self.model, "following", None)
        if not callable(follow):
            return self._network_logits(*self.trunk(images, *others))
        with arithmetic(self.precision, self.device):
            logits = follow(images, *others)
        self.passes.trunk_forward += len(images)
        count_backward(logits, self.passes, "trunk_backward")
        return self._count_head(logits)

    def compute_outputs(self, network_logits: Tensor) -> Tensor:
        """Compute the outputs from the network's own logits."""
        module = self.trunk_and_head.output
        return network_logits if module is None else module(network_logits).to(self.dtype)

    def explained_logits(self, network_logits: Tensor) -> Tensor:
        """Compute the logits of the explained classes from the network's own.

        A class may be a group of these.
        """
        return self.compute_outputs(network_logits) if self.output.are_logits else network_logits

    def head_with_values(self, activations: Tensor, sides: Sides) -> tuple[Tensor, Values | None]:
        """Compute the network's logits and the values of the head's nodes, and count the pass.

        The values save the ablations a head pass. They are None if they are large compared with
        `ablation_memory`, or if the head can't be read as a graph.
        """
        head = self.head_graph(activations.detach(), sides)
        if head is None:
            return self._network_logits(activations, sides), None
        with arithmetic(self.head_precision, activations.device):
            values = head.evaluate(activations, sides)
        node = head.logits if self.trunk_and_head.output is None else head.logits.all_input_nodes[0]
        logits = self._count_head(values[node])
        if head.bytes_per_image * len(activations) > self.ablation_memory // 4:
            return logits, None
        detached = {
            node: value.detach() if isinstance(value, Tensor) else value
            for node, value in values.items()
        }
        return logits, detached

    def _network_logits(self, activations: Tensor, sides: Sides) -> Tensor:
        with arithmetic(self.head_precision, activations.device):
            logits = self.trunk_and_head.parts.head(activations, sides)
        return self._count_head(logits)

    def _count_head(self, logits: Tensor) -> Tensor:
        logits = logits.to(self.dtype)
        self.passes.head_forward += len(logits)
        count_backward(logits, self.passes, "head_backward")
        return logits

    @torch.no_grad()
    def head_graph(self, activations: Tensor, sides: Sides) -> HeadGraph | None:
        """Return the head as a graph for the ablations, read on the first call.

        Return None if only whole passes are safe.
        """

        def read() -> HeadGraph | None:
            graph = self.trunk_and_head.head_graph
            kinds = self.trunk_and_head.side_kinds
            if graph is None or len(kinds) != len(sides):
                return None
            first_sides = self.first_sides(sides, len(activations))
            head = read_head(graph, kinds, activations[:1], first_sides)
            if head is None or not self.trunk_and_head.capture.opaque_reasons:
                return head
            # The graph calls some submodules whole, and doesn't see the values inside them.
            inside = self.trunk_and_head.sizes.bytes_inside(activations.element_size())
            return replace(
                head, bytes_per_image=head.bytes_per_image + inside, widest=max(head.widest, inside)
            )

        return self.once("head graph", read)

    def first_sides(self, sides: Sides, batch: int) -> Sides:
        """Return the sides of the first image of a batch of `batch` images."""
        first = torch.zeros(1, dtype=torch.long)
        return select(sides, self.trunk_and_head.side_kinds, first, batch)

    @property
    def finetuned_cut(self) -> Self | None:
        """The model `finetuned`, cut once by `on`; None if there is none.

        Metrics then ask it for scores in the same way as the model itself.
        """
        copy = self.finetuned
        return None if copy is None else self.once(("finetuned", copy), lambda: self.on(copy))

    def on(self, model: nn.Module) -> Self:
        """Cut another model at the same layer with the same settings.

        Both share their `passes` and `limits`.
        """
        return self._like(model, self.layer)

    def on_same_modules(self, model: nn.Module) -> Self:
        """Cut a model that runs this one's modules and returns other scores, with fewer checks."""
        other = self.on(model)
        other._proved = self.trunk_and_head
        if not self._has_hooks:
            # the first pass has found that hooks change nothing
            other._with_hooks = None
        return other

    def at(self, layer: str) -> Self:
        """Cut this model at another layer, once per layer. Both count in the same `passes`."""
        if layer == self.layer:
            return self
        return self.once(("cut at", layer), lambda: self._like(self._user_copy, layer))

    def _like(self, model: nn.Module, layer: str) -> Self:
        """Cut a model at a layer with this cut's settings.

        Both share their passes, limits and findings.
        """
        other = type(self)(
            model,
            layer,
            precision=self.precision,
            head_precision=self.head_precision,
            ablation_memory=self.ablation_memory,
            reshape=self.reshape,
            output=self.output,
            ablation_channels=self.ablation_channels,
        )
        other.passes = self.passes
        other.limits = self.limits
        other.mates = self.mates
        other.notes = self.notes
        if inputs := several_inputs(self.model):
            other.take(inputs)
        return other


def _checked_layer(model: nn.Module, copy: nn.Module, layer: str) -> str:
    """Return the layer's name in the copy, or raise BenchError if there is no such layer."""
    if isinstance(layer, str):
        name = layer_name(copy, layer)
        if name is None:
            known_names = [
                known for known, _ in copy.named_modules(remove_duplicate=False) if known
            ]
            raise unknown_name("layer", layer, known_names)
        return name
    names = {module: name for name, module in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        place = f"its name is {names[layer]!r}" if layer in names else "it isn't part of this model"
        raise BenchError(
            f"Invalid layer: expected a dotted module name, not a {type(layer).__name__}; {place}."
        )
    advice = "; cut one layer at a time" if isinstance(layer, list | tuple) else ""
    example = f" such as {next(iter(names.values()))!r}" if names else ""
    raise BenchError(
        f"Invalid layer: expected a dotted module name{example}, not {type_name(layer)}{advice}."
    )


@dataclass(frozen=True, eq=False)
class TracedNetwork:
    """The network behind a trace: trunk and head for the images of one batch.

    It gives the head the sides and other inputs of the trace's rows, and applies its scales. A
    Trace calls it for all further passes.
    """

    cut_model: SplitModel
    # The values that cross the cut in addition to the activations. None if the passes that made the
    # trace were shared; they are then computed on first use.
    kept_sides: Sides | None
    batch: int  # the number of images that the sides belong to
    images: Tensor | None = None  # the images, if their sides aren't kept
    # the values of the head's nodes, which save the ablations a head pass, if kept
    head_values: Values | None = None
    # The activations and the outputs made from them, if kept. Their autograd graph saves other
    # gradients a head pass.
    kept_pass: tuple[Tensor, Tensor] | None = None
    output_scale: float = 1.0  # a factor of the scores
    input_scale: float = 1.0  # a factor of the activations, by which the head's input is divided
    other_inputs: OtherInputs = ()  # the images' other inputs

    def __getitem__(self, rows: slice) -> TracedNetwork:
        index = torch.arange(self.batch)[rows]
        has_all_rows = len(index) == self.batch
        has_sides = self.kept_sides is not None or "sides" in vars(self)
        return replace(
            self,
            kept_sides=self._row_sides(index) if has_sides else None,
            images=None if self.images is None else self.images[rows],
            batch=len(index),
            head_values=self.head_values if has_all_rows else None,
            kept_pass=self.kept_pass if has_all_rows else None,
            other_inputs=tuple(values[rows] for values in self.other_inputs),
        )

    @cached_property
    @torch.inference_mode(False)
    @torch.no_grad()
    @full_precision()
    def sides(self) -> Sides:
        """The values that cross the cut in addition to the activations."""
        if self.kept_sides is not None:
            return self.kept_sides
        assert self.images is not None
        return self.cut_model.trunk(self.images, *self.other_inputs)[1]

    def scaled(self, output: float, inputs: float) -> TracedNetwork:
        """Return the network with its scores times `output` and its head's input over `inputs`."""
        return replace(
            self, output_scale=self.output_scale * output, input_scale=self.input_scale * inputs
        )

    def head(self, activations: Tensor, rows: Tensor | None = None) -> Tensor:
        """Compute outputs (R, C); see Trace.head."""
        return self.output_scale * self.cut_model.head(
            self._unscaled(activations), self._row_sides(rows)
        )

    def head_pass(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activations (B, K, H, W) and the outputs (B, C).

        The activations are a leaf, and the outputs are in their autograd graph.

        A backward pass must retain this graph, since later calls may return it again.
        """
        if self.kept_pass is not None and self.kept_pass[0].data_ptr() == activations.data_ptr():
            leaf, outputs = self.kept_pass
            return leaf, self.output_scale * outputs
        leaf = activations.clone().requires_grad_()
        return leaf, self.head(leaf)

    def head_logits(self, activations: Tensor, rows: Tensor | None = None) -> Tensor:
        """Compute logits (R, C) from the arguments of `head`.

        Their softmax is the probability of each class.
        """
        return self._logit_scale * self.cut_model.head_logits(
            self._unscaled(activations), self._row_sides(rows)
        )

    def forward(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Compute outputs (R, C) of the whole model for other images.

        They are differentiable in the images; see Trace.forward.
        """
        return self.output_scale * self.cut_model.forward(images, *self.other_inputs_of_rows(rows))

    def forward_logits(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Compute logits (R, C) of the whole model for other images.

        Their softmax is the probability of each class.
        """
        return self._logit_scale * self.cut_model.forward_logits(
            images, *self.other_inputs_of_rows(rows)
        )

    def other_inputs_of_rows(self, rows: Tensor | None) -> OtherInputs:
        """Return the other inputs of the images of these rows. None: of all rows, in order."""
        if rows is None:
            return self.other_inputs
        return tuple(values.index_select(0, rows.to(values.device)) for values in self.other_inputs)

    def explained(self, logits: Tensor) -> Tensor:
        """Return the outputs (R, C) that belong to logits (R, C) of `forward_logits`.

        Metrics that need both logits and scores thus run one pass.
        """
        if self.cut_model.output.are_logits:
            return logits
        return self.output_scale * self.cut_model.compute_outputs(logits)

    @torch.inference_mode(False)
    @torch.no_grad()
    def ablation_drops(
        self, activations: Tensor, targets: Tensor, channels: Tensor | None = None
    ) -> Tensor:
        """Compute S - S_k, exact, for every channel k of the activations set to zero: (B, M, K).

        See cutting.ablation.

        Args:
            activations: The trace's activations, (B, K, *space).
            targets: The explained classes, (B, M). M classes cost the same passes as one.
            channels: The channels to ablate, (B, K) bool; the others get 0. None: all channels.
        """
        maps = self._unscaled(activations)
        trunk_and_head = self.cut_model.trunk_and_head
        # a head that can't be read as a graph runs whole, once per channel
        head = self.cut_model.head_graph(maps, self.sides) or self.cut_model.head
        with arithmetic(self.cut_model.head_precision, maps.device):
            drops = ablation_drops(
                head,
                trunk_and_head.side_kinds,
                maps,
                self.sides,
                targets,
                memory=self.cut_model.ablation_memory,
                values=self.head_values,
                channels=channels,
                inner_bytes=trunk_and_head.sizes.bytes_inside(maps.element_size()),
            )
        return self.output_scale * drops

    @torch.inference_mode(False)
    @torch.no_grad()
    def drops_cost(self, activations: Tensor, targets: Tensor) -> float:
        """Estimate the cost of all drops of an image in forward passes.

        It is measured by the work of two channels of the first image. The estimate counts
        multiplications, and needs no drop of the others. `doctor` prints it before a run.
        """
        first = self[0:1]
        maps = activations[:1]
        live = (~dead_channels(maps)).nonzero()
        if not len(live):
            return 0.0
        cut_model = self.cut_model
        before = replace(cut_model.passes)
        work = []
        for count in (1, 2):
            channels = torch.zeros(1, maps.shape[1], dtype=torch.bool, device=maps.device)
            channels[0, live[:count, 1]] = True
            with measured_outputs(maps) as sizes:
                first.ablation_drops(maps, targets[:1, None], channels)
            work.append(sizes.work)
        vars(cut_model.passes).update(vars(before))  # the passes of an estimate aren't counted
        ablated = min(len(live), cut_model.ablation_channels or len(live))
        work_per_channel = work[1] - work[0]
        return (work[0] + work_per_channel * (ablated - 1)) / cut_model.trunk_and_head.sizes.work

    def has_free_drops(self, activations: Tensor) -> bool:
        """Return True if all drops cost less than a head pass, so that a budget saves nothing."""
        maps = self._unscaled(activations)
        head = self.cut_model.head_graph(maps, self.sides)
        first_sides = self.cut_model.first_sides(self.sides, len(maps))
        if head is None:
            return False
        return self.cut_model.once(
            "free drops", lambda: has_closed_form(head, head.evaluate(maps[:1], first_sides))
        )

    @torch.inference_mode(False)
    @torch.no_grad()
    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor | None:
        """Compute the model's own true contributions, (B, K, H, W) in the activations' type.

        Any nn.Module may have the method true_contributions(activations (B, K, H, W), targets (B,))
        -> (B, K, H, W). It returns the exact contribution of every channel and position of the
        target layer to the logit of its row's class. If the contributions hold at one layer only,
        the module's attribute `truth_layer` has that layer's dotted name. The method gets copies,
        and runs without TF32 and autocast.

        The result is None if there is no such method, if `truth_layer` is another layer, or if
        anything but the logits is explained. Raises BenchError if the method returns anything else
        than such a tensor.
        """
        model = self.cut_model.model
        layer = self.cut_model.layer
        method = getattr(model, "true_contributions", None)
        if not self.cut_model.has_true_contributions or method is None:
            return None
        maps = self._unscaled(activations)
        # a network of boxes or regions explains one place of each image
        others = self.other_inputs if hasattr(model, "of_objects") else ()
        with arithmetic("fp32", maps.device):
            truth = method(maps.clone(), targets.clone(), *others)
        is_tensor = isinstance(truth, Tensor)
        if not is_tensor or truth.shape != maps.shape or not truth.is_floating_point():
            kind = f"{truth.dtype} {tuple(truth.shape)}" if is_tensor else type_name(truth)
            raise BenchError(
                f"{type(model).__name__}.true_contributions must return a floating-point tensor "
                f"of the activations' shape {tuple(maps.shape)} at the layer {layer!r}, not "
                f"{kind}; if it holds at another layer, name that one in the attribute "
                "truth_layer."
            )
        contributions: Tensor = truth.to(maps)
        return self.output_scale * contributions

    def linear_head(self, activations: Tensor) -> Tensor:
        """Return the weight (C, K) of the final layer.

        Raise BenchError if the head isn't global average pooling and one linear layer.
        """
        maps = self._unscaled(activations)
        graph = self.cut_model.head_graph(maps, self.sides)
        first_sides = self.cut_model.first_sides(self.sides, len(maps))
        weight = linear_head_weight(graph, maps[:1], first_sides)
        return self.output_scale / self.input_scale * weight

    def _row_sides(self, rows: Tensor | None) -> Sides:
        kinds = self.cut_model.trunk_and_head.side_kinds
        return self.sides if rows is None else select(self.sides, kinds, rows, self.batch)

    @property
    def _logit_scale(self) -> float:
        return self.output_scale if self.cut_model.output.are_logits else 1.0

    def _unscaled(self, activations: Tensor) -> Tensor:
        return activations if self.input_scale == 1 else activations / self.input_scale
