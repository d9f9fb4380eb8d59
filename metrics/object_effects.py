"""True effects of an image's objects on its score.

They are found by drawing the image again without each object, as the interventions of Hesse et al.,
FunnyBirds, ICCV 2023, arXiv:2308.06248.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import GROUND, Part
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import all_finite, parts_of


def object_effects(explanation: Explanation) -> dict[str, Tensor]:
    """Compute |S - S without a part| over the sum of all parts, for each of four kinds of parts.

    object_effects is the share of the objects of the explained class, and object_effects_others
    that of all other objects. object_effects_marks is the share of marks, which are no objects.
    object_effects_ground is the share of the ground, whose effect is the mean over the other
    grounds. The four shares add up to 1. They depend only on the network and its image. Several
    objects of a class count one by one.

    Args:
        explanation: The explanation, with a trace with interventions.

    Returns:
        The four shares, each (B,). They are NaN if no part has an effect, and infinite if an effect
        isn't finite.
    """
    trace = explanation.required_trace
    rows = zip(parts_of(explanation), trace.part_effects, trace.targets.tolist(), strict=True)
    shares = []
    for parts, effects, target in rows:
        shares.append(_shares(parts, effects.cpu().double().abs(), target))
    # In the order of `_kind`.
    names = (
        "object_effects",
        "object_effects_others",
        "object_effects_marks",
        "object_effects_ground",
    )
    values = torch.stack(shares).masked_fill(~all_finite(trace.part_effects)[:, None], torch.inf)
    return dict(zip(names, values.unbind(1), strict=True))


def _shares(parts: tuple[Part, ...], sizes: Tensor, target: int) -> Tensor:
    """Return the shares of an image's four kinds of parts from their effects' sizes (n_parts,)."""
    kinds = torch.tensor([_kind(part, target) for part in parts], dtype=torch.long)
    return torch.zeros(4, dtype=torch.float64).index_add(0, kinds, sizes) / sizes.sum()


def _kind(part: Part, target: int) -> int:
    """Return the place of the part's kind among the values."""
    if part.label is not None:
        return 0 if part.label == target else 1
    return 3 if part.name == GROUND else 2
