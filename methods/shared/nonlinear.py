"""Nonlinear calls in a head, caught as they are made: what they pass back on the way to the activations can be chosen.

A TorchFunctionMode sees modules, functions and methods alike, and leaves the network as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as functional
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

# Functions and methods by their name, without the underscores of in-place and operator forms.
PIECEWISE_LINEAR = {
    *("relu", "relu6", "hardtanh", "clamp", "clip", "threshold", "leaky_relu", "prelu", "rrelu", "hardsigmoid"),
    *("hardshrink", "softshrink", "abs"),
}
SMOOTH = {
    *("elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "sigmoid", "tanh", "hardswish", "logsigmoid"),
    *("log_sigmoid", "softsign", "tanhshrink"),
}
MAX_POOLING = {"max_pool2d", "adaptive_max_pool2d"}


@dataclass(frozen=True)
class Call:
    """One nonlinear call: its name, its input x (detached), its output y as a function of `source`, a copy of x that
    is part of the graph, and where each maximum was found if it pools."""

    name: str
    x: Tensor
    source: Tensor
    y: Tensor
    winners: Tensor | None


class NonlinearCalls(TorchFunctionMode):
    """While active, calls of these names whose input depends on the activations return `passed(x, call)`."""

    names: frozenset[str]

    def passed(self, x: Tensor, call: Call) -> Tensor:
        """The call's output, differentiable in x as the method wants it."""
        raise NotImplementedError

    def other(self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Any other call's answer."""
        return func(*args, **kwargs)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if name not in self.names or not differentiable(args[:1]):
            return self.other(func, name, args, kwargs)
        x, *rest = args
        source = x.clone()
        if name in MAX_POOLING:
            y, winners = getattr(functional, name)(source, *rest, **{**kwargs, "return_indices": True})
            return self.passed(x, Call(name, source.detach(), source, y, winners))
        written = source.clone()
        y = func(written, *rest, **kwargs)
        found = self.passed(x, Call(name, source.detach(), source, y, None))
        return x.copy_(found) if y is written else found  # an in-place call, whose result may be read from x


def differentiable(values: Any) -> bool:
    """Whether a tensor among the values, however nested, depends on what is differentiated."""
    return any(isinstance(value, Tensor) and value.requires_grad for value in pytree.tree_leaves(values))
