"""Choose which metrics and methods of a run are judged, and compute how well a metric recovers the
order of spoiled explainers.

A spoiled explainer is a right one that was made worse on purpose, to a known degree.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from axiom_bench.errors import BenchError, plural, unknown_name
from axiom_bench.judging import agreement
from axiom_bench.judging.agreement import Counts, ImageValues, centres, image_values
from axiom_bench.records.entries import MethodEntry
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES, TAIL, Floats
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.paired_tests import centre
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

MIN_METHODS = 3  # fewer methods have no order worth comparing
MOST_VALUES = 100_000  # a run with at most so many values is judged in every report
ON_SCORE_SCALE = "score_scale"  # what a metric of contributions needs
MOST_IMAGES = 100  # the largest number of images whose mean or median orders two explanations
DRAWS = 1000  # the number of random sets of images
GOAL = 0.95  # the share of pairs in the right order that a metric should reach
ALL = ""  # the name that stands for all kinds of spoiling together
Share = tuple[float, float, float]  # a share and the ends of its interval


class Recovery(NamedTuple):
    """The success of a metric in recovering the order of spoiled explanations."""

    images: int  # the number of images with a value of such an explanation
    # The share of pairs in the right order with its 95 % interval, by the kind of spoiling; the key
    # ALL has that of all kinds.
    shares: Mapping[str, Share]


def compared_values(run: RunFolder, setting: Setting, metric: str) -> ImageValues | None:
    """Return a metric's values by image of the methods that are compared.

    Methods that are spoiled, that win by construction, or that lack more than a tenth of the images
    are left out.
    """
    values = image_values(run, setting, metric)
    if values is None:
        return None
    left_out = {*spoiled_methods(run), *run.metadata.by_construction(metric)}
    return values.of([name for name in values.methods if name not in left_out]).compared()


def fitting_kinds(run: RunFolder, metric: str) -> list[Spoiling]:
    """Return the kinds of spoiling that can judge a metric.

    If the unspoiled end of a kind wins by construction in some metric, it consists of
    contributions, and its map isn't known to be right. Such a kind judges only metrics of
    contributions, which need the score's scale.
    """
    needs_score_scale = False
    for need in run.metadata.metric(metric).needs:
        if ON_SCORE_SCALE in (need if isinstance(need, dict) else [need]):
            needs_score_scale = True
    methods = run.manifest.methods
    return [
        kind
        for kind in kinds(methods)
        if needs_score_scale or not methods[kind.methods[0]].wins_by_construction
    ]


def is_small(run: RunFolder) -> bool:
    """Return whether judging the run takes a small share of its report's time."""
    return len(run.records) <= MOST_VALUES


def chosen_metrics(run: RunFolder, names: Collection[str] | None) -> list[str]:
    """Return the metrics to judge, in the manifest's order.

    Args:
        run: The run.
        names: The metrics to choose. None means all metrics except those of the layer.

    Raises:
        BenchError: if the run doesn't have a metric; the nearest names are listed.
    """
    metrics = [name for name in run.metrics if METHOD_FREE not in run.records.methods_of(name)]
    for name in names or ():
        if name not in metrics:
            raise unknown_name("metric", name, metrics, place="in this run")
    return [name for name in metrics if names is None or name in names]


def check_can_be_judged(run: RunFolder) -> None:
    """Check that the run's metrics can be judged.

    Raises:
        BenchError: if none can, with the reason.
    """
    if run.records.empty:
        raise BenchError(f"{run.path} has no records to judge; run its command again.")
    if run.records.keys["image_id"].nunique() < 2:
        raise BenchError(
            "The run has 1 image: metrics are judged by whether images agree, so run it on more "
            "of them."
        )
    count = len(run.methods)
    if count < MIN_METHODS and not spoiled_methods(run):
        raise BenchError(
            f"The run has {plural(count, 'method')}: metrics are judged by the "
            f"order in which they put at least {MIN_METHODS}, so run it with more of them."
        )


