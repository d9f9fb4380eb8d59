"""Compare all methods of one metric in one setting with each other: pairs, groups that coincide,
places, and the best methods.

A setting is one model, cut at one layer, on one data set. A method's place is its rank among the
groups of methods that coincide. Every sentence, bold number and rank of a report, and
`axiom-bench rank`, comes from a `Comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, takewhile
from typing import NamedTuple, TypedDict, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.columns import LAYER
from axiom_bench.records.by_metric import (
    TENTH,
    Matrix,
    Records,
    RowLayout,
    compared_columns,
    matrix,
)
from axiom_bench.statistics import paired_tests
from axiom_bench.statistics.bootstrap import (
    FEWEST_IMAGES,
    LEVEL,
    Floats,
    Integers,
    mean_intervals,
    median_intervals,
    normal_reach,
)
from axiom_bench.statistics.labels import Metadata, Setting, Value, rows_at
from axiom_bench.statistics.paired_tests import coinciding, holm, rounding_of

PAIR_COLUMNS = (
    "first",
    "second",
    "n",
    "better",
    "same",
    "worse",
    "difference",
    "low",
    "high",
    "p",
    "adjusted",
    "by_images",
    "detectable",
)
Groups = tuple[tuple[str, ...], ...]


class Pair(TypedDict):
    """One row of `Comparison.pairs`, in the columns PAIR_COLUMNS."""

    first: str
    second: str
    n: int
    """The number of images."""
    better: int
    """The number of images on which `first` is better."""
    same: int
    worse: int
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    by_images: float
    detectable: float


class Place(NamedTuple):
    """A method's place; see `Comparison.places`."""

    group: int
    """The number of the method's group in `Comparison.groups`."""
    value: float
    """The leading statistic."""
    value_low: float
    """The lower end of its interval."""
    value_high: float
    place_low: int
    """1 + the number of groups that are significantly better."""
    place_high: int
    """The number of groups minus the number of those that are significantly worse."""
    is_best: bool


