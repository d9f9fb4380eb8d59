"""Metrics of groups of pixels by scipy, captum and quantus: single deletion, SRG, SaCo and random subsets.

No library has the first three. quantus's RegionPerturbation makes the two curves of SRG, and its FaithfulnessEstimate
the groups of SaCo, which are compared by the published algorithm. Random subsets are ours where they can be passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import generators
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.random_subsets import square_at_random
from axiom_bench.metrics.shared.similarity import pearson

from .calls import Call, Values, of_quantus, quantus
from .samples import Sample

GRID, GROUPS = 2, 12  # cells a side and groups of pixels: quantus takes equal ones alone
ZEROS = {"perturb_baseline": 0.0, "abs": False, "normalise": False}  # signed raw maps; what is removed becomes 0
SUBSETS, FRACTION = 100, 0.0045  # the defaults of faithfulness_correlation


def deletion_by_scipy(sample: Sample) -> list[float]:
    """scipy's Spearman correlation of sums of the resized map in patches and drops of the logit, patch by patch."""
    from scipy.stats import spearmanr

    maps, side = _maps(sample), sample.heatmaps.shape[1] // GRID
    before, sums, drops = sample.score_of(sample.images), [], []
    for top in range(0, maps.shape[1], side):
        for left in range(0, maps.shape[2], side):
            patch = (..., slice(top, top + side), slice(left, left + side))
            images = sample.images.clone()
            images[patch] = 0
            sums.append(maps[patch].sum((1, 2)))
            drops.append((before - sample.score_of(images)).numpy())
    return [spearmanr(*rows).statistic for rows in zip(np.stack(sums, 1), np.stack(drops, 1), strict=True)]


def relevance_gain(sample: Sample) -> np.ndarray:
    """The area between quantus.RegionPerturbation's curves of both orders, of p - p', with 0 as first point."""
    maps = _maps(sample)[:, None]
    settings = {**ZEROS, "patch_size": sample.heatmaps.shape[1] // GRID, "regions_evaluation": GRID**2}
    highest, lowest = (
        np.stack(of_quantus("RegionPerturbation", sample, maps, {**settings, "order": order}, softmax=True))
        for order in ("morf", "lerf")
    )
    gain = np.concatenate([np.zeros((len(highest), 1)), highest - lowest], axis=1)
    return np.trapezoid(gain, dx=1 / GRID**2, axis=1)


def faithfulness_of_groups(sample: Sample) -> Any:
    """quantus.FaithfulnessEstimate with SaCo's algorithm 1 in the place of its correlation."""
    settings = {**ZEROS, "features_in_step": sample.images[0].numel() // GROUPS, "similarity_func": _pairs}
    return of_quantus("FaithfulnessEstimate", sample, _maps(sample)[:, None], settings, softmax=True)


def groups_without_rounding(sample: Sample, _: Values) -> Values:
    """The algorithm on groups of values in the order of numpy's default sort, and on drops as they are."""
    values = np.broadcast_to(_maps(sample)[:, None], sample.images.shape).reshape(len(sample.images), -1)
    sums, drops = [], []
    for part in np.array_split(np.argsort(-values, axis=1), GROUPS, axis=1):
        images = sample.images.flatten(1).scatter(1, torch.from_numpy(part.copy()), 0.0).view_as(sample.images)
        sums.append(np.take_along_axis(values, part, axis=1).sum(1))
        drops.append(sample.probability - sample.probability_of(images))
    return _pairs(np.stack(sums, axis=1), np.stack(drops, axis=1))


def _pairs(a: np.ndarray, b: np.ndarray, **_: object) -> np.ndarray:
    """Algorithm 1 of groups' salience a and drops b, both (B, K)."""
    values = []
    for salience, drops in zip(a, b, strict=True):
        faithful, total = 0.0, 0.0
        for i in range(len(salience)):
            for j in range(i + 1, len(salience)):
                weight = float(salience[i]) - float(salience[j])
                faithful += weight if drops[i] >= drops[j] else -weight
                total += abs(weight)
        values.append(faithful / total)
    return np.array(values)


def _maps(sample: Sample) -> np.ndarray:
    """(B, H', W') float64."""
    return enlarged(sample.explanation).numpy()


def captum_infidelity(sides: Sequence[float], squares: int, normalize: bool) -> Call:
    """captum.metrics.infidelity with our squares: I is the square's indicator, three channels share the map."""

    def call(sample: Sample) -> Any:
        from captum.metrics import infidelity

        size = sample.heatmaps.shape[1:]
        removed = torch.cat([_squares(draw, sides, squares, size) for draw in generators(sample.images, 0)])
        maps = functional.interpolate(sample.raw_maps[:, None], size=size, mode="bilinear", align_corners=False)
        return infidelity(
            sample.model,
            lambda images: (removed, images * (1 - removed)),
            sample.images,
            maps.expand_as(sample.images) / sample.images.shape[1],
            target=sample.targets,
            n_perturb_samples=squares,
            normalize=normalize,
        ).detach()

    return call


def _squares(draw: torch.Generator, sides: Sequence[float], squares: int, size: tuple[int, ...]) -> Tensor:
    """The draws of axiom_bench.metrics.infidelity: (squares, 3, H', W') of 0 and 1."""
    subset = square_at_random([max(1, round(side * min(size))) for side in sides])
    drawn = [subset(draw, (size[0], size[1])) for _ in range(squares)]
    return torch.stack(drawn)[:, None].expand(-1, 3, -1, -1).float()


def quantus_sensitivity_n(sample: Sample) -> Any:
    """The mean of quantus.SensitivityN in four steps, each of a twelfth of an image's values."""
    call = quantus(
        "SensitivityN", softmax=False, features_in_step=sample.heatmaps[0].size // 4, n_max_percentage=1.0,
        perturb_baseline=0.0, return_aggregate=False,
    )  # fmt: skip
    return np.full(len(sample.images), np.mean(call(sample)))  # it has one value for all images


def quantus_correlation(sample: Sample) -> Any:
    """quantus.FaithfulnessCorrelation, its generator seeded by us."""
    np.random.seed(0)
    return quantus(
        "FaithfulnessCorrelation", softmax=False, nr_runs=SUBSETS, subset_size=_subset_size(sample),
        perturb_baseline=0.0, return_aggregate=False,
    )(sample)  # fmt: skip


def _subset_size(sample: Sample) -> int:
    """The number of values of an image that are as large a share as our pixels."""
    return round(FRACTION * sample.images[0].numel())


def predicted_correlation(sample: Sample, _: Values) -> Values:
    """Our correlation over the subsets that quantus draws: of values, image after image from one generator."""
    draws = np.random.RandomState(0)
    images, channels = sample.images.flatten(1), sample.images.shape[1]
    maps = torch.from_numpy(sample.heatmaps).repeat(1, channels, 1).flatten(1)
    rows, lost, attributed = torch.arange(len(images))[:, None], [], []
    for _run in range(SUBSETS):
        drawn = [draws.choice(images.shape[1], _subset_size(sample), replace=False) for _image in range(len(images))]
        chosen = torch.from_numpy(np.stack(drawn))
        left = images.index_put((rows, chosen), torch.zeros(())).view_as(sample.images)
        lost.append(sample.score_of(sample.images) - sample.score_of(left))
        attributed.append(maps[rows, chosen].sum(1))
    return pearson(torch.stack(attributed, 1)[:, None], torch.stack(lost, 1)[:, None]).numpy()
