"""What of a run is judged: its metrics and methods; and whether a metric recovers the order of
spoiled explainers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from axiom_bench.errors import BenchError, unknown
from axiom_bench.judging import agreement
from axiom_bench.judging.agreement import Counts, ImageValues, centres, image_values
from axiom_bench.records.entries import MethodEntry
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, TAIL, Floats
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.paired_tests import centre
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

MIN_METHODS = 3  # that can be put in an order worth comparing
MOST_VALUES = 100_000  # of a run that every report judges
ON_SCORE_SCALE = "score_scale"  # the need of a metric of contributions
MOST_IMAGES = 100  # by whose mean or median two explanations are put in order
DRAWS = 1000  # random sets of so many images
GOAL = 0.95
ALL = ""  # the kind that stands for all of them
Share = tuple[float, float, float]  # with the ends of its interval


class Recovery(NamedTuple):
    """How well a metric recovers the order of spoiled explanations.

    images: The images with a value of such an explanation. shares: For each kind of spoiling, and
    for ALL, the share of pairs in the right order with its 95 % interval.
    """

    images: int
    shares: Mapping[str, Share]


def compared_values(run: RunFolder, setting: Setting, metric: str) -> ImageValues | None:
    """Return a metric's values by image, of the methods that are neither spoiled nor win by
    construction, nor lack more than a tenth of the images.
    """
    values = image_values(run, setting, metric)
    if values is None:
        return None
    left_out = {*spoiled_methods(run), *run.metadata.by_construction(metric)}
    return values.of([name for name in values.methods if name not in left_out]).compared()


def fitting_kinds(run: RunFolder, metric: str) -> list[Spoiling]:
    """The kinds of spoiling that can judge a metric.

    A kind whose unspoiled end wins by construction in some metric is one of contributions, whose
    map isn't known to be right: it judges metrics of contributions alone, those that need the
    score's scale.
    """
    needs = run.metadata.metric(metric).needs
    of_contributions = any(
        ON_SCORE_SCALE in (need if isinstance(need, dict) else [need]) for need in needs
    )
    methods = run.manifest.methods
    return [
        kind for kind in kinds(methods)
        if of_contributions or not methods[kind.methods[0]].wins_by_construction
    ]  # fmt: skip


def is_small(run: RunFolder) -> bool:
    """Whether judging the run takes a small share of its report's time."""
    return len(run.records) <= MOST_VALUES


def chosen_metrics(run: RunFolder, names: Collection[str] | None) -> list[str]:
    """These metrics, or all of the run that aren't of the layer alone, in the manifest's order.

    Raises BenchError, with the nearest names, for a metric that the run doesn't have.
    """
    metrics = [name for name in run.metrics if METHOD_FREE not in run.records.methods_of(name)]
    for name in names or ():
        if name not in metrics:
            raise unknown("metric in this run", name, metrics)
    return [name for name in metrics if names is None or name in names]


def check(run: RunFolder) -> None:
    """Raises BenchError where no metric of the run can be judged, and says why."""
    if run.records.empty:
        raise BenchError(f"{run.path} has no records to judge; run its command again.")
    if run.records.keys["image_id"].nunique() < 2:
        raise BenchError(
            "The run has 1 image: metrics are judged by whether images agree, so run it on more "
            "of them."
        )
    if (count := len(run.methods)) < MIN_METHODS and not spoiled_methods(run):
        raise BenchError(
            f"The run has {count} method{'' if count == 1 else 's'}: metrics are judged by the "
            f"order in which they put at least {MIN_METHODS}, so run it with more of them."
        )


def spoiled_methods(run: RunFolder) -> frozenset[str]:
    """The explainers whose quality is known: right ones, and spoiled ones with their unspoiled
    ends.
    """
    methods = run.manifest.methods
    ends = {name for kind in kinds(methods) for name in kind.methods}
    return frozenset(
        ends | {name for name, about in methods.items() if is_spoiled(about) or about.computed_from}
    )


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


def kinds(methods: Mapping[str, MethodEntry]) -> list[Spoiling]:
    """The kinds of spoiling that the metadata of a run's methods name, each with its unspoiled
    end.
    """
    degrees: dict[str, dict[str, float]] = {}
    for name, about in methods.items():
        if is_spoiled(about):
            of_kind = degrees.setdefault(str(about.spoiling), {})
            of_kind[name] = float(about.degree)
            if about.unspoiled in methods:
                of_kind[str(about.unspoiled)] = 0.0
    ordered = {
        kind: sorted(of_kind.items(), key=lambda entry: entry[1])
        for kind, of_kind in degrees.items()
    }
    return [
        Spoiling(kind, *map(tuple, zip(*of_kind, strict=True)))
        for kind, of_kind in ordered.items()
        if len(of_kind) > 1
    ]


def is_spoiled(about: MethodEntry) -> bool:
    """Whether a method's metadata say how far it is spoiled, which may be not at all."""
    return about.spoiling is not None and about.degree is not None


