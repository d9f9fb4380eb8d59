"""Local completeness: Haddad et al., Soft Local Completeness: Rethinking Completeness in XAI, ICCV
2025.
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
    """Mean, over random regions, of (a sum of the map in the region - the score that the region
    alone brings)^2 -> (B,)

    The squared completeness gap; 0 is best. What a region brings is f(image with all else filled) -
    f(filled image). sides: of a grid's square cells, as shares of the image's shorter side.
    subsets: number of regions, as many of each side. Each is a union of cells, every cell `kept`
    with this probability, of a grid shifted at random, by `seed` and the image, the same for all
    methods. The map is the signed raw map resized to the image. scaled: as in `infidelity`. Raises
    BenchError for sides or `kept` not in (0, 1], and for fewer subsets than sides.
    """
    if not sides or not all(0 < share <= 1 for share in (*sides, kept)) or subsets < len(sides):
        raise BenchError(
            "local_completeness needs sides and kept in (0, 1], and a subset or more of each side, "
            f"not sides {list(sides)}, kept {kept} and {subsets} subsets."
        )
    shorter = min(explanation.required_images.shape[2:])
    rests = [cells_at_random(max(1, round(side * shorter)), 1 - kept) for side in sides]
    draws = [_everything, *(rest for rest in rests for _ in range(subsets // len(rests)))]
    removed = Subsets(f"local completeness {list(sides)} {kept}", draws, perturbation, seed)
    attributed, drops = yield from subset_drops(explanation, removed)
    # What is in a region, or is brought by it: that of the whole image without that of the rest.
    sums, brought = (values[:, :1] - values[:, 1:] for values in (attributed, drops))
    return squared_error(explanation, sums, brought, scaled)


def _everything(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
    return torch.ones(size, dtype=torch.bool)
