"""A model split at a layer into trunk and head, which run here in their precisions and are counted."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from axiom_bench.cutting.ablation.drops import ablation_drops, has_closed_form
from axiom_bench.cutting.ablation.graph import HeadGraph, Values
from axiom_bench.cutting.ablation.reading import linear_head_weight, read_head
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
from axiom_bench.cutting.output import AnyOutput, check_output
from axiom_bench.cutting.passes import (
    Limits,
    Passes,
    arithmetic,
    check_precision,
    count_backward,
    measured_outputs,
)
from axiom_bench.cutting.preparing import Uncut, copies, prepare
from axiom_bench.cutting.tokens import AnyReshape, check_reshape
from axiom_bench.cutting.trunk_and_head import TrunkAndHead, cast, select
from axiom_bench.errors import BenchError, type_name, unknown
from axiom_bench.notes import WARNINGS, Notes

GIBIBYTE = 2**30
MOST_SIZES = 8  # of images with a graph each, for models whose graph depends on the size
T = TypeVar("T")


class CachesResults:
    """Keeps results by key, for as long as it lives."""

    _results: dict[Hashable, Any]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """compute() on the first call with this key, its result on all later ones: what several callers share.

        key: names the result and all parameters that it depends on. A changed copy computes its own.
        """
        if key not in self._results:
            self._results[key] = compute()
        result: T = self._results[key]
        return result

    def holds(self, key: Hashable) -> bool:
        """Whether `once` would have nothing to compute."""
        return key in self._results

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the object in notebooks and hypothesis as `repr` does, not field by field."""
        printer.text(repr(self))


