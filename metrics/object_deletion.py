"""Agreement of a map with the true effects of objects: single deletion of Hesse et al., FunnyBirds,
ICCV 2023, arXiv:2308.06248; of image patches in Hesse et al., NeurIPS 2024, arXiv:2407.11910.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import finite, foreground, highest, parts_of, signed_masses
from axiom_bench.metrics.shared.similarity import spearman


def object_deletion(explanation: Explanation) -> dict[str, Tensor]:
    """Whether the map's mass orders objects as the drops S - S without each do -> two values (B,),
    higher is better.

    object_deletion: Spearman's rank correlation in [-1, 1]; a map without relation to the effects
    has 0 on average. object_deletion_top1: 1 where the object with the most mass is the one with
    the largest drop, 0 where it isn't.
        Where n objects share the most mass, the share of them that have the largest drop.
    Mass: the signed raw map, resized bilinearly to the image, summed over the object's pixels.
    Objects and marks count, the ground doesn't. Values are equal where they, over the largest
    magnitude, agree to 1e-6; equals share the mean of their ranks. Both are NaN for fewer than two
    objects, and the correlation where all masses or all drops are equal; infinite where a drop
    isn't finite.
    """
    effects = explanation.required_trace.part_effects
    rows = zip(parts_of(explanation), signed_masses(explanation), effects, strict=True)
    answers = [_agreement(mass[places], drop.cpu().double()[places])
               for parts, mass, drop in rows for places in (foreground(parts),)]  # fmt: skip
    values = torch.stack(answers).masked_fill(~finite(effects)[:, None], torch.inf)
    return dict(zip(("object_deletion", "object_deletion_top1"), values.unbind(1), strict=True))


def _agreement(mass: Tensor, drop: Tensor) -> Tensor:
    """Of one image's objects, (n,) each: (2,), the correlation and the agreement about the
    first.
    """
    if len(mass) < 2:
        return torch.full((2,), torch.nan, dtype=torch.float64)
    most = highest(mass)
    first = (most & highest(drop)).sum() / most.sum()
    return torch.stack([spearman(mass[None, None], drop[None, None])[0], first.double()])
