"""The end of a network that makes probabilities of its logits: found among the operations of a pass, and taken off.

An end is a softmax, a log-softmax or a sigmoid. Behind it may stand what keeps its values (a view, a cast), changes
them by rounding (a clamp), or takes their logarithm or exponential. The logits before it are values of the network's
own pass, so that they, their gradients and drops are those of the same network without its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, NamedTuple, TypeVar

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
JOINED = {"cat", "concat", "stack"}  # of several heads
KNOWN = SOFTMAX | SIGMOID | KEPT | CHANGED | JOINED
UNDONE: dict[str, Callable[[Tensor], Tensor]] = {  # in float64, whose bounds hold for every type
    "logits": lambda logits: logits,
    "probabilities": lambda probabilities: probabilities.double().clamp_min(1e-300).log().type_as(probabilities),
    "log_probabilities": lambda logarithms: logarithms,
    "labels": lambda probabilities: probabilities.double().logit(1e-12).type_as(probabilities),
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
        if call.operation in JOINED:
            parts = [logits_before(part, call_of, ends) for part in call.source]
            joined = None if any(part is None for part in parts) else call.again(parts)
            return joined if joined is None else reduce(lambda logits, again: again(logits), reversed(kept), joined)
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
        operation = _plain(name)
        before: Any = args[0] if args else options.pop("input", None)
        is_by_tensor = operation in CHANGED and any(isinstance(each, Tensor) for each in args[1:])
        if operation not in KNOWN or is_by_tensor or isinstance(before, Tensor) == (operation in JOINED):
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
    its end, else made of it by UNDONE. returns: a key of UNDONE. calls: of the pass, where they are remembered."""

    def __init__(self, returns: str) -> None:
        super().__init__()
        self.returns = returns
        self.calls: Calls | None = None

    def forward(self, returned: Any) -> Any:
        of_graph = isinstance(returned, fx.Proxy)
        call_of: Any = _call_of if of_graph else self.calls.of if self.calls else lambda _: None
        logits = logits_before(returned, call_of, SIGMOID if self.returns == "labels" else SOFTMAX)
        if of_graph and logits is not None:
            node = returned.node  # nothing uses it, nor what it alone was made of, as far as the logits
            while not node.users and node is not logits.node:
                unused, node = node, node.all_input_nodes[0]
                node.graph.erase_node(unused)
        return UNDONE[self.returns](returned) if logits is None else logits

    def check(self, returned: Tensor, network: str) -> None:
        """Raises BenchError for values that can't be what they are called."""
        least, most = map(float, returned.detach().aminmax())
        if self.returns == "probabilities" and (least < -1e-2 or most > 1 + 1e-2):
            raise BenchError(
                f"{network} returns values from {least:.3g} to {most:.3g}, which are no probabilities; set "
                "model.output=logits (in Python output='logits')."
            )


def _call_of(proxy: Any) -> Call | None:
    """What made a value of a network that torch.fx is tracing."""
    node, graph, tracer = proxy.node, proxy.node.graph, proxy.tracer
    named: Any = tracer.root.get_submodule(node.target) if node.op == "call_module" else node.target
    name = _plain(named if isinstance(named, str) else getattr(named, "__name__", type(named).__name__))
    if name in JOINED and node.op == "call_function" and node.args:
        parts = [fx.Proxy(each, tracer) for each in node.args[0]]
        return Call(name, parts, lambda others: node.target(others, *node.args[1:], **node.kwargs))
    if not node.op.startswith("call") or (len(node.all_input_nodes) != 1 and name not in KEPT):
        return None
    source = node.all_input_nodes[0]

    def again(other: fx.Proxy) -> fx.Proxy:
        return fx.Proxy(graph.node_copy(node, lambda each: other.node if each is source else each), tracer)

    return Call(name, fx.Proxy(source, tracer), again)
