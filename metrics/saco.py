"""SaCo, the salience-guided faithfulness coefficient.

Wu et al., On the Faithfulness of Vision Transformer Explanations, CVPR 2024, arXiv:2404.01415.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_groups import group_drops
from axiom_bench.metrics.shared.similarity import where_defined


@takes_fields
def saco(
    explanation: Explanation,
    groups: int = 10,
    perturbation: Perturbation = Perturbation("mean"),
) -> MetricGenerator[Tensor]:
    """Whether groups of pixels of more salience matter more to the model, weighted by how much more
    -> (B,).

    In [-1, 1], higher is better. The pixels, in the order of their salience, are cut into `groups`
    of equal number, and each group alone is replaced by the fill; see `coefficient`. The salience
    is the signed raw map resized to the image; equal pixels, to 1e-6 of the largest, are in reading
    order. Equal drops, to the same extent, count as in order. Costs `groups` passes for each
    method. fill and blur: see `shared.perturbation.Filling`; output: see `confidence` there. NaN
    where the map is constant. Raises BenchError for less than two groups, and for more groups than
    pixels.
    """
    sums, drops, pixels = yield from group_drops(
        explanation, enlarged(explanation), groups, perturbation, "signed"
    )
    value = coefficient(sums / pixels, drops)
    return where_defined(value, explanation.required_raw_map, drops)


def coefficient(salience: Tensor, drops: Tensor) -> Tensor:
    """The faithfulness coefficient of K groups in falling order of salience: (B, K), (B, K) -> (B,)
    in [-1, 1].

    Algorithm 1: sum over pairs i < j of (s_i - s_j) where drop i >= drop j, else of -(s_i - s_j),
    over the sum of
    |s_i - s_j|. NaN where all groups have the same salience.
    """
    largest = drops.abs().amax(1, keepdim=True)
    drops = (drops / largest.masked_fill(largest == 0, 1)).round(decimals=6)
    pairs = torch.ones(salience.shape[1], salience.shape[1], device=salience.device).triu(1) > 0
    weights = (salience[:, :, None] - salience[:, None])[:, pairs]
    in_order = (drops[:, :, None] >= drops[:, None])[:, pairs]
    total = weights.abs().sum(1)
    return torch.where(in_order, weights, -weights).sum(1) / total.masked_fill(
        total == 0, torch.nan
    )