def recovery(values: ImageValues, spoilings: Sequence[Spoiling], size: int) -> Recovery:
    """Return the share of pairs of degrees of one kind that the metric puts in the right order by
    `size` images.

    It is the mean over random sets of so many of the images, without replacement. A tie counts
    half, and a pair counts on images where both have values. A metric without a direction has no
    shares.
    """
    kinds_of_pairs = [
        (kind.name, pair) for kind in spoilings for pair in kind.pairs(values.methods)
    ]
    if not kinds_of_pairs or not values.sign:
        return Recovery(0, {})
    pairs = Pairs.of(values, [pair for _, pair in kinds_of_pairs])
    names = np.array([name for name, _ in kinds_of_pairs])
    chosen = {name: names == name for name in dict.fromkeys(names.tolist())} | {
        ALL: np.full(len(names), True)
    }
    shares = pairs.right(size, [*chosen.values()])
    return Recovery(pairs.num_images, dict(zip(chosen, shares, strict=True)))


def right_pairs(values: ImageValues, pairs: Sequence[tuple[str, str]], size: int) -> Share:
    """Return the share of pairs (better, worse) of methods in that order by `size` images, as
    `recovery` does.
    """
    return Pairs.of(values, pairs).right(size, [np.full(len(pairs), True)])[0]


@dataclass(frozen=True, eq=False)
class Pairs:
    """metric: its values are (images, columns), masked to the images that a pair has in common.
    sides: the columns of each pair's better and worse explanation.
    """

    metric: ImageValues
    sides: tuple[list[int], list[int]]

    @classmethod
    def of(cls, values: ImageValues, pairs: Sequence[tuple[str, str]]) -> Pairs:
        """Columns that are equal, since no value is missing, are one."""
        places = np.array(
            [(values.methods.index(better), values.methods.index(worse)) for better, worse in pairs]
        )
        has_any = np.isfinite(values.values[:, np.unique(places)]).any(axis=1)
        table = values.values[has_any]
        both = np.asarray(np.isfinite(table[:, places]).all(axis=2))  # (images, pairs)
        columns: dict[tuple[int, bytes], int] = {}
        sides: tuple[list[int], list[int]] = ([], [])
        for pair, mask in zip(places.tolist(), both.T, strict=True):
            for side, place in zip(sides, pair, strict=True):
                side.append(columns.setdefault((place, mask.tobytes()), len(columns)))
        masked = [
            np.where(np.frombuffer(mask, dtype=bool), table[:, place], np.nan)
            for place, mask in columns
        ]
        return cls(replace(values, values=np.stack(masked, axis=1)), sides)

    @property
    def num_images(self) -> int:
        return len(self.metric.values)

    def right(self, size: int, chosen: Sequence[np.ndarray]) -> list[Share]:
        """Of each chosen set of pairs the mean share of sets of `size` images in which a pair is
        right, with its interval from FEWEST_IMAGES images on. `size` is at most the number of
        images.
        """
        right = centre(self._is_right(agreement.subsets(self.num_images, size, DRAWS)), "mean")
        shares, reach = (
            np.array([right[pairs].mean() for pairs in chosen]),
            np.full(len(chosen), np.nan),
        )
        if self.num_images >= FEWEST_IMAGES:
            offsets = self._offsets(size)
            ends = [
                np.quantile(offsets[:, pairs].mean(axis=1), [TAIL, 1 - TAIL]) for pairs in chosen
            ]
            reach = np.abs(ends).max(axis=1)
        ends = np.clip([shares - reach, shares + reach], 0, 1)
        return [
            (share, low, high) for share, low, high in np.stack([shares, *ends], axis=1).tolist()
        ]

    def _is_right(self, weights: Counts) -> Floats:
        """(samples, pairs): 1 where a sample has the pair in the right order, 1/2 for a tie, NaN
        where it has no image with both values.
        """
        means = centres(self.metric.values, weights, self.metric.lead)
        has = np.isfinite(means[:, self.sides[0]]) & np.isfinite(means[:, self.sides[1]])
        sign = agreement.signs(means, self.sides, self.metric.rounding)
        return np.where(has, (1 + self.metric.sign * sign) / 2, np.nan)

    def _offsets(self, size: int) -> Floats:
        """(resamples, pairs): the share of right sets in a resample minus that which its images
        were drawn from.

        d: the difference of a pair in the right direction over all N images, with the error s by
        the bootstrap; d_b: in a resample. Sets of n images drawn without replacement from images
        with the difference d are right in about Phi(d / (s sqrt(N / n - 1))). Sets from a
        population with the difference d are in Phi(d / (s sqrt(N / n))).
        """
        full, resampled = (
            self._differences(weights)
            for weights in (
                np.ones((1, self.num_images), dtype=np.uint8),
                agreement.drawn(self.num_images),
            )
        )
        error, share = np.nanstd(resampled, axis=0), self.num_images / size
        return _phi(resampled, error * np.sqrt(share - 1)) - _phi(full, error * np.sqrt(share))

    def _differences(self, weights: Counts) -> Floats:
        """(samples, pairs), in the right direction; 0 where two are equal but for rounding."""
        means = centres(self.metric.values, weights, self.metric.lead)
        is_equal = agreement.signs(means, self.sides, self.metric.rounding) == 0
        difference = np.where(is_equal, 0.0, means[:, self.sides[0]] - means[:, self.sides[1]])
        return self.metric.sign * difference


def _phi(difference: Floats, error: Floats) -> Floats:
    """P(difference + error z > 0) for a normal z; 1/2 for a difference of 0 without an error."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(difference == 0, 0.5, ndtr(difference / error)))
