"""From records to statistics with their standard errors and intervals, one row for each group. Also
on the images that all compared methods have, which decide which method is best: statistics over
different images rank no method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.columns import LAYER
from axiom_bench.records.by_metric import (
    NAMES,
    Records,
    RowLayout,
    compared_columns,
    image_numbers,
    matrix,
)
from axiom_bench.statistics.bootstrap import (
    NORMAL,
    Floats,
    Integers,
    ends_of_means,
    median_intervals,
    summed,
)
from axiom_bench.statistics.labels import Metadata, share

KEYS = ("model", "layer", "data", "method", "metric", "whole_set")
SPLIT_KEYS = (*KEYS, "split")
COUNTS = ("images", "n", "rows", "statuses")
STATISTICS = ("images", "n", "rows", "mean", "median", "standard_error", "statuses")
SPLITS = ("correct", "wrong", "unknown")
ENDS = ("mean_low", "mean_high", "median_low", "median_high")  # of intervals
ONE_SIDED = 1.644854  # quantile of the standard normal distribution for 95 %
LEAST_IMAGES = 5  # below these an accuracy is told, and decides nothing
MOST_PLACES = 8  # of each key, for which a list of all possible ones is worth its memory


def summarise(
    records: Records | pd.DataFrame,
    by: Sequence[str] = KEYS,
    image_value_of: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One row for each group of `by`, KEYS or SPLIT_KEYS, sorted, with the columns STATISTICS. With
    SPLIT_KEYS of single images alone, `split` as `classified` tells: values of a whole data set
    have none.

    n: rows with status "ok", which the statistics are over; images: how many images these are of;
    rows: all rows. statuses reads "ok:120 zero_map:3". whole_set tells values of the whole data set
    (image_id "*") from values of images. Their images, n, rows and statuses are those of the value
    of images that they were computed from: the one that image_value_of names, see
    `RunFolder.image_value_of`, else the one of the same name.

    standard_error: of the mean over rows, by image, since the rows of an image (its objects) belong
    together. With n_i rows of sum T_i in image i of m images, and n = sum n_i, the mean is the
    ratio sum T_i / n, whose variance is

        m / (m - 1) * sum_i (T_i - mean * n_i)^2 / n^2,

    the linearised variance of a ratio for clusters of unequal size (Cochran, Sampling Techniques,
    3rd ed. 1977, chapter 9A; the cluster-robust error of Liang and Zeger, Biometrika 1986, of a
    regression on a constant). With one row an image it is the sample standard deviation over
    sqrt(n). NaN for m < 2 and for values of the whole data set, whose errors the run's bootstrap
    gives: see `with_stored_values`.
    """
    records, by = records if isinstance(records, Records) else Records.of(records), list(by)
    groups = _groups(records, by)
    parts = [
        part for metric in records.metrics if len(part := _of_metric(records, metric, *groups))
    ]
    if not parts:
        return pd.DataFrame(columns=[*by, *STATISTICS])
    table = pd.concat(parts, ignore_index=True)
    table["method"] = pd.Categorical(table["method"], records.methods, ordered=True)
    table["metric"] = pd.Categorical(table["metric"], records.metrics, ordered=True)
    table = _with_counts_of_images(
        table.sort_values(by, ignore_index=True), by, image_value_of or {}
    )
    names = [name for name in by if name != "whole_set"]
    return table.astype(dict.fromkeys(names, object))[[*by, *STATISTICS]]


def bootstrap_error(replicates: Sequence[float] | np.ndarray | None) -> float:
    """The standard deviation over the finite replicates; NaN for fewer than two."""
    values = np.asarray([] if replicates is None else replicates, dtype=np.float64)
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def leading(summary: pd.DataFrame) -> pd.DataFrame:
    """Of each metric the rows that a report leads with: the value of the whole data set where there
    is one, else the statistics over images.
    """
    keys = [name for name in KEYS if name != "whole_set"]
    has_whole_set = summary.groupby(keys, observed=True)["whole_set"].transform("any").astype(bool)
    return summary[summary["whole_set"].astype(bool) | ~has_whole_set]


def counts_of(statuses: str) -> dict[str, int]:
    """The counts in a `statuses` text: "ok:120 zero_map:3" -> {"ok": 120, "zero_map": 3}."""
    pairs = (pair.rpartition(":") for pair in statuses.split())
    return {name: int(count) for name, _, count in pairs}


def classified(records: pd.DataFrame) -> pd.Series:
    """For each row: is the explained class the predicted one? "correct", "wrong", or "unknown" (a
    class is -1).
    """
    target, predicted = records["target_class"], records["predicted_class"]
    is_known = (target >= 0) & (predicted >= 0)
    names = np.select([is_known & (target == predicted), is_known], ["correct", "wrong"], "unknown")
    return pd.Series(pd.Categorical(names, SPLITS, ordered=True), index=records.index)


