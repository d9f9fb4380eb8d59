"""Find the end of a network that turns its logits into probabilities, and take it off.

An end is a softmax, a log-softmax or a sigmoid among the operations of a pass. It may be followed
by operations that keep its values (a view, a cast), change them by rounding (a clamp), or take
their logarithm or exponential. The logits before the end are values of the network's own pass. So
the logits, their gradients and drops are those of the same network without its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from axiom_bench.errors import BenchError

T = TypeVar("T")
SOFTMAX = {"softmax", "softmax2d", "logsoftmax"}
SIGMOID = {"sigmoid", "expit", "logsigmoid"}
# Operations that keep the values.
KEPT = {
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose",
    "movedim", "getitem", "contiguous", "clone", "to", "type", "float", "double", "half",
    "bfloat16", "identity", "dropout",
}  # fmt: skip
# Operations that change the values. They count only if their other arguments are numbers.
CHANGED = {
    "clamp",
    "clip",
    "clampmin",
    "clampmax",
    "exp",
    "log",
    "add",
    "radd",
    "iadd",
}
JOINED = {"cat", "concat", "stack"}  # the values of several heads
KNOWN = SOFTMAX | SIGMOID | KEPT | CHANGED | JOINED
# From a network's return value to its logits, by the kind of the value. In float64, whose bounds
# hold for every type.
UNDONE: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda logits: logits,
    "probabilities": lambda probabilities: (
        probabilities.double().clamp_min(1e-300).log().type_as(probabilities)
    ),
    "log_probabilities": lambda logarithms: logarithms,
    "labels": lambda probabilities: probabilities.double().logit(1e-12).type_as(probabilities),
}


class Call(NamedTuple):
    """An operation of a pass."""

    operation: str  # its name
    source: Any  # the value that it was applied to
    reapply: Callable[[Any], Any]  # applies the same operation to another value


def logits_before(value: T, call_of: Callable[[T], Call | None], ends: set[str]) -> T | None:
    """Return the logits from which one of these ends made a value; None if the value was made
    otherwise.

    `call_of` returns the operation that made a value, or None if it isn't known.
    """
    kept: list[Callable[[T], T]] = []
    while (call := call_of(value)) is not None:
        value = call.source
        if call.operation in ends:
            return _applied(kept, value)
        if call.operation in JOINED:
            # each head of the network has an end of its own
            parts = [logits_before(part, call_of, ends) for part in call.source]
            if any(part is None for part in parts):
                return None
            joined: T = call.reapply(parts)
            return _applied(kept, joined)
        if call.operation in KEPT:
            kept.append(call.reapply)
        elif call.operation not in CHANGED:
            return None
    return None


def _applied(kept: list[Callable[[T], T]], logits: T) -> T:
    """Apply the operations that keep values to the logits. The list starts with the pass's last
    operation.
    """
    for again in reversed(kept):
        logits = again(logits)
    return logits


def _plain(name: str) -> str:
    """Return an operation's name as in the sets above: "logsoftmax" for log_softmax, LogSoftmax and
    special_log_softmax.
    """
    return name.replace("_", "").lower().removeprefix("special")


class Calls(TorchFunctionMode):
    """A mode that remembers the operations of a pass.

    The logits are a value of the pass that the network doesn't return. This mode finds them.
    """

    def __init__(self) -> None:
        super().__init__()
        # The operations by the id of their results. The results are kept, so that no other value
        # gets their id.
        self._made: dict[int, tuple[object, Call | None]] = {}

    def find(self, tensor: object) -> Call | None:
        """Return the operation that made a tensor, or None if it isn't known."""
        return self._made.get(id(tensor), (None, None))[1]

    def __torch_function__(
        self,
        function: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = getattr(function, "__name__", "")
        options = dict(kwargs or {})
        operation = _plain(name)
        before: Any = args[0] if args else options.pop("input", None)
        has_tensors = operation in CHANGED and any(
            isinstance(argument, Tensor) for argument in args[1:]
        )
        if (
            operation not in KNOWN
            or has_tensors
            or isinstance(before, Tensor) == (operation in JOINED)
        ):
            return function(*args, **(kwargs or {}))
        # an in-place operation overwrites it
        if operation == "iadd" or name.endswith("_") != name.endswith("__"):
            made = self.find(before)
            before = before.clone()
            self._made[id(before)] = (before, made)
        output = function(*args, **(kwargs or {}))
        if output is not before:  # a cast to the tensor's own type returns the tensor itself
            call = Call(operation, before, lambda other: function(other, *args[1:], **options))
            self._made[id(output)] = (output, call)
        return output


class Ending(nn.Module):
    """A module from a network's return value, (B, n), (B,) or (B, n, H, W), to its logits of that
    shape.

    The logits are those of the pass before the network's end. If they aren't found, UNDONE computes
    them.
    """

    def __init__(self, returns: str) -> None:
        super().__init__()
        self.returns = returns  # a key of UNDONE
        self.calls: Calls | None = None  # the operations of the pass, while they are remembered

    def forward(self, returned: Any) -> Any:
        is_traced = isinstance(returned, fx.Proxy)
        operations = self.calls or Calls()  # an empty one finds nothing
        call_of: Callable[[Any], Call | None] = _call_of if is_traced else operations.find
        logits = logits_before(returned, call_of, SIGMOID if self.returns == "labels" else SOFTMAX)
        if is_traced and logits is not None:
            # Nothing uses the end's nodes any more. They are erased as far back as the logits.
            node = returned.node
            while not node.users and node is not logits.node:
                unused, node = node, node.all_input_nodes[0]
                node.graph.erase_node(unused)
        return UNDONE[self.returns](returned) if logits is None else logits

    def check(self, returned: Tensor, network: str) -> None:
        """Raise BenchError for values that can't be of the kind that `returns` names."""
        least, most = map(float, returned.detach().aminmax())
        if self.returns == "probabilities" and (least < -1e-2 or most > 1 + 1e-2):
            raise BenchError(
                f"{network} returns values from {least:.3g} to {most:.3g}, which are no "
                "probabilities; set model.output=logits (in Python output='logits')."
            )


def _call_of(proxy: Any) -> Call | None:
    """Return the operation that made a value of a network that torch.fx is tracing, or None if it
    isn't known.
    """
    node = proxy.node
    graph = node.graph
    tracer = proxy.tracer
    named: Any = node.target
    if node.op == "call_module":
        named = tracer.root.get_submodule(named)
    name = named if isinstance(named, str) else getattr(named, "__name__", type(named).__name__)
    name = _plain(name)
    # An operation with several inputs is followed only if it joins them, or if the others, such as
    # a shape, don't change the values.
    if name in JOINED and node.op == "call_function" and node.args:
        parts = [fx.Proxy(part, tracer) for part in node.args[0]]
        return Call(name, parts, lambda others: node.target(others, *node.args[1:], **node.kwargs))
    if not node.op.startswith("call") or (len(node.all_input_nodes) != 1 and name not in KEPT):
        return None
    source = node.all_input_nodes[0]

    def again(other: fx.Proxy) -> fx.Proxy:
        copy = graph.node_copy(
            node, lambda argument: other.node if argument is source else argument
        )
        return fx.Proxy(copy, tracer)

    return Call(name, fx.Proxy(source, tracer), again)
