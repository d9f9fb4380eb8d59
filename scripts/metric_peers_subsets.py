"""Other libraries' metrics of random subsets of pixels, with our draws where they can be given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from metric_peers import Sample, Values, quantus
from torch import Tensor

from axiom_bench.cutting.seeding import generators
from axiom_bench.metrics.shared.random_subsets import square_at_random
from axiom_bench.metrics.shared.similarity import pearson

RUNS, VALUES = 20, 224  # of quantus: subsets, and how many values each has


def captum_infidelity(sides: Sequence[float], squares: int, normalize: bool) -> Callable[[Sample], Any]:
    """captum.metrics.infidelity with our squares: I is the square's indicator, the map is shared by three channels."""

    def call(sample: Sample) -> Any:
        from captum.metrics import infidelity

        size = sample.maps.shape[1:]
        removed = torch.cat([_squares(draw, sides, squares, size) for draw in generators(sample.images, 0)])
        maps = functional.interpolate(sample.raw[:, None], size=size, mode="bilinear", align_corners=False)
        return infidelity(
            sample.model,
            lambda images: (removed, images * (1 - removed)),
            sample.images,
            maps.expand_as(sample.images) / sample.images.shape[1],
            target=sample.targets,
            n_perturb_samples=len(sides) * squares,
            normalize=normalize,
        ).detach()

    return call


def _squares(draw: torch.Generator, sides: Sequence[float], squares: int, size: tuple[int, ...]) -> Tensor:
    """(sides x squares, 3, H', W') of 0 and 1: the draws of axiom_bench.metrics.infidelity."""
    drawn = [
        square_at_random(max(1, round(side * min(size))))(draw, (size[0], size[1]))
        for side in sides
        for _ in range(squares)
    ]
    return torch.stack(drawn)[:, None].expand(-1, 3, -1, -1).float()


def quarters_removed(sample: Sample) -> Any:
    """quantus.SensitivityN in four steps of as many values as a quarter of the pixels; the mean of them."""
    call = quantus(
        "SensitivityN", softmax=False, features_in_step=sample.maps[0].size // 4, n_max_percentage=1.0,
        perturb_baseline=0.0, return_aggregate=False,
    )  # fmt: skip
    return np.full(len(sample.maps), np.mean(call(sample)))  # it has one value for all images


def quantus_correlation(sample: Sample) -> Any:
    """quantus.FaithfulnessCorrelation, its generator seeded by us."""
    np.random.seed(0)
    return quantus(
        "FaithfulnessCorrelation", softmax=False, nr_runs=RUNS, subset_size=VALUES, perturb_baseline=0.0,
        return_aggregate=False,
    )(sample)  # fmt: skip


def predicted_correlation(sample: Sample, _: Values) -> Values:
    """Our correlation over the subsets that quantus draws: of values, image after image from one generator."""
    draws = np.random.RandomState(0)
    flat, maps = sample.images.flatten(1), torch.from_numpy(sample.maps).repeat(1, sample.images.shape[1], 1).flatten(1)
    rows, lost, attributed = torch.arange(len(flat))[:, None], [], []
    for _run in range(RUNS):
        drawn = [draws.choice(flat.shape[1], VALUES, replace=False) for _ in range(len(flat))]
        chosen = torch.from_numpy(np.stack(drawn))
        left = flat.index_put((rows, chosen), torch.zeros(()))
        lost.append(score_of(sample, sample.images) - score_of(sample, left.view_as(sample.images)))
        attributed.append(maps[rows, chosen].sum(1))
    return pearson(torch.stack(attributed, 1)[:, None], torch.stack(lost, 1)[:, None]).numpy()


def score_of(sample: Sample, images: Tensor) -> Tensor:
    """(B,) the logit of each row's class, for other images."""
    with torch.no_grad():
        return sample.model(images).gather(1, sample.trace.targets[:, None])[:, 0]
