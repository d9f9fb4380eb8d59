"""Class discriminability by region instead of by human judgement: after Fu et al., BMVC 2020, Fig.
4(a).
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import energy_of_class, other_energies


def class_discriminability(explanation: Explanation, region: str = "boxes") -> dict[str, Tensor]:
    """Which of an image's classes a map highlights, for images with objects of several classes ->
    two values (B,).

    class_discriminability: E_c / sum_k E_k in [0, 1], higher is better: E_k is the heatmap's sum
    over the region of class k, c the explained class, k every class of the image. A pixel in two
    classes' regions counts for both. class_seen: the class k with the highest energy (of equals the
    explained class, then the lowest index), the answer that the map suggests in the game of Fig.
    4(a). region: "boxes" or "masks", see `shared.regions`. Without energy in any region both are
    NaN. Raises BenchError for another region.
    """
    of_class = energy_of_class(explanation, region)
    others = other_energies(explanation, region)
    total = of_class + torch.tensor([sum(row.values()) for row in others], dtype=torch.float64)
    targets = explanation.required_trace.targets.tolist()
    rows = [
        {label: energy, **row}
        for label, energy, row in zip(targets, of_class.tolist(), others, strict=True)
    ]
    seen = torch.tensor(
        [max(row, key=row.__getitem__) for row in rows], dtype=torch.float64
    )  # the first of equals
    return {
        "class_discriminability": of_class / total,
        "class_seen": seen.masked_fill(~(total > 0), torch.nan),
    }
