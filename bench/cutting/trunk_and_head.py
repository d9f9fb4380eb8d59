"""Trunk and head of a model: split by torch.fx or by hooks, and compared with the model on one image.

Sides are the values that cross the cut beside the layer's output, as a skip connection's; each belongs to its image.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from axiom_bench.cutting.dependence import BatchMates, batch_mates
from axiom_bench.cutting.ending import Ending
from axiom_bench.cutting.images import OtherInputs, first_convolution, others_of, several_inputs
from axiom_bench.cutting.numerics import SPACES
from axiom_bench.cutting.output import Chain, Output, OutputModule, ScoredNetwork, graph_with, scores_of
from axiom_bench.cutting.passes import HALF, OutputSizes, equal_up_to_rounding, measured_outputs
from axiom_bench.cutting.tokens import AnyReshape, ChannelOrder, ChannelsLast, Reshape, check_inverse, layout
from axiom_bench.errors import BenchError, is_out_of_memory

if TYPE_CHECKING:
    from axiom_bench.cutting.views import Views

Hook = Callable[[nn.Module, Any, Any], Any]


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


class _Tracer(fx.Tracer):
    """Remembers which node each call of the target layer returned.

    own_gradient: whether a node was made without a gradient, or in an autograd.Function, which has one of its own.
    """

    own_gradient = False

    def __init__(self, layer: nn.Module, opaque: nn.Module | None) -> None:
        super().__init__()
        self.layer, self.opaque = layer, opaque
        self.outputs: list[Any] = []
        self.functions = set(_codes_of_functions(torch.autograd.Function))

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """torch's, and a look at where it is called."""
        frame = sys._getframe() if self.functions and not self.own_gradient else None
        while frame is not None and frame.f_code not in self.functions:
            frame = frame.f_back
        self.own_gradient |= frame is not None or not torch.is_grad_enabled()
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Max pooling, torch's and MaxPool2dByViews, is one node of the graph; so are opaque scores and TorchScript."""
        is_one_node = m is self.opaque or isinstance(m, nn.MaxPool2d | torch.jit.ScriptModule)
        return is_one_node or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if m is self.layer:
            self.outputs.append(output)
        return output


def _codes_of_functions(kind: Any) -> Iterator[CodeType]:
    """The forward passes of all operations that have been defined with a gradient of their own."""
    for function in kind.__subclasses__():
        yield from _codes_of_functions(function)
        if not function.__module__.startswith("torch.") and hasattr(function.forward, "__code__"):
            yield function.forward.__code__


@dataclass(frozen=True)
class GraphParts:
    """Parts by torch.fx. trunk: images -> (activations, sides). head: (activations, *sides) -> logits.

    The trunk's graph has the network's other inputs as its second argument, which come from what is bound to `model`.
    """

    model: nn.Module
    trunk_graph: fx.GraphModule
    head_graph: fx.GraphModule
    own_gradient: bool  # whether the model's gradient may be another one than the graph's

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Activations (B, K, H, W) and sides for images (B, 3, H', W'), which are never written to."""
        return self.trunk_graph(images.clone(), others_of(self.model, len(images)))

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C). Works on copies, so that an in-place first operation overwrites nothing."""
        copies = tuple(side.clone() if isinstance(side, Tensor) else side for side in sides)
        return self.head_graph(activations.clone(), *copies)


class CannotSplit(Exception):
    """The graph can't be traced or cut; HookedParts is the alternative."""


def split(network: ScoredNetwork, layer: str, opaque_scores: bool = False, views: Views | None = None) -> GraphParts:
    """Cuts at the last call of `layer`. opaque_scores: the network's scores are one operation of the head. views: of
    the calls that are cut instead.

    Raises CannotSplit where torch.fx can't follow the network.
    """
    tracer = _Tracer(network.model.get_submodule(layer), network.scores if opaque_scores else None)
    try:
        with torch.enable_grad():
            graph = tracer.trace(network)
    except Exception as error:  # tracing runs the user's code on proxies: anything may come out of it
        raise CannotSplit(f"torch.fx can't trace {type(network.model).__name__}: {error}") from error
    if not tracer.outputs or not isinstance(tracer.outputs[-1], fx.Proxy):
        raise CannotSplit(f"{layer} isn't called, or returns no tensor")
    nodes = [output.node for output in tracer.outputs if isinstance(output, fx.Proxy)]
    of_images = _after(graph, next(iter(graph.nodes)))  # not of other inputs, or of a template
    cuts = ([node for node in nodes if node in of_images] or nodes)[-1:]
    if views is not None:
        if len(nodes) != views.calls:
            raise CannotSplit("torch.fx follows another number of calls")
        cuts = [nodes[view.call] for view in views.places]
    elif tracer.own_gradient and any(cuts[0] not in _after(graph, node) for node in nodes if node not in cuts):
        raise CannotSplit("a pass without a gradient doesn't show whether calls are on different views")
    after = _after(graph, *cuts)
    if not any(node.op == "output" for node in after):
        raise CannotSplit(f"the scores don't depend on {layer}")
    trunk, head = _split_graph(graph, cuts, after, views)
    modules = fx.GraphModule(network, trunk, "Trunk"), fx.GraphModule(network, head, "Head")
    if hasattr(network.model, "of_objects"):  # whose boxes no score reads
        modules[1].graph.eliminate_dead_code()
        modules[1].recompile()
    return GraphParts(network.model, *modules, tracer.own_gradient)


