"""A map's mass on the parts of an image, which are its objects, its marks and its ground.

Metrics compare the mass with the parts' true effects on the score, `Trace.part_effects`. A mark is
a pattern that the data set draws on an image, such as a tag in a corner.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import GROUND, Parts
from axiom_bench.cutting.numerics import resized
from axiom_bench.cutting.threads import one_thread
from axiom_bench.explanation.explanation import Explanation, required_field
from axiom_bench.metrics.shared.rounding import rounded


def parts_of(explanation: Explanation) -> tuple[Parts, ...]:
    """Return the parts of each image.

    Args:
        explanation: The explanation, with a trace with interventions.

    Returns:
        The parts, one tuple per image.

    Raises:
        BenchError: If the explanation has no interventions.
    """
    return required_field(explanation.required_trace.interventions, "a trace with interventions")


def foreground_indices(parts: Parts) -> list[int]:
    """Return the indices of the objects and marks, which are all parts except the ground."""
    return [index for index, part in enumerate(parts) if part.name != GROUND]


def indices_of_other_classes(parts: Parts, target: int, classes: int) -> list[int]:
    """Return the indices of the objects of other classes than the target.

    Args:
        parts: An image's parts.
        target: The explained class.
        classes: The number of classes of the model. Objects of classes that the model doesn't have
            are left out.

    Returns:
        The indices among the parts.
    """
    indices = []
    for index, part in enumerate(parts):
        if part.label is None or part.label == target:
            continue
        if 0 <= part.label < classes:
            indices.append(index)
    return indices


def all_finite(effects: Sequence[Tensor]) -> Tensor:
    """Return whether all effects of an image's parts are finite.

    Args:
        effects: The effects of each image's parts, (n_parts,) each.

    Returns:
        True or False, (B,), on the CPU.
    """
    return torch.stack([effect.isfinite().all() for effect in effects]).cpu()


@one_thread()
def signed_masses(explanation: Explanation) -> list[Tensor]:
    """Return the sums of each signed raw map over each part of its image.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and a trace with interventions. The
            raw map is resized bilinearly to the image.

    Returns:
        The masses of each image's parts, (n_parts,) in float64.
    """
    return _sums(explanation, explanation.required_raw_map)


@one_thread()
def positive_masses(explanation: Explanation) -> list[Tensor]:
    """Return the sums of each heatmap, which has no negative evidence, over each part of its image.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and a trace with interventions.

    Returns:
        The masses of each image's parts, (n_parts,) in float64.
    """
    return _sums(explanation, explanation.required_heatmap)


def mass_shares(masses: Tensor) -> Tensor:
    """Return each part's share of all mass, 0 for a map without any: (n_parts,) both."""
    total = masses.sum()
    return masses / total if total != 0 else torch.zeros_like(masses)


def same(values: Tensor) -> Tensor:
    """Divide values by the largest magnitude and round them to 1e-6, so that equals are equal.

    Args:
        values: The values, (n,), which may differ by rounding.

    Returns:
        The rounded values, (n,).
    """
    return rounded(values[None, None])[0, 0]


def is_highest(values: Tensor) -> Tensor:
    """Return which of the values (n,) are the largest, up to rounding: bool (n,)."""
    scaled = same(values)
    return scaled == scaled.max()


def _sums(explanation: Explanation, maps: Tensor) -> list[Tensor]:
    """Sum each image's map over its parts, one image at a time."""
    # On the CPU in float64, so that an image's sums don't depend on the rest of the batch.
    sums = []
    for image_map, parts in zip(maps.cpu().double(), parts_of(explanation), strict=True):
        regions = [part.region.cpu() for part in parts]
        if not regions:
            sums.append(image_map.new_zeros(0))
            continue
        if image_map.shape != regions[0].shape:
            image_map = resized(image_map[None], regions[0].shape)[0]
        sums.append(torch.stack([image_map[region].sum() for region in regions]))
    return sums


def mark_indices(parts: Parts) -> list[int]:
    """Return the indices of the parts that are marks."""
    return [index for index, part in enumerate(parts) if part.is_mark]


def share_of_marks(parts: Parts, values: Tensor) -> Tensor:
    """Return the marks' share of the positive values of objects and marks.

    Args:
        parts: An image's parts.
        values: The value of each part, (n_parts,). That of the ground isn't counted.

    Returns:
        The share, a number; NaN if no value is positive.
    """
    positive = values.double().cpu().clamp(min=0)
    return positive[mark_indices(parts)].sum() / positive[foreground_indices(parts)].sum()
