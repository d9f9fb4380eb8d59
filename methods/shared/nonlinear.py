"""Intercept a network's torch calls, so that a method can read or change their gradients.

A TorchFunctionMode sees the calls of modules, functions and methods, and leaves the network's
modules unchanged. `NonlinearCalls` intercepts only the nonlinear calls of a head.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as functional
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from axiom_bench.cutting.numerics import SPACES

# Torch hands every call to a TorchFunctionMode as a function and its arguments, of any type.
TorchFunction = Callable[..., Any]
Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]

# Names of functions and methods, without the underscores of in-place and operator forms.
PIECEWISE_LINEAR = {
    "relu", "relu6", "hardtanh", "clamp", "clip", "threshold", "leaky_relu", "prelu", "rrelu",
    "hardsigmoid", "hardshrink", "softshrink", "abs",
}  # fmt: skip
SMOOTH = {
    "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "sigmoid", "tanh", "hardswish",
    "logsigmoid", "log_sigmoid", "softsign", "tanhshrink",
}  # fmt: skip


def functions_of_all_dimensions(*names: str) -> list[str]:
    """Return the names of torch's functions for signals, images and volumes.

    Args:
        *names: Names without their dimension: "conv" means conv1d, conv2d and conv3d.

    Returns:
        The full names, grouped by the given names.
    """
    return [f"{name}{axes}d" for name in names for axes in SPACES]


MAX_POOLING = frozenset(functions_of_all_dimensions("max_pool", "adaptive_max_pool"))


class Interceptor(TorchFunctionMode):
    """Run `call` in place of every torch call, while active."""

    @abstractmethod
    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the result of func(*args, **kwargs), or a replacement of it."""

    def __torch_function__(
        self,
        func: TorchFunction,
        types: Sequence[type],
        args: Arguments = (),
        kwargs: Keywords | None = None,
    ) -> object:
        return self.call(func, args, kwargs or {})


@dataclass(frozen=True)
class Call:
    """One nonlinear call.

    Attributes:
        name: The function's name, without underscores.
        x: The input, detached.
        source: A copy of x in the autograd graph.
        y: The output for `source`.
        winners: The indices of the maxima of a max pooling, otherwise None.
    """

    name: str
    x: Tensor
    source: Tensor
    y: Tensor
    winners: Tensor | None


class NonlinearCalls(Interceptor):
    """Replace every call of `names` whose input depends on the activations.

    While active, such a call returns `replaced(x, call)`.
    """

    names: frozenset[str]

    def replace_call(self, x: Tensor, call: Call) -> Tensor:
        """Return the call's output, with the gradient in x that the method defines."""
        raise NotImplementedError

    def other(self, func: TorchFunction, name: str, args: Arguments, kwargs: Keywords) -> object:
        """Return the result of any other call."""
        return func(*args, **kwargs)

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the output of `replace_call` for a nonlinear call, of `other` for any other call.

        A call is nonlinear if it is one of `names` and its input depends on the activations.
        """
        name = getattr(func, "__name__", "").strip("_")
        if name not in self.names or not differentiable(args[:1]):
            return self.other(func, name, args, kwargs)
        x, *rest = args
        source = x.clone()
        if name in MAX_POOLING:
            pool = getattr(functional, name)
            y, winners = pool(source, *rest, **(dict(kwargs) | {"return_indices": True}))
            return self.replace_call(x, Call(name, source.detach(), source, y, winners))
        operand = source.clone()  # an in-place call overwrites it
        y = func(operand, *rest, **kwargs)
        result = self.replace_call(x, Call(name, source.detach(), source, y, None))
        return x.copy_(result) if y is operand else result  # the network reads x again


def differentiable(values: object) -> bool:
    """Return whether any tensor in the nested values requires a gradient."""
    return any(
        isinstance(value, Tensor) and value.requires_grad for value in pytree.tree_leaves(values)
    )
