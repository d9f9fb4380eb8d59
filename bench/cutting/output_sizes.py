"""How large what a model's operations return is, which says how many rows a pass can have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class OutputSizes:
    """Of the tensors that operations return for an image, how many times its own size they have.

    widest: the largest. total: all together, which a gradient of the whole model keeps.
    """

    widest: float = 1.0
    total: float = 1.0


@contextmanager
def measured_outputs(image: Tensor) -> Iterator[OutputSizes]:
    """Of a pass of one image, (1, 3, H', W'), in this block.

    Tensors without a row for each image, such as a detector's regions, aren't counted: their number depends on what
    the image shows, and no row of a value may depend on that. Nor are views, and results written in place.
    """
    sizes = OutputSizes()
    with _Outputs(image.numel(), sizes):
        yield sizes


class _Outputs(TorchDispatchMode):
    def __init__(self, size: int, sizes: OutputSizes) -> None:
        super().__init__()
        self.size, self.sizes = size, sizes

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*arguments, **(options or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in _strided((arguments, options))}
        for tensor in _strided(result):
            if tensor.shape[:1] == (1,) and tensor.untyped_storage().data_ptr() not in given:
                times = tensor.numel() / self.size
                self.sizes.widest = max(self.sizes.widest, times)
                self.sizes.total += times
        return result


def _strided(values: Any) -> Iterator[Tensor]:
    """The tensors of any nest of values that lie in memory element by element, as sparse ones and MKL-DNN's don't."""
    return (value for value in tree_leaves(values) if isinstance(value, Tensor) and value.layout is torch.strided)
