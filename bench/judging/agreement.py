"""A metric's values by image, and whether two halves of the images agree on the order of the
methods.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from axiom_bench.records.by_metric import compared_columns
from axiom_bench.statistics.bootstrap import (
    SEED,
    Floats,
    resamples_of_rows,
    weighted_medians,
)
from axiom_bench.statistics.labels import FLOAT32_ROUNDING, Setting
from axiom_bench.statistics.paired_tests import are_equal, coinciding, means_by_image, rounding_of
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

CHUNK = 2**22  # of weights, or pairs' signs, that are floats at a time
SPLITS = 200
TAU = 0.9  # that two sets of images should agree by
Counts = NDArray[np.uint8]
Signs = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageValues:
    """One metric in one setting. values: (images, methods), NaN where a method has none for an
    image; images are those of the setting, in the records' order. lead: "mean" or "median", by
    which tables order methods. better: "lower", "higher" or "none". rounding: see
    `paired_tests.rounding_of`.
    """

    metric: str
    methods: tuple[str, ...]
    values: Floats
    lead: str
    better: str
    rounding: float = FLOAT32_ROUNDING

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is, 0 without a direction."""
        return {"higher": 1, "lower": -1}.get(self.better, 0)

    def of(self, methods: Collection[str]) -> ImageValues:
        """Of these methods alone, in the given order."""
        places = [self.methods.index(name) for name in methods]
        return replace(self, methods=tuple(methods), values=self.values[:, places])

    def compared(self) -> ImageValues:
        """Without methods that lack more than a tenth of the images that any has, as
        `by_metric.compared_columns`.
        """
        return self.of(
            [self.methods[place] for place in compared_columns(np.isfinite(self.values))[0]]
        )

    def distinct(self) -> ImageValues:
        """Of methods that coincide the first alone, see `statistics.coinciding`."""
        return self.of([group[0] for group in coinciding(self.values, self.methods, self.rounding)])

    @property
    def num_images(self) -> int:
        """Images with at least two values: of one alone nothing can be put in an order."""
        return int((np.isfinite(self.values).sum(axis=1) > 1).sum())


def image_values(run: RunFolder, setting: Setting, metric: str) -> ImageValues | None:
    """All methods that have values of images in this metric; None where the layer alone has, or no
    image has two.
    """
    matrix = run.matrix(setting, metric)
    if matrix is None or METHOD_FREE in matrix.methods:
        return None
    value = run.metadata.value(metric)
    rounding = rounding_of(matrix.values, value)
    single = means_by_image(matrix.values, matrix.images)
    values = ImageValues(metric, matrix.methods, single, value.lead, value.better, rounding)
    return values if values.num_images else None


@lru_cache(maxsize=4)
def drawn(count: int) -> Counts:
    """How often each of `count` images is in each resample, (RESAMPLES, count); the same for all
    metrics.
    """
    unit, weights = resamples_of_rows(np.arange(count))
    return weights.astype(np.uint8)[:, unit]


def random_places(count: int, orders: int) -> NDArray[np.int64]:
    """Each image's place in random orders of `count` images, (orders, count)."""
    return np.argsort(
        np.argsort(np.random.default_rng(SEED).random((orders, count)), axis=1), axis=1
    )


@lru_cache(maxsize=4)
def split_halves(count: int, splits: int) -> tuple[Counts, Counts]:
    """Random halves of `count` images, two of (splits, count): 1 for an image that is in the half.
    Of an odd number one image is in neither.
    """
    place, half = random_places(count, splits), count // 2
    return (place < half).astype(np.uint8), ((place >= half) & (place < 2 * half)).astype(np.uint8)


@lru_cache(maxsize=8)
def subsets(count: int, size: int, draws: int) -> Counts:
    """Random sets of `size` of `count` images without replacement, (draws, count); all images where
    size is count.
    """
    return (random_places(count, draws if size < count else 1) < size).astype(np.uint8)


def centres(values: Floats, weights: Counts, lead: str) -> Floats:
    """(samples, columns): the mean or median over the images of each sample that have a value, else
    NaN.

    values: (images, columns). weights: (samples, images), how often each image is in each sample.
    """
    if lead == "median":
        image = np.arange(len(values))
        return np.concatenate([weighted_medians(values, image, part) for part in parts(weights)])
    has = np.isfinite(values)
    filled, counted = np.where(has, values, 0.0), has.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate([(part @ filled) / (part @ counted) for part in parts(weights)])


def parts(weights: Counts) -> Iterator[Floats]:
    """The weights as floats, some samples at a time."""
    step = max(1, CHUNK // max(weights.shape[1], 1))
    for start in range(0, len(weights), step):
        yield weights[start : start + step].astype(np.float64)


def signs(
    centres: Floats,
    pairs: tuple[Sequence[int], Sequence[int]] | None = None,
    rounding: float = FLOAT32_ROUNDING,
) -> Signs:
    """(..., columns) -> (..., pairs): 1 where the first of a pair of columns has more, -1 where the
    second has, 0 where they are equal but for rounding or one has no value. pairs: two lists of
    columns; None for all pairs.
    """
    first, second = (
        np.triu_indices(centres.shape[-1], 1) if pairs is None else map(np.asarray, pairs)
    )
    left, right = centres[..., first], centres[..., second]
    with np.errstate(invalid="ignore"):
        sign = np.where(are_equal(left, right, rounding), 0.0, np.sign(left - right))
    return np.asarray(np.nan_to_num(sign), dtype=np.float32)


class SplitHalf(NamedTuple):
    """The agreement of two halves of the images.

    half: The number of images in a half. tau: Kendall's tau-b between the orders of the methods by
    two halves, the mean over SPLITS splits.
    """

    half: int
    tau: float


def split_half_agreement(values: ImageValues) -> SplitHalf:
    """Compare the halves of the images on which all of the methods have values.

    tau is NaN for fewer than two images, and if the methods can't be told apart in a half.
    """
    complete = values.values[np.isfinite(values.values).all(axis=1)]
    half = len(complete) // 2
    if not half:
        return SplitHalf(0, math.nan)
    halves = (centres(complete, part, values.lead) for part in split_halves(len(complete), SPLITS))
    taus = tau_b(*(signs(each, rounding=values.rounding) for each in halves))
    return SplitHalf(
        half, float(taus[np.isfinite(taus)].mean()) if np.isfinite(taus).any() else math.nan
    )


def tau_b(first: Signs, second: Signs) -> Floats:
    """Kendall's tau-b from the signs of all pairs, (..., pairs) -> (...): the difference between
    concordant and discordant pairs over the geometric mean of how many pairs each order doesn't
    tie. NaN where an order ties all.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        untied = np.abs(first).sum(axis=-1, dtype=np.float64) * np.abs(second).sum(
            axis=-1, dtype=np.float64
        )
        return np.asarray((first * second).sum(axis=-1, dtype=np.float64) / np.sqrt(untied))
