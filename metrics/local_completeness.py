"""Local completeness: Haddad et al., ICCV 2025.

The paper is "Soft Local Completeness: Rethinking Completeness in XAI".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.random_subsets import (
    Subset,
    Subsets,
    cells_at_random,
    squared_error,
    subset_drops,
)


@takes_fields
def local_completeness(
    explanation: Explanation,
    sides: Sequence[float] = (0.1429, 0.25),
    subsets: int = 100,
    kept: float = 0.5,
    perturbation: Perturbation = Perturbation(output="logit"),
    scaled: bool = True,
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Average (map's sum in a region - the score that only this region brings)^2.

    The value is the squared completeness gap, averaged over random regions. A region brings f(image
    with all other pixels filled) - f(filled image). A region is a union of cells of a grid that is
    shifted at random. The regions are the same for all methods. The map is the signed raw map
    resized to the image.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        sides: The sides of a grid's square cells, as shares of the image's shorter side.
        subsets: The number of regions, the same number for each side.
        kept: The probability that a cell is in the region.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.
        scaled: If True, the map is multiplied by the best single factor, as in `infidelity`.
        seed: The regions are drawn from the seed and the image.

    Returns:
        The mean squared gaps, (B,); 0 is best.

    Raises:
        BenchError: If a side or `kept` isn't in (0, 1], or there are fewer subsets than sides.
    """
    if not sides or not all(0 < share <= 1 for share in (*sides, kept)) or subsets < len(sides):
        raise BenchError(
            "local_completeness needs sides and kept in (0, 1], and a subset or more of each side, "
            f"not sides {list(sides)}, kept {kept} and {subsets} subsets."
        )
    shorter = min(explanation.required_images.shape[2:])
    rests = [cells_at_random(max(1, round(side * shorter)), 1 - kept) for side in sides]
    draws: list[Subset] = [_everything]
    for rest in rests:
        draws += [rest] * (subsets // len(rests))
    removed = Subsets(f"local completeness {list(sides)} {kept}", draws, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    # The first subset is the whole image, the others are what a region leaves out. A region's own
    # values are therefore the differences.
    sums = attributed[:, :1] - attributed[:, 1:]
    brought = drops[:, :1] - drops[:, 1:]
    return squared_error(explanation, sums, brought, scaled)


def _everything(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
    """Return the subset of all pixels."""
    return torch.ones(size, dtype=torch.bool)
