"""Spurious marks among the parts of an image: their place and their share of the true effects."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.metrics.shared.parts import Parts, foreground


def marks(parts: Parts) -> list[int]:
    """The places of the parts that are marks."""
    return [place for place, part in enumerate(parts) if part.is_mark]


def share_of_marks(parts: Parts, values: Tensor) -> Tensor:
    """The marks' share of the positive values (n_parts,) of objects and marks, without the ground's: a number; NaN
    where none is positive."""
    positive = values.double().cpu().clamp(min=0)
    return positive[marks(parts)].sum() / positive[foreground(parts)].sum()
