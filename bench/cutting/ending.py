"""The end of a network that makes probabilities of its logits: found among the operations of a pass, and taken off.

An end is a softmax, a log-softmax or a sigmoid. Behind it may stand what keeps its values (a view, a cast), changes
them by rounding (a clamp), or takes their logarithm or exponential. The logits before it are values of the network's
own pass, so that they, their gradients and drops are those of the same network without its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from axiom_bench.errors import BenchError

T = TypeVar("T")
SOFTMAX, SIGMOID = {"softmax", "softmax2d", "logsoftmax"}, {"sigmoid", "expit", "logsigmoid"}
KEPT = {
    *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "movedim", "getitem"),
    *("contiguous", "clone", "to", "type", "float", "double", "half", "bfloat16", "identity", "dropout"),
}
CHANGED = {"clamp", "clip", "clampmin", "clampmax", "exp", "log", "add", "radd", "iadd"}  # by numbers alone


class Kind(NamedTuple):
    """What a network may return. ends: operations that make it of logits. undone: logits made of it, where the pass
    hasn't them. bounds: of its values."""

    ends: set[str]
    undone: Callable[[Tensor], Tensor]
    bounds: tuple[float, float]


KINDS = {
    "logits": Kind(set(), lambda logits: logits, (-torch.inf, torch.inf)),
    "probabilities": Kind(SOFTMAX, lambda p: p.clamp_min(torch.finfo(p.dtype).tiny).log(), (0, 1)),
    "log_probabilities": Kind(SOFTMAX, lambda logarithms: logarithms, (-torch.inf, 0)),
    "labels": Kind(SIGMOID, lambda p: p.logit(torch.finfo(p.dtype).eps), (-torch.inf, 1)),
}


class Call(NamedTuple):
    """An operation's name, what it was made of, and the same operation on something else."""

    operation: str
    source: Any
    again: Callable[[Any], Any]


def logits_before(value: T, call_of: Callable[[T], Call | None], ends: set[str]) -> T | None:
    """The logits of which one of these ends made a value; None where it is made otherwise. call_of: what made a value,
    None where nobody knows."""
    kept: list[Callable[[T], T]] = []
    while (call := call_of(value)) is not None:
        value = call.source
        if call.operation in ends:
            return reduce(lambda logits, again: again(logits), reversed(kept), value)
        if call.operation in KEPT:
            kept.append(call.again)
        elif call.operation not in CHANGED:
            return None
    return None


def _plain(name: str) -> str:
    """As the sets above name it: "logsoftmax" for log_softmax, LogSoftmax and torch.special.log_softmax."""
    return name.replace("_", "").lower().removeprefix("special")


class Calls(TorchFunctionMode):
    """Remembers the operations of a pass."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[Any, Call | None]] = {}  # with what they returned, whose id would be given away

    def of(self, tensor: Tensor) -> Call | None:
        """What made a tensor."""
        return self._made.get(id(tensor), (None, None))[1]

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, options = getattr(function, "__name__", ""), dict(kwargs or {})
        operation, before = _plain(name), args[0] if args else options.pop("input", None)
        known = SOFTMAX | SIGMOID | KEPT | (set() if any(isinstance(each, Tensor) for each in args[1:]) else CHANGED)
        if operation not in known or not isinstance(before, Tensor):
            return function(*args, **(kwargs or {}))
        if operation == "iadd" or name.endswith("_") != name.endswith("__"):  # it will be overwritten
            made = self.of(before)
            before = before.clone()
            self._made[id(before)] = (before, made)
        output = function(*args, **(kwargs or {}))
        if output is not before:  # as a cast to what it is already
            again = Call(operation, before, lambda other: function(other, *args[1:], **options))
            self._made[id(output)] = (output, again)
        return output


class Ending(nn.Module):
    """From what a network returns, (B, n), (B,) or (B, n, H, W), to its logits of that shape: those of the pass before
    its end, else made of what it returns. returns: one of KINDS. calls: of the pass, where they are remembered."""

    def __init__(self, returns: str) -> None:
        super().__init__()
        self.returns = returns
        self.calls: Calls | None = None

    def forward(self, returned: Tensor) -> Tensor:
        logits = None if self.calls is None else logits_before(returned, self.calls.of, KINDS[self.returns].ends)
        return KINDS[self.returns].undone(returned) if logits is None else logits

    def check(self, returned: Tensor, network: str) -> None:
        """Raises BenchError for values that can't be of this kind."""
        (low, high), (least, most) = KINDS[self.returns].bounds, map(float, returned.aminmax())
        if least < low - 1e-2 or most > high + 1e-2:
            raise BenchError(
                f"{network} returns values from {least:.3g} to {most:.3g}, which are no {self.returns}; set "
                "model.output=logits (in Python output='logits')."
            )


def take_off(graph: fx.Graph, network: nn.Module) -> None:
    """Replaces the call of an Ending in a traced network by the logits, where the graph has them."""
    modules = dict(network.named_modules())

    def call_of(node: fx.Node) -> Call | None:
        named: Any = modules[str(node.target)] if node.op == "call_module" else node.target
        name = _plain(named if isinstance(named, str) else getattr(named, "__name__", type(named).__name__))
        if not node.op.startswith("call") or (len(node.all_input_nodes) != 1 and name not in KEPT):
            return None
        source = node.all_input_nodes[0]
        return Call(name, source, lambda other: graph.node_copy(node, lambda each: other if each is source else each))

    for node in list(graph.nodes):
        ending = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(ending, Ending):
            (returned,) = node.all_input_nodes
            with graph.inserting_before(node):
                logits = logits_before(returned, call_of, KINDS[ending.returns].ends)
            if logits is not None:
                node.replace_all_uses_with(logits)
                _erase(graph, node)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """A node that nothing uses, and what it alone was made of."""
    while not node.users and node.op.startswith("call"):
        source = node.all_input_nodes[0]
        graph.erase_node(node)
        node = source