class SplitModel(CachesResults):
    """The base of CutModel: all of it but `trace`, since a Trace needs this class. See CutModel for the arguments.

    mates: as `TrunkAndHead` has it; None before the first trace, which finds it. notes: get what the first trace finds
    about the network; by default they are warnings. follows_shapes: whether a graph that
    holds for one size of images will do. finetuned: a copy of the model that
    was fine-tuned on images without some of their pixels, for the metric f_fidelity. Yours to set. normalisation: the
    mean and std of the images that the model takes; images without them get a PixelsGiven warning. None: not known.
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
            advice = f"; load a network by its name, ab.load_model({model!r})" if isinstance(model, str) else ""
            raise BenchError(f"Invalid model: expected a torch.nn.Module, not {type_name(model)}{advice}.")
        self.precision = check_precision(precision)
        self.head_precision = check_precision(head_precision)
        self.limits = Limits(ablation_memory)
        self.reshape = check_reshape(reshape)
        self.output = check_output(output)
        if ablation_channels is not None and ablation_channels < 1:
            raise BenchError(
                f"Invalid ablation_channels={ablation_channels}; give the number of channels to ablate, or null: all."
            )
        self.ablation_channels = ablation_channels
        self.model, self._with_hooks = copies(model)
        self.layer = _checked_layer(unwrapped(model), self.model, layer)
        self.passes = Passes()
        self.mates: str | None = None
        self.notes: Notes = WARNINGS
        self.finetuned: nn.Module | None = None
        self.normalisation: Normalisation | None = None
        self.follows_shapes = True
        self._trunk_and_head: TrunkAndHead | None = None
        self._results = {}

    def __repr__(self) -> str:
        output, precision = self.output.name, self.precision
        place = f"{type(self.model).__name__} at {self.layer!r}"
        return f"{type(self).__name__}({place}, output {output!r}, precision {precision!r}, {self.device})"

    @property
    def ablation_memory(self) -> int:
        """Bytes that ablations and extra passes may take beside the trace."""
        return self.limits.memory

    @property
    def tells_contributions(self) -> bool:
        """Whether the model has a method that tells its true contributions at this layer and to this output."""
        is_of_logits = self.output.build is None and self.output.function is None
        method = getattr(self.model, "true_contributions", None)
        return is_of_logits and callable(method) and getattr(self.model, "truth_layer", self.layer) == self.layer

    def rows_at_once(self, image: Tensor, with_gradient: bool = False) -> int:
        """How many images an extra pass has; see Limits. Raises BenchError before the first trace."""
        return self.limits.rows_at_once(image, self.trunk_and_head.sizes, with_gradient)

    @property
    def device(self) -> torch.device:
        """The device of the model's first floating-point parameter."""
        return self._first_tensor().device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's first parameter: what images are cast to, and what the head computes in."""
        return self._first_tensor().dtype

    def _first_tensor(self) -> Tensor:
        tensors = chain(self.model.parameters(), self.model.buffers())  # asked in every pass
        return next((tensor for tensor in tensors if tensor.is_floating_point()), torch.zeros(()))

    @property
    def trunk_and_head(self) -> TrunkAndHead:
        """Trunk and head, checked against the model. Raises BenchError before the first trace."""
        if self._trunk_and_head is None:
            raise BenchError("The model isn't split before its first trace; call trace(images) first.")
        return self._trunk_and_head

    def take(self, inputs: SeveralInputs) -> None:
        """Makes this copy of the network one of images, with other inputs that are bound around each pass.

        Raises BenchError where the cut model was traced with other ones.
        """
        before = several_inputs(self.model)
        if before and (before.keys, before.explained) == (inputs.keys, inputs.explained):
            before.others = ()  # of a copy that was made in a pass
            return
        if before or self._trunk_and_head is not None:
            raise BenchError(
                "This cut model was traced with other inputs or another explained one; cut the model again."
            )
        for model in filter(None, (self.model, self._with_hooks)):
            inputs.give(model)

    def for_size(self, images: Tensor) -> Self:
        """This model cut for images (B, C, *space) of their size: itself, unless it was captured for another size.

        At most MOST_SIZES sizes have graphs of their own. All others share a cut that needs no graph.
        """
        size = tuple(images.shape[2:])
        if self._trunk_and_head is None or self._trunk_and_head.capture.size in (None, size):
            return self
        sizes: list[tuple[int, ...]] = self.once("sizes", list)
        if size not in sizes and len(sizes) < MOST_SIZES - 1:
            sizes.append(size)
        return self.once(("cut for", size if size in sizes else None), lambda: self._for_other_size(size in sizes))

    def _for_other_size(self, follows_shapes: bool) -> Self:
        other = self._like(self._user_copy, self.layer)
        other.follows_shapes = follows_shapes
        other.finetuned = self.finetuned
        other.normalisation = self.normalisation
        return other

    def split(self, images: Tensor) -> TrunkAndHead:
        """Trunk and head, made with the first image of (B, 3, H', W') on the first call; its other inputs are bound."""
        if self._trunk_and_head is None:
            cut = prepare(self._uncut, images)
            self.model = cut.model
            self._with_hooks = None
            self.output = cut.output
            self.mates = cut.trunk_and_head.mates
            self._trunk_and_head = cut.trunk_and_head
        return self._trunk_and_head

    @property
    def _uncut(self) -> Uncut:
        return Uncut(
            model=self.model,
            with_hooks=self._with_hooks,
            layer=self.layer,
            reshape=self.reshape,
            output=self.output,
            mates=self.mates,
            follows_shapes=self.follows_shapes,
            notes=self.notes,
        )

    @property
    def _user_copy(self) -> nn.Module:
        """The copy with all hooks, until they are known to change nothing."""
        return self.model if self._with_hooks is None else self._with_hooks

    def trunk(self, images: Tensor, *others: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Activations (B, K, H, W) and side values in the model's type, for images (B, 3, H', W'); counted."""
        with arithmetic(self.precision, self.device), bound(self.model, others):
            activations, sides = self.trunk_and_head.parts.trunk(images)
        self.passes.trunk_forward += len(images)
        count_backward(activations, self.passes, "trunk_backward")
        if self.precision == "bf16":  # otherwise half precision is the network's own, which its head takes
            sides = cast(sides, self.dtype)
        return activations.to(self.dtype), sides

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Outputs (R, C) for activations (R, K, H, W) with one row of side values each; counted.

        An output is a class's logit unless the cut model has another `output`.
        """
        return self.outputs_of(self._network_logits(activations, sides))

    def head_logits(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """As `head`, but logits (R, C), whose softmax is the probability of each class."""
        return self.class_logits_of(self._network_logits(activations, sides))

    def forward(self, images: Tensor, *others: Tensor) -> Tensor:
        """Outputs (B, C) of the model in eval mode, differentiable in the images; counted as trunk and head.

        Trunk and head run in their own precisions, so that these outputs are those of a trace of the same images.
        """
        return self.outputs_of(self._logits_of(images.to(self.device, self.dtype), *others))

    def forward_logits(self, images: Tensor, *others: Tensor) -> Tensor:
        """As `forward`, but logits (B, C), whose softmax is the probability of each class."""
        return self.class_logits_of(self._logits_of(images.to(self.device, self.dtype), *others))

    def _logits_of(self, images: Tensor, *others: Tensor) -> Tensor:
        """The network's own logits for images; of one that follows a box through changed images, see `BoxScores`."""
        of_size = self.for_size(images)
        if of_size is not self:
            with torch.no_grad(), bound(of_size.model, tuple(other[:1] for other in others)):
                of_size.split(images)
            return of_size._logits_of(images, *others)
        follow = getattr(self.model, "following", None)
        if not callable(follow):
            return self._network_logits(*self.trunk(images, *others))
        with arithmetic(self.precision, self.device):
            logits = follow(images, *others)
        self.passes.trunk_forward += len(images)
        count_backward(logits, self.passes, "trunk_backward")
        return self._count_head(logits)

    def outputs_of(self, network_logits: Tensor) -> Tensor:
        """From the network's own logits to outputs."""
        module = self.trunk_and_head.output
        return network_logits if module is None else module(network_logits).to(self.dtype)

    def class_logits_of(self, network_logits: Tensor) -> Tensor:
        """From the network's own logits to those of the explained classes, which may be groups of the network's."""
        return self.outputs_of(network_logits) if self.output.are_logits else network_logits

    def head_with_values(self, activations: Tensor, sides: tuple[Any, ...]) -> tuple[Tensor, Values | None]:
        """The network's logits and the values of the head's nodes, which spare the ablations a head pass; counted.

        The values are None where they are large beside `ablation_memory`, or the head isn't read as a graph.
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
        return logits, {node: value.detach() if isinstance(value, Tensor) else value for node, value in values.items()}

    def _network_logits(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        with arithmetic(self.head_precision, activations.device):
            logits = self.trunk_and_head.parts.head(activations, sides)
        return self._count_head(logits)

    def _count_head(self, logits: Tensor) -> Tensor:
        logits = logits.to(self.dtype)
        self.passes.head_forward += len(logits)
        count_backward(logits, self.passes, "head_backward")
        return logits

    @torch.no_grad()
    def head_graph(self, activations: Tensor, sides: Any) -> HeadGraph | None:
        """The head as a graph for the ablations, read on the first call; None where only whole passes are safe."""

        def read() -> HeadGraph | None:
            graph, kinds = self.trunk_and_head.head_graph, self.trunk_and_head.side_kinds
            if graph is None or len(kinds) != len(sides):
                return None
            head = read_head(graph, kinds, activations[:1], self.first_sides(sides, len(activations)))
            if head is None or not self.trunk_and_head.capture.whole:
                return head
            inside = self.trunk_and_head.sizes.bytes_inside(activations.element_size())  # of submodules, unseen
            return replace(head, bytes_per_image=head.bytes_per_image + inside, widest=max(head.widest, inside))

        return self.once("head graph", read)

    def first_sides(self, sides: Any, batch: int) -> Any:
        """The sides of the first of so many images."""
        return select(sides, self.trunk_and_head.side_kinds, torch.zeros(1, dtype=torch.long), batch)

    @property
    def on_finetuned(self) -> Self | None:
        """`finetuned` cut as `on` does, once; None where there is none."""
        copy = self.finetuned
        return None if copy is None else self.once(("finetuned", copy), lambda: self.on(copy))

    def on(self, model: nn.Module) -> Self:
        """Another model cut at the same layer with the same settings; both count in the same `passes`, in the same
        `limits`."""
        return self._like(model, self.layer)

    def at(self, layer: str) -> Self:
        """This model cut at another layer, once; both count in the same `passes`."""
        return self if layer == self.layer else self.once(("cut at", layer), lambda: self._like(self._user_copy, layer))

    def _like(self, model: nn.Module, layer: str) -> Self:
        settings = (self.precision, self.head_precision, self.ablation_memory, self.reshape, self.output)
        other = type(self)(model, layer, *settings, self.ablation_channels)
        other.passes = self.passes
        other.limits = self.limits
        other.mates = self.mates
        other.notes = self.notes
        if inputs := several_inputs(self.model):
            other.take(inputs)
        return other


def _checked_layer(model: nn.Module, copy: nn.Module, layer: str) -> str:
    """The layer's name in the copy. Raises BenchError where there is no such layer."""
    if isinstance(layer, str):
        if (name := layer_name(copy, layer)) is None:
            raise unknown("layer", layer, [name for name, _ in copy.named_modules(remove_duplicate=False) if name])
        return name
    names = {module: name for name, module in model.named_modules() if name}
    if isinstance(layer, nn.Module):
        place = f"its name is {names[layer]!r}" if layer in names else "it isn't part of this model"
        raise BenchError(f"Invalid layer: expected a dotted module name, not a {type(layer).__name__}; {place}.")
    advice = "; cut one layer at a time" if isinstance(layer, list | tuple) else ""
    example = f" such as {next(iter(names.values()))!r}" if names else ""
    raise BenchError(f"Invalid layer: expected a dotted module name{example}, not {type_name(layer)}{advice}.")


@dataclass(frozen=True, eq=False)
class TracedNetwork:
    """The network behind a trace: trunk and head for the images of one batch.

    sides: what crosses the cut beside the activations; batch: of so many images. head_values: of the head's nodes,
    which spare the ablations a head pass; None where they aren't kept. kept_pass: activations and the outputs made of
    them, whose autograd graph spares other gradients a head pass; likewise. output_scale: a factor of the scores;
    input_scale: of the activations, by which the head's input is divided. others: the images' other inputs.
    """

    cut_model: SplitModel
    sides: Any
    batch: int
    head_values: Values | None = None
    kept_pass: tuple[Tensor, Tensor] | None = None
    output_scale: float = 1.0
    input_scale: float = 1.0
    others: OtherInputs = ()

    def __getitem__(self, rows: slice) -> TracedNetwork:
        index = torch.arange(self.batch)[rows]
        all_rows = len(index) == self.batch
        values, kept = (self.head_values, self.kept_pass) if all_rows else (None, None)
        others = tuple(each[rows] for each in self.others)
        sides = self._sides_of(index)
        return replace(self, sides=sides, batch=len(index), head_values=values, kept_pass=kept, others=others)

    def scaled(self, output: float, inputs: float) -> TracedNetwork:
        """The same network with its scores times `output`, and its head's input divided by `inputs`."""
        return replace(self, output_scale=self.output_scale * output, input_scale=self.input_scale * inputs)

    def head(self, activations: Tensor, rows: Tensor | None = None) -> Tensor:
        """Outputs (R, C); see Trace.head."""
        return self.output_scale * self.cut_model.head(self._unscaled(activations), self._sides_of(rows))

    def head_pass(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """The activations as a leaf, (B, K, H, W), and outputs (B, C) in their autograd graph, which is to be kept."""
        if self.kept_pass is not None and self.kept_pass[0].data_ptr() == activations.data_ptr():
            leaf, outputs = self.kept_pass
            return leaf, self.output_scale * outputs
        leaf = activations.clone().requires_grad_()
        return leaf, self.head(leaf)

    def head_logits(self, activations: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits (R, C) for any activations at the layer, whose softmax is the probability of each class; as `head`."""
        return self._logit_scale * self.cut_model.head_logits(self._unscaled(activations), self._sides_of(rows))

    def forward(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Outputs (R, C) of the whole model for other images, differentiable in them; see Trace.forward."""
        return self.output_scale * self.cut_model.forward(images, *self.others_of(rows))

    def forward_logits(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits (R, C) of the whole model for other images, whose softmax is the probability of each class."""
        return self._logit_scale * self.cut_model.forward_logits(images, *self.others_of(rows))

    def others_of(self, rows: Tensor | None) -> OtherInputs:
        """The other inputs of the images of these rows; None: of all, in order."""
        if rows is None:
            return self.others
        return tuple(each.index_select(0, rows.to(each.device)) for each in self.others)

    def explained(self, logits: Tensor) -> Tensor:
        """The outputs (R, C) that belong to logits (R, C), as `forward_logits` gives them."""
        return logits if self.cut_model.output.are_logits else self.output_scale * self.cut_model.outputs_of(logits)

    @torch.inference_mode(False)
    @torch.no_grad()
    def ablation_drops(self, activations: Tensor, targets: Tensor, channels: Tensor | None = None) -> Tensor:
        """S - S_k for every channel k of the trace's activations set to zero: (B, K), exact; see cutting.ablation.

        channels: (B, K) bool, those to ablate, where not all are: 0 for the others.
        """
        maps, cut_model = self._unscaled(activations), self.cut_model
        head = cut_model.head_graph(maps, self.sides) or cut_model.head
        kinds, memory = cut_model.trunk_and_head.side_kinds, cut_model.ablation_memory
        inner_bytes = cut_model.trunk_and_head.sizes.bytes_inside(maps.element_size())
        with arithmetic(cut_model.head_precision, maps.device):
            drops = ablation_drops(
                head, kinds, maps, self.sides, targets, memory, self.head_values, channels, inner_bytes
            )
        return self.output_scale * drops

    @torch.inference_mode(False)
    @torch.no_grad()
    def drops_cost(self, activations: Tensor, targets: Tensor) -> float:
        """Estimate what all drops of an image cost, in forward passes, by the work of two channels of the first image.

        The estimate counts multiplications, and needs no drop of the other channels.
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
                first.ablation_drops(maps, targets[:1], channels)
            work.append(sizes.work)
        vars(cut_model.passes).update(vars(before))
        ablated = min(len(live), cut_model.ablation_channels or len(live))
        return (work[0] + (work[1] - work[0]) * (ablated - 1)) / cut_model.trunk_and_head.sizes.work

    def has_free_drops(self, activations: Tensor) -> bool:
        """Whether all drops cost less than a head pass, so that a budget saves nothing."""
        maps, cut_model = self._unscaled(activations), self.cut_model
        head = cut_model.head_graph(maps, self.sides)
        first = maps[:1], cut_model.first_sides(self.sides, len(maps))
        return head is not None and cut_model.once("free drops", lambda: has_closed_form(head, head.evaluate(*first)))

    @torch.inference_mode(False)
    @torch.no_grad()
    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor | None:
        """The contributions that the model itself tells, (B, K, H, W) in the activations' type.

        Any nn.Module may have the method true_contributions(activations (B, K, H, W), targets (B,)) -> (B, K, H, W). It
        gives the exact contribution of every channel and position of the target layer to the logit of its row's class.
        And, where they hold at one layer only, the attribute `truth_layer` with that layer's dotted name. The method
        gets copies, and runs without TF32 and autocast. None where there is no such method, where `truth_layer` is
        another layer, and where something else than the logits is explained. Raises BenchError for another answer.
        """
        model, layer = self.cut_model.model, self.cut_model.layer
        method = getattr(model, "true_contributions", None)
        if not self.cut_model.tells_contributions or method is None:
            return None
        maps = self._unscaled(activations)
        with arithmetic("fp32", maps.device):
            truth = method(maps.clone(), targets.clone(), *(self.others if hasattr(model, "of_objects") else ()))
        if not isinstance(truth, Tensor) or truth.shape != maps.shape or not truth.is_floating_point():
            kind = f"{truth.dtype} {tuple(truth.shape)}" if isinstance(truth, Tensor) else type_name(truth)
            raise BenchError(
                f"{type(model).__name__}.true_contributions must return a floating-point tensor of the activations' "
                f"shape {tuple(maps.shape)} at the layer {layer!r}, not {kind}; where it "
                "holds at another layer, name that one in the attribute truth_layer."
            )
        return self.output_scale * truth.to(maps)

    def linear_head(self, activations: Tensor) -> Tensor:
        """The final layer's weight (C, K). Raises BenchError unless the head is global average pooling + linear."""
        maps = self._unscaled(activations)
        graph = self.cut_model.head_graph(maps, self.sides)
        weight = linear_head_weight(graph, maps[:1], self.cut_model.first_sides(self.sides, len(maps)))
        return self.output_scale / self.input_scale * weight

    def _sides_of(self, rows: Tensor | None) -> Any:
        kinds = self.cut_model.trunk_and_head.side_kinds
        return self.sides if rows is None else select(self.sides, kinds, rows, self.batch)

    @property
    def _logit_scale(self) -> float:
        return self.output_scale if self.cut_model.output.are_logits else 1.0

    def _unscaled(self, activations: Tensor) -> Tensor:
        return activations if self.input_scale == 1 else activations / self.input_scale
