"""Trunk and head of a model: split in the first of five ways that equals the model on one image.

Sides are the values that cross the cut beside the layer's output, as a skip connection's; each belongs to its image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.dependence import BatchMates, batch_mates
from axiom_bench.cutting.ending import Ending
from axiom_bench.cutting.graph_parts import CannotSplit, GraphParts, reason_of, split
from axiom_bench.cutting.images import first_convolution, several_inputs
from axiom_bench.cutting.model_copy import hooked
from axiom_bench.cutting.numerics import SPACES
from axiom_bench.cutting.output import Chain, Output, OutputModule, ScoredNetwork, graph_with, scores_of
from axiom_bench.cutting.passes import HALF, OutputSizes, equal_up_to_rounding, measured_outputs
from axiom_bench.cutting.tokens import AnyReshape, ChannelOrder, ChannelsLast, Reshape, check_inverse, layout
from axiom_bench.errors import BenchError, is_out_of_memory

if TYPE_CHECKING:
    from axiom_bench.cutting.hooked_parts import HookedParts
    from axiom_bench.cutting.views import Views


MOST_PARTS = 3  # submodules that a sentence names


class SideKind(Enum):
    """How a side value depends on the batch."""

    PER_IMAGE = "per image"  # a tensor with a batch as its first dimension
    SHARED = "shared"  # the same whatever the batch
    BATCH_SIZE = "batch size"  # a number that counts images


def kinds_of(sides: Any, doubled_sides: Any) -> list[SideKind] | None:
    """From the sides of an image and of a batch that holds it twice; None where a value follows no pattern."""
    pairs = zip(pytree.tree_leaves(sides), pytree.tree_leaves(doubled_sides), strict=True)
    kinds = [kind for value, doubled in pairs if (kind := _kind(value, doubled)) is not None]
    return kinds if len(kinds) == len(pytree.tree_leaves(sides)) else None


def _kind(value: Any, doubled: Any) -> SideKind | None:
    if isinstance(value, Tensor):
        if value.shape == doubled.shape:
            return SideKind.SHARED
        is_per_image = value.shape[1:] == doubled.shape[1:] and doubled.shape[0] == 2 * value.shape[0]
        return SideKind.PER_IMAGE if is_per_image else None
    if value == doubled:
        return SideKind.SHARED
    return SideKind.BATCH_SIZE if isinstance(value, int) and doubled == 2 * value else None


def select(sides: Any, kinds: list[SideKind], rows: Tensor, batch: int) -> Any:
    """The sides of a batch made of the given rows. rows: (R,) image indices into a batch of `batch` images."""

    def selected(value: Any, kind: SideKind) -> Any:
        if kind is SideKind.PER_IMAGE:
            per_image = value.unflatten(0, (batch, -1))
            return per_image.index_select(0, rows.to(value.device)).flatten(0, 1)
        return value // batch * len(rows) if kind is SideKind.BATCH_SIZE else value

    values, structure = pytree.tree_flatten(sides)
    return pytree.tree_unflatten([selected(*pair) for pair in zip(values, kinds, strict=True)], structure)


def cast(sides: Any, dtype: torch.dtype) -> Any:
    """The same sides with their floating tensors in another precision."""
    return pytree.tree_map(
        lambda value: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value, sides
    )


class Parts(Protocol):
    """Trunk and head; head_graph: the head as a graph, None if it isn't one."""

    @property
    def head_graph(self) -> fx.GraphModule | None: ...

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]: ...

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor: ...


@dataclass(frozen=True)
class ReshapedParts:
    """trunk: images -> (maps, (rest, *sides)). head: (maps, (rest, *sides)) -> logits.

    rest is the part of the layer's output that is in no map, such as the class token: it crosses the cut as a side.
    """

    parts: Parts
    reshape: Reshape

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Maps (B, K, H, W) and the sides."""
        output, sides = self.parts.trunk(images)
        maps, rest = self.reshape.to_maps(output, tuple(images.shape[2:]))
        return maps, (rest, *sides)

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C)."""
        rest, *others = sides
        return self.parts.head(self.reshape.from_maps(activations, rest), tuple(others))

    @cached_property
    def head_graph(self) -> fx.GraphModule | None:
        """The head's graph with `from_maps` as its first operation.

        Where the head itself makes maps of a grid, as Swin's does, both steps are left out.
        """
        if self.parts.head_graph is None:
            return None
        graph = fx.Graph()
        inner = list(self.parts.head_graph.graph.nodes)
        activations, *sides = (node for node in inner if node.op == "placeholder")
        maps, rest = graph.placeholder("activations"), graph.placeholder("side_rest")
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
    """How trunk and head of a model are made; the first that equals the model is taken."""

    GRAPH = "torch.fx follows the model"
    SHAPES = "torch.fx follows the model at this input size"
    MODULES = "torch.fx follows the model except"
    HEAD = "torch.fx can't follow the model, and each ablation runs the layers behind the target layer"
    MODEL = "torch.fx can't follow the model, and each ablation runs all of it"