@dataclass(frozen=True, eq=False)
class Comparison:
    """One metric in one setting, over the rows that all compared methods have: see
    `by_metric.compared_columns`.
    """

    better: str
    """The metric's direction: "lower", "higher" or "none"."""
    groups: Groups
    """The compared methods. Methods that coincide (see `coinciding`) are one group, and its first
    method stands for all.
    """
    pairs: pd.DataFrame
    """PAIR_COLUMNS, a row per pair of groups: see `paired_tests.tests`. Empty without a direction.

    The difference is that of the two values in `places`. `adjusted` is p after Holm over all pairs
    of this metric in this setting, and `by_images` is adjusted in the same way. For `detectable`
    see `paired_tests.detectable`.
    """
    places: pd.DataFrame
    """A `Place` per method.

    From `place_low` to `place_high` are the places that can't be excluded; the best group has place
    1. These ranges hold for all groups at once.

    The best methods are the groups in the order of their values, until the first group that another
    is better than. No method is best if no group is better than another, if a control is unbeaten,
    or if the metric says that a control's value is the best (`Value.reached_by`).
    """
    images: int
    """The number of images."""
    rows: int
    """The number of rows (an image and an explained class)."""
    left_out: tuple[str, ...] = ()
    """The methods that have values, but too few to be compared."""
    by_construction: tuple[str, ...] = ()
    """The methods that win by construction, which are in no pair and have no place."""
    unbeaten: tuple[str, ...] = ()
    """The controls, which explain nothing, that no method is significantly better than. Empty if no
    methods differ.
    """
    is_whole_set: bool = False
    """True for values of the whole data set, whose pairs have no counts by image."""
    level: float = LEVEL
    """The level of the tests, after Holm over all pairs. The intervals' confidence is 1 - level."""

    @cached_property
    def ranked(self) -> Groups:
        """The groups from the best to the worst value; without a direction, in the manifest's
        order.
        """
        sign = {"lower": 1, "higher": -1}.get(self.better, 0)
        return tuple(sorted(self.groups, key=lambda group: sign * self.place(group[0]).value))

    def place(self, method: str) -> Place:
        """Return the row of `places` of a compared method."""
        return self._places[method]

    @property
    def best(self) -> frozenset[str]:
        """The methods that are best: see `places`."""
        return frozenset(map(str, self.places.index[self.places["is_best"].astype(bool)]))

    def group_of(self, method: str) -> tuple[str, ...]:
        """Return all methods that coincide with a compared method, and the method itself."""
        return next(group for group in self.groups if method in group)

    @property
    def not_worse(self) -> Groups:
        """The groups behind the best value that aren't significantly worse than it."""
        best, *others = self.ranked
        return tuple(group for group in others if not self.is_significant(group[0], best[0]))

    @property
    def contradicted(self) -> tuple[Pair, ...]:
        """The pairs whose first method has the better value, while the second is better on more
        images, significantly after Holm. A few images decide the value of such a pair.
        """
        if self.pairs.empty or self.is_whole_set:
            return ()
        ranked = [group[0] for group in self.ranked]
        contradicted = []
        for first, second in combinations(ranked, 2):
            pair = self.pair(first, second)
            if (
                pair["by_images"] < self.level
                and pair["worse"] > pair["better"]
                and pair["difference"]
            ):
                contradicted.append(pair)
        return tuple(contradicted)

    @property
    def images_needed(self) -> float:
        """The number of images that separate two methods: the median over pairs of groups; NaN
        without a test.
        """
        if self.pairs.empty or self.images < FEWEST_IMAGES:
            return float("nan")
        difference = self.pairs["difference"].to_numpy(dtype=np.float64)
        detectable = self.pairs["detectable"].to_numpy(dtype=np.float64)
        needed = paired_tests.images_to_separate(difference, detectable, self.images)
        return float(np.median(needed))

    def pair(self, first: str, second: str) -> Pair:
        """Return PAIR_COLUMNS of two groups, which their first methods name, as seen from
        `first`.
        """
        if (first, second) in self._rows:
            return self._rows[first, second]
        row = self._rows[second, first]
        return {
            **row,
            "first": first,
            "second": second,
            "better": row["worse"],
            "worse": row["better"],
            "difference": -row["difference"],
            "low": -row["high"],
            "high": -row["low"],
        }

    def is_significant(self, first: str, second: str) -> bool:
        """Return whether two groups, which their first methods name, differ significantly;
        False without a direction.
        """
        return (first, second) in self._differing

    @cached_property
    def _differing(self) -> frozenset[tuple[str, str]]:
        """The pairs that differ, in both orders."""
        significant = self.pairs[self.pairs["adjusted"] < self.level]
        pairs = [*zip(significant["first"], significant["second"], strict=True)]
        return frozenset([*pairs, *((second, first) for first, second in pairs)])

    @cached_property
    def _places(self) -> dict[str, Place]:
        """The places by method."""
        return {str(row[0]): Place(*row[1:]) for row in self.places.itertuples()}

    @cached_property
    def _rows(self) -> dict[tuple[str, str], Pair]:
        """The rows of `pairs` by the first methods of both groups."""
        rows: dict[tuple[str, str], Pair] = {}
        for row in self.pairs.to_dict("records"):
            rows[row["first"], row["second"]] = cast(Pair, row)
        return rows


def compare_methods(
    values: Floats,
    images: Integers,
    methods: Sequence[str],
    value: Value,
    constructed: Collection[str] = (),
    controls: Collection[str] = (),
    level: float = LEVEL,
) -> Comparison | None:
    """Compare methods by their values of one metric; None if no other method has a value.

    `values` has shape (rows, methods), and is NaN without a value. `images` (rows,) has the number
    of each row's image, and `value` describes the metric. `constructed` are methods that win by
    construction, and `controls` methods that explain nothing. `level` is that of the
    tests and intervals.
    """
    ranked_columns = [column for column, name in enumerate(methods) if name not in constructed]
    ranked = np.array(ranked_columns, dtype=int)
    has = np.isfinite(values[:, ranked])
    columns, common = compared_columns(has)
    if not common.any():
        return None
    chosen = tuple(methods[column] for column in ranked[columns])
    values = values[common][:, ranked[columns]]
    images = images[common]
    if value.lead == "mean":
        low, high = mean_intervals(values, images, value.is_proportion, level)
    else:
        low, high = median_intervals(values, images, level)

    def test_pairs(left: Integers, right: Integers) -> pd.DataFrame:
        """Return the tests of pairs of columns, left against right."""
        table = paired_tests.tests(values, images, left, right, value, level)
        pair_low = table["low"].to_numpy(dtype=np.float64)
        pair_high = table["high"].to_numpy(dtype=np.float64)
        num_images = int(table["n"].iloc[0])
        detectable = paired_tests.detectable(pair_low, pair_high, num_images, len(table), level)
        return table.assign(by_images=holm(table["by_images"]), detectable=detectable)

    # a method with values that isn't compared has too few of them
    with_values = [methods[column] for column in ranked[has.any(axis=0)]]
    return _comparison(
        chosen,
        points=values,
        statistics=(paired_tests.centre(values, value.lead), low, high),
        test_pairs=test_pairs,
        value=value,
        controls=controls,
        images=len(np.unique(images)),
        rows=len(values),
        left_out=tuple(name for name in with_values if name not in chosen),
        by_construction=tuple(name for name in methods if name in constructed),
        level=level,
    )


