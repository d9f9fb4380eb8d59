"""Record a model's operations with torch.fx, and divide the graph at the target layer into trunk
and head.

`trunk_and_head` tries this way first, since a head that is a graph gives all ablations for little
more than one pass.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from axiom_bench.cutting.images import other_inputs_for
from axiom_bench.cutting.output import ScoredNetwork

if TYPE_CHECKING:
    from axiom_bench.cutting.tokens import AnyReshape
    from axiom_bench.cutting.views import Views


# The values that cross the cut in addition to the layer's output, such as a skip connection's.
# Only the parts that made them know their types.
Sides = tuple[object, ...]
MAX_REASON = 100  # characters
REASONS = {  # the reasons in users' words, by the start of torch.fx's own sentences for developers
    "symbolically traced variables cannot be used": "its code decides by values or shapes",
    "Proxy object cannot be iterated": "its code loops over a tensor",
    "'len' is not supported": "its code asks for the length of a tensor",
    "Cannot convert Proxy": "its code makes a number of a shape",
    "'Proxy' object cannot be interpreted as an integer": "its code makes a number of a shape",
    "slice indices must be integers": "its code slices by a shape",
}


class CannotSplit(Exception):
    """The model can't be divided in this way; another way is tried."""


def short_reason(error: Exception) -> str:
    """Return the first line of an error, in words for users. `Capture` prints it."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    for start, reason in REASONS.items():
        if line.startswith(start):
            return reason
    return line[:MAX_REASON]


@dataclass(frozen=True, eq=False)
class CutPoint:
    """The target layer of a network, and the image on which trunk and head must equal the
    network.
    """

    network: ScoredNetwork
    layer: str
    reshape: AnyReshape | None  # from the layer's output to maps
    image: Tensor  # (1, C, *space)
    scores: Tensor  # the scores of the image, (1, n)
    # the number of calls of the layer in the pass of the image; the last call is cut
    num_calls: int
    views: Views | None  # the views of the image, whose calls are cut instead
    has_mates: bool  # True if the scores of an image depend on the others of its batch
    needs_gradient: bool  # True if the parts must have the model's gradient, even if it has none

    @property
    def module(self) -> nn.Module:
        """The target layer."""
        return self.network.model.get_submodule(self.layer)


class Tracer(fx.Tracer):
    """The tracer that remembers which node each call of the target layer returned.

    The last of these nodes is the cut.
    """

    # True once a node was made without a gradient, or in an autograd.Function, which has a gradient
    # of its own.
    may_differ_in_gradient = False

    def __init__(self, layer: nn.Module, opaque_scores: nn.Module | None) -> None:
        super().__init__()
        self.layer = layer
        self.opaque_scores = opaque_scores
        self.outputs: list[object] = []
        self.functions = set(_codes_of_functions(torch.autograd.Function))

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Record an operation, and check whether it is called where a graph loses its gradient."""
        frame = sys._getframe() if self.functions and not self.may_differ_in_gradient else None
        while frame is not None and frame.f_code not in self.functions:
            frame = frame.f_back
        self.may_differ_in_gradient |= frame is not None or not torch.is_grad_enabled()
        return super().create_node(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return True for one node of the graph: max pooling (torch's and by views), opaque scores
        and TorchScript.
        """
        is_one_node = m is self.opaque_scores or isinstance(
            m, nn.MaxPool2d | torch.jit.ScriptModule
        )
        return is_one_node or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """Record a call of a module."""
        output = super().call_module(m, forward, args, kwargs)
        if m is self.layer:
            self.outputs.append(output)
        return output


def _codes_of_functions(kind: type[torch.autograd.Function]) -> Iterator[CodeType]:
    """Yield the forward passes of all operations that were defined with a gradient of their own.

    torch.fx records the operations inside such a forward pass, whose gradient is another one.
    """
    for function in kind.__subclasses__():
        yield from _codes_of_functions(function)
        if not function.__module__.startswith("torch.") and hasattr(function.forward, "__code__"):
            yield function.forward.__code__


@dataclass(frozen=True)
class GraphParts:
    """The parts of a model as graphs. Trunk: images -> (activations, sides). Head: (activations,
    *sides) -> logits.

    The trunk's graph takes the network's other inputs as its second argument. They are the inputs
    bound to `model`.
    """

    model: nn.Module
    trunk_graph: fx.GraphModule
    head_graph: fx.GraphModule
    may_differ_in_gradient: bool  # True if the model's gradient may differ from the graph's

    def trunk(self, images: Tensor) -> tuple[Tensor, Sides]:
        """Compute activations (B, K, H, W) and sides for images (B, 3, H', W'), which are never
        written to.
        """
        passed: tuple[Tensor, Sides]
        passed = self.trunk_graph(images.clone(), other_inputs_for(self.model, len(images)))
        return passed

    def head(self, activations: Tensor, sides: Sides) -> Tensor:
        """Compute logits (B, C). The head works on copies, so that an in-place first operation
        overwrites nothing.
        """
        copies = tuple(side.clone() if isinstance(side, Tensor) else side for side in sides)
        logits: Tensor = self.head_graph(activations.clone(), *copies)
        return logits


def split(point: CutPoint, opaque_scores: bool = False) -> GraphParts:
    """Cut a network whose operations don't depend on its input, or raise CannotSplit if torch.fx
    can't follow it.

    With `opaque_scores`, the network's scores are one operation of the head.
    """
    tracer = Tracer(point.module, point.network.scores if opaque_scores else None)
    try:
        with torch.enable_grad():
            graph = tracer.trace(point.network)
    except Exception as error:  # a user's code on proxies may raise anything
        raise CannotSplit(short_reason(error)) from error
    return divided(point, tracer, graph)


def divided(point: CutPoint, tracer: Tracer, graph: fx.Graph) -> GraphParts:
    """Divide a recorded graph into trunk and head. Raises CannotSplit if the scores don't depend on
    the layer.
    """
    views = point.views
    if not tracer.outputs or not isinstance(tracer.outputs[-1], fx.Proxy):
        raise CannotSplit(f"{point.layer} isn't called, or returns no tensor")
    nodes = [output.node for output in tracer.outputs if isinstance(output, fx.Proxy)]
    after_images = _after(graph, next(iter(graph.nodes)))
    # A call on other inputs only, or on a template, isn't cut.
    candidates = [node for node in nodes if node in after_images] or nodes
    cuts = candidates[-1:]
    if views is not None:
        if len(nodes) != views.calls:
            raise CannotSplit("torch.fx follows another number of calls")
        cuts = [nodes[view.call] for view in views.places]
    elif tracer.may_differ_in_gradient:
        other_calls = [node for node in nodes if node not in cuts]
        if any(cuts[0] not in _after(graph, call) for call in other_calls):
            raise CannotSplit(
                "a pass without a gradient doesn't show whether calls are on different views"
            )
    after = _after(graph, *cuts)
    if not any(node.op == "output" for node in after):
        raise CannotSplit(f"the scores don't depend on {point.layer}")
    trunk, head = _split_graph(graph, cuts, after, views)
    trunk_graph = fx.GraphModule(point.network, trunk, "Trunk")
    head_graph = fx.GraphModule(point.network, head, "Head")
    if hasattr(point.network.model, "of_objects"):  # no score reads the boxes of a detector
        head_graph.graph.eliminate_dead_code()
        head_graph.recompile()
    return GraphParts(point.network.model, trunk_graph, head_graph, tracer.may_differ_in_gradient)


def _after(graph: fx.Graph, *starts: fx.Node) -> set[fx.Node]:
    """Return the nodes that depend on one of these."""
    after: set[fx.Node] = set()
    for node in graph.nodes:
        if any(source in starts or source in after for source in node.all_input_nodes):
            after.add(node)
    return after


def _split_graph(
    graph: fx.Graph, cuts: list[fx.Node], after: set[fx.Node], views: Views | None
) -> tuple[fx.Graph, fx.Graph]:
    """Return the graphs of trunk and head, whose nodes are `after` the cuts.

    Each graph has its own copy of an attribute that both read.
    """
    needed = []  # the nodes of the trunk that the head reads
    for node in graph.nodes:
        if node not in after and any(user in after for user in node.users):
            needed.append(node)
    # A weight that the head reads isn't a side: as a side, it would be repeated for each ablation.
    sides = [node for node in needed if node not in cuts and node.op != "get_attr"]
    trunk = fx.Graph()
    in_trunk: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node not in after:
            in_trunk[node] = trunk.node_copy(node, in_trunk.__getitem__)
    maps = [in_trunk[cut] for cut in cuts]
    joined = maps[0] if views is None else trunk.call_function(views.joined, (maps,))
    trunk.output((joined, tuple(in_trunk[side] for side in sides)))
    head = fx.Graph()
    activations = head.placeholder("activations")
    in_head = {cuts[0]: activations}
    for side in sides:
        in_head[side] = head.placeholder(f"side_{side.name}")
    if views is not None:
        for number, cut in enumerate(cuts):
            in_head[cut] = head.call_function(views.select_maps, (activations, number))
    for node in graph.nodes:
        if node in after or (node.op == "get_attr" and node in needed):
            in_head[node] = head.node_copy(node, in_head.__getitem__)
    return trunk, head
