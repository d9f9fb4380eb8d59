"""A map's mass on the parts of an image, beside the parts' true effects on the score
(`Trace.part_effects`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import GROUND, Parts
from axiom_bench.cutting.numerics import resized
from axiom_bench.cutting.threads import one_thread
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.rounding import rounded


def parts_of(explanation: Explanation) -> tuple[Parts, ...]:
    """The parts of each image. Raises BenchError for an explanation without interventions."""
    return given(explanation.required_trace.interventions, "a trace with interventions")


def foreground(parts: Parts) -> list[int]:
    """The places of the parts that aren't the ground: objects and marks."""
    return [place for place, part in enumerate(parts) if part.name != GROUND]


def classes_besides(parts: Parts, target: int, classes: int) -> list[int]:
    """The places of the objects of other classes, of those that a model of so many classes has."""
    return [
        place
        for place, part in enumerate(parts)
        if part.label is not None and part.label != target and 0 <= part.label < classes
    ]


def finite(effects: Sequence[Tensor]) -> Tensor:
    """(B,) bool: where no effect of an image's parts is NaN or infinite."""
    return torch.stack([effect.isfinite().all() for effect in effects]).cpu()


@one_thread()
def signed_masses(explanation: Explanation) -> list[Tensor]:
    """Per image the signed raw map's sum over each part, resized bilinearly to the image:
    (n_parts,) in float64.
    """
    return _sums(explanation, explanation.required_raw_map)


@one_thread()
def positive_masses(explanation: Explanation) -> list[Tensor]:
    """Per image the heatmap's sum over each part, negative evidence cut off: (n_parts,) in
    float64.
    """
    return _sums(explanation, explanation.required_heatmap)


def shares(masses: Tensor) -> Tensor:
    """Each part's share of all mass, (n_parts,); 0 for a map without any."""
    total = masses.sum()
    return masses / total if total != 0 else torch.zeros_like(masses)


def same(values: Tensor) -> Tensor:
    """(n,) over the largest magnitude, rounded to 1e-6: what is equal but for rounding becomes
    equal.
    """
    return rounded(values[None, None])[0, 0]


def highest(values: Tensor) -> Tensor:
    """(n,) -> bool (n,): the largest value, and those that are equal to it but for rounding."""
    scaled = same(values)
    return scaled == scaled.max()


def _sums(explanation: Explanation, maps: Tensor) -> list[Tensor]:
    """One image at a time, on the CPU in float64: the same bits in any company."""
    sums = []
    for raw, parts in zip(maps.cpu().double(), parts_of(explanation), strict=True):
        regions = [part.region.cpu() for part in parts]
        if regions and raw.shape != regions[0].shape:
            raw = resized(raw[None], regions[0].shape)[0]
        sums.append(_over(raw, regions))
    return sums


def _over(raw: Tensor, regions: Sequence[Tensor]) -> Tensor:
    return torch.stack([raw[region].sum() for region in regions]) if regions else raw.new_zeros(0)


def marks(parts: Parts) -> list[int]:
    """The places of the parts that are marks."""
    return [place for place, part in enumerate(parts) if part.is_mark]


def share_of_marks(parts: Parts, values: Tensor) -> Tensor:
    """The marks' share of the positive values (n_parts,) of objects and marks, without the
    ground's: a number; NaN where none is positive.
    """
    positive = values.double().cpu().clamp(min=0)
    return positive[marks(parts)].sum() / positive[foreground(parts)].sum()