def compare_whole_sets(
    stored: pd.DataFrame,
    value: Value,
    constructed: Collection[str] = (),
    controls: Collection[str] = (),
    level: float = LEVEL,
) -> Comparison | None:
    """Compare methods by the metric's values of the whole data set in one setting, on the images
    that all compared methods have; None if there are no such values.

    `stored` has `reading.WHOLE_SET_COLUMNS`. The error of a difference is its deviation over the
    run's resamples, which are the same for all methods. The p values, the intervals and
    `detectable` take the difference as normal, because there are no values by image to count or to
    rank. The p values are NaN if the methods have no resamples.
    """
    ranked = stored[~stored["method"].isin(constructed)]
    compared = ranked[ranked["common_images"] > 0]
    if compared.empty:
        return None
    methods = tuple(map(str, compared["method"]))
    values = compared["common_value"].to_numpy(float)
    replicates = [np.asarray(entry, dtype=float) for entry in compared["common_replicates"]]
    if len({len(points) for points in replicates}) > 1:  # records of several runs were combined
        replicates = [np.full(2, np.nan)] * len(replicates)
    sampled = np.stack(replicates, axis=1)
    standard_errors = normal_reach(level)  # to either side of a value
    images = int(compared["common_images"].iloc[0])

    def test_pairs(left: Integers, right: Integers) -> pd.DataFrame:
        """Return the tests of pairs of columns, left against right."""
        difference = values[left] - values[right]
        error = _deviation(sampled[:, left] - sampled[:, right])
        columns = {
            "n": images,
            "difference": difference,
            "low": difference - standard_errors * error,
            "high": difference + standard_errors * error,
            "p": paired_tests.normal_test(difference, error),
            "detectable": paired_tests.detectable_difference(error, len(left), images, level),
        }
        return pd.DataFrame(columns)

    reach = standard_errors * _deviation(sampled)
    with_values = map(str, ranked.loc[ranked["images"] > 0, "method"])
    return _comparison(
        methods,
        # methods coincide only if they also do on every resample
        points=np.concatenate([values[None], sampled]),
        statistics=(values, values - reach, values + reach),
        test_pairs=test_pairs,
        value=value,
        controls=controls,
        images=images,
        rows=int(compared["common_rows"].fillna(0).iloc[0]),
        left_out=tuple(name for name in with_values if name not in methods),
        by_construction=tuple(name for name in map(str, stored["method"]) if name in constructed),
        level=level,
        is_whole_set=True,
    )


def _deviation(sampled: Floats) -> Floats:
    """Return the deviation over resamples, (resamples, columns) -> (columns,); NaN for fewer than
    two.
    """
    if len(sampled) < 2:
        return np.full(sampled.shape[1], np.nan)
    return np.asarray(sampled.std(axis=0, ddof=1))