@dataclass(frozen=True)
class Accuracy:
    """How many labelled images a network names as they are labelled. chance: the share of images of
    which a random answer names a label; 0 where the number of classes isn't known. published: what
    is known of the network's weights on ImageNet's validation images; 0 if unknown.
    """

    correct: int
    images: int
    chance: float
    published: float = 0.0

    @property
    def is_chance(self) -> bool:
        """Whether that isn't above chance, by Wilson's one-sided 95 % limit. Of few images that
        can't be told.
        """
        low, high = wilson(self.correct, self.images, ONE_SIDED)
        is_few = self.images < LEAST_IMAGES or (
            self.correct > self.chance * self.images and high > 0.5
        )
        return low <= self.chance and not is_few

    @property
    def is_below_published(self) -> bool:
        """By Wilson's one-sided 95 % limit."""
        return wilson(self.correct, self.images, ONE_SIDED)[1] < self.published

    def __str__(self) -> str:
        return f"{self.correct:,} of {self.images:,} ({share(self.correct, self.images)})"


def accuracy(
    rows: pd.DataFrame, left_out: int, classes: int, published: float = 0.0
) -> Accuracy | None:
    """Of one network on one data set; None where no label is known. rows: one for each image and
    class that is explained. left_out: images that `only_correct` left out, which count as wrong.
    """
    known = rows[classified(rows) != "unknown"]
    right = (
        (known["target_class"] == known["predicted_class"])
        .groupby(known["image_id"], observed=True)
        .any()
    )
    chance = len(known) / len(right) / classes if classes and len(right) else 0.0
    return (
        Accuracy(int(right.sum()), len(right) + left_out, chance, published) if len(right) else None
    )


