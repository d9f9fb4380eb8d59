"""Intercepts the torch calls of a network, so that a method can read or change their gradients.

A TorchFunctionMode sees calls of modules, functions and methods alike, and leaves the network's modules unchanged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode


class Interceptor(TorchFunctionMode):
    """While active, `call` runs in place of every torch call."""

    @abstractmethod
    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of func(*args, **kwargs), or what stands for it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self.call(func, args, kwargs or {})