def _after(graph: fx.Graph, *starts: fx.Node) -> set[fx.Node]:
    """The nodes that depend on one of these."""
    after: set[fx.Node] = set()
    for node in graph.nodes:
        if any(source in starts or source in after for source in node.all_input_nodes):
            after.add(node)
    return after


def _split_graph(
    graph: fx.Graph, cuts: list[fx.Node], after: set[fx.Node], views: Views | None
) -> tuple[fx.Graph, fx.Graph]:
    """Graphs of the trunk and of the head, whose nodes are `after` the cuts, and those that both need in each."""
    needed = [node for node in graph.nodes if node not in after and any(user in after for user in node.users)]
    sides = [node for node in needed if node not in cuts and node.op != "get_attr"]
    trunk, head = fx.Graph(), fx.Graph()
    in_trunk: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node not in after:
            in_trunk[node] = trunk.node_copy(node, in_trunk.__getitem__)
    maps = [in_trunk[cut] for cut in cuts]
    joined = maps[0] if views is None else trunk.call_function(views.joined, (maps,))
    trunk.output((joined, tuple(in_trunk[side] for side in sides)))
    activations = head.placeholder("activations")
    in_head = {cuts[0]: activations}
    for side in sides:
        in_head[side] = head.placeholder(f"side_{side.name}")
    if views is not None:
        for number, cut in enumerate(cuts):
            in_head[cut] = head.call_function(views.maps_of, (activations, number))
    for node in graph.nodes:
        if node in after or (node.op == "get_attr" and node in needed):
            in_head[node] = head.node_copy(node, in_head.__getitem__)
    return trunk, head


@contextmanager
def _hooked(model: nn.Module, layer: str, hook: Hook) -> Iterator[None]:
    """Run a forward hook of the layer in this block; TorchScript takes none."""
    module = model.get_submodule(layer)
    handles = [] if isinstance(module, torch.jit.ScriptModule) else [module.register_forward_hook(hook)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class HookedParts:
    """Parts of a model that torch.fx can't follow: forward hooks on a parameter-sharing copy.

    Such a model may branch on its data, so each image runs in a batch of its own. The head is the whole model with the
    layer's output replaced, so it costs a whole forward pass an image. The sides are the images, per image which call
    of the layer is cut, the last one, and the other inputs. views: of the calls that are cut instead, if there are any.
    """

    head_graph: None = None

    def __init__(self, network: ScoredNetwork, layer: str, views: Views | None = None) -> None:
        self.network = network
        self.layer = layer
        self.views = views
        if isinstance(network.model.get_submodule(layer), torch.jit.ScriptModule):
            raise BenchError(
                f"The layer {layer!r} is TorchScript, where nothing can be cut; choose another layer, or give the "
                "nn.Module that it was made from."
            )

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Activations (B, K, H, W) and the sides. Raises BenchError where the model doesn't call the layer."""
        activations, calls, others = [], [], others_of(self.network.model, len(images))
        for image, *others_of_image in zip(*(each.split(1) for each in (images, *others)), strict=True):
            outputs: list[Any] = []

            def keep(module: nn.Module, inputs: Any, output: Any, outputs: list[Any] = outputs) -> None:
                outputs.append(output.clone() if isinstance(output, Tensor) else output)  # it may be changed in place

            self._run(image, tuple(others_of_image), keep)
            if not outputs:
                raise BenchError(
                    f"The model never calls the layer {self.layer!r}; choose one that its forward pass uses."
                )
            activations.append(outputs[-1] if self.views is None else self.views.of_calls(outputs))
            calls.append(len(outputs))
        if not all(isinstance(part, Tensor) for part in activations):
            raise BenchError(f"The layer {self.layer!r} returns no tensor; choose one that returns (B, K, H, W) maps.")
        return torch.cat(activations), (images, torch.tensor(calls), *others)

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C) of the model with the layer's output replaced by the activations."""
        rows = zip(*(each.split(1) for each in (activations, *sides)), strict=True)
        return torch.cat([self._head_of_image(*row) for row in rows])

    def _head_of_image(self, activations: Tensor, image: Tensor, call: Tensor, *others: Tensor) -> Tensor:
        count = 0

        def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
            nonlocal count
            count += 1
            if self.views is None:
                return activations.clone() if count == call else output
            numbers = {view.call: number for number, view in enumerate(self.views.places)}
            return self.views.maps_of(activations, numbers[count - 1]) if count - 1 in numbers else output

        return self._run(image, others, replace)

    def _run(self, image: Tensor, others: OtherInputs, hook: Hook) -> Any:
        with _hooked(self.network.model, self.layer, hook):
            return self.network(image.clone(), others)