def spoiled_methods(run: RunFolder) -> frozenset[str]:
    """Return the explainers whose quality is known.

    They are the right ones, and the spoiled ones with their unspoiled ends.
    """
    methods = run.manifest.methods
    names = {name for kind in kinds(methods) for name in kind.methods}
    for name, method in methods.items():
        if is_spoiled(method) or method.computed_from:
            names.add(name)
    return frozenset(names)


@dataclass(frozen=True)
class Spoiling:
    """One kind of spoiling."""

    name: str
    methods: tuple[str, ...]  # the methods that are spoiled in this way, less spoiled first
    degrees: tuple[float, ...]  # how far each method is spoiled

    def pairs(self, present: Collection[str]) -> list[tuple[str, str]]:
        """Return the pairs (less spoiled, more spoiled) of the methods in `present`.

        Two methods of one degree are no pair.
        """
        pairs = []
        for less, more in combinations(zip(self.methods, self.degrees, strict=True), 2):
            if less[1] < more[1] and less[0] in present and more[0] in present:
                pairs.append((less[0], more[0]))
        return pairs


def kinds(methods: Mapping[str, MethodEntry]) -> list[Spoiling]:
    """Return the kinds of spoiling in the metadata of a run's methods, with their unspoiled
    ends.
    """
    degrees_by_kind: dict[str, dict[str, float]] = {}
    for name, method in methods.items():
        if is_spoiled(method):
            degrees = degrees_by_kind.setdefault(str(method.spoiling), {})
            degrees[name] = float(method.degree)
            if method.unspoiled in methods:
                degrees[str(method.unspoiled)] = 0.0
    spoilings = []
    for kind, degrees in degrees_by_kind.items():
        if len(degrees) > 1:
            names = tuple(sorted(degrees, key=lambda name: degrees[name]))
            spoilings.append(Spoiling(kind, names, tuple(degrees[name] for name in names)))
    return spoilings


def is_spoiled(about: MethodEntry) -> bool:
    """Return whether a method's metadata contain a degree of spoiling, which may be 0."""
    return about.spoiling is not None and about.degree is not None


def recovery(values: ImageValues, spoilings: Sequence[Spoiling], size: int) -> Recovery:
    """Return the share of pairs that the metric puts in the right order by `size` images.

    A pair consists of two degrees of one kind of spoiling. The share is the mean over random sets
    of `size` images, drawn without replacement. A tie counts half, and a pair counts on the images
    on which both have values. A metric without a direction has no shares.
    """
    pairs = []
    names = []
    for kind in spoilings:
        for pair in kind.pairs(values.methods):
            pairs.append(pair)
            names.append(kind.name)
    if not pairs or not values.sign:
        return Recovery(0, {})
    pair_values = Pairs.of(values, pairs)
    kind_of_pair = np.array(names)
    masks = {name: kind_of_pair == name for name in dict.fromkeys(names)}
    masks[ALL] = np.full(len(names), True)
    shares = pair_values.shares_in_order(size, [*masks.values()])
    return Recovery(pair_values.num_images, dict(zip(masks, shares, strict=True)))


def share_of_right_pairs(values: ImageValues, pairs: Sequence[tuple[str, str]], size: int) -> Share:
    """Return the share of pairs (better, worse) of methods in that order by `size` images.

    See `recovery` for the share.
    """
    return Pairs.of(values, pairs).shares_in_order(size, [np.full(len(pairs), True)])[0]


