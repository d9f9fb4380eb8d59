"""Intercepts the torch calls of a network, or the nonlinear ones of a head, so that a method can
read or change their gradients.

A TorchFunctionMode sees calls of modules, functions and methods alike, and leaves the network's
modules unchanged.
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

# Names of functions and methods, without the underscores of in-place and operator forms.
PIECEWISE_LINEAR = {
    *(
        "relu",
        "relu6",
        "hardtanh",
        "clamp",
        "clip",
        "threshold",
        "leaky_relu",
        "prelu",
        "rrelu",
        "hardsigmoid",
    ),
    *("hardshrink", "softshrink", "abs"),
}
SMOOTH = {
    *(
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "sigmoid",
        "tanh",
        "hardswish",
        "logsigmoid",
    ),
    *("log_sigmoid", "softsign", "tanhshrink"),
}


def of_layers(*names: str) -> list[str]:
    """Names of torch's functions for signals, images and volumes: "conv" -> conv1d, conv2d,
    conv3d.
    """
    return [f"{name}{axes}d" for name in names for axes in SPACES]


MAX_POOLING = frozenset(of_layers("max_pool", "adaptive_max_pool"))


class Interceptor(TorchFunctionMode):
    """While active, `call` runs in place of every torch call."""

    @abstractmethod
    def call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The result of func(*args, **kwargs), or what stands for it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.call(func, args, kwargs or {})


@dataclass(frozen=True)
class Call:
    """One nonlinear call.

    x: its input, detached. source: a copy of x in the autograd graph. y: the output for `source`.
    winners: the indices of the maxima of a max pooling, else None.
    """

    name: str
    x: Tensor
    source: Tensor
    y: Tensor
    winners: Tensor | None


class NonlinearCalls(Interceptor):
    """While active, calls of `names` whose input depends on the activations return `replaced(x,
    call)`.
    """

    names: frozenset[str]

    def replaced(self, x: Tensor, call: Call) -> Tensor:
        """The call's output, with the gradient in x that the method defines."""
        raise NotImplementedError

    def other(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The result of any other call."""
        return func(*args, **kwargs)

    def call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The output of `replaced` for a nonlinear call of the activations, of `other` for any
        other call.
        """
        name = getattr(func, "__name__", "").strip("_")
        if name not in self.names or not differentiable(args[:1]):
            return self.other(func, name, args, kwargs)
        x, *rest = args
        source = x.clone()
        if name in MAX_POOLING:
            y, winners = getattr(functional, name)(
                source, *rest, **{**kwargs, "return_indices": True}
            )
            return self.replaced(x, Call(name, source.detach(), source, y, winners))
        written = source.clone()
        y = func(written, *rest, **kwargs)
        result = self.replaced(x, Call(name, source.detach(), source, y, None))
        return x.copy_(result) if y is written else result  # after an in-place call x is read again


def differentiable(values: Any) -> bool:
    """Whether any tensor in the (nested) values requires a gradient."""
    return any(
        isinstance(value, Tensor) and value.requires_grad for value in pytree.tree_leaves(values)
    )
