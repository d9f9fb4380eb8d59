"""The values that a metric is judged by: images x methods, and their means or medians over many samples of images.

An image with several rows (its classes) counts once, by the mean of its values, as in paired tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from axiom_bench.records.common import compared_columns
from axiom_bench.statistics.bootstrap import MOST_UNITS, SEED, Floats, resamples
from axiom_bench.statistics.differences import are_equal, coinciding, means_by_image
from axiom_bench.statistics.metadata import Setting
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

CHUNK = 2**22  # of weights that are floats at a time
Counts = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageValues:
    """One metric in one setting. values: (images, methods), NaN where a method has none for an image; images are those
    of the setting, in the records' order. lead: "mean" or "median", by which tables order methods. better: "lower",
    "higher" or "none"."""

    metric: str
    methods: tuple[str, ...]
    values: Floats
    lead: str
    better: str

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is, 0 without a direction."""
        return {"higher": 1, "lower": -1}.get(self.better, 0)

    def of(self, methods: Collection[str]) -> ImageValues:
        """Of these methods alone, in the given order."""
        places = [self.methods.index(name) for name in methods]
        return ImageValues(self.metric, tuple(methods), self.values[:, places], self.lead, self.better)

    def compared(self) -> ImageValues:
        """Without methods that lack more than a tenth of the images that any has, as `records.common.compared`."""
        return self.of([self.methods[place] for place in compared_columns(np.isfinite(self.values))[0]])

    def distinct(self) -> ImageValues:
        """Of methods that coincide the first alone, see `statistics.coinciding`."""
        return self.of([group[0] for group in coinciding(self.values, self.methods)])

    def common(self) -> ImageValues:
        """NaN for all methods on an image where one of them has no value."""
        has_all = np.isfinite(self.values).all(axis=1, keepdims=True)
        return ImageValues(self.metric, self.methods, np.where(has_all, self.values, np.nan), self.lead, self.better)

    @property
    def num_images(self) -> int:
        """Images with at least two values: of one alone nothing can be put in an order."""
        return int((np.isfinite(self.values).sum(axis=1) > 1).sum())


def image_values(run: RunFolder, setting: Setting, metric: str) -> ImageValues | None:
    """All methods that have values of images in this metric; None where there are none, or the layer alone has."""
    matrix = run.matrix(setting, metric)
    if matrix is None or METHOD_FREE in matrix.methods:
        return None
    value = run.metadata.value(metric)
    return ImageValues(metric, matrix.methods, means_by_image(matrix.values, matrix.images), value.lead, value.better)


@lru_cache(maxsize=4)
def drawn(count: int) -> Counts:
    """How often each of `count` images is in each resample, (RESAMPLES, count); the same for all metrics. Of more than
    MOST_UNITS images several are drawn together, see `bootstrap.units`."""
    if count <= MOST_UNITS:
        return resamples(count).astype(np.uint8)
    unit = np.random.default_rng(SEED).permutation(count) % MOST_UNITS
    return resamples(MOST_UNITS).astype(np.uint8)[:, unit]


@lru_cache(maxsize=4)
def split_halves(count: int, splits: int) -> tuple[Counts, Counts]:
    """Random halves of `count` images, two of (splits, count): 1 for an image that is in the half. Of an odd number
    one image is in neither."""
    order = np.argsort(np.random.default_rng(SEED).random((splits, count)), axis=1)
    place = np.argsort(order, axis=1)
    half = count // 2
    return (place < half).astype(np.uint8), ((place >= half) & (place < 2 * half)).astype(np.uint8)


@lru_cache(maxsize=8)
def subsets(count: int, size: int, draws: int) -> Counts:
    """Random sets of `size` of `count` images without replacement, (draws, count); all images where size is count."""
    if size == count:
        return np.ones((1, count), dtype=np.uint8)
    order = np.argsort(np.random.default_rng(SEED).random((draws, count)), axis=1)
    chosen = np.zeros((draws, count), dtype=np.uint8)
    np.put_along_axis(chosen, order[:, :size], 1, axis=1)
    return chosen


def centres(values: Floats, weights: Counts, lead: str) -> Floats:
    """(samples, columns): the mean or median over the images of each sample that have a value, else NaN.

    values: (images, columns). weights: (samples, images), how often each image is in each sample.
    """
    centre = _means if lead == "mean" else _medians
    return np.concatenate([centre(values, part) for part in parts(weights)])


def parts(weights: Counts) -> Iterator[Floats]:
    """The weights as floats, some samples at a time."""
    step = max(1, CHUNK // max(weights.shape[1], 1))
    for start in range(0, len(weights), step):
        yield weights[start : start + step].astype(np.float64)


def _means(values: Floats, weights: Floats) -> Floats:
    has = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weights @ np.where(has, values, 0.0)) / (weights @ has.astype(np.float64)))


def _medians(values: Floats, weights: Floats) -> Floats:
    """Of an even number the mean of the two values in the middle."""
    medians = np.full((len(weights), values.shape[1]), np.nan)
    for column in range(values.shape[1]):
        order = np.argsort(values[:, column], kind="stable")
        order = order[: np.isfinite(values[:, column]).sum()]  # NaN is last
        if not len(order):
            continue
        counted, in_order = np.cumsum(weights[:, order], axis=1), values[order, column]
        half = counted[:, -1:] / 2
        low, high = ((is_there).argmax(axis=1) for is_there in (counted >= half, counted > half))
        medians[:, column] = np.where(half[:, 0] > 0, (in_order[low] + in_order[high]) / 2, np.nan)
    return medians


def signs(centres: Floats, pairs: tuple[Sequence[int], Sequence[int]] | None = None) -> NDArray[np.float32]:
    """(..., columns) -> (..., pairs): 1 where the first of a pair of columns has more, -1 where the second has, 0 where
    they are equal but for float32's rounding or one has no value. pairs: two lists of columns; None for all pairs."""
    first, second = np.triu_indices(centres.shape[-1], 1) if pairs is None else map(np.asarray, pairs)
    left, right = centres[..., first], centres[..., second]
    with np.errstate(invalid="ignore"):
        sign = np.where(are_equal(left, right), 0.0, np.sign(left - right))
    return np.asarray(np.nan_to_num(sign), dtype=np.float32)
