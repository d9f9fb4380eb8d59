"""Pixels in the map's order, in steps of equal number: does what the map says of a step agree with its effect?"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.perturbation import Fill, filling
from axiom_bench.metrics.shared.pixel_groups import group_drops
from axiom_bench.metrics.shared.random_subsets import drops_correlation


def faithfulness_estimate(
    explanation: Explanation, groups: int = 10, fill: Fill = "zero", blur: float = 0.05, output: str = "probability"
) -> MetricGenerator[Tensor]:
    """Pearson's correlation, over groups of pixels in the map's order, of the map's sum and the drop without -> (B,).

    In [-1, 1], higher is better. The pixels, in the order of the signed raw map resized to the image, are cut into
    `groups` of equal number, and each alone is filled; see `shared.pixel_groups`. fill and blur: see
    `shared.perturbation.filling`; output: see `confidence` there. Costs `groups` passes for each method. NaN where
    the map is constant, or all groups have the same drop. Raises BenchError as `group_drops`.
    """
    filled, name = filling(given(explanation.images, "images"), fill, blur), ("signed", str(fill), blur)
    sums, drops, _ = yield from group_drops(explanation, enlarged(explanation), groups, filled, name, output)
    return drops_correlation(explanation, sums, drops)
