"""The number of rows in one pass of the model, as memory and caches allow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from axiom_bench.cutting.split_model import SplitModel

# Memory of a forward pass for a row of its input, in tensors of the row's size: VGG-16's widest layer and its output
# are 43 images.
TENSORS_PER_ROW = 64
# Input of a pass on a CPU, in bytes: 4 images of 224 x 224. Measured: beyond twice as many a row takes up to twice as
# long, since an allocator maps large tensors anew and caches don't hold them.
MAX_CPU_BYTES = 5 * 2**19


class OfCutModel(Protocol):
    """What `rows_at_once` reads of a Trace, which it doesn't import: a trace imports this module."""

    @property
    def cut_model(self) -> SplitModel:
        """The model that the rows pass through."""


def rows_at_once(trace: OfCutModel, row: Tensor, tensors_per_row: int = TENSORS_PER_ROW) -> int:
    """The largest number of rows of a pass that fits the cut model's memory and a CPU's cache; at least 1.

    row: one row of the pass's input. tensors_per_row: memory that the pass takes for it, in tensors of its size.
    """
    size = row.numel() * row.element_size()
    at_once = trace.cut_model.ablation_memory // (tensors_per_row * size)
    if row.device.type == "cpu":
        at_once = min(at_once, MAX_CPU_BYTES // size)
    return max(1, at_once)


def pieces(count: int, at_once: int) -> Iterator[slice]:
    """Slices of range(count), equal but for one row, of at most `at_once`."""
    number = -(-count // at_once)
    bounds = [count * piece // number for piece in range(number + 1)] if number else []
    return (slice(*pair) for pair in pairwise(bounds))
