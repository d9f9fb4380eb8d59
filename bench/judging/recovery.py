"""Does a metric put explanations in order whose order is known, since they were spoiled by degrees?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr

from axiom_bench.judging.values import Counts, ImageValues, centres, drawn, signs, subsets
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, TAIL, Floats, mean_intervals

SIZES = (1, 10, 100)  # images by whose mean or median two explanations are put in order
DRAWS = 1000  # random sets of so many images
GOAL = 0.95
COLUMNS = ("kind", "size", "pairs", "images", "missing", "right", "low", "high")
ALL = ""  # the kind that stands for all of them


@dataclass(frozen=True)
class Spoiling:
    """One kind of spoiling. methods: less spoiled first. degrees: of each."""

    name: str
    methods: tuple[str, ...]
    degrees: tuple[float, ...]

    def pairs(self, present: Collection[str]) -> list[tuple[str, str]]:
        """(less spoiled, more spoiled) of these methods; two of one degree are no pair."""
        pairs = combinations(zip(self.methods, self.degrees, strict=True), 2)
        return [(a, b) for (a, x), (b, y) in pairs if x < y and a in present and b in present]


def kinds(methods: Mapping[str, Mapping[str, Any]]) -> list[Spoiling]:
    """The kinds of spoiling that the metadata of a run's methods name, each with its unspoiled end."""
    degrees: dict[str, dict[str, float]] = {}
    for name, about in methods.items():
        if is_spoiled(about):
            of_kind = degrees.setdefault(str(about["spoiling"]), {})
            of_kind[name] = float(about["degree"])
            if about.get("unspoiled") in methods:
                of_kind[str(about["unspoiled"])] = 0.0
    ordered = {kind: sorted(of_kind.items(), key=lambda entry: entry[1]) for kind, of_kind in degrees.items()}
    return [
        Spoiling(kind, *map(tuple, zip(*of_kind, strict=True))) for kind, of_kind in ordered.items() if len(of_kind) > 1
    ]


def is_spoiled(about: Mapping[str, Any]) -> bool:
    """Whether a method's metadata say how far it is spoiled, which may be not at all."""
    return about.get("spoiling") is not None and about.get("degree") is not None


