"""Single deletion, SRG and SaCo: by scipy and by quantus's metrics of patches and of sorted pixels.

No library has the three. quantus's RegionPerturbation makes the two curves of SRG, and its FaithfulnessEstimate the
groups of SaCo, which are compared by the published algorithm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from axiom_bench.metrics.shared.cells import enlarged

from .calls import QUIET, Values
from .samples import Sample

GRID, GROUPS = 2, 12  # cells a side and groups of pixels: quantus takes equal ones alone


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
    settings = {"patch_size": sample.heatmaps.shape[1] // GRID, "regions_evaluation": GRID**2}
    highest, lowest = (
        np.stack(_quantus("RegionPerturbation", sample, order=order, **settings)) for order in ("morf", "lerf")
    )
    gain = np.concatenate([np.zeros((len(highest), 1)), highest - lowest], axis=1)
    return np.trapezoid(gain, dx=1 / GRID**2, axis=1)


def faithfulness_of_groups(sample: Sample) -> Any:
    """quantus.FaithfulnessEstimate with SaCo's algorithm 1 in the place of its correlation."""
    step = sample.images[0].numel() // GROUPS
    return _quantus("FaithfulnessEstimate", sample, features_in_step=step, similarity_func=_pairs)


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


def _quantus(name: str, sample: Sample, **settings: Any) -> Any:
    """A metric of quantus on the signed raw maps, resized to the image; what is removed becomes 0."""
    import quantus

    metric = getattr(quantus, name)(perturb_baseline=0.0, abs=False, normalise=False, **QUIET, **settings)
    return metric(
        model=sample.model,
        x_batch=sample.images.numpy().copy(),
        y_batch=np.array(sample.targets),
        a_batch=_maps(sample)[:, None],
        channel_first=True,
        softmax=True,
        device="cpu",
    )


def _maps(sample: Sample) -> np.ndarray:
    """(B, H', W') float64."""
    return enlarged(sample.explanation).numpy()