def _comparison(
    methods: Sequence[str],
    points: Floats,
    statistics: tuple[Floats, Floats, Floats],
    test_pairs: Callable[[Integers, Integers], pd.DataFrame],
    value: Value,
    controls: Collection[str],
    images: int,
    rows: int,
    left_out: tuple[str, ...],
    by_construction: tuple[str, ...],
    level: float,
    is_whole_set: bool = False,
) -> Comparison:
    """Return the comparison of methods: group them, test the groups, adjust the p values, and find
    unbeaten controls, places and the best methods. Values of images and values of the whole data
    set differ only in their tests.

    `points` (rows, methods) decide which methods coincide. `statistics` are the value, low and high
    of each method. `test_pairs` takes the columns of the methods of pairs, and returns PAIR_COLUMNS
    without names and `adjusted`. The last six parameters are fields of `Comparison`.
    """
    groups = coinciding(points, methods, rounding_of(points, value))
    first_columns = [methods.index(group[0]) for group in groups]
    pairs = pd.DataFrame(columns=list(PAIR_COLUMNS))
    if value.has_direction and len(groups) > 1:
        sides = zip(*combinations(first_columns, 2), strict=True)
        left, right = (np.array(columns_of_side) for columns_of_side in sides)
        table = test_pairs(left, right)
        table = table.assign(
            first=[methods[column] for column in left],
            second=[methods[column] for column in right],
            adjusted=holm(table["p"]),
        )
        pairs = table.reindex(columns=list(PAIR_COLUMNS))
    significant = pairs[pairs["adjusted"] < level]
    sign = -1 if value.better == "lower" else 1
    is_first_better = sign * significant["difference"] > 0
    winners = significant["first"].where(is_first_better, significant["second"]).tolist()
    losers = significant["second"].where(is_first_better, significant["first"]).tolist()
    # a control counts as beaten only if a group with a method that is no control beats it
    explaining = {group[0] for group in groups if not {*group} <= {*controls}}
    beaten = set()
    for winner, loser in zip(winners, losers, strict=True):
        if winner in explaining:
            beaten.add(loser)
    unbeaten: list[str] = []
    for group in groups:
        if winners and group[0] not in beaten:
            unbeaten.extend(name for name in group if name in controls)
    columns = zip(*(column.tolist() for column in statistics), strict=True)
    statistics_of: dict[str, tuple[float, float, float]] = dict(zip(methods, columns, strict=True))
    first_methods = [group[0] for group in groups]
    ranked = sorted(first_methods, key=lambda name: -sign * statistics_of[name][0])
    best: set[str] = set()
    if losers and not unbeaten and not value.reached_by:
        best.update(takewhile(lambda name: name not in losers, ranked))
    places: dict[str, Place] = {}
    for group_number, group in enumerate(groups):
        for name in group:
            statistic, low, high = statistics_of[name]
            places[name] = Place(
                group=group_number,
                value=statistic,
                value_low=low,
                value_high=high,
                place_low=1 + losers.count(group[0]),
                place_high=len(groups) - winners.count(group[0]),
                is_best=group[0] in best,
            )
    return Comparison(
        better=value.better,
        groups=groups,
        pairs=pairs,
        places=pd.DataFrame(list(places.values()), index=list(places), columns=list(Place._fields)),
        images=images,
        rows=rows,
        left_out=left_out,
        by_construction=by_construction,
        unbeaten=tuple(unbeaten),
        is_whole_set=is_whole_set,
        level=level,
    )


@dataclass(frozen=True)
class Answers:
    """The networks and rows of a part of a suite on which a method has a value of one metric. Only
    those with a value of a published method are counted. They decide whether the leaderboard and
    `axiom-bench rank` give the method a place.
    """

    networks: int
    """The number of networks on which the method has a value."""
    all_networks: int
    rows: int
    """The number of rows with a value of the method."""
    all_rows: int

    @property
    def has_place(self) -> bool:
        """True if these are enough for a place in the part: nine tenths of all rows."""
        return TENTH * (self.all_rows - self.rows) <= self.all_rows

    @property
    def text(self) -> str:
        """The counts of networks and images: "3 of 4, 120 of 160"."""
        return f"{self.networks} of {self.all_networks}, {self.rows:,} of {self.all_rows:,}"


