"""All methods of one metric in one setting against each other: pairs, groups that coincide, places, the best.

API: `RunFolder.comparison(setting, metric)` -> Comparison, or None where fewer than one method has a value.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from axiom_bench.columns import LAYER, OK, WHOLE_SET
from axiom_bench.records.common import compared
from axiom_bench.report.statistics import differences as paired
from axiom_bench.report.statistics.bootstrap import Floats
from axiom_bench.report.statistics.coinciding import coinciding
from axiom_bench.report.statistics.differences import LEVEL
from axiom_bench.report.statistics.holm import holm

PAIR_COLUMNS = ("first", "second", *paired.COLUMNS, "adjusted", "detectable")
PLACE_COLUMNS = ("group", "value", "low", "high", "is_best")


@dataclass(frozen=True)
class Comparison:
    """One metric in one setting, over the rows that all compared methods have (see `statistics.common`).

    groups: the compared methods; those that coincide (see `coinciding`) are one group, whose first stands for all.
    pairs: PAIR_COLUMNS, a row for each pair of groups; see `differences.statistics`. adjusted: p after Holm, over all
    pairs of this metric in this setting. detectable: see `differences.detectable`. Empty without a direction.
    places: PLACE_COLUMNS by method. value: the leading statistic. low, high: the places, from 1 for the best group, that
    can't be excluded: 1 + how many groups are better, number of groups - how many are worse, at 5 % after Holm; they
    hold for all groups at once. is_best: the best value, and all that can't be told to be worse than that.
    left_out: methods that have values, but too few to be compared. by_construction: methods that win by construction,
    which are in no pair and have no place. are_binary: all values are 0 or 1.
    """

    groups: tuple[tuple[str, ...], ...]
    pairs: pd.DataFrame
    places: pd.DataFrame
    images: int
    rows: int
    left_out: tuple[str, ...]
    by_construction: tuple[str, ...]
    are_binary: bool

    def group_of(self, method: str) -> tuple[str, ...]:
        """All methods that coincide with a compared method, itself among them."""
        return next(group for group in self.groups if method in group)

    def ranked(self, better: str) -> list[tuple[str, ...]]:
        """The groups from the best to the worst value."""
        return sorted(self.groups, key=lambda group: self.places.loc[group[0], "value"], reverse=better == "higher")

    def pair(self, first: str, second: str) -> pd.Series:
        """The row of two groups, by their first methods, in either order."""
        pairs = self.pairs
        is_pair = pairs["first"].isin([first, second]) & pairs["second"].isin([first, second])
        return pairs[is_pair].iloc[0]


def compare_methods(
    rows: pd.DataFrame, better: str, lead: str, by_construction: Collection[str] = ()
) -> Comparison | None:
    """From one metric's records in one setting. better: "lower", "higher" or "none". lead: "mean" or "median".
    by_construction: methods that win by construction. None where no other method has a value.
    """
    constructed = tuple(name for name in map(str, rows["method"].unique()) if name in by_construction)
    rows = rows[~rows["method"].isin(by_construction)]
    rows = rows[(rows["status"] == OK) & (rows["image_id"] != WHOLE_SET) & (rows["method"] != LAYER)]
    if rows.empty:
        return None
    table = rows.pivot_table("value", ["image_id", "target_class"], "method", observed=True, sort=False)
    table = table.reindex(columns=sorted(table.columns, key=list(rows["method"].cat.categories).index))
    methods, common = compared({name: frozenset(np.flatnonzero(table[name].notna())) for name in table})
    left_out = tuple(name for name in map(str, table) if name not in methods)
    table = table.iloc[sorted(common)][list(methods)]
    values, images = table.to_numpy(), pd.factorize(table.index.get_level_values("image_id"))[0]
    groups = coinciding(values, methods)
    firsts = [methods.index(group[0]) for group in groups]
    are_binary = bool(np.isin(values, (0, 1)).all())
    leads = getattr(np, lead)(values, axis=0) if len(values) else np.full(len(methods), np.nan)
    pairs = pd.DataFrame(columns=list(PAIR_COLUMNS))
    if better != "none" and len(groups) > 1:
        pairs = _pairs(values, images, [(a, b) for a, b in combinations(firsts, 2)], methods, better, lead, are_binary)
    places = _places(groups, dict(zip(methods, leads.tolist(), strict=True)), pairs, better)
    return Comparison(groups, pairs, places, len(set(images)), len(values), left_out, constructed, are_binary)


def compare_whole_sets(stored: pd.DataFrame, better: str, by_construction: Collection[str] = ()) -> Comparison | None:
    """From one metric's values of the whole data set in one setting (`reading.WHOLE_SET_COLUMNS`), on the images that all
    compared methods have.

    The error of a difference is the deviation of the differences over the run's resamples, which are the same for
    all methods; p, the interval and `detectable` take it as normal. There are no values by image to count or rank.
    """
    constructed = tuple(name for name in map(str, stored["method"]) if name in by_construction)
    stored = stored[~stored["method"].isin(by_construction)]
    rows = stored[stored["common_images"] > 0]
    if rows.empty:
        return None
    methods = tuple(map(str, rows["method"]))
    left_out = tuple(name for name in map(str, stored.loc[stored["images"] > 0, "method"]) if name not in methods)
    values = dict(zip(methods, rows["common_value"].tolist(), strict=True))
    replicates = [np.asarray(points, dtype=float) for points in rows["common_replicates"]]
    sampled = np.stack(
        [points if len(points) == len(replicates[0]) else np.full_like(replicates[0], np.nan) for points in replicates],
        axis=1,
    )
    groups = coinciding(np.concatenate([rows[["common_value"]].to_numpy().T, sampled]), methods)
    firsts = [group[0] for group in groups]
    pairs = pd.DataFrame(columns=list(PAIR_COLUMNS))
    if better != "none" and len(groups) > 1:
        pairs = _whole_set_pairs(
            values, dict(zip(methods, sampled.T, strict=True)), list(combinations(firsts, 2)), better
        )
        pairs["n"] = int(rows["common_images"].iloc[0])
    places = _places(groups, values, pairs, better)
    return Comparison(
        groups,
        pairs,
        places,
        int(rows["common_images"].iloc[0]),
        int(rows["common_rows"].iloc[0]),
        left_out,
        constructed,
        False,
    )


def _whole_set_pairs(values, replicates, names, better):
    from scipy.special import ndtr, ndtri

    rows = []
    for first, second in names:
        difference = values[first] - values[second]
        error = float(np.std(replicates[first] - replicates[second], ddof=1))
        p = float(2 * ndtr(-abs(difference) / error)) if error > 0 else (1.0 if difference == 0 else np.nan)
        smallest = float(ndtri(1 - LEVEL / (2 * len(names))) + ndtri(paired.POWER)) * error
        effect = np.sign(difference) * (1 if better == "higher" else -1)
        rows.append(
            {
                "first": first,
                "second": second,
                "difference": difference,
                "low": difference - 1.96 * error,
                "high": difference + 1.96 * error,
                "effect": effect,
                "p": p,
                "detectable": smallest,
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(adjusted=holm(table["p"])).reindex(columns=list(PAIR_COLUMNS))


def _pairs(
    values: Floats, images: np.ndarray, places: Sequence[tuple[int, int]], methods: Sequence[str], better: str, lead: str,
    are_binary: bool,
) -> pd.DataFrame:  # fmt: skip
    first, second = (list(side) for side in zip(*places, strict=True))
    differences = paired.by_image(values[:, first], values[:, second], images)
    table = paired.statistics(differences, better, lead, are_binary)
    table.insert(0, "second", [methods[place] for place in second])
    table.insert(0, "first", [methods[place] for place in first])
    return table.assign(adjusted=holm(table["p"]), detectable=paired.detectable(differences, lead, len(table)))


def _places(
    groups: Sequence[tuple[str, ...]], values: dict[str, float], pairs: pd.DataFrame, better: str
) -> pd.DataFrame:
    count, sign = len(groups), -1 if better == "higher" else 1
    significant = pairs[pairs["adjusted"] < LEVEL]
    is_ahead = significant["effect"] > 0
    winners = significant["first"].where(is_ahead, significant["second"])
    losers = significant["second"].where(is_ahead, significant["first"])
    beats = set(zip(winners, losers, strict=True))
    best = min((group[0] for group in groups), key=lambda name: sign * values[name], default=None)
    rows = {}
    for number, group in enumerate(groups):
        name = group[0]
        low, high = 1 + int((losers == name).sum()), count - int((winners == name).sum())
        is_best = better != "none" and (best, name) not in beats
        rows |= {method: (number, values[method], low, high, is_best) for method in group}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(PLACE_COLUMNS))