@dataclass(frozen=True)
class Capture:
    """The step by which a model was split.

    reason: Why the step before it failed; "" for the first step.
    whole: The submodules that are called whole, by name, with the reason of each.
    size: The input's size, (H', W'), if the step holds for this size only.
    """

    step: Step
    reason: str = ""
    whole: dict[str, str] = field(default_factory=dict)
    size: tuple[int, ...] | None = None

    def __str__(self) -> str:
        if self.whole:
            parts = [f"`{name}` ({reason})" for name, reason in list(self.whole.items())[:MOST_PARTS]]
            more = f" and {len(self.whole) - MOST_PARTS} more" if len(self.whole) > MOST_PARTS else ""
            return f"{self.step.value} {', '.join(parts)}{more}"
        return f"{self.step.value} ({self.reason})" if self.reason else self.step.value


@dataclass(frozen=True)
class TrunkAndHead:
    """Trunk and head, checked against the model on a first image, with the kinds of their side values.

    scores: from what the model returns to logits (B, n), None where it returns them; output: the module from logits to
    what is explained, None where that is the logits. sizes: of what the model's operations return for that image.
    mates: a sentence where the scores of an image depend on the others of its batch, so that each runs alone; else "".
    views: of the image, if the layer is called on several. capture: how it was made.
    """

    parts: Parts
    side_kinds: list[SideKind]
    scores: Chain | None
    output: OutputModule | None
    sizes: OutputSizes
    mates: str
    views: Views | None
    capture: Capture

    @property
    def head_graph(self) -> fx.GraphModule | None:
        """(activations, *sides) -> outputs; None where only whole passes are safe."""
        graph = self.parts.head_graph
        return graph if graph is None or self.output is None else graph_with(graph, self.output)


def trunk_and_head_of(
    model: nn.Module,
    layer: str,
    reshape: AnyReshape | None,
    output: Output,
    image: Tensor,
    mates: str | None = None,
    follows_shapes: bool = True,
) -> TrunkAndHead:
    """Make the parts by the first step that equals the model on this image, (1, 3, H', W').

    mates: as `TrunkAndHead` has it; None where it isn't known: then two passes tell, with a BatchMates warning.
    follows_shapes: whether a step that holds for images of this size only will do.
    Raises BenchError for a layer without H x W maps, for a model or an output function without scores (B, n), and for
    scores that differ from call to call.
    """
    copied_image = image.clone()  # which the model may write to
    calls: list[str] = []
    with measured_outputs(image) as sizes, hooked(model, layer, lambda *_: calls.append(layer)):
        returned = model(copied_image)
    ending = Ending(output.returns) if output.returns not in (None, "logits") else None
    scores = scores_of(output.function, returned, type(model).__name__, image, ending)
    network = ScoredNetwork(model, scores)
    expected = returned if scores is None else scores(returned) if ending is None else network(image.clone())
    module = output.module(expected.shape[1])
    module = None if module is None else module.to(image.device)
    if mates is None:
        if sizes.half is not None:
            warnings.warn(_low_precision(model, sizes.half), stacklevel=2)
        mates = batch_mates(network, image, expected)
        if mates:
            warnings.warn(mates, BatchMates, stacklevel=2)

    views = None
    if len(calls) > 1:
        from axiom_bench.cutting.views import views_of  # here: most layers are called once

        views = views_of(network, layer, image, reshape is not None)
    reason = mates
    for step, make in _steps(network, layer, image, views, len(calls), bool(mates), follows_shapes):
        try:
            parts, capture = make(reason)
            needs_gradient = output.function is not None or (isinstance(parts, GraphParts) and parts.own_gradient)
            if step is not Step.HEAD and step is not Step.MODEL and needs_gradient:
                _check_gradient(parts, network, layer, views, image, may_have_none=output.function is None)
            with_maps = _with_maps(parts, layer, reshape, image)
            kinds = _checked_kinds(model, with_maps, layer, image, expected, step is Step.MODEL)
            if step not in (Step.GRAPH, Step.MODEL):
                _check_changed(parts, network, layer, views, image)
            return TrunkAndHead(with_maps, kinds, scores, module, sizes, mates, views, capture)
        except CannotSplit as error:
            reason = str(error)
        except Exception as error:  # the graph of a user's code may raise anything, as for two images of a fixed batch
            if step is Step.MODEL or isinstance(error, BenchError) or is_out_of_memory(error):
                raise
            reason = reason_of(error)
    raise AssertionError("the last step never raises CannotSplit")


