"""Class discriminability by region instead of by human judgement.

The definition follows Fu et al., BMVC 2020, Fig. 4(a).
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import energy_of_class, other_energies


def class_discriminability(explanation: Explanation, region: str = "boxes") -> dict[str, Tensor]:
    """Compute E_c / sum_k E_k, the explained class's share of the map in all classes' regions.

    E_k is the heatmap's sum over the region of class k. c is the explained class, and k runs over
    every class of the image. A pixel in two classes' regions counts for both. The metric is for
    images with objects of several classes.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the objects of each image.
        region: "boxes" or "masks"; see `shared.regions`.

    Returns:
        class_discriminability, (B,) in [0, 1]; higher is better. class_seen, (B,), is the class
        with the highest energy, which the map suggests in the game of Fig. 4(a). Of equals, the
        explained class comes first, then the lowest index. Both are NaN without energy in any
        region.

    Raises:
        BenchError: If `region` isn't one of these choices.
    """
    class_energy = energy_of_class(explanation, region)
    others = other_energies(explanation, region)
    other_totals = torch.tensor([sum(row.values()) for row in others], dtype=torch.float64)
    total = class_energy + other_totals
    targets = explanation.required_trace.targets.tolist()
    seen_classes = []
    for target, target_energy, other_row in zip(
        targets, class_energy.tolist(), others, strict=True
    ):
        # The explained class comes first, because `max` returns the first of equals.
        energies = {target: target_energy, **other_row}
        seen_classes.append(max(energies, key=energies.__getitem__))
    seen = torch.tensor(seen_classes, dtype=torch.float64)
    return {
        "class_discriminability": class_energy / total,
        "class_seen": seen.masked_fill(~(total > 0), torch.nan),
    }
