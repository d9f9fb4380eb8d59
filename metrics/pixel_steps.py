"""Metrics that change pixels in the map's order, in steps of equal number.

They measure whether the map's values in a step agree with the step's effect.
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
from axiom_bench.metrics.shared.similarity import mask_undefined, spearman


@takes_fields
def faithfulness_estimate(
    explanation: Explanation, groups: int = 10, perturbation: Perturbation = Perturbation()
) -> MetricGenerator[Tensor]:
    """Correlate, over groups of pixels in the map's order, the map's sum and the drop without it.

    The value is Pearson's correlation. The pixels, in the order of the signed raw map resized to
    the image, are cut into groups of equal number. Each group is filled by itself; see
    `shared.pixel_groups`. The metric costs `groups` passes for each method.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        groups: The number of groups.
        perturbation: The replacement and the output; see `shared.perturbation.Perturbation`.

    Returns:
        The correlations, (B,) in [-1, 1]; higher is better. They are NaN if the map is constant, or
        all groups have the same drop.

    Raises:
        BenchError: If there are less than two groups, or more groups than pixels.
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
    """Correlate, over groups of pixels, the sum of |map| and the mean squared change without it.

    The value is Spearman's correlation. The groups are those of `faithfulness_estimate`, by the
    map's magnitude. The pixels of a group are replaced by pixels of the same image, drawn at
    random. The change is that of the class's output. The metric costs `groups` x `samples` passes
    for each method.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        groups: The number of groups.
        samples: The number of draws.
        output: The confidence that is read; see `shared.perturbation.confidence`.
        seed: The pixels are drawn from the seed and the image.

    Returns:
        The correlations, (B,) in [-1, 1]; higher is better. They are NaN if the magnitude is
        constant, or all groups have the same change.

    Raises:
        BenchError: If there is less than one sample or less than two groups, or more groups than
            pixels.
    """
    if samples < 1:
        raise BenchError(
            f"monotonicity_correlation needs at least one sample, not samples={samples}."
        )
    magnitudes = enlarged(explanation).abs()
    # The sample is part of the seed, so that each sample draws another order of the pixels.
    changes = []
    for sample in range(samples):
        shuffle = Shuffle(output=output, seed=f"{seed} shuffled {sample}")
        sums, drops, _ = yield from group_drops(
            explanation, magnitudes, groups, shuffle, "magnitudes"
        )
        changes.append(drops.square())
    losses = torch.stack(changes).mean(0)
    return mask_undefined(spearman(sums, losses), explanation.required_raw_map.abs(), losses)


@takes_fields
def monotonicity(
    explanation: Explanation, steps: int = 10, perturbation: Perturbation = Perturbation()
) -> MetricGenerator[Tensor]:
    """Return 1 if the class's probability never falls as pixels appear, lowest first, otherwise 0.

    The mean is the rate. A fall by less than 1e-6 of the highest value doesn't count. The image
    that is only the fill, before the first step, isn't read. The metric costs `steps` passes
    for each method.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and its trace.
        steps: The number of steps, each with the same number of pixels.
        perturbation: The fill and the output; see `shared.pixel_curves.pixel_curve`.

    Returns:
        1 or 0, (B,); higher is better. The value is NaN if the model's answer isn't finite.

    Raises:
        BenchError: If there is less than one step.
    """
    full_curve = yield from pixel_curve(explanation, steps, perturbation, "lowest", inserts=True)
    curve = full_curve[:, 1:]
    least_fall = -1e-6 * curve.abs().amax(1, keepdim=True)
    falls = (curve.diff(dim=1) < least_fall).any(1)
    return (~falls).double().masked_fill(~curve.isfinite().all(1), torch.nan)


@dataclass(frozen=True)
class Shuffle(Perturbation):
    """A perturbation that replaces pixels by others of the same image instead of a fill."""

    seed: str = ""
    """The order of the pixels is drawn from the seed and the image."""

    def replacement(self, explanation: Explanation) -> Tensor:
        """Return each image's pixels in the drawn order: (B, 3, H', W')."""
        return shuffled(explanation, self.seed)


def shuffled(explanation: Explanation, seed: str) -> Tensor:
    """Return each image's pixels in an order drawn from the seed and the image.

    Args:
        explanation: The explanation, with its images (B, 3, H', W').
        seed: The seed of the order.

    Returns:
        The shuffled images, (B, 3, H', W').
    """
    images = explanation.required_images
    flat = images.flatten(2)
    orders = []
    for generator in explanation.required_trace.generators(seed):
        numbers = torch.rand(flat.shape[2], generator=generator, dtype=torch.float64)
        orders.append(numbers.argsort())
    places = torch.stack(orders)[:, None].to(images.device)
    return flat.gather(2, places.expand_as(flat)).view_as(images)