def _steps(
    network: ScoredNetwork,
    layer: str,
    image: Tensor,
    views: Views | None,
    calls: int,
    has_mates: bool,
    follows_shapes: bool,
) -> Iterator[tuple[Step, Callable[[str], tuple[Parts, Capture]]]]:
    """Yield the steps in order, each with a function from the reason why the one before it failed to parts."""

    def follow(reason: str, opaque_scores: bool = False) -> tuple[Parts, Capture]:
        return split(network, layer, opaque_scores, views), Capture(Step.GRAPH)

    def follow_shapes(reason: str) -> tuple[Parts, Capture]:
        from axiom_bench.cutting.capture import captured  # here: torch.fx follows most networks

        parts, whole = captured(network, layer, image, views)
        step = Step.MODULES if whole else Step.SHAPES
        return parts, Capture(step, reason, whole, tuple(image.shape[2:]))

    def replay(reason: str) -> tuple[Parts, Capture]:
        from axiom_bench.cutting.hooked_parts import ReplayedParts

        return ReplayedParts(network, layer, calls, image, alone=has_mates), Capture(Step.HEAD, reason)

    def run_model(reason: str) -> tuple[Parts, Capture]:
        return _hooked_parts(network, layer, views), Capture(Step.MODEL, reason)

    if not has_mates:
        yield Step.GRAPH, follow
        if network.scores is not None:
            yield Step.GRAPH, partial(follow, opaque_scores=True)
        if follows_shapes:
            yield Step.SHAPES, follow_shapes
    if views is None:
        yield Step.HEAD, replay
    yield Step.MODEL, run_model


def _hooked_parts(network: ScoredNetwork, layer: str, views: Views | None) -> HookedParts:
    from axiom_bench.cutting.hooked_parts import HookedParts  # here: torch.fx follows most networks

    return HookedParts(network, layer, views)


def _low_precision(model: nn.Module, half: torch.dtype) -> str:
    """Return the sentence for a network that computes in half precision by its weights, by casts, or by both."""
    are_half = {weight.dtype in HALF for weight in model.parameters()}
    remedies = ["give network.float()"] if True in are_half else []
    if are_half != {True}:
        remedies.append("leave out autocast, .half() and .bfloat16() in its forward")
    return (
        f"The network computes in {half}, of three digits or fewer, and so are its scores, axiom errors and "
        f"drops; {' and '.join(remedies)} for all of them."
    )


def _check_changed(parts: Parts, network: ScoredNetwork, layer: str, views: Views | None, image: Tensor) -> None:
    """Raise CannotSplit unless the head equals the model for changed activations also, in one batch with unchanged."""
    activations, _ = parts.trunk(image)
    changed = activations.clone()
    changed[:, ::2] = 0
    both = torch.cat([activations, changed])
    scores = parts.head(both, parts.trunk(torch.cat([image, image]))[1])
    whole_passes = _hooked_parts(network, layer, views)
    _, sides = whole_passes.trunk(torch.cat([image, image]))
    if not equal_up_to_rounding(scores, whole_passes.head(both, sides)):
        raise CannotSplit("the layers behind the target layer depend on more than its output")