@dataclass(frozen=True)
class ReshapedParts:
    """trunk: images -> (maps, (rest, *sides)). head: (maps, (rest, *sides)) -> logits.

    rest is the part of the layer's output that is in no map, such as the class token: it crosses the cut as a side.
    """

    parts: GraphParts | HookedParts
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


Parts = GraphParts | HookedParts | ReshapedParts


@dataclass(frozen=True)
class TrunkAndHead:
    """Trunk and head, checked against the model on a first image, with the kinds of their side values.

    scores: from what the model returns to logits (B, n), None where it returns them; output: the module from logits to
    what is explained, None where that is the logits. sizes: of what the model's operations return for that image.
    mates: a sentence where the scores of an image depend on the others of its batch, so that each runs alone; else "".
    views: of the image, if the layer is called on several.
    """

    parts: Parts
    side_kinds: list[SideKind]
    scores: Chain | None
    output: OutputModule | None
    sizes: OutputSizes
    mates: str
    views: Views | None

    @property
    def head_graph(self) -> fx.GraphModule | None:
        """(activations, *sides) -> outputs; None where only whole passes are safe."""
        graph = self.parts.head_graph
        return graph if graph is None or self.output is None else graph_with(graph, self.output)


def trunk_and_head_of(
    model: nn.Module, layer: str, reshape: AnyReshape | None, output: Output, image: Tensor, mates: str | None = None
) -> TrunkAndHead:
    """Graph parts where they equal the model on this image, (1, 3, H', W'), else hooked parts.

    mates: as `TrunkAndHead` has it; None where it isn't known: then two passes tell, with a BatchMates warning.
    Raises BenchError for a layer without H x W maps, for a model or an output function without scores (B, n), and for
    scores that differ from call to call.
    """
    copied_image = image.clone()  # which the model may write to
    calls: list[str] = []
    with measured_outputs(image) as sizes, _hooked(model, layer, lambda *_: calls.append(layer)):
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

    def checked(parts: GraphParts | HookedParts) -> TrunkAndHead:
        with_maps = _with_maps(parts, layer, reshape, image)
        kinds = _checked_kinds(model, with_maps, layer, image, expected)
        return TrunkAndHead(with_maps, kinds, scores, module, sizes, mates or "", views)

    views = None
    if len(calls) > 1:
        from axiom_bench.cutting.views import views_of  # here: most layers are called once

        views = views_of(network, layer, image, reshape is not None)
    for opaque_scores in (False, True)[: 0 if mates else 1 if scores is None else 2]:
        try:
            parts = split(network, layer, opaque_scores, views)
            if output.function is not None or parts.own_gradient:
                _check_gradient(parts, HookedParts(network, layer, views), image, may_have_none=output.function is None)
            return checked(parts)
        except CannotSplit:
            continue
        except Exception as error:  # the graph of a user's code may raise anything, as for two images of a fixed batch
            if isinstance(error, BenchError) or is_out_of_memory(error):
                raise
    return checked(HookedParts(network, layer, views))


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


def _check_gradient(parts: GraphParts, hooked: HookedParts, image: Tensor, may_have_none: bool) -> None:
    """Raises CannotSplit unless both have the same gradient: torch.fx drops `no_grad` from a user's code.

    may_have_none: whether the graph's gradient will do where the model has none.
    """
    gradient, expected = _weighted_gradient(parts, image), None
    try:
        expected = _weighted_gradient(hooked, image)
    except (CannotSplit, RuntimeError, NotImplementedError):
        if not may_have_none:
            raise
    if expected is None and may_have_none:
        return
    zeros = torch.zeros(())
    if not equal_up_to_rounding(zeros if gradient is None else gradient, zeros if expected is None else expected):
        raise CannotSplit("the graph's gradient isn't the model's")


def _weighted_gradient(parts: GraphParts | HookedParts, image: Tensor) -> Tensor | None:
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


def _with_maps(parts: GraphParts | HookedParts, layer: str, reshape: AnyReshape | None, image: Tensor) -> Parts:
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


def _checked_kinds(model: nn.Module, parts: Parts, layer: str, image: Tensor, expected: Tensor) -> list[SideKind]:
    """The kinds of side values. Raises CannotSplit where the parts aren't the model, BenchError without maps."""
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
    if parts.head_graph is not None:
        if kinds is None:
            raise CannotSplit("a value that crosses the cut doesn't travel with its image")
        if not equal_up_to_rounding(parts.head(activations, sides), expected):
            raise CannotSplit("the split model doesn't equal the model")
    return kinds or []