@dataclass(frozen=True, eq=False)
class Pairs:
    """The values of pairs of explanations of which one is known to be better."""

    # Its values are (images, columns), masked to the images that a pair has in common.
    metric: ImageValues
    # The columns of each pair's better explanation, and those of its worse explanation.
    sides: tuple[list[int], list[int]]

    @classmethod
    def of(cls, values: ImageValues, pairs: Sequence[tuple[str, str]]) -> Pairs:
        """Return the values of pairs (better, worse) of methods."""
        indices = np.array(
            [(values.methods.index(better), values.methods.index(worse)) for better, worse in pairs]
        )
        has_any = np.isfinite(values.values[:, np.unique(indices)]).any(axis=1)
        table = values.values[has_any]
        has_both = np.asarray(np.isfinite(table[:, indices]).all(axis=2))  # (images, pairs)
        # A method has one column for each mask, and all pairs with this mask share the column. If
        # no value is missing, a method has only one.
        columns: dict[tuple[int, bytes], int] = {}
        sides: tuple[list[int], list[int]] = ([], [])
        for pair, mask in zip(indices.tolist(), has_both.T, strict=True):
            for side, index in zip(sides, pair, strict=True):
                side.append(columns.setdefault((index, mask.tobytes()), len(columns)))
        masked = [
            np.where(np.frombuffer(mask, dtype=bool), table[:, index], np.nan)
            for index, mask in columns
        ]
        return cls(replace(values, values=np.stack(masked, axis=1)), sides)

    @property
    def num_images(self) -> int:
        """The number of images with a value of any of the explanations."""
        return len(self.metric.values)

    def shares_in_order(self, size: int, chosen: Sequence[np.ndarray]) -> list[Share]:
        """Return the share of pairs in the right order for each chosen set of pairs.

        Args:
            size: The number of images in a random set, at most the number of images.
            chosen: For each set of pairs, a mask (pairs,).

        Returns:
            For each set of pairs, the mean over random sets of images with its interval. The
            interval is NaN for fewer than FEWEST_IMAGES images.
        """
        is_right = self._is_right(agreement.subsets(self.num_images, size, DRAWS))
        share_by_pair = centre(is_right, "mean")
        shares = np.array([share_by_pair[mask].mean() for mask in chosen])
        reach = np.full(len(chosen), np.nan)
        if self.num_images >= FEWEST_IMAGES:
            offsets = self._offsets(size)
            quantiles = [
                np.quantile(offsets[:, mask].mean(axis=1), [TAIL, 1 - TAIL]) for mask in chosen
            ]
            reach = np.abs(quantiles).max(axis=1)
        low, high = np.clip([shares - reach, shares + reach], 0, 1)
        return [*zip(shares.tolist(), low.tolist(), high.tolist(), strict=True)]

    def _is_right(self, weights: Counts) -> Floats:
        """Return whether each set of images gives the better explanation the better value.

        Args:
            weights: How often each image is in a set, (sets, images).

        Returns:
            (sets, pairs): 1 if the pair is in the right order, 1/2 for a tie, and NaN if no image
            in the set has both values.
        """
        means = centres(self.metric.values, weights, self.metric.lead)
        has_both = np.isfinite(means[:, self.sides[0]]) & np.isfinite(means[:, self.sides[1]])
        sign = agreement.signs(means, self.sides, self.metric.rounding)
        return np.where(has_both, (1 + self.metric.sign * sign) / 2, np.nan)

    def _offsets(self, size: int) -> Floats:
        """Return (resamples, pairs): the share of right sets in a resample of the images, minus the
        share in the population that they stand for.

        A pair has the difference d in the right direction over all N images, with the bootstrap's
        error s. Sets of n images, drawn without replacement from these images, are right in about
        Phi(d / (s sqrt(N / n - 1))) of all cases. Sets from a population with the difference d are
        right in Phi(d / (s sqrt(N / n))).
        """
        all_images = np.ones((1, self.num_images), dtype=np.uint8)
        full = self._differences(all_images)
        resampled = self._differences(agreement.bootstrap_counts(self.num_images))
        error = np.nanstd(resampled, axis=0)
        ratio = self.num_images / size
        return _phi(resampled, error * np.sqrt(ratio - 1)) - _phi(full, error * np.sqrt(ratio))

    def _differences(self, weights: Counts) -> Floats:
        """Return (sets, pairs): by how much each set of images prefers the better explanation.

        A difference that is only rounding is 0.
        """
        means = centres(self.metric.values, weights, self.metric.lead)
        is_equal = agreement.signs(means, self.sides, self.metric.rounding) == 0
        difference = np.where(is_equal, 0.0, means[:, self.sides[0]] - means[:, self.sides[1]])
        return self.metric.sign * difference


def _phi(difference: Floats, error: Floats) -> Floats:
    """Return P(difference + error z > 0) for a normal z; 1/2 if both difference and error are
    0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(difference == 0, 0.5, ndtr(difference / error)))