def _check_gradient(
    parts: Parts, network: ScoredNetwork, layer: str, views: Views | None, image: Tensor, may_have_none: bool
) -> None:
    """Raises CannotSplit unless both have the same gradient: torch.fx drops `no_grad` from a user's code.

    may_have_none: whether the graph's gradient will do where the model has none.
    """
    gradient, expected = _weighted_gradient(parts, image), None
    try:
        expected = _weighted_gradient(_hooked_parts(network, layer, views), image)
    except (CannotSplit, RuntimeError, NotImplementedError):
        if not may_have_none:
            raise
    if expected is None and may_have_none:
        return
    zeros = torch.zeros(())
    if not equal_up_to_rounding(zeros if gradient is None else gradient, zeros if expected is None else expected):
        raise CannotSplit("the graph's gradient isn't the model's")


def _weighted_gradient(parts: Parts, image: Tensor) -> Tensor | None:
    """The gradient of sum_j j S_j for the layer's output, if any. Raises CannotSplit where the parts fail."""
    activations, sides = parts.trunk(image)
    if not isinstance(activations, Tensor):
        raise CannotSplit("the layer returns no tensor")
    activations = activations.detach().requires_grad_()
    with torch.enable_grad():
        try:
            scores = parts.head(activations, sides)
        except Exception as error:  # a user's function on the entries alone of what the network returns
            if is_out_of_memory(error):
                raise
            raise CannotSplit(f"the head's graph fails: {error}") from error
        weighted = (scores * torch.arange(1, scores.shape[1] + 1).to(scores)).sum()
        return torch.autograd.grad(weighted, activations, allow_unused=True)[0] if weighted.requires_grad else None


def _with_maps(parts: Parts, layer: str, reshape: AnyReshape | None, image: Tensor) -> Parts:
    """The parts themselves where the layer's output is maps, else with a reshape between them."""
    output, _ = parts.trunk(image)
    size = tuple(image.shape[2:])
    if not isinstance(output, Tensor):
        return parts

    def channels_last() -> bool | None:
        with ChannelOrder(image.ndim) as order:
            output, sides = parts.trunk(image)
            parts.head(output, sides)
        return order.channels_last(output)

    to_and_from_maps = layout(reshape, layer, output, size, channels_last)
    if to_and_from_maps is None:
        return parts
    check_inverse(to_and_from_maps, layer, output, size)
    return ReshapedParts(parts, to_and_from_maps)


def _checked_kinds(
    model: nn.Module, parts: Parts, layer: str, image: Tensor, expected: Tensor, is_model: bool
) -> list[SideKind]:
    """Return the kinds of side values. is_model: whether the head is the model itself, which needs no comparison.

    Raises CannotSplit if the parts aren't the model, and BenchError without maps.
    """
    activations, sides = parts.trunk(image)
    if not isinstance(activations, Tensor) or activations.ndim != image.ndim:
        is_tensor = isinstance(activations, Tensor)
        output = f"shape {tuple(activations.shape)}" if is_tensor else type(activations).__name__
        raise BenchError(
            f"The layer {layer!r} gives {output}, not maps (B, K, {SPACES[image.ndim - 2]}); "
            "choose a convolution, activation or pooling layer before the maps are flattened."
        )
    if len(activations) > 1:
        raise BenchError(
            f"The layer {layer!r} gives maps of {len(activations)} images for one, as of its crops, frames or copies; "
            "choose a layer where they are one again, or explain a network of one of them."
        )
    channels = getattr(first_convolution(model)[1], "in_channels", None)
    if channels == image.shape[-1] != image.shape[1] and activations.shape[-1] > channels:
        raise BenchError(
            f"{type(model).__name__} takes images {tuple(image.shape[1:])}, their channels last; put it into a "
            "module whose forward calls self.net(images.movedim(1, -1)), and give channels first."
        )
    if several_inputs(model) and torch.equal(activations, parts.trunk(image * 0.5 + 0.5)[0]):
        raise BenchError(
            f"The layer {layer!r}, at its last call, doesn't depend on the explained input; choose a layer that does, "
            "or the other input by explained=."
        )
    kinds = kinds_of(sides, parts.trunk(torch.cat([image, image]))[1]) if sides else []
    if kinds is None:
        raise CannotSplit("a value that crosses the cut doesn't travel with its image")
    if not is_model and not equal_up_to_rounding(parts.head(activations, sides), expected):
        raise CannotSplit("the split model doesn't equal the model")
    return kinds
