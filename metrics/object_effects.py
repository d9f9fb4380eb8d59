"""True effects of an image's objects on its score, by versions of the image without each: as the
interventions of Hesse et al., FunnyBirds, ICCV 2023, arXiv:2308.06248.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import GROUND, Part
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import finite, parts_of


def object_effects(explanation: Explanation) -> dict[str, Tensor]:
    """Whose removal changes the score: |S - S without a part| over the sum of all parts' -> four
    shares (B,).

    object_effects: of the objects of the explained class; object_effects_others: of all other
    objects; object_effects_marks: of marks, which are no objects; object_effects_ground: of the
    ground, the mean over the other grounds. They add up to 1; NaN where no part has an effect,
    infinite where one isn't finite. Of the network and its image alone. Several objects of a class
    count one by one.
    """
    trace = explanation.required_trace
    rows = zip(parts_of(explanation), trace.part_effects, trace.targets.tolist(), strict=True)
    shares = [
        _shares(parts, effects.cpu().double().abs(), target) for parts, effects, target in rows
    ]
    names = (
        "object_effects",
        "object_effects_others",
        "object_effects_marks",
        "object_effects_ground",
    )
    values = torch.stack(shares).masked_fill(~finite(trace.part_effects)[:, None], torch.inf)
    return dict(zip(names, values.unbind(1), strict=True))


def _shares(parts: tuple[Part, ...], sizes: Tensor, target: int) -> Tensor:
    """Of an image's kinds of parts: (4,). sizes: of the effects, (n_parts,)."""
    kinds = torch.tensor([_kind(part, target) for part in parts], dtype=torch.long)
    return torch.zeros(4, dtype=torch.float64).index_add(0, kinds, sizes) / sizes.sum()


def _kind(part: Part, target: int) -> int:
    if part.label is not None:
        return 0 if part.label == target else 1
    return 3 if part.name == GROUND else 2
