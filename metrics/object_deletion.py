"""The agreement of a map with the true effects of objects, by single deletion.

Single deletion is that of Hesse et al., FunnyBirds, ICCV 2023, arXiv:2308.06248. For image patches
it is used in Hesse et al., NeurIPS 2024, arXiv:2407.11910.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import (
    all_finite,
    foreground_indices,
    is_highest,
    parts_of,
    signed_masses,
)
from axiom_bench.metrics.shared.similarity import spearman


def object_deletion(explanation: Explanation) -> dict[str, Tensor]:
    """Correlate the map's mass on each object with the drop S - S without the object.

    object_deletion is Spearman's rank correlation. A map without relation to the effects has 0 on
    average. object_deletion_top1 is 1 if the object with the most mass is the one with the largest
    drop, otherwise 0. If n objects share the most mass, it is the share of them that have the
    largest drop. The mass is the sum over the object's pixels of the signed raw map, resized
    bilinearly to the image. Objects and marks count; the ground doesn't. Values are equal if they
    agree to 1e-6 of the largest magnitude. Equal values share the mean of their ranks.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and a trace with interventions.

    Returns:
        object_deletion, (B,) in [-1, 1], and object_deletion_top1, (B,) in [0, 1]; higher is
        better. Both are NaN for fewer than two objects, and infinite if a drop isn't finite. The
        correlation is NaN if all masses or all drops are equal.
    """
    effects = explanation.required_trace.part_effects
    rows = zip(parts_of(explanation), signed_masses(explanation), effects, strict=True)
    agreements = []
    for parts, mass, drop in rows:
        # The ground can't be removed: its effect is a mean over other grounds.
        foreground = foreground_indices(parts)
        agreements.append(_agreement(mass[foreground], drop.cpu().double()[foreground]))
    values = torch.stack(agreements).masked_fill(~all_finite(effects)[:, None], torch.inf)
    return {"object_deletion": values[:, 0], "object_deletion_top1": values[:, 1]}


def _agreement(mass: Tensor, drop: Tensor) -> Tensor:
    """Return the correlation of one image's objects and the agreement about the first: (2,)."""
    if len(mass) < 2:
        return torch.full((2,), torch.nan, dtype=torch.float64)
    has_most_mass = is_highest(mass)
    first = (has_most_mass & is_highest(drop)).sum() / has_most_mass.sum()
    correlation = spearman(mass[None, None], drop[None, None])[0]
    return torch.stack([correlation, first.double()])