@dataclass(frozen=True, eq=False)
class Comparisons:
    """The comparisons of every metric in every setting of a run, each computed once.

    If methods are compared with a suite's published ones (`Metadata.published`), a method that
    should have given a value and didn't has the worst published value: see `values`. So it can't
    win by leaving out images, and takes no row from the others. Only methods with a place in the
    part can be best.
    """

    records: Records
    whole_set: pd.DataFrame
    """The values of whole data sets in `reading.WHOLE_SET_COLUMNS`."""
    layouts: Mapping[tuple[str, ...], RowLayout]
    """{setting: the rows of its matrices}."""
    metadata: Metadata
    whole_set_metrics: Collection[str]
    """The metrics with values of whole data sets."""
    level: float = LEVEL
    """The level of all tests and intervals."""
    _computed: dict[tuple[Setting, str, frozenset[str]], Comparison | None] = field(
        default_factory=dict
    )
    _answers: dict[str, dict[str, Answers]] = field(default_factory=dict)
    _placed: dict[str, frozenset[str]] = field(default_factory=dict)
    _answered: dict[tuple[Setting, str], dict[str, tuple[int, float]]] = field(default_factory=dict)

    def answers(self, metric: str) -> Mapping[str, Answers]:
        """Return {method: the amount of a suite's part on which it has values}, for methods that
        have any and don't win by construction.
        """
        if metric not in self._answers:
            # one entry per network of the part: {method: its number of rows with a value}
            row_counts: list[dict[str, int]] = []
            all_rows = 0
            for layout in self.layouts.values():
                table = matrix(self.records, layout, metric)
                if table is None:
                    continue
                has = np.isfinite(table.values)[self._of_published(table)]
                row_counts.append(dict(zip(table.methods, has.sum(axis=0), strict=True)))
                all_rows += len(has)
            counts = pd.DataFrame(row_counts)
            constructed = list(self.metadata.by_construction(metric))
            counts = counts.drop(columns=constructed, errors="ignore")
            columns = zip(counts, counts.count(), counts.sum(), strict=True)
            self._answers[metric] = {
                str(name): Answers(
                    networks=int(networks),
                    all_networks=len(row_counts),
                    rows=int(rows),
                    all_rows=all_rows,
                )
                for name, networks, rows in columns
            }
        return self._answers[metric]

    def methods_with_place(self, metric: str) -> frozenset[str]:
        """Return the methods with a place in a suite's part."""
        if metric not in self._placed:
            answers = self.answers(metric)
            self._placed[metric] = frozenset(name for name in answers if answers[name].has_place)
        return self._placed[metric]

    def answered_statistics(self, setting: Setting, metric: str) -> Mapping[str, tuple[int, float]]:
        """Return {method: (number of rows with a value, the leading statistic over them)}."""
        if (setting, metric) not in self._answered:
            table = matrix(self.records, self.layouts[setting], metric)
            assert table is not None
            lead = self.metadata.value(metric).lead
            values = table.values[self._of_published(table)]
            answered: dict[str, tuple[int, float]] = {}
            for name, column in zip(table.methods, values.T, strict=True):
                statistic = float(paired_tests.centre(column[:, None], lead)[0])
                answered[name] = (int(np.isfinite(column).sum()), statistic)
            self._answered[setting, metric] = answered
        return self._answered[setting, metric]

    def _of_published(self, table: Matrix) -> NDArray[np.bool_]:
        """Return (rows,) True if a published method has a value."""
        is_published = np.isin(table.methods, list(self.metadata.published))
        return np.asarray(np.isfinite(table.values[:, is_published]).any(axis=1))

    def of(
        self, setting: Setting, metric: str, left_out: Collection[str] = ()
    ) -> Comparison | None:
        """Return the comparison of all methods of one metric in one setting, except some, such as
        spoiled ones; None if no method has a value.

        The methods are compared by their values of the whole data set if there are any, and
        otherwise by image.
        """
        key = (setting, metric, frozenset(left_out))
        if key not in self._computed:
            self._computed[key] = self._compare(setting, metric, left_out)
        return self._computed[key]

    def _compare(
        self, setting: Setting, metric: str, left_out: Collection[str]
    ) -> Comparison | None:
        """Compute the comparison that `of` returns and keeps."""
        value = self.metadata.value(metric)
        constructed = self.metadata.by_construction(metric)
        controls = self.metadata.controls
        if metric in self.whole_set_metrics:
            stored = rows_at(self.whole_set, setting)
            stored = stored[(stored["metric"] == metric) & ~stored["method"].isin(left_out)]
            return compare_whole_sets(stored, value, constructed, controls, self.level)
        table = self.values(setting, metric)
        methods = [name for name in table.methods if name not in left_out] if table else []
        if table is None or not methods or LAYER in methods:
            return None
        values = table.values[:, [table.methods.index(name) for name in methods]]
        comparison = compare_methods(
            values, table.images, methods, value, constructed, controls, self.level
        )
        if comparison is None or not self.metadata.published:
            return comparison
        is_best = comparison.places["is_best"] & comparison.places.index.isin(
            self.methods_with_place(metric)
        )
        return replace(comparison, places=comparison.places.assign(is_best=is_best))

    def values(self, setting: Setting, metric: str) -> Matrix | None:
        """Return the values of the images of one setting, as tests take them.

        If methods are compared with published ones, only rows with a published value count. A
        method that lacks at most a tenth of these rows, or has a place, has the worst published
        value in rows without its own.
        """
        table = matrix(self.records, self.layouts.get(setting), metric)
        value = self.metadata.value(metric)
        if table is None or not self.metadata.published or not value.has_direction:
            return table
        counted = np.where(self._of_published(table)[:, None], table.values, np.nan)
        published = counted[:, np.isin(table.methods, list(self.metadata.published))]
        take_worst = np.fmax if value.better == "lower" else np.fmin
        worst = take_worst.reduce(published, axis=1, initial=np.nan)
        is_filled = np.isin(table.methods, list(self.methods_with_place(metric)))
        is_filled[compared_columns(np.isfinite(counted))[0]] = True
        values = np.where(np.isnan(counted) & is_filled, worst[:, None], counted)
        return replace(table, values=values)
