"""Spurious marks among the parts of an image: where they are, and their share of the true effects."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import GROUND, Parts


def mark_region(parts: Parts, size: tuple[int, int]) -> Tensor:
    """(H', W') bool: the pixels of an image's marks. size: (H', W')."""
    return _union([part.region for part in parts if part.is_mark], size)


def foreground(parts: Parts, size: tuple[int, int]) -> Tensor:
    """(H', W') bool: the pixels of an image's objects and marks. size: (H', W')."""
    return _union([part.region for part in parts if part.name != GROUND], size)


def effect_of_marks(parts: Parts, effects: Tensor) -> Tensor:
    """The sum of the effects (n_parts,) that are marks': a number in float64."""
    return effects.double().cpu()[_which([part.is_mark for part in parts])].sum()


def share_of_marks(parts: Parts, effects: Tensor) -> Tensor:
    """The marks' share of the positive effects (n_parts,) of objects and marks, without the ground's: a number in
    float64, NaN where none is positive."""
    positive = effects.double().cpu().clamp(min=0)
    marks, objects_too = ([part.is_mark for part in parts], [part.name != GROUND for part in parts])
    return positive[_which(marks)].sum() / positive[_which(objects_too)].sum()


def _union(regions: list[Tensor], size: tuple[int, int]) -> Tensor:
    return torch.stack([torch.zeros(size, dtype=torch.bool), *(region.cpu() for region in regions)]).any(0)


def _which(chosen: list[bool]) -> Tensor:
    return torch.tensor(chosen, dtype=torch.bool)
