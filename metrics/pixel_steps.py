"""Pixels in the map's order, in steps of equal number: does what the map says of a step agree with
its effect?
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.perturbation import Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_curves import pixel_curve
from axiom_bench.metrics.shared.pixel_groups import group_drops
from axiom_bench.metrics.shared.random_subsets import drops_correlation
from axiom_bench.metrics.shared.similarity import spearman, where_defined


@takes_fields
def faithfulness_estimate(
    explanation: Explanation, groups: int = 10, perturbation: Perturbation = Perturbation()
) -> MetricGenerator[Tensor]:
    """Pearson's correlation, over groups of pixels in the map's order, of the map's sum and the
    drop without -> (B,).

    In [-1, 1], higher is better. The pixels, in the order of the signed raw map resized to the
    image, are cut into `groups` of equal number, and each alone is filled; see
    `shared.pixel_groups`. fill and blur: see `shared.perturbation.Filling`; output: see
    `confidence` there. Costs `groups` passes for each method. NaN where the map is constant, or all
    groups have the same drop. Raises BenchError as `group_drops`.
    """
    sums, drops, _ = yield from group_drops(
        explanation, enlarged(explanation), groups, perturbation, "signed"
    )
    return drops_correlation(explanation, sums, drops)


def monotonicity_correlation(
    explanation: Explanation,
    groups: int = 10,
    samples: int = 5,
    output: str = "probability",
    seed: int = 0,
) -> MetricGenerator[Tensor]:
    """Spearman's correlation, over groups of pixels, of the sum of |map| and the mean squared
    change without -> (B,).

    In [-1, 1], higher is better. The groups are those of `faithfulness_estimate`, by the map's
    magnitude. Each alone takes pixels of the same image, drawn `samples` times by `seed` and the
    image; the change is that of the class's `output`, see `shared.perturbation.confidence`. Costs
    `groups` x `samples` passes for each method. NaN where the magnitude is constant, or all groups
    have the same change. Raises BenchError as `group_drops`, and for less than one sample.
    """
    if samples < 1:
        raise BenchError(
            f"monotonicity_correlation needs at least one sample, not samples={samples}."
        )
    magnitudes = enlarged(explanation).abs()
    changes = []
    for sample in range(samples):
        shuffle = Shuffle(output=output, seed=f"{seed} shuffled {sample}")
        sums, drops, _ = yield from group_drops(
            explanation, magnitudes, groups, shuffle, "magnitudes"
        )
        changes.append(drops.square())
    losses = torch.stack(changes).mean(0)
    return where_defined(spearman(sums, losses), explanation.required_raw_map.abs(), losses)


@takes_fields
def monotonicity(
    explanation: Explanation, steps: int = 10, perturbation: Perturbation = Perturbation()
) -> MetricGenerator[Tensor]:
    """1 where the class's probability never falls as pixels appear on the fill, lowest first, else
    0 -> (B,).

    The mean is the rate; higher is better. steps: of equal numbers of pixels; the fill alone,
    before the first, is not looked at. A fall by less than 1e-6 of the highest value is none. fill,
    output and the pixels' order: see `shared.pixel_curves.pixel_curve`. Costs `steps` passes for
    each method. Raises BenchError for less than one.
    """
    curve = (yield from pixel_curve(explanation, steps, perturbation, "lowest", inserts=True))[
        :, 1:
    ]
    falls = (curve.diff(dim=1) < -1e-6 * curve.abs().amax(1, keepdim=True)).any(1)
    return (~falls).double().masked_fill(~curve.isfinite().all(1), torch.nan)


@dataclass(frozen=True)
class Shuffle(Perturbation):
    """Pixels of the same image, in an order drawn by `seed` and the image, in the place of a
    fill.
    """

    seed: str = ""

    def replacement(self, explanation: Explanation) -> Tensor:
        """Return each image's pixels in the drawn order: (B, 3, H', W')."""
        return shuffled(explanation, self.seed)


def shuffled(explanation: Explanation, seed: str) -> Tensor:
    """Each image's pixels in an order drawn by `seed` and the image: (B, 3, H', W')."""
    images = explanation.required_images
    flat = images.flatten(2)
    draws = explanation.required_trace.generators(seed)
    orders = [
        torch.rand(flat.shape[2], generator=draw, dtype=torch.float64).argsort() for draw in draws
    ]
    return flat.gather(2, torch.stack(orders)[:, None].to(images.device).expand_as(flat)).view_as(
        images
    )
