"""The number of rows in one pass of the model, as memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from axiom_bench.cutting.split_model import SplitModel

# Memory of a forward pass for an image, in tensors of the model's widest output: a layer's input and output, and one
# that waits to be added.
LIVE_OUTPUTS = 3
# Images of a pass at most: 32 was the best measured on a CPU (docs/performance.md); on a GPU nothing was measured.
MAX_IMAGES = {"cpu": 32, "cuda": 256}
# A pass through the head alone: its memory for a row of its input, in tensors of the row's size, and on a CPU the bytes
# of all rows, as caches hold them.
HEAD_TENSORS = 64
MAX_CPU_INPUT = 5 * 2**19


class OfCutModel(Protocol):
    """What `rows_at_once` reads of a Trace, which it doesn't import: a trace imports this module."""

    @property
    def cut_model(self) -> SplitModel:
        """The model that the rows pass through."""


def rows_at_once(trace: OfCutModel, image: Tensor, with_gradient: bool = False) -> int:
    """The images of a pass: as many as the cut model's memory holds and its device has use for, at least 1.

    image: one of the pass, (3, H', W'). with_gradient: of the whole model, which keeps all outputs.
    """
    size, sizes = image.numel() * image.element_size(), trace.cut_model.halves.sizes
    outputs = sizes.total if with_gradient else LIVE_OUTPUTS * sizes.widest
    fitting = int(trace.cut_model.ablation_memory / (outputs * size))
    return max(1, min(fitting, MAX_IMAGES.get(image.device.type, MAX_IMAGES["cuda"])))


def head_rows_at_once(trace: OfCutModel, maps: Tensor) -> int:
    """As `rows_at_once`, of a pass through the head alone. maps: of one row, (K, H, W)."""
    size = maps.numel() * maps.element_size()
    at_once = trace.cut_model.ablation_memory // (HEAD_TENSORS * size)
    if maps.device.type == "cpu":
        at_once = min(at_once, MAX_CPU_INPUT // size)
    return max(1, at_once)


def pieces(count: int, at_once: int) -> Iterator[slice]:
    """Slices of range(count), equal but for one row, of at most `at_once`."""
    number = -(-count // at_once)
    bounds = [count * piece // number for piece in range(number + 1)] if number else []
    return (slice(*pair) for pair in pairwise(bounds))
