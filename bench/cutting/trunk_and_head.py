"""Split a model into trunk and head, in the first of five ways that equals the model on one image.

`preparing` calls `first_that_equals` once per cut. All methods and metrics rely on its check: no
later pass compares trunk and head with the model.

Sides are the values that cross the cut in addition to the layer's output, such as a skip
connection's. Each belongs to its image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from axiom_bench.cutting.capture import captured
from axiom_bench.cutting.graph_parts import (
    CannotSplit,
    CutPoint,
    GraphParts,
    Sides,
    short_reason,
    split,
)
from axiom_bench.cutting.hooked_parts import HookedParts, ReplayedParts
from axiom_bench.cutting.images import first_convolution, joined, several_inputs
from axiom_bench.cutting.numerics import SPACES
from axiom_bench.cutting.output import Chain, OutputModule, append_output
from axiom_bench.cutting.passes import OutputSizes, equal_up_to_rounding
from axiom_bench.cutting.tokens import ChannelOrder, ChannelsLast, Reshape, check_inverse, layout
from axiom_bench.cutting.views import Views
from axiom_bench.errors import BenchError, is_out_of_memory

Passed = tuple[Tensor, Sides]  # the layer's output or maps, and the sides
Values = TypeVar("Values")  # sides, or other nested values of a batch
MOST_PARTS = 3  # the most submodules that a sentence lists


class SideKind(Enum):
    """The way in which a side value depends on the batch.

    Ablations and metrics run the head on other rows than the trunk. The kind says how a side is
    repeated for them.
    """

    PER_IMAGE = "per image"  # a tensor with a batch as its first dimension
    SHARED = "shared"  # the same whatever the batch
    BATCH_SIZE = "batch size"  # a number that counts images


def side_kinds(sides: object, doubled_sides: object) -> list[SideKind] | None:
    """Find the kinds of an image's sides by comparing them with a batch that holds the image twice.

    Returns None if a side has none of the kinds.
    """
    pairs = zip(pytree.tree_leaves(sides), pytree.tree_leaves(doubled_sides), strict=True)
    kinds = []
    for value, doubled in pairs:
        kind = _kind(value, doubled)
        if kind is None:
            return None
        kinds.append(kind)
    return kinds


def _kind(value: object, doubled: object) -> SideKind | None:
    if isinstance(value, Tensor) and isinstance(doubled, Tensor):
        if value.shape == doubled.shape:
            return SideKind.SHARED
        is_per_image = (
            value.shape[1:] == doubled.shape[1:] and doubled.shape[0] == 2 * value.shape[0]
        )
        return SideKind.PER_IMAGE if is_per_image else None
    if value == doubled:
        return SideKind.SHARED
    return SideKind.BATCH_SIZE if isinstance(value, int) and doubled == 2 * value else None


def select(sides: Values, kinds: list[SideKind], rows: Tensor, batch: int) -> Values:
    """Return the sides of a batch made of the given rows.

    `rows` (R,) are indices of images in a batch of `batch` images.
    """
    values, structure = pytree.tree_flatten(sides)
    selected_values = []
    for value, kind in zip(values, kinds, strict=True):
        if kind is SideKind.PER_IMAGE:
            # a side may have several rows per image, such as one for each window
            per_image = value.unflatten(0, (batch, -1))
            value = per_image.index_select(0, rows.to(value.device)).flatten(0, 1)
        elif kind is SideKind.BATCH_SIZE:
            value = value // batch * len(rows)
        selected_values.append(value)
    selected: Values = pytree.tree_unflatten(selected_values, structure)
    return selected


def cast(sides: Values, dtype: torch.dtype) -> Values:
    """Return the same sides with their floating-point tensors in another precision."""

    def cast_value(value: object) -> object:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    converted: Values = pytree.tree_map(cast_value, sides)
    return converted


class Parts(Protocol):
    """The trunk and the head of a model. `head_graph` is the head as a graph, None if it isn't
    one.

    All ways to split a model give such an object, so that nothing else depends on the way.
    """

    @property
    def head_graph(self) -> fx.GraphModule | None: ...

    def trunk(self, images: Tensor) -> Passed: ...

    def head(self, activations: Tensor, sides: Sides) -> Tensor: ...


@dataclass(frozen=True)
class ReshapedParts:
    """Parts with a reshape between them: the trunk returns maps, and the head takes them.

    Trunk: images -> (maps, (rest, *sides)). Head: (maps, (rest, *sides)) -> logits. `rest` is the
    part of the layer's output that is in no map, such as the class token. It crosses the cut as a
    side.
    """

    parts: Parts
    reshape: Reshape

    def trunk(self, images: Tensor) -> Passed:
        """Compute maps (B, K, H, W) and the sides."""
        output, sides = self.parts.trunk(images)
        return self.as_maps(output, sides, tuple(images.shape[2:]))

    def as_maps(self, output: Tensor, sides: Sides, size: tuple[int, ...]) -> Passed:
        """Return the layer's output as maps (B, K, H, W), and the sides, of which the first is the
        rest of the output. `size` is that of the images.
        """
        maps, rest = self.reshape.to_maps(output, size)
        return maps, (rest, *sides)

    def head(self, activations: Tensor, sides: Sides) -> Tensor:
        """Compute logits (B, C)."""
        rest: Any = sides[0]  # `as_maps` puts it first
        output = self.reshape.from_maps(activations, rest)
        return self.parts.head(output, sides[1:])

    @cached_property
    def head_graph(self) -> fx.GraphModule | None:
        """The head's graph with `from_maps` as its first operation.

        If the head itself makes maps of a grid, as Swin's does, both steps are left out.
        """
        if self.parts.head_graph is None:
            return None
        graph = fx.Graph()
        inner = list(self.parts.head_graph.graph.nodes)
        activations, *sides = [node for node in inner if node.op == "placeholder"]
        maps = graph.placeholder("activations")
        rest = graph.placeholder("side_rest")
        copies = {side: graph.node_copy(side) for side in sides}
        copies[activations] = graph.call_function(self.reshape.from_maps, (maps, rest))
        for node in inner:
            to_maps = node.target is torch.permute and node.args == (activations, [0, 3, 1, 2])
            if to_maps and isinstance(self.reshape, ChannelsLast):
                copies[node] = maps
            elif node.op != "placeholder":
                copies[node] = graph.node_copy(node, copies.__getitem__)
        if not copies[activations].users:
            graph.erase_node(copies[activations])
        return fx.GraphModule(self.parts.head_graph, graph, "Head")


class Step(Enum):
    """The ways to make trunk and head of a model, in order. The first that equals the model is
    used.
    """

    GRAPH = "torch.fx follows the model"
    SHAPES = "torch.fx follows the model at this input size"
    MODULES = "torch.fx follows the model except"
    HEAD = (
        "torch.fx can't follow the model, and each ablation runs the layers after the target layer"
    )
    MODEL = "torch.fx can't follow the model, and each ablation runs all of it"


@dataclass(frozen=True)
class Capture:
    """The step by which a model was split.

    `doctor` prints it, since the step decides how long ablations take.
    """

    step: Step
    reason: str = ""  # why the step before it failed; "" for the first step
    # why a submodule is called whole, by the submodule's name
    opaque_reasons: dict[str, str] = field(default_factory=dict)
    # the input's size, (H', W'), if the step holds for this size only
    size: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self.opaque_reasons:
            first_parts = list(self.opaque_reasons.items())[:MOST_PARTS]
            parts = ", ".join(f"`{name}` ({reason})" for name, reason in first_parts)
            more = (
                f" and {len(self.opaque_reasons) - MOST_PARTS} more"
                if len(self.opaque_reasons) > MOST_PARTS
                else ""
            )
            return f"{self.step.value} {parts}{more}"
        return f"{self.step.value} ({self.reason})" if self.reason else self.step.value


@dataclass(frozen=True)
class TrunkAndHead:
    """The trunk and the head, checked against the model on a first image.

    A cut model makes it at its first trace, and uses it for all passes.
    """

    parts: Parts
    side_kinds: list[SideKind]
    # from the model's return value to logits (B, n); None if the model returns the logits
    scores: Chain | None
    # from the logits to the explained outputs; None if these are the logits
    output: OutputModule | None
    sizes: OutputSizes  # the sizes of the results of the model's operations for that image
    # A sentence if the scores of an image depend on the other images of its batch; otherwise "".
    # Such a model runs on one image at a time.
    mates: str
    views: Views | None  # the views of the image, if the layer is called on several
    capture: Capture  # the way in which the parts were made

    @property
    def head_graph(self) -> fx.GraphModule | None:
        """The graph (activations, *sides) -> outputs; None if only whole passes are safe."""
        graph = self.parts.head_graph
        return graph if graph is None or self.output is None else append_output(graph, self.output)


def first_that_equals(
    point: CutPoint, reason: str, follows_shapes: bool
) -> tuple[Parts, list[SideKind], Capture]:
    """Try the steps in order, and return the parts of the first one that equals the model, with
    their side kinds.
    """
    for make in _steps(point, follows_shapes):
        try:
            parts, capture = make(reason)
            parts, kinds = _Proof(point, parts, capture.step).parts_and_kinds()
            return parts, kinds, capture
        except CannotSplit as error:
            reason = str(error)
        except Exception as error:
            # The graph of a user's code may raise anything, such as for two images of a model with
            # a fixed batch size.
            if isinstance(error, BenchError) or is_out_of_memory(error):
                raise
            reason = short_reason(error)
    parts, kinds = _Proof(point, HookedParts(point), Step.MODEL).parts_and_kinds()
    return parts, kinds, Capture(Step.MODEL, reason)


def same_step(
    point: CutPoint, proved: TrunkAndHead
) -> tuple[Parts, list[SideKind], Capture] | None:
    """Return the parts of a network that runs the modules of a proved one, by the same step.

    They have sides of the same kinds. Only their scores are compared with the network's. Returns
    None for a step whose sides may be others, and if the scores differ.
    """
    if proved.capture.step is not Step.HEAD:
        return None
    try:
        parts: Parts = ReplayedParts(point)
    except CannotSplit:
        return None
    if isinstance(proved.parts, ReshapedParts):
        parts = ReshapedParts(parts, proved.parts.reshape)
    if not equal_up_to_rounding(parts.head(*parts.trunk(point.image)), point.scores):
        return None
    return parts, proved.side_kinds, proved.capture


def _steps(
    point: CutPoint, follows_shapes: bool
) -> Iterator[Callable[[str], tuple[Parts, Capture]]]:
    """Yield all steps except the last, in order, as functions that make the parts.

    Each function takes the reason why the step before it failed.
    """
    if not point.has_mates:
        yield lambda reason: (split(point), Capture(Step.GRAPH))
        if point.network.scores is not None:
            yield lambda reason: (split(point, opaque_scores=True), Capture(Step.GRAPH))
        if follows_shapes:
            yield partial(_follow_shapes, point)
    if point.views is None:
        yield lambda reason: (ReplayedParts(point), Capture(Step.HEAD, reason))


def _follow_shapes(point: CutPoint, reason: str) -> tuple[Parts, Capture]:
    """Make parts of a graph that holds for the image's size only."""
    parts, whole = captured(point)
    step = Step.MODULES if whole else Step.SHAPES
    return parts, Capture(step, reason, whole, tuple(point.image.shape[2:]))


