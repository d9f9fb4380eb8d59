"""Read a metric's values by image, and compute whether two halves of the images agree on the order
of the methods.
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

CHUNK = 2**22  # the number of weights, or of pairs' signs, that are floats at a time
SPLITS = 200  # the number of random divisions into halves
TAU = 0.9  # the rank correlation that two sets of images should reach
Counts = NDArray[np.uint8]
Signs = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageValues:
    """A metric's values by image in one setting, on which every test of the metric works."""

    metric: str
    methods: tuple[str, ...]
    # (images, methods), NaN if a method has no value for an image. The images are those of the
    # setting, in the records' order.
    values: Floats
    lead: str  # "mean" or "median", by which tables order methods
    better: str  # "lower", "higher" or "none"
    rounding: float = FLOAT32_ROUNDING  # see `paired_tests.rounding_of`

    @property
    def sign(self) -> int:
        """1 if more is better, -1 if less is better, 0 for a metric without a direction."""
        return {"higher": 1, "lower": -1}.get(self.better, 0)

    def of(self, methods: Collection[str]) -> ImageValues:
        """Return the values of only these methods, in the given order."""
        columns = [self.methods.index(name) for name in methods]
        return replace(self, methods=tuple(methods), values=self.values[:, columns])

    def compared(self) -> ImageValues:
        """Return the values without the methods that have too few of them.

        These methods lack more than a tenth of the images for which any method has a value, see
        `by_metric.compared_columns`.
        """
        columns, *_ = compared_columns(np.isfinite(self.values))
        return self.of([self.methods[column] for column in columns])

    def distinct(self) -> ImageValues:
        """Return the values of the first of all methods that coincide, see `coinciding`.

        Methods with the same maps have no order, and would make two halves look alike.
        """
        return self.of([group[0] for group in coinciding(self.values, self.methods, self.rounding)])

    @property
    def num_images(self) -> int:
        """The number of images with at least two values, which can be put in an order."""
        return int((np.isfinite(self.values).sum(axis=1) > 1).sum())


def image_values(run: RunFolder, setting: Setting, metric: str) -> ImageValues | None:
    """Return the values of all methods with values of images in this metric.

    None is returned if the metric is one of the layer, or if no image has two values.
    """
    matrix = run.matrix(setting, metric)
    if matrix is None or METHOD_FREE in matrix.methods:
        return None
    value = run.metadata.value(metric)
    values = ImageValues(
        metric=metric,
        methods=matrix.methods,
        values=means_by_image(matrix.values, matrix.images),
        lead=value.lead,
        better=value.better,
        rounding=rounding_of(matrix.values, value),
    )
    return values if values.num_images else None


@lru_cache(maxsize=4)
def bootstrap_counts(count: int) -> Counts:
    """Return how often each of `count` images is in each bootstrap resample, (RESAMPLES, count).

    The resamples are the same for all metrics.
    """
    unit, weights = resamples_of_rows(np.arange(count))
    return weights.astype(np.uint8)[:, unit]


def random_places(count: int, orders: int) -> NDArray[np.int64]:
    """Return each image's place in random orders of `count` images, (orders, count)."""
    numbers = np.random.default_rng(SEED).random((orders, count))
    return np.argsort(np.argsort(numbers, axis=1), axis=1)


@lru_cache(maxsize=4)
def split_halves(count: int, splits: int) -> tuple[Counts, Counts]:
    """Return random halves of `count` images, two arrays of (splits, count).

    They are 1 for an image in the half. If `count` is odd, one image is in neither half.
    """
    place = random_places(count, splits)
    half = count // 2
    first = place < half
    second = (place >= half) & (place < 2 * half)
    return first.astype(np.uint8), second.astype(np.uint8)


@lru_cache(maxsize=8)
def subsets(count: int, size: int, draws: int) -> Counts:
    """Return random sets of `size` of `count` images, drawn without replacement, (draws, count).

    If `size` is `count`, there is only one set, of all images.
    """
    number_of_sets = draws if size < count else 1
    return (random_places(count, number_of_sets) < size).astype(np.uint8)


def centres(values: Floats, weights: Counts, lead: str) -> Floats:
    """Return the mean or median over the images of each sample that have a value.

    Args:
        values: (images, columns).
        weights: (samples, images), how often each image is in each sample.
        lead: "mean" or "median".

    Returns:
        (samples, columns), NaN if no image of the sample has a value.
    """
    if lead == "median":
        image = np.arange(len(values))
        return np.concatenate(
            [weighted_medians(values, image, part) for part in float_chunks(weights)]
        )
    has_value = np.isfinite(values)
    filled = np.where(has_value, values, 0.0)
    counted = has_value.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate(
            [(part @ filled) / (part @ counted) for part in float_chunks(weights)]
        )


def float_chunks(weights: Counts) -> Iterator[Floats]:
    """Yield the weights as floats, some samples at a time, because floats need more memory."""
    step = max(1, CHUNK // max(weights.shape[1], 1))
    for start in range(0, len(weights), step):
        yield weights[start : start + step].astype(np.float64)


def signs(
    centres: Floats,
    pairs: tuple[Sequence[int], Sequence[int]] | None = None,
    rounding: float = FLOAT32_ROUNDING,
) -> Signs:
    """Return the signs of the differences between pairs of columns.

    Args:
        centres: (..., columns).
        pairs: Two lists of columns, the first and the second of each pair. None means all
            pairs.
        rounding: The relative difference up to which two values are equal.

    Returns:
        (..., pairs): 1 if the first column has more, -1 if the second has more, and 0 if they are
        equal or one has no value.
    """
    if pairs is None:
        first, second = np.triu_indices(centres.shape[-1], 1)
    else:
        first, second = map(np.asarray, pairs)
    left = centres[..., first]
    right = centres[..., second]
    # The difference to a missing value is NaN, which becomes a sign of 0.
    with np.errstate(invalid="ignore"):
        sign = np.where(are_equal(left, right, rounding), 0.0, np.sign(left - right))
    return np.asarray(np.nan_to_num(sign), dtype=np.float32)


class SplitHalf(NamedTuple):
    """The agreement of two halves of the images."""

    half: int  # the number of images in a half
    # Kendall's tau-b between the orders of the methods by two halves, the mean over SPLITS splits.
    tau: float


def split_half_agreement(values: ImageValues) -> SplitHalf:
    """Compare the halves of the images on which all of the methods have values.

    tau is NaN for fewer than two images, and if the methods don't differ in a half.
    """
    complete = values.values[np.isfinite(values.values).all(axis=1)]
    half = len(complete) // 2
    if not half:
        return SplitHalf(0, math.nan)
    first, second = (
        signs(centres(complete, weights, values.lead), rounding=values.rounding)
        for weights in split_halves(len(complete), SPLITS)
    )
    taus = tau_b(first, second)
    defined_taus = taus[np.isfinite(taus)]
    tau = float(defined_taus.mean()) if len(defined_taus) else math.nan
    return SplitHalf(half, tau)


def tau_b(first: Signs, second: Signs) -> Floats:
    """Return Kendall's tau-b from the signs of all pairs in two orders, (..., pairs) -> (...).

    It is the difference between the numbers of concordant and discordant pairs, divided by the
    geometric mean of the numbers of pairs that each order doesn't tie. It is NaN if an order ties
    all pairs.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        untied_first = np.abs(first).sum(axis=-1, dtype=np.float64)
        untied_second = np.abs(second).sum(axis=-1, dtype=np.float64)
        difference = (first * second).sum(axis=-1, dtype=np.float64)
        return np.asarray(difference / np.sqrt(untied_first * untied_second))
