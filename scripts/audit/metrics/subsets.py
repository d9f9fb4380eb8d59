"""Metrics of random subsets of pixels by captum and quantus, with our draws where they can be passed in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.seeding import generators
from axiom_bench.metrics.shared.random_subsets import square_at_random
from axiom_bench.metrics.shared.similarity import pearson

from .calls import Call, Values, quantus
from .samples import Sample

SUBSETS, FRACTION = 100, 0.0045  # the defaults of faithfulness_correlation


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