def recovery(values: ImageValues, spoilings: Sequence[Spoiling]) -> pd.DataFrame:
    """COLUMNS, a row for each kind and size, and for all kinds together; none where the metric has no direction.

    right: the share of pairs of degrees of one kind that the metric puts in the right order by `size` images, the mean
    over random sets of so many of the images, without replacement; a tie counts half. low, high: its 95 % interval, see
    `_offsets`. NaN for more images than there are. A pair counts on images where both have values; missing: the share
    of images where one has none, the mean over pairs.
    """
    rows = []
    named = [(kind.name, pair) for kind in spoilings for pair in kind.pairs(values.methods)]
    if named and values.sign:
        pairs = _Pairs.of(values, [pair for _, pair in named])
        names = np.array([name for name, _ in named])
        chosen = {name: names == name for name in dict.fromkeys(names.tolist())} | {ALL: np.full(len(names), True)}
        for size in SIZES:
            shares = pairs.right(size)
            for name, is_kind in chosen.items():
                about = (name, size, int(is_kind.sum()), pairs.num_images, float(pairs.missing[is_kind].mean()))
                rows.append((*about, *shares.of(is_kind)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@dataclass(frozen=True, eq=False)
class Shares:
    """Of one size. right: (pairs,) the share of sets of images in which each pair is right. offsets: (resamples, pairs)
    by how much a resample of the images moves it. by_image: (images, pairs) for single images, None for sets."""

    right: Floats
    offsets: Floats
    by_image: Floats | None = None

    def of(self, chosen: np.ndarray) -> tuple[float, float, float]:
        """The mean over these pairs with its interval."""
        right = float(self.right[chosen].mean())
        if self.by_image is not None:
            rights = self.by_image[:, chosen]
            has = np.isfinite(rights).any(axis=1)
            single = np.nanmean(rights[has], axis=1)
            low, high = mean_intervals(single[:, None], np.arange(len(single)))[:, 0]
        elif len(self.offsets):
            offsets = self.offsets[:, chosen].mean(axis=1)
            reach = np.abs(np.quantile(offsets, [TAIL, 1 - TAIL])).max()
            low, high = np.clip([right - reach, right + reach], 0, 1)
        else:
            low, high = np.nan, np.nan
        return right, float(low), float(high)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """values: (images, columns), masked to the images that a pair has in common. left, right: columns of each pair."""

    values: Floats
    left: list[int]
    right_: list[int]
    lead: str
    sign: int
    missing: Floats

    @classmethod
    def of(cls, values: ImageValues, pairs: Sequence[tuple[str, str]]) -> _Pairs:
        """Columns that are equal, since no value is missing, are one."""
        places = [(values.methods.index(a), values.methods.index(b)) for a, b in pairs]
        has = np.isfinite(values.values)
        has_any = has[:, sorted({place for pair in places for place in pair})].any(axis=1)
        table, has = values.values[has_any], has[has_any]
        columns: dict[tuple[int, bytes], int] = {}
        sides: tuple[list[int], list[int]] = ([], [])
        missing = []
        for pair in places:
            both = has[:, pair[0]] & has[:, pair[1]]
            missing.append(1 - both.mean() if len(both) else 1.0)
            for side, place in zip(sides, pair, strict=True):
                side.append(columns.setdefault((place, both.tobytes()), len(columns)))
        masks = [np.frombuffer(key[1], dtype=bool) for key in columns]
        masked = [np.where(mask, table[:, place], np.nan) for (place, _), mask in zip(columns, masks, strict=True)]
        return cls(np.stack(masked, axis=1), *sides, values.lead, values.sign, np.array(missing))

    @property
    def num_images(self) -> int:
        return len(self.values)

    def right(self, size: int) -> Shares:
        """NaN where there are fewer images than `size`."""
        if size > self.num_images:
            nothing = np.full(len(self.left), np.nan)
            return Shares(nothing, np.empty((0, len(nothing))))
        if size == 1:
            by_image = self._is_right(np.eye(self.num_images, dtype=np.uint8))
            return Shares(_mean(by_image), np.empty((0, len(self.left))), by_image)
        right = _mean(self._is_right(subsets(self.num_images, size, DRAWS)))
        return Shares(right, self._offsets(size) if self.num_images >= FEWEST_IMAGES else np.empty((0, len(right))))

    def _is_right(self, weights: Counts) -> Floats:
        """(samples, pairs): 1 where a sample has the pair in the right order, 1/2 for a tie, NaN where it has no image
        with both values."""
        found = centres(self.values, weights, self.lead)
        has = np.isfinite(found[:, self.left]) & np.isfinite(found[:, self.right_])
        return np.where(has, (1 + self.sign * signs(found, (self.left, self.right_))) / 2, np.nan)

    def _offsets(self, size: int) -> Floats:
        """(resamples, pairs): the share of right sets in a resample minus that which its images were drawn from.

        d: the difference of a pair in the right direction over all N images, with the error s by the bootstrap; d_b: in
        a resample. Sets of n images drawn without replacement from images with the difference d are right in about
        Phi(d / (s sqrt(N / n - 1))), and sets from a population with the difference d in Phi(d / (s sqrt(N / n))).
        """
        everything = np.ones((1, self.num_images), dtype=np.uint8)
        centre, resampled = (
            self.sign * _difference(centres(self.values, weights, self.lead), self.left, self.right_)
            for weights in (everything, drawn(self.num_images))
        )
        error = np.nanstd(resampled, axis=0)
        share = self.num_images / size
        return _phi(resampled, error * np.sqrt(share - 1)) - _phi(centre, error * np.sqrt(share))


def _difference(found: Floats, left: Sequence[int], right: Sequence[int]) -> Floats:
    first, second = found[:, left], found[:, right]
    return np.where(signs(found, (left, right)) == 0, 0.0, first - second)


def _phi(difference: Floats, error: Floats) -> Floats:
    """P(difference + error z > 0) for a normal z; 1/2 for a difference of 0 without an error."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(difference == 0, 0.5, ndtr(difference / error)))


def _mean(shares: Floats) -> Floats:
    has = np.isfinite(shares)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(has, shares, 0.0).sum(axis=0) / has.sum(axis=0))
