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
from axiom_bench.metrics.shared.similarity import mask_undefined


@takes_fields
def saco(
    explanation: Explanation,
    groups: int = 10,
    perturbation: Perturbation = Perturbation("mean"),
) -> MetricGenerator[Tensor]:
    """Measure whether groups of pixels with more salience matter more to the model.

    Each pair of groups is weighted by the difference of their salience; see `coefficient`. The
    salience is the signed raw map resized to the image. The pixels, in the order of their salience,
    are cut into groups of equal number. Pixels equal to 1e-6 of the largest are in reading order.
    Each group is replaced by the fill by itself. Drops equal to the same extent count as in order.
    The metric costs `groups` passes for each method.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        groups: The number of groups.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.

    Returns:
        The coefficients, (B,) in [-1, 1]; higher is better. They are NaN if the map is constant.

    Raises:
        BenchError: If there are less than two groups, or more groups than pixels.
    """
    sums, drops, pixels = yield from group_drops(
        explanation, enlarged(explanation), groups, perturbation, "signed"
    )
    # Means instead of sums, because groups differ by a pixel if their number doesn't divide evenly.
    value = coefficient(sums / pixels, drops)
    return mask_undefined(value, explanation.required_raw_map, drops)


def coefficient(salience: Tensor, drops: Tensor) -> Tensor:
    """Compute the faithfulness coefficient of K groups in falling order of salience.

    This is algorithm 1. Over pairs i < j, it sums s_i - s_j if drop i >= drop j, otherwise -(s_i -
    s_j). The sum is divided by the sum of |s_i - s_j|.

    Args:
        salience: The salience s of each group, (B, K).
        drops: The drop of each group, (B, K).

    Returns:
        The coefficients, (B,) in [-1, 1]. They are NaN if all groups have the same salience.
    """
    largest = drops.abs().amax(1, keepdim=True)
    drops = (drops / largest.masked_fill(largest == 0, 1)).round(decimals=6)
    groups = salience.shape[1]
    pairs = torch.ones(groups, groups, device=salience.device).triu(1) > 0  # i < j
    weights = (salience[:, :, None] - salience[:, None])[:, pairs]
    in_order = (drops[:, :, None] >= drops[:, None])[:, pairs]
    total = weights.abs().sum(1)
    agreement = torch.where(in_order, weights, -weights).sum(1)
    return agreement / total.masked_fill(total == 0, torch.nan)
