"""Recognises a head that is global average pooling and one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.cut import Cut


def linear_head_weight(cut: Cut) -> Tensor:
    """The linear layer's weight (C, K). Raises BenchError for any other head."""
    raise BenchError(f"The head after {cut.layer!r} is not global average pooling and one linear layer.")
