"""The number of rows in one pass of the model, as memory and caches allow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from axiom_bench.cutting.trace import Trace

# What a forward pass holds beside a row, in rows: VGG-16's widest layer and its output are 43 images.
HELD = 64
# Rows of a pass on a CPU, in bytes: 4 images of 224 x 224. Measured: beyond twice as many a row takes up to twice as
# long, since an allocator maps large tensors anew and caches don't hold them.
IN_CACHE = 5 * 2**19


def rows_at_once(trace: Trace, row: Tensor, held: int = HELD) -> int:
    """The most rows of a pass that fit the cut model's memory and a CPU's cache; at least 1.

    row: one row of the pass's input. held: tensors that the pass holds beside it, in rows.
    """
    size = row.numel() * row.element_size()
    at_once = trace.cut_model.ablation_memory // (held * size)
    if row.device.type == "cpu":
        at_once = min(at_once, IN_CACHE // size)
    return max(1, at_once)


def pieces(count: int, at_once: int) -> Iterator[slice]:
    """Slices of range(count), equal but for one row, of at most `at_once`."""
    number = -(-count // at_once)
    bounds = [count * piece // number for piece in range(number + 1)] if number else []
    return (slice(*pair) for pair in pairwise(bounds))