@dataclass(frozen=True, eq=False)
class _Proof:
    """The checks that parts equal the model. They share two passes of the trunk: the image, and the
    image twice.
    """

    point: CutPoint
    parts: Parts
    step: Step

    @property
    def _size(self) -> tuple[int, ...]:
        return tuple(self.point.image.shape[2:])

    @cached_property
    def single_pass(self) -> Passed:
        """The layer's output and the sides of the image."""
        return self.parts.trunk(self.point.image)

    @cached_property
    def pair_pass(self) -> Passed:
        """The layer's output and the sides of a batch that holds the image twice."""
        return self.parts.trunk(torch.cat([self.point.image, self.point.image]))

    def parts_and_kinds(self) -> tuple[Parts, list[SideKind]]:
        """Return the parts and the kinds of side values, with a reshape in between if the layer's
        output isn't maps.

        Raises CannotSplit if the parts don't equal the model, and BenchError if the layer gives no
        maps.
        """
        if isinstance(self.parts, GraphParts):
            may_differ = self.parts.may_differ_in_gradient
            if may_differ or self.point.needs_gradient:
                self._check_gradient()
        reshape = self._reshape()
        reshaped = None if reshape is None else ReshapedParts(self.parts, reshape)
        parts = self.parts if reshaped is None else reshaped

        def as_maps(passed: Passed) -> Passed:
            return passed if reshaped is None else reshaped.as_maps(*passed, self._size)

        activations, sides = as_maps(self.single_pass)
        self._check_maps(parts, activations)
        kinds: list[SideKind] | None = []
        if sides:
            _, doubled_sides = as_maps(self.pair_pass)
            kinds = side_kinds(sides, doubled_sides)
        if kinds is None:
            raise CannotSplit("a value that crosses the cut doesn't travel with its image")
        # the last step runs the model itself, which needs no check
        if self.step is Step.MODEL:
            return parts, kinds
        if not equal_up_to_rounding(parts.head(activations, sides), self.point.scores):
            raise CannotSplit("the split model doesn't equal the model")
        if self.step is not Step.GRAPH:
            self._check_changed()
        return parts, kinds

    def _whole_model_parts(self) -> tuple[HookedParts, Passed]:
        """Return the model itself as parts, with the layer's output and the sides of the image."""
        parts = HookedParts(self.point)
        return parts, parts.trunk(self.point.image)

    def _check_gradient(self) -> None:
        """Raise CannotSplit unless parts and model have the same gradient: torch.fx drops a user's
        `no_grad`.
        """
        gradient = _weighted_gradient(self.parts, *self.single_pass)
        expected = None
        try:
            whole_passes, of_image = self._whole_model_parts()
            expected = _weighted_gradient(whole_passes, *of_image)
        except (CannotSplit, RuntimeError, NotImplementedError):
            if self.point.needs_gradient:
                raise
        if expected is None and not self.point.needs_gradient:
            return
        zeros = torch.zeros(())
        gradient = zeros if gradient is None else gradient
        expected = zeros if expected is None else expected
        if not equal_up_to_rounding(gradient, expected):
            raise CannotSplit("the graph's gradient isn't the model's")

    def _reshape(self) -> Reshape | None:
        """Return the way from the layer's output to maps, or None if the output is maps."""
        output, _ = self.single_pass
        if not isinstance(output, Tensor):
            return None

        def channels_last() -> bool | None:
            with ChannelOrder(self.point.image.ndim) as order:
                output, sides = self.parts.trunk(self.point.image)
                self.parts.head(output, sides)
            is_channels_last: bool | None = order.channels_last(output)
            return is_channels_last

        reshape = layout(self.point.reshape, self.point.layer, output, self._size, channels_last)
        if reshape is not None:
            check_inverse(reshape, self.point.layer, output, self._size)
        return reshape

    def _check_maps(self, parts: Parts, activations: object) -> None:
        """Raise BenchError unless the layer gives maps of the explained image."""
        layer = self.point.layer
        image = self.point.image
        model = self.point.network.model
        if not isinstance(activations, Tensor) or activations.ndim != image.ndim:
            output = type(activations).__name__
            if isinstance(activations, Tensor):
                output = f"shape {tuple(activations.shape)}"
            raise BenchError(
                f"The layer {layer!r} gives {output}, not maps (B, K, {SPACES[image.ndim - 2]}); "
                "choose a convolution, activation or pooling layer before the maps are flattened."
            )
        if len(activations) > 1:
            raise BenchError(
                f"The layer {layer!r} gives maps of {len(activations)} images for one, such as its "
                "crops, frames or copies; choose a layer where they are one again, or explain a "
                "network of one of them."
            )
        # The network itself moves the image's last axis to the channels. Heatmaps would lie on the
        # wrong axes.
        channels = getattr(first_convolution(model)[1], "in_channels", None)
        if channels == image.shape[-1] != image.shape[1] and activations.shape[-1] > channels:
            raise BenchError(
                f"{type(model).__name__} takes images {tuple(image.shape[1:])}, their channels "
                "last; put it into a module whose forward calls self.net(images.movedim(1, -1)), "
                "and give channels first."
            )
        if several_inputs(model) and torch.equal(activations, parts.trunk(image * 0.5 + 0.5)[0]):
            raise BenchError(
                f"The layer {layer!r}, at its last call, doesn't depend on the explained input; "
                "choose a layer that does, or the other input by explained=."
            )

    def _check_changed(self) -> None:
        """Raise CannotSplit unless the head equals the model for changed activations, next to
        unchanged ones.
        """
        activations, _ = self.single_pass
        changed = activations.clone()
        changed[:, ::2] = 0
        both = torch.cat([activations, changed])
        _, pair_sides = self.pair_pass
        scores = self.parts.head(both, pair_sides)
        whole_passes, (_, sides) = self._whole_model_parts()
        expected = whole_passes.head(both, joined([sides, sides]))
        if not equal_up_to_rounding(scores, expected):
            raise CannotSplit("the layers after the target layer depend on more than its output")


def _weighted_gradient(parts: Parts, activations: object, sides: Sides) -> Tensor | None:
    """Compute the gradient of sum_j j S_j for the layer's output, if any. Raises CannotSplit if the
    parts fail.
    """
    if not isinstance(activations, Tensor):
        raise CannotSplit("the layer returns no tensor")
    activations = activations.detach().requires_grad_()
    with torch.enable_grad():
        try:
            scores = parts.head(activations, sides)
        except Exception as error:
            # a user's function may fail when the graph gives it some entries only
            if is_out_of_memory(error):
                raise
            raise CannotSplit(f"the head's graph fails: {error}") from error
        weights = torch.arange(1, scores.shape[1] + 1).to(scores)
        weighted = (scores * weights).sum()
        if not weighted.requires_grad:
            return None
        gradient: Tensor | None = torch.autograd.grad(weighted, activations, allow_unused=True)[0]
        return gradient