def wilson(correct: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share, Journal of the American Statistical Association 22, 1927.
    n may be an effective number of answers, not whole.
    """
    part, square = correct / n, z * z / n
    middle = (part + square / 2) / (1 + square)
    half = z * math.sqrt(part * (1 - part) / n + square / (4 * n)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _groups(records: Records, by: Sequence[str]) -> tuple[Integers, pd.DataFrame]:
    """(keys,) the number of each key's group, -1 for none; what each group is of, but for method
    and metric.
    """
    keys = records.keys.assign(whole_set=records.of_whole_set)
    if "split" in by:
        keys = keys.assign(split=classified(keys))[~records.of_whole_set]
    grouped = keys.groupby([name for name in by if name not in ("method", "metric")], observed=True)
    of_key = np.full(len(records.keys), -1, dtype=np.int64)
    of_key[keys.index] = grouped.ngroup()
    return of_key, grouped.size().index.to_frame(index=False)


def _of_metric(
    records: Records, metric: str, of_key: Integers, places: pd.DataFrame
) -> pd.DataFrame:
    """STATISTICS of one metric, a row for each group and method. of_key, places: see `_groups`."""
    block, count = records.blocks[metric], len(records.methods)
    group, image = of_key[block.keys], image_numbers(records.keys["image_id"])[block.keys]
    code, is_ok = group * count + block.methods, block.statuses == records.ok
    counts = np.bincount(
        (code * len(records.statuses) + block.statuses)[group >= 0],
        minlength=len(places) * count * len(records.statuses),
    ).reshape(-1, len(records.statuses))
    codes = np.flatnonzero(counts.sum(axis=1))
    values = np.where(is_ok, block.values, np.nan)[group >= 0]
    table = aggregated(
        values, code[group >= 0], n="count", rows="size", mean="mean", median="median"
    )
    single = is_ok & (group >= 0) & ~records.of_whole_set[block.keys]
    table = table.join(_errors_by_image(block.values[single], code[single], image[single]))
    table["images"] = table["images"].fillna(0).astype(int)
    table["statuses"] = [
        " ".join(
            f"{name}:{count}"
            for name, count in zip(records.statuses, row_counts, strict=True)
            if count
        )
        for row_counts in counts[codes].tolist()
    ]
    place = places.iloc[codes // count].set_axis(table.index)
    methods = [records.methods[code] for code in codes % count]
    return pd.concat([place, table], axis=1).assign(method=methods, metric=metric)


def _errors_by_image(values: Floats, groups: Integers, images: Integers) -> pd.DataFrame:
    """images (m) and standard_error of each group of single images' values; see `summarise`."""
    num_images = int(images.max(initial=0)) + 1
    key = groups * num_images + images
    order = _order_of_unique(key)
    if order is None:
        table = aggregated(values, key, total="sum", count="count")
        key, total, count = (
            table.index.to_numpy(),
            table["total"].to_numpy(),
            table["count"].to_numpy(),
        )
    else:  # a row an image, as nearly always: nothing to add up
        key, total, count = key[order], values[order], np.ones(len(order), dtype=np.int64)
    group = key // num_images
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    m, of_group = (
        np.diff(starts, append=len(group)),
        np.cumsum(np.diff(group, prepend=group[:1]) > 0),
    )
    n = np.add.reduceat(count, starts) if len(starts) else m
    mean = pd.Series(total).groupby(group).sum().to_numpy() / n
    squared = pd.Series((total - mean[of_group] * count) ** 2).groupby(group).sum().to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(m > 1, np.sqrt(m / (m - 1) * squared) / n, np.nan)
    return pd.DataFrame({"images": m, "standard_error": error}, index=group[starts])


def _order_of_unique(keys: Integers) -> Integers | None:
    """The order of the keys, from 0 up; None where one is there twice."""
    if keys.max(initial=0) > MOST_PLACES * len(keys):
        order = np.argsort(keys, kind="stable")
        return order if (np.diff(keys[order]) > 0).all() else None
    place = np.full(int(keys.max(initial=-1)) + 1, -1)
    place[keys] = np.arange(len(keys))  # of each key: quicker than sorting
    order = place[place >= 0]
    return order if len(order) == len(keys) else None


def aggregated(values: Floats, groups: Integers, **columns: Any) -> pd.DataFrame:
    """pandas' aggregates of (n,) values by group, in order. Where groups come sorted, pandas adds
    them up by another algorithm, of another last bit; a row of a group behind all others comes
    first so that it never does.
    """
    last = int(groups.max(initial=0)) + 1
    table = pd.Series(np.append(0.0, values)).groupby(np.append(last, groups)).agg(**columns)
    return table[table.index < last]


def _with_counts_of_images(
    table: pd.DataFrame, by: list[str], image_value_of: Mapping[str, str]
) -> pd.DataFrame:
    """The table with the images' counts in the rows of the whole data set."""
    if "whole_set" not in by or not table["whole_set"].any():
        return table
    keys = [name for name in by if name != "whole_set"]
    of_images = table.loc[~table["whole_set"], [*keys, *COUNTS]]
    sources = table[keys].assign(
        metric=table["metric"].astype(object).replace(dict(image_value_of))
    )
    of_images["metric"] = of_images["metric"].astype(object)
    counts = sources.merge(of_images, on=keys, how="left").set_index(table.index)
    has_images = counts["n"].notna() & table["whole_set"]
    for name in COUNTS:
        table[name] = counts[name].where(has_images, table[name]).astype(table[name].dtype)
    return table


def with_intervals(
    summary: pd.DataFrame,
    records: Records,
    layouts: Mapping[tuple[str, ...], RowLayout],
    metadata: Metadata,
) -> pd.DataFrame:
    """The summary with ENDS: 95 % intervals by a bootstrap over images, see `bootstrap`. NaN for
    too few images. A value of the whole data set has, as its mean and as its median, 1.96 of its
    standard errors, see `with_stored_values`, on either side. layouts: of the settings, see
    `by_metric.layouts`. metadata: of the metrics, whose kind decides the kind of the interval.
    """
    if summary.empty:
        return summary.assign(**dict.fromkeys(ENDS, np.nan))
    of_images = pd.DataFrame(columns=[*NAMES, *ENDS])
    if layouts:
        parts = [_of_setting(records, layout, place, metadata) for place, layout in layouts.items()]
        of_images = pd.concat(parts, ignore_index=True)
    of_images = of_images.astype(dict.fromkeys(NAMES, object) | dict.fromkeys(ENDS, float))
    table = summary.merge(of_images, on=NAMES, how="left", validate="many_to_one").set_axis(
        summary.index
    )
    of_set, reach = table["whole_set"].astype(bool), NORMAL * table["standard_error"]
    for end in ENDS:
        table[end] = table[end].mask(
            of_set, table["mean"] + (reach if end.endswith("high") else -reach)
        )
    return table


def _of_setting(
    records: Records, layout: RowLayout, place: tuple[str, ...], metadata: Metadata
) -> pd.DataFrame:
    """NAMES and ENDS of one setting. One metric's values are in memory at a time."""
    sums, medians, names = [], [], []
    for metric in records.metrics:
        values = matrix(records, layout, metric)
        if values is not None:
            sums.append(summed(values.values, values.images, metadata.value(metric).is_proportion))
            medians.append(median_intervals(values.values, values.images))
            names += [(*place, method, metric) for method in values.methods]
    ends = np.concatenate([ends_of_means(sums), np.concatenate(medians, axis=1)])
    return pd.DataFrame(names, columns=NAMES).assign(**dict(zip(ENDS, ends, strict=True)))


COLUMNS = ("compared", "partial", "common_images", "common_n", "common_mean", "common_median")


def with_common_values(
    summary: pd.DataFrame,
    records: Records,
    layouts: Mapping[tuple[str, ...], RowLayout],
    by: Sequence[str] = KEYS,
) -> pd.DataFrame:
    """The summary of these records by `by`, with COLUMNS for values of images; a whole data set's
    value keeps its own.

    compared: whether the method is compared, see `by_metric.compared_columns`. partial: whether it
    lacks rows (an image and a class) that another method has. common_mean, common_median: over the
    common_n rows of common_images images that all compared methods of the metric have; NaN for a
    method that isn't compared.
    """
    table = summary.assign(compared=summary["n"] > 0, partial=False)
    table = table.assign(
        **{f"common_{name}": summary[name] for name in ("images", "n", "mean", "median")}
    )
    places = [name for name in by if name not in ("method", "whole_set")]
    of_images = table[
        (table["n"] > 0) & (table["method"] != LAYER) & ~table["whole_set"].astype(bool)
    ]
    differing = {
        place: rows.reset_index().set_index("method")["index"]
        for place, rows in of_images.groupby(places)
        if rows["n"].nunique() > 1 or (rows["n"] < rows["rows"]).any()
    }
    for place, of_method in differing.items():
        named = dict(zip(places, place, strict=True))
        metric = str(named.pop("metric"))
        common = _common(records, layouts[tuple(map(str, named.values()))], metric)
        table.loc[of_method.reindex(common.index), list(COLUMNS)] = common[list(COLUMNS)].to_numpy(
            object
        )
    return table.astype({"compared": bool, "partial": bool, "common_images": int, "common_n": int, "common_mean": float,
                         "common_median": float})  # fmt: skip


def with_stored_values(summary: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    """The summary with what the run has stored of values of whole data sets: COLUMNS, and as
    `images` and `n` the images and rows that each was computed from. Its standard error is the
    standard deviation over the run's resamples of the images (Efron and Tibshirani, An Introduction
    to the Bootstrap, 1993, algorithm 6.1).

    whole_set: `reading.WHOLE_SET_COLUMNS`. An error is NaN where a value has fewer than two
    replicates.
    """
    if whole_set.empty or summary.empty:
        return summary
    stored = whole_set.drop_duplicates(NAMES).astype(dict.fromkeys(NAMES, object))
    stored = stored.assign(
        n=stored["rows"],
        common_n=stored["common_rows"],
        compared=stored["common_images"] > 0,
        common_mean=stored["common_value"],
        common_median=stored["common_value"],
        standard_error=[bootstrap_error(values) for values in stored["replicates"]],
    )
    places = [stored[name] for name in NAMES if name != "method"]
    lacking = (
        (stored["n"] - stored["common_n"])
        .where(stored["compared"])
        .groupby(places)
        .transform("min")
    )
    # Where each of the compared methods has rows that aren't common, each lacks rows that another
    # one has.
    stored["partial"] = (stored["n"] < stored["n"].groupby(places).transform("max")) | (lacking > 0)
    columns = ["images", "n", *COLUMNS]
    stored = stored[[*NAMES, *columns, "standard_error"]]
    aligned = summary[NAMES].merge(stored, on=NAMES, how="left").set_index(summary.index)
    of_set = summary["whole_set"].astype(bool)
    errors = summary["standard_error"].mask(
        of_set & summary["mean"].notna(), aligned["standard_error"]
    )
    counted = {
        name: summary[name]
        .mask(of_set & (aligned["images"] > 0), aligned[name])
        .astype(summary[name].dtype)
        for name in columns
    }
    return summary.assign(standard_error=errors, **counted)


def _common(records: Records, layout: RowLayout, metric: str) -> pd.DataFrame:
    """COLUMNS by method, of one metric in one setting."""
    values = matrix(records, layout, metric)
    assert values is not None  # it has a value in the summary
    of_methods = [place for place, name in enumerate(values.methods) if name != LAYER]
    has, methods = (
        np.isfinite(values.values[:, of_methods]),
        [values.methods[place] for place in of_methods],
    )
    columns, common = compared_columns(has)
    block = records.blocks[metric]
    row = layout.row_of_key[block.keys]
    is_compared = np.isin(np.arange(len(methods)), columns)
    names = [methods[place] for place in columns]
    chosen = (
        (block.statuses == records.ok)
        & (row >= 0)
        & common[row]
        & np.isin(records.methods, names)[block.methods]
    )
    values, codes = block.values[chosen], block.methods[chosen].astype(np.int64)
    table = aggregated(values, codes, common_mean="mean", common_median="median")
    table = table.set_axis([records.methods[code] for code in table.index]).reindex(methods)
    return table.assign(
        compared=is_compared,
        partial=has.sum(axis=0) < has.any(axis=1).sum(),
        common_images=is_compared * len(np.unique(layout.images[common])),
        common_n=is_compared * common.sum(),
    )
