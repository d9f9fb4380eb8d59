"""Symmetric relevance gain (Blücher et al., arXiv:2401.06654) by fewer points of the same curves."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator, PerturbedImages
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.adaptive_curves import adaptive_area
from axiom_bench.metrics.shared.perturbation import Fill
from axiom_bench.metrics.shared.pixel_curves import filled_image, partly_filled, unperturbed
from axiom_bench.metrics.shared.similarity import constant
from axiom_bench.metrics.srg import cell_ranks


def srg_fast(
    explanation: Explanation,
    passes: int = 6,
    grid: int = 5,
    fill: Fill = "zero",
    blur: float = 0.05,
    output: str = "probability",
) -> MetricGenerator[Tensor]:
    """`srg` by `passes` of the points of each of its two curves -> (B,) in [-1, 1]; higher is better.

    Points: see `shared.adaptive_curves`, an own choice for each curve. The fill alone is one more pass, for all
    methods. NaN where the map is constant.
    """
    last = (yield filled_image(explanation, fill, blur, output))[:, 0]
    areas = []
    for first in ("lowest", "highest"):
        ranks = cell_ranks(explanation, grid, first)
        key = ("fast srg", passes, grid, str(fill), blur, output, first)

        def request(at: Tensor, number: int, ranks: Tensor = ranks, key: tuple[object, ...] = key) -> PerturbedImages:
            return partly_filled(explanation, (*key, number), ranks, at, fill, blur, output, inserts=False)

        areas.append((yield from adaptive_area(request, unperturbed(explanation, output)[:, 0], last, grid**2, passes)))
    gain = areas[0] - areas[1]
    is_constant = constant(given(explanation.raw_map, "raw_map"))
    # Infinite where the model's answer isn't finite, since NaN means a constant map.
    return gain.masked_fill(is_constant, torch.nan).masked_fill(~torch.stack(areas).isfinite().all(0), torch.inf)
