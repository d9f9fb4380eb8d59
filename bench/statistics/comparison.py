"""All methods of one metric in one setting against each other: pairs, groups that coincide, places,
the best.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, takewhile
from typing import Any, NamedTuple

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
    NORMAL,
    Floats,
    Integers,
    mean_intervals,
    median_intervals,
)
from axiom_bench.statistics.labels import Metadata, Setting, Value, rows_at
from axiom_bench.statistics.paired_tests import LEVEL, coinciding, holm, rounding_of

PAIR_COLUMNS = (
    "first", "second", "n", "better", "same", "worse", "difference", "low", "high", "p", "adjusted", "by_images",
    "detectable",
)  # fmt: skip
Groups = tuple[tuple[str, ...], ...]


class Place(NamedTuple):
    """A method's place; see `Comparison.places`. group: the number of its group in
    `Comparison.groups`.
    """

    group: int
    value: float
    value_low: float
    value_high: float
    place_low: int
    place_high: int
    is_best: bool


@dataclass(frozen=True, eq=False)
class Comparison:
    """One metric in one setting, over the rows that all compared methods have (see
    `statistics.common`).

    groups: the compared methods; those that coincide (see `coinciding`) are one group, whose first
    stands for all. pairs: PAIR_COLUMNS, a row for each pair of groups; see `paired_tests.tests`.
    difference: of the two values that `places` has. adjusted: p after Holm, over all pairs of this
    metric in this setting; so by_images. detectable: see `paired_tests.detectable`. Empty without a
    direction. places: a `Place` by method. value: the leading statistic, with its 95 % interval.
    place_low, place_high: the places, from 1 for the best group, that can't be excluded: 1 + how
    many groups are better, number of groups - how many are worse, at 5 % after Holm. They hold for
    all groups at once. is_best: by value from the best group down to the first that another is
    better than, which isn't. Nobody is best where no group is better than another, a control is
    unbeaten, or the metric says that a control's value is the best (`Value.reached_by`). unbeaten:
    controls, which explain nothing, that no method is significantly better than, where any methods
    differ. left_out: methods that have values, but too few to be compared. by_construction: methods
    that win by construction, which are in no pair and have no place. of_whole_set: of values of the
    whole data set, whose pairs have no counts by image.
    """

    better: str
    groups: Groups
    pairs: pd.DataFrame
    places: pd.DataFrame
    images: int
    rows: int
    left_out: tuple[str, ...] = ()
    by_construction: tuple[str, ...] = ()
    unbeaten: tuple[str, ...] = ()
    of_whole_set: bool = False

    @cached_property
    def ranked(self) -> Groups:
        """The groups from the best to the worst value; in the manifest's order without a
        direction.
        """
        sign = {"lower": 1, "higher": -1}.get(self.better, 0)
        return tuple(sorted(self.groups, key=lambda group: sign * self.place(group[0]).value))

    def place(self, method: str) -> Place:
        """The row of `places` of a compared method."""
        return self._places[method]

    @property
    def best(self) -> frozenset[str]:
        """The methods that are best, see `places`."""
        return frozenset(map(str, self.places.index[self.places["is_best"].astype(bool)]))

    def group_of(self, method: str) -> tuple[str, ...]:
        """All methods that coincide with a compared method, itself among them."""
        return next(group for group in self.groups if method in group)

    @property
    def not_worse(self) -> Groups:
        """Of the groups behind the best value those that can't be told to be worse than it."""
        best, *others = self.ranked
        return tuple(group for group in others if not self.differ(group[0], best[0]))

    @property
    def contradicted(self) -> tuple[Mapping[str, Any], ...]:
        """The pairs whose first method has the better value, while the second is better on more
        images, at 5 % after Holm: a few images decide the value.
        """
        if self.pairs.empty or self.of_whole_set:
            return ()
        ranked = [group[0] for group in self.ranked]
        seen = [self.pair(*names) for names in combinations(ranked, 2)]
        return tuple(
            pair
            for pair in seen
            if pair["by_images"] < LEVEL and pair["worse"] > pair["better"] and pair["difference"]
        )

    @property
    def images_needed(self) -> float:
        """How many images separate two methods: the median over pairs of groups; NaN without a
        test.
        """
        if self.pairs.empty or self.images < FEWEST_IMAGES:
            return float("nan")
        difference, detectable = (
            self.pairs[name].to_numpy(dtype=np.float64) for name in ("difference", "detectable")
        )
        return float(
            np.median(paired_tests.images_to_separate(difference, detectable, self.images))
        )

    def pair(self, first: str, second: str) -> Mapping[str, Any]:
        """PAIR_COLUMNS of two groups, by their first methods, seen from `first`."""
        if (first, second) in self._rows:
            return self._rows[first, second]
        row = self._rows[second, first]
        swapped = {"first": first, "second": second, "better": row["worse"], "worse": row["better"]}
        signs = {"difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
        return {**row, **swapped, **signs}

    def differ(self, first: str, second: str) -> bool:
        """Whether two groups, by their first methods, differ at 5 % after Holm; False without a
        direction.
        """
        return (first, second) in self._differing

    @cached_property
    def _differing(self) -> frozenset[tuple[str, str]]:
        """The pairs that differ, in both orders."""
        significant = self.pairs[self.pairs["adjusted"] < LEVEL]
        pairs = [*zip(significant["first"], significant["second"], strict=True)]
        return frozenset([*pairs, *((second, first) for first, second in pairs)])

    @cached_property
    def _places(self) -> dict[str, Place]:
        return {str(row[0]): Place(*row[1:]) for row in self.places.itertuples()}

    @cached_property
    def _rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        rows = (
            {str(name): entry for name, entry in row.items()}
            for row in self.pairs.to_dict("records")
        )
        return {(row["first"], row["second"]): row for row in rows}


def compare_methods(
    values: Floats, images: Integers, methods: Sequence[str], value: Value, constructed: Collection[str] = (),
    controls: Collection[str] = (),
) -> Comparison | None:  # fmt: skip
    """values: (rows, methods), NaN where there is none. images: (rows,) the number of each row's
    image. value: the metric. constructed: methods that win by construction. controls: methods that
    explain nothing. None where no other method has a value.
    """
    ranked = np.array(
        [place for place, name in enumerate(methods) if name not in constructed], dtype=int
    )
    has = np.isfinite(values[:, ranked])
    columns, common = compared_columns(has)
    if not common.any():
        return None
    chosen = tuple(methods[place] for place in ranked[columns])
    values, images = values[common][:, ranked[columns]], images[common]
    is_mean = value.lead == "mean"
    ends = (
        mean_intervals(values, images, value.is_proportion)
        if is_mean
        else median_intervals(values, images)
    )

    def tested(left: Integers, right: Integers) -> pd.DataFrame:
        table = paired_tests.tests(values, images, left, right, value)
        low, high = (table[end].to_numpy(dtype=np.float64) for end in ("low", "high"))
        shown = paired_tests.detectable(low, high, int(table["n"].iloc[0]), len(table))
        return table.assign(by_images=holm(table["by_images"]), detectable=shown)

    return _comparison(
        chosen, values, (paired_tests.centre(values, value.lead), *ends), tested, value, controls,
        images=len(np.unique(images)), rows=len(values),
        left_out=tuple(methods[place] for place in ranked[has.any(axis=0)] if methods[place] not in chosen),
        by_construction=tuple(name for name in methods if name in constructed),
    )  # fmt: skip


def compare_whole_sets(
    stored: pd.DataFrame,
    value: Value,
    constructed: Collection[str] = (),
    controls: Collection[str] = (),
) -> Comparison | None:
    """From the metric's values of the whole data set in one setting (`reading.WHOLE_SET_COLUMNS`),
    on the images that all compared methods have; None where there are none.

    The error of a difference is its deviation over the run's resamples, which are the same for all
    methods. p, the intervals and `detectable` take it as normal: there are no values by image to
    count or to rank. p is NaN where the methods have no resamples.
    """
    ranked = stored[~stored["method"].isin(constructed)]
    compared = ranked[ranked["common_images"] > 0]
    if compared.empty:
        return None
    methods, values = tuple(map(str, compared["method"])), compared["common_value"].to_numpy(float)
    replicates = [np.asarray(entry, dtype=float) for entry in compared["common_replicates"]]
    if len({len(points) for points in replicates}) > 1:  # records of several runs were combined
        replicates = [np.full(2, np.nan)] * len(replicates)
    sampled, images = np.stack(replicates, axis=1), int(compared["common_images"].iloc[0])

    def tested(left: Integers, right: Integers) -> pd.DataFrame:
        difference, error = (
            values[left] - values[right],
            _deviation(sampled[:, left] - sampled[:, right]),
        )
        ends = {"low": difference - NORMAL * error, "high": difference + NORMAL * error}
        shown = paired_tests.smallest_shown(error, len(left), images)
        p = paired_tests.normal_test(difference, error)
        return pd.DataFrame(
            {"n": images, "difference": difference, **ends, "p": p, "detectable": shown}
        )

    reach = NORMAL * _deviation(sampled)
    return _comparison(
        methods, np.concatenate([values[None], sampled]), (values, values - reach, values + reach), tested, value,
        controls, images=images, rows=int(compared["common_rows"].fillna(0).iloc[0]),
        left_out=tuple(name for name in map(str, ranked.loc[ranked["images"] > 0, "method"]) if name not in methods),
        by_construction=tuple(name for name in map(str, stored["method"]) if name in constructed),
        of_whole_set=True,
    )  # fmt: skip


def _deviation(sampled: Floats) -> Floats:
    """Over the resamples, (resamples, columns) -> (columns,); NaN for fewer than two."""
    return np.asarray(
        sampled.std(axis=0, ddof=1) if len(sampled) > 1 else np.full(sampled.shape[1], np.nan)
    )


def _comparison(
    methods: Sequence[str], points: Floats, statistics: tuple[Floats, Floats, Floats],
    tested: Callable[[Integers, Integers], pd.DataFrame], value: Value, controls: Collection[str], **about: Any,
) -> Comparison:  # fmt: skip
    """points: (rows, methods), by which methods coincide. statistics: value, low and high of each
    method. tested: of pairs of methods, by their places, PAIR_COLUMNS without names and `adjusted`.
    about: fields of `Comparison`.
    """
    groups = coinciding(points, methods, rounding_of(points, value))
    firsts, pairs = (
        [methods.index(group[0]) for group in groups],
        pd.DataFrame(columns=list(PAIR_COLUMNS)),
    )
    if value.has_direction and len(groups) > 1:
        left, right = (np.array(side) for side in zip(*combinations(firsts, 2), strict=True))
        names = {
            "first": [methods[place] for place in left],
            "second": [methods[place] for place in right],
        }
        table = tested(left, right)
        pairs = table.assign(**names, adjusted=holm(table["p"])).reindex(columns=list(PAIR_COLUMNS))
    significant, sign = pairs[pairs["adjusted"] < LEVEL], -1 if value.better == "lower" else 1
    is_first = sign * significant["difference"] > 0
    winners = significant["first"].where(is_first, significant["second"]).tolist()
    losers = significant["second"].where(is_first, significant["first"]).tolist()
    explain = {group[0] for group in groups if not {*group} <= {*controls}}
    beaten = {loser for winner, loser in zip(winners, losers, strict=True) if winner in explain}
    unbeaten = tuple(
        name
        for group in groups
        if winners and group[0] not in beaten
        for name in group
        if name in controls
    )
    columns = zip(*(column.tolist() for column in statistics), strict=True)
    of_method: dict[str, tuple[float, float, float]] = dict(zip(methods, columns, strict=True))
    ranked = sorted((group[0] for group in groups), key=lambda name: -sign * of_method[name][0])
    best = (
        set(takewhile(lambda name: name not in losers, ranked))
        if losers and not unbeaten and not value.reached_by
        else set()
    )
    rows: list[Place] = []
    for number, group in enumerate(groups):
        low, high = 1 + losers.count(group[0]), len(groups) - winners.count(group[0])
        rows += [Place(number, *of_method[name], low, high, group[0] in best) for name in group]
    places = pd.DataFrame(
        rows, index=[name for group in groups for name in group], columns=list(Place._fields)
    )
    return Comparison(value.better, groups, pairs, places, unbeaten=unbeaten, **about)


@dataclass(frozen=True)
class Answers:
    """Of a method by one metric in a part of a suite: on how many networks and rows it has a value,
    of those on which a published method has one.
    """

    networks: int
    all_networks: int
    rows: int
    all_rows: int

    @property
    def has_place(self) -> bool:
        """Whether they are enough for a place in the part: nine tenths of all rows."""
        return TENTH * (self.all_rows - self.rows) <= self.all_rows

    @property
    def text(self) -> str:
        """On how many of how many networks, and images."""
        return f"{self.networks} of {self.all_networks}, {self.rows:,} of {self.all_rows:,}"


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Of every metric in every setting of a run, each computed once. whole_set:
    `reading.WHOLE_SET_COLUMNS`. of_whole_sets: the metrics with values of whole data sets.

    Beside a suite's published methods (`Metadata.published`) one that was asked and gave no value
    is compared by the worst published value, see `values`: it wins nothing by silence, and takes no
    row from the others. The best are of those with a place in the part.
    """

    records: Records
    whole_set: pd.DataFrame
    layouts: Mapping[tuple[str, ...], RowLayout]
    metadata: Metadata
    of_whole_sets: Collection[str]
    _computed: dict[tuple[Setting, str, frozenset[str]], Comparison | None] = field(
        default_factory=dict
    )
    _answers: dict[str, dict[str, Answers]] = field(default_factory=dict)
    _answered: dict[tuple[Setting, str], dict[str, tuple[int, float]]] = field(default_factory=dict)

    def answers(self, metric: str) -> Mapping[str, Answers]:
        """{method: on how much of a suite's part it has values}, of those that have any and don't
        win by construction.
        """
        if metric not in self._answers:
            tables = [
                table
                for layout in self.layouts.values()
                if (table := matrix(self.records, layout, metric))
            ]
            has = [np.isfinite(table.values)[self._of_published(table)] for table in tables]
            pairs = zip(tables, has, strict=True)
            counts = pd.DataFrame(
                [dict(zip(table.methods, each.sum(axis=0), strict=True)) for table, each in pairs]
            )
            counts = counts.drop(
                columns=list(self.metadata.by_construction(metric)), errors="ignore"
            )
            about = zip(counts, counts.count(), counts.sum(), strict=True)
            self._answers[metric] = {
                str(name): Answers(int(networks), len(tables), int(rows), sum(map(len, has)))
                for name, networks, rows in about
            }
        return self._answers[metric]

    def placed(self, metric: str) -> frozenset[str]:
        """The methods with a place in a suite's part."""
        return frozenset(
            name for name, answers in self.answers(metric).items() if answers.has_place
        )

    def answered(self, setting: Setting, metric: str) -> Mapping[str, tuple[int, float]]:
        """{method: (rows with a value, the leading statistic over them)}"""
        if (setting, metric) not in self._answered:
            table, lead = (
                matrix(self.records, self.layouts[setting], metric),
                self.metadata.value(metric).lead,
            )
            assert table is not None
            own = table.values[self._of_published(table)]
            self._answered[setting, metric] = {
                name: (
                    int(np.isfinite(column).sum()),
                    float(paired_tests.centre(column[:, None], lead)[0]),
                )
                for name, column in zip(table.methods, own.T, strict=True)
            }
        return self._answered[setting, metric]

    def _of_published(self, table: Matrix) -> NDArray[np.bool_]:
        """(rows,): whether a published method has a value."""
        is_published = np.isin(table.methods, list(self.metadata.published))
        return np.asarray(np.isfinite(table.values[:, is_published]).any(axis=1))

    def of(
        self, setting: Setting, metric: str, left_out: Collection[str] = ()
    ) -> Comparison | None:
        """All methods of one metric in one setting, except some, such as spoiled ones: by the value
        of the whole data set where there is one, else by image. None where no method has a value.
        """
        key = (setting, metric, frozenset(left_out))
        if key not in self._computed:
            self._computed[key] = self._compared(setting, metric, left_out)
        return self._computed[key]

    def _compared(
        self, setting: Setting, metric: str, left_out: Collection[str]
    ) -> Comparison | None:
        value, constructed = self.metadata.value(metric), self.metadata.by_construction(metric)
        if metric in self.of_whole_sets:
            stored = rows_at(self.whole_set, setting)
            stored = stored[(stored["metric"] == metric) & ~stored["method"].isin(left_out)]
            return compare_whole_sets(stored, value, constructed, self.metadata.controls)
        table = self.values(setting, metric)
        methods = [name for name in table.methods if name not in left_out] if table else []
        if table is None or not methods or LAYER in methods:
            return None
        values = table.values[:, [table.methods.index(name) for name in methods]]
        comparison = compare_methods(
            values, table.images, methods, value, constructed, self.metadata.controls
        )
        if comparison is None or not self.metadata.published:
            return comparison
        is_best = comparison.places["is_best"] & comparison.places.index.isin(self.placed(metric))
        return replace(comparison, places=comparison.places.assign(is_best=is_best))

    def values(self, setting: Setting, metric: str) -> Matrix | None:
        """Of the images of one setting, as tests take them. Beside published methods, one that
        lacks a tenth of the rows at most, or has a place, has the worst published value where it
        has none; other rows don't count.
        """
        table, value = (
            matrix(self.records, self.layouts.get(setting), metric),
            self.metadata.value(metric),
        )
        if table is None or not self.metadata.published or not value.has_direction:
            return table
        own = np.where(self._of_published(table)[:, None], table.values, np.nan)
        of_published = own[:, np.isin(table.methods, list(self.metadata.published))]
        worst = (np.fmax if value.better == "lower" else np.fmin).reduce(
            of_published, axis=1, initial=np.nan
        )
        answers = np.isin(table.methods, list(self.placed(metric)))
        answers[compared_columns(np.isfinite(own))[0]] = True
        return replace(table, values=np.where(np.isnan(own) & answers, worst[:, None], own))
