"""Compute statistics of records with their standard errors and intervals, one row per group.

The statistics are also computed on the images that all compared methods have. These decide which
method is best, because statistics over different images can't rank methods.

A group is a setting (one model, cut at one layer, on one data set) with a method and a metric. A
value of the whole data set is one number that a metric computes from all images together.
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
    LEVEL,
    Floats,
    Integers,
    ends_of_means,
    median_intervals,
    normal_reach,
    sums_of,
)
from axiom_bench.statistics.labels import Metadata, share

KEYS = ("model", "layer", "data", "method", "metric", "whole_set")
SPLIT_KEYS = (*KEYS, "split")
COUNTS = ("images", "n", "rows", "statuses")
STATISTICS = ("images", "n", "rows", "mean", "median", "standard_error", "statuses")
SPLITS = ("correct", "wrong", "unknown")
ENDS = ("mean_low", "mean_high", "median_low", "median_high")  # the ends of intervals
ONE_SIDED = 1.644854  # quantile of the standard normal distribution for 95 %
LEAST_IMAGES = 5  # an accuracy on fewer images is shown, but decides nothing
# A list of all possible keys is worth its memory up to this many possible keys per key.
MOST_PLACES = 8


def summarise(
    records: Records | pd.DataFrame,
    by: Sequence[str] = KEYS,
    image_value_of: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return one row per group of `by`, sorted, with the columns STATISTICS.

    `by` is KEYS or SPLIT_KEYS. With SPLIT_KEYS, only single images count, because values of a whole
    data set have no `split`: see `classified`.

    The columns are:

    - n: the number of rows with status "ok", which the statistics are over.
    - images: the number of images of these rows.
    - rows: the number of all rows.
    - statuses: a text such as "ok:120 zero_map:3".
    - whole_set: True for values of the whole data set (image_id "*"). Their images, n, rows and
      statuses are those of the value of images that they were computed from. `image_value_of` names
      it, see `RunFolder.image_value_of`; otherwise it is the one of the same name.
    - standard_error: the error of the mean over rows, by image, because the rows of an image (its
      objects) belong together.

    With n_i rows of sum T_i in image i of m images, and n = sum n_i, the mean is the ratio sum T_i
    / n, whose variance is

        m / (m - 1) * sum_i (T_i - mean * n_i)^2 / n^2.

    This is the linearised variance of a ratio for clusters of unequal size (Cochran, Sampling
    Techniques, 3rd ed. 1977, chapter 9A). It is also the cluster-robust error of a regression on a
    constant (Liang and Zeger, Biometrika 1986). If each image has one row, it is the sample
    standard deviation over sqrt(n).

    The error is NaN for m < 2, and for values of the whole data set, whose errors the run's
    bootstrap gives: see `with_stored_values`.
    """
    if not isinstance(records, Records):
        records = Records.of(records)
    by = list(by)
    group_of_key, groups = _groups(records, by)
    # one metric at a time, so that a large run's values are never all in one table
    parts = []
    for metric in records.metrics:
        part = _metric_statistics(records, metric, group_of_key, groups)
        if len(part):
            parts.append(part)
    if not parts:
        return pd.DataFrame(columns=[*by, *STATISTICS])
    table = pd.concat(parts, ignore_index=True)
    table["method"] = pd.Categorical(table["method"], records.methods, ordered=True)
    table["metric"] = pd.Categorical(table["metric"], records.metrics, ordered=True)
    table = table.sort_values(by, ignore_index=True)
    table = _with_counts_of_images(table, by, image_value_of or {})
    names = [name for name in by if name != "whole_set"]
    return table.astype(dict.fromkeys(names, object))[[*by, *STATISTICS]]


def bootstrap_error(replicates: Sequence[float] | np.ndarray | None) -> float:
    """Return the standard deviation over the finite replicates, the error of a value of the whole
    data set; NaN for fewer than two.
    """
    values = np.asarray([] if replicates is None else replicates, dtype=np.float64)
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def leading_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each metric that a report leads with: the value of the whole data set if
    there is one, otherwise the statistics over images.
    """
    keys = [name for name in KEYS if name != "whole_set"]
    has_whole_set = summary.groupby(keys, observed=True)["whole_set"].transform("any").astype(bool)
    return summary[summary["whole_set"].astype(bool) | ~has_whole_set]


def counts_of(statuses: str) -> dict[str, int]:
    """Return the counts in a `statuses` text: "ok:120 zero_map:3" -> {"ok": 120, "zero_map": 3}."""
    pairs = (pair.rpartition(":") for pair in statuses.split())
    return {name: int(count) for name, _, count in pairs}


def classified(records: pd.DataFrame) -> pd.Series:
    """Return for each row whether the explained class is the predicted one: "correct", "wrong", or
    "unknown" if a class is -1.
    """
    target = records["target_class"]
    predicted = records["predicted_class"]
    is_known = (target >= 0) & (predicted >= 0)
    names = np.select([is_known & (target == predicted), is_known], ["correct", "wrong"], "unknown")
    return pd.Series(pd.Categorical(names, SPLITS, ordered=True), index=records.index)


@dataclass(frozen=True)
class Accuracy:
    """The number of labelled images that a network names as they are labelled."""

    correct: int
    images: int
    """The number of labelled images."""
    chance: float
    """The share of images of which a random answer names a label; 0 if the number of classes is
    unknown.
    """
    published: float = 0.0
    """The published accuracy of the network's weights on ImageNet's validation images; 0 if
    unknown.
    """

    @property
    def is_chance(self) -> bool:
        """True if the accuracy isn't above chance, by Wilson's one-sided 95 % limit. A few images
        aren't enough to decide this.
        """
        low, high = wilson(self.correct, self.images, ONE_SIDED)
        is_above_chance = self.correct > self.chance * self.images
        is_few = self.images < LEAST_IMAGES or (is_above_chance and high > 0.5)
        return low <= self.chance and not is_few

    @property
    def is_below_published(self) -> bool:
        """True if the accuracy is below the published one, by Wilson's one-sided 95 % limit."""
        return wilson(self.correct, self.images, ONE_SIDED)[1] < self.published

    def __str__(self) -> str:
        return f"{self.correct:,} of {self.images:,} ({share(self.correct, self.images)})"


def accuracy(
    rows: pd.DataFrame, left_out: int, classes: int, published: float = 0.0
) -> Accuracy | None:
    """Return the accuracy of one network on one data set; None if no label is known.

    `rows` has a row per image and explained class. `left_out` is the number of images that
    `only_correct` left out, which count as wrong. `classes` is the number of classes, or 0 if it is
    unknown.
    """
    known = rows[classified(rows) != "unknown"]
    is_right = known["target_class"] == known["predicted_class"]
    right_images = is_right.groupby(known["image_id"], observed=True).any()
    if not len(right_images):
        return None
    return Accuracy(
        correct=int(right_images.sum()),
        images=len(right_images) + left_out,
        chance=len(known) / len(right_images) / classes if classes else 0.0,
        published=published,
    )


def wilson(correct: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share, Journal of the American Statistical Association
    22, 1927.

    `n` may be an effective number of answers, which needn't be whole.
    """
    part = correct / n
    square = z * z / n
    middle = (part + square / 2) / (1 + square)
    half = z * math.sqrt(part * (1 - part) / n + square / (4 * n)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _groups(records: Records, by: Sequence[str]) -> tuple[Integers, pd.DataFrame]:
    """Return ((keys,) the number of each key's group or -1, the columns of `by` of each group
    except method and metric).
    """
    keys = records.keys.assign(whole_set=records.is_whole_set)
    if "split" in by:
        keys = keys.assign(split=classified(keys))[~records.is_whole_set]
    grouped = keys.groupby([name for name in by if name not in ("method", "metric")], observed=True)
    group_of_key = np.full(len(records.keys), -1, dtype=np.int64)
    group_of_key[keys.index] = grouped.ngroup()
    return group_of_key, grouped.size().index.to_frame(index=False)


def _metric_statistics(
    records: Records, metric: str, group_of_key: Integers, groups: pd.DataFrame
) -> pd.DataFrame:
    """Return STATISTICS of one metric, a row per group and method; for the groups see `_groups`.

    Groups, methods and statuses are codes, so that one `bincount` counts every status of each.
    """
    block = records.blocks[metric]
    num_methods = len(records.methods)
    num_statuses = len(records.statuses)
    group = group_of_key[block.keys]
    image = image_numbers(records.keys["image_id"])[block.keys]
    code = group * num_methods + block.methods  # of the group and method
    is_ok = block.statuses == records.ok
    in_group = group >= 0
    status_code = code * num_statuses + block.statuses
    num_codes = len(groups) * num_methods * num_statuses
    counts = np.bincount(status_code[in_group], minlength=num_codes).reshape(-1, num_statuses)
    codes = np.flatnonzero(counts.sum(axis=1))
    values = np.where(is_ok, block.values, np.nan)[in_group]
    table = aggregated(values, code[in_group], n="count", rows="size", mean="mean", median="median")
    is_single = is_ok & in_group & ~records.is_whole_set[block.keys]
    errors = _errors_by_image(block.values[is_single], code[is_single], image[is_single])
    table = table.join(errors)
    table["images"] = table["images"].fillna(0).astype(int)
    statuses = []
    for row_counts in counts[codes].tolist():
        pairs = zip(records.statuses, row_counts, strict=True)
        statuses.append(" ".join(f"{name}:{count}" for name, count in pairs if count))
    table["statuses"] = statuses
    group_columns = groups.iloc[codes // num_methods].set_axis(table.index)
    methods = [records.methods[method] for method in codes % num_methods]
    return pd.concat([group_columns, table], axis=1).assign(method=methods, metric=metric)


def _errors_by_image(values: Floats, groups: Integers, images: Integers) -> pd.DataFrame:
    """Return images (m) and standard_error of each group of single images' values, by the equation
    in `summarise`.
    """
    num_images = int(images.max(initial=0)) + 1
    key = groups * num_images + images
    order = _order_of_unique(key)
    if order is None:
        table = aggregated(values, key, total="sum", count="count")
        key = table.index.to_numpy()
        total = table["total"].to_numpy()
        count = table["count"].to_numpy()
    else:  # nearly always each image has one row, and there is nothing to add up
        key = key[order]
        total = values[order]
        count = np.ones(len(order), dtype=np.int64)
    group = key // num_images
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    m = np.diff(starts, append=len(group))
    is_start = np.diff(group, prepend=group[:1]) > 0
    group_number = np.cumsum(is_start)
    n = np.add.reduceat(count, starts) if len(starts) else m
    mean = pd.Series(total).groupby(group).sum().to_numpy() / n
    deviations = total - mean[group_number] * count
    squared = pd.Series(deviations**2).groupby(group).sum().to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(m > 1, np.sqrt(m / (m - 1) * squared) / n, np.nan)
    return pd.DataFrame({"images": m, "standard_error": error}, index=group[starts])


def _order_of_unique(keys: Integers) -> Integers | None:
    """Return the order of keys, none of which is negative; None if a key appears twice."""
    if keys.max(initial=0) > MOST_PLACES * len(keys):
        order = np.argsort(keys, kind="stable")
        return order if (np.diff(keys[order]) > 0).all() else None
    row_of_key = np.full(int(keys.max(initial=-1)) + 1, -1)
    row_of_key[keys] = np.arange(len(keys))  # quicker than sorting
    order = row_of_key[row_of_key >= 0]
    return order if len(order) == len(keys) else None


def aggregated(values: Floats, groups: Integers, **columns: Any) -> pd.DataFrame:
    """Return pandas' aggregates of (n,) values by group, in order. `columns` are {name: the
    aggregate, such as "mean"}.
    """
    # If groups come sorted, pandas adds them up by another algorithm, with another last bit. So the
    # first row is always of a group that comes after all others.
    last = int(groups.max(initial=0)) + 1
    table = pd.Series(np.append(0.0, values)).groupby(np.append(last, groups)).agg(**columns)
    kept: pd.DataFrame = table[table.index < last]
    return kept


def _with_counts_of_images(
    table: pd.DataFrame, by: list[str], image_value_of: Mapping[str, str]
) -> pd.DataFrame:
    """Return the table with the images' counts in the rows of the whole data set: such a row is one
    number, and readers need to know how many images it is from.
    """
    if "whole_set" not in by or not table["whole_set"].any():
        return table
    keys = [name for name in by if name != "whole_set"]
    image_counts = table.loc[~table["whole_set"], [*keys, *COUNTS]]
    image_counts["metric"] = image_counts["metric"].astype(object)
    image_values = table["metric"].astype(object).replace(dict(image_value_of))
    sources = table[keys].assign(metric=image_values)
    counts = sources.merge(image_counts, on=keys, how="left").set_index(table.index)
    has_images = counts["n"].notna() & table["whole_set"]
    for name in COUNTS:
        table[name] = counts[name].where(has_images, table[name]).astype(table[name].dtype)
    return table


def with_intervals(
    summary: pd.DataFrame,
    records: Records,
    layouts: Mapping[tuple[str, ...], RowLayout],
    metadata: Metadata,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Return the summary with ENDS: intervals by a bootstrap over images, see `bootstrap`; NaN for
    too few images. Their confidence is 1 - `level`.

    The interval of a value of the whole data set reaches `normal_reach` of its standard errors, see
    `with_stored_values`, to either side; its mean and its median have the same interval. `layouts`
    are those of the settings, see `by_metric.layouts`. `metadata` has the kinds of the metrics,
    which decide the kinds of the intervals.
    """
    if summary.empty:
        return summary.assign(**dict.fromkeys(ENDS, np.nan))
    ends = pd.DataFrame(columns=[*NAMES, *ENDS])
    if layouts:
        parts = [
            _setting_ends(records, layout, setting, metadata, level)
            for setting, layout in layouts.items()
        ]
        ends = pd.concat(parts, ignore_index=True)
    ends = ends.astype(dict.fromkeys(NAMES, object) | dict.fromkeys(ENDS, float))
    table = summary.merge(ends, on=NAMES, how="left", validate="many_to_one")
    table = table.set_axis(summary.index)
    # the bootstrap of images doesn't apply to one number of the whole data set
    is_whole_set = table["whole_set"].astype(bool)
    reach = normal_reach(level) * table["standard_error"]
    for end in ENDS:
        distance = reach if end.endswith("high") else -reach
        table[end] = table[end].mask(is_whole_set, table["mean"] + distance)
    return table


def _setting_ends(
    records: Records,
    layout: RowLayout,
    setting: tuple[str, ...],
    metadata: Metadata,
    level: float,
) -> pd.DataFrame:
    """Return NAMES and ENDS of one setting. The values of one metric are in memory at a time."""
    sums = []
    medians = []
    names: list[tuple[str, ...]] = []
    for metric in records.metrics:
        table = matrix(records, layout, metric)
        if table is not None:
            is_proportion = metadata.value(metric).is_proportion
            sums.append(sums_of(table.values, table.images, is_proportion))
            medians.append(median_intervals(table.values, table.images, level))
            names += [(*setting, method, metric) for method in table.methods]
    median_ends = np.concatenate(medians, axis=1)
    ends = np.concatenate([ends_of_means(sums, level), median_ends])
    return pd.DataFrame(names, columns=NAMES).assign(**dict(zip(ENDS, ends, strict=True)))


COLUMNS = ("compared", "partial", "common_images", "common_n", "common_mean", "common_median")


def with_common_values(
    summary: pd.DataFrame,
    records: Records,
    layouts: Mapping[tuple[str, ...], RowLayout],
    by: Sequence[str] = KEYS,
) -> pd.DataFrame:
    """Return the summary of these records by `by`, with COLUMNS for values of images; a whole data
    set's value keeps its own.

    The columns are:

    - compared: True if the method is compared, see `by_metric.compared_columns`.
    - partial: True if the method lacks rows (an image and a class) that another method has.
    - common_mean, common_median: the statistics over the common_n rows of common_images images that
    all compared methods of the metric have; NaN for a method that isn't compared.
    """
    # the columns of a method that has all rows, which the loop replaces for the others
    table = summary.assign(
        compared=summary["n"] > 0,
        partial=False,
        common_images=summary["images"],
        common_n=summary["n"],
        common_mean=summary["mean"],
        common_median=summary["median"],
    )
    keys = [name for name in by if name not in ("method", "whole_set")]
    is_of_images = ~table["whole_set"].astype(bool)
    image_rows = table[(table["n"] > 0) & (table["method"] != LAYER) & is_of_images]
    for key, rows in image_rows.groupby(keys):
        if rows["n"].nunique() == 1 and (rows["n"] >= rows["rows"]).all():
            continue  # all methods have all rows
        name_of_key = dict(zip(keys, key, strict=True))
        metric = str(name_of_key.pop("metric"))
        setting = tuple(map(str, name_of_key.values()))
        common = _common_statistics(records, layouts[setting], metric)
        row_of_method = rows.reset_index().set_index("method")["index"]
        target_rows = row_of_method.reindex(common.index)
        table.loc[target_rows, list(COLUMNS)] = common[list(COLUMNS)].to_numpy(object)
    return table.astype(
        {
            "compared": bool,
            "partial": bool,
            "common_images": int,
            "common_n": int,
            "common_mean": float,
            "common_median": float,
        }
    )


def with_stored_values(summary: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    """Return the summary with the run's stored values of whole data sets: COLUMNS, and as `images`
    and `n` the images and rows that each was computed from.

    The standard error of a value is the standard deviation over the run's resamples of the images
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, algorithm 6.1). It is NaN for a
    value with fewer than two replicates. `whole_set` has `reading.WHOLE_SET_COLUMNS`.
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
    setting_and_metric = [stored[name] for name in NAMES if name != "method"]
    uncommon_rows = (stored["n"] - stored["common_n"]).where(stored["compared"])
    least_uncommon = uncommon_rows.groupby(setting_and_metric).transform("min")
    most_rows = stored["n"].groupby(setting_and_metric).transform("max")
    # If each of the compared methods has rows that aren't common, each lacks rows that another one
    # has.
    stored["partial"] = (stored["n"] < most_rows) | (least_uncommon > 0)
    columns = ["images", "n", *COLUMNS]
    stored = stored[[*NAMES, *columns, "standard_error"]]
    aligned = summary[NAMES].merge(stored, on=NAMES, how="left").set_index(summary.index)
    is_whole_set = summary["whole_set"].astype(bool)
    has_value = is_whole_set & summary["mean"].notna()
    error = summary["standard_error"].mask(has_value, aligned["standard_error"])
    replaced = {"standard_error": error}
    is_stored = is_whole_set & (aligned["images"] > 0)
    for name in columns:
        column = summary[name].mask(is_stored, aligned[name])
        replaced[name] = column.astype(summary[name].dtype)
    return summary.assign(**replaced)


def _common_statistics(records: Records, layout: RowLayout, metric: str) -> pd.DataFrame:
    """Return COLUMNS by method, of one metric in one setting whose methods have different rows."""
    table = matrix(records, layout, metric)
    assert table is not None  # it has a value in the summary
    method_columns = [column for column, name in enumerate(table.methods) if name != LAYER]
    methods = [table.methods[column] for column in method_columns]
    has = np.isfinite(table.values[:, method_columns])
    columns, common = compared_columns(has)
    is_compared = np.isin(np.arange(len(methods)), columns)
    compared = [methods[column] for column in columns]
    block = records.blocks[metric]
    row = layout.row_of_key[block.keys]
    is_of_compared = np.isin(records.methods, compared)[block.methods]
    chosen = (block.statuses == records.ok) & (row >= 0) & common[row] & is_of_compared
    statistics = aggregated(
        block.values[chosen],
        block.methods[chosen].astype(np.int64),
        common_mean="mean",
        common_median="median",
    )
    statistics = statistics.set_axis([records.methods[code] for code in statistics.index])
    return statistics.reindex(methods).assign(
        compared=is_compared,
        partial=has.sum(axis=0) < has.any(axis=1).sum(),
        common_images=is_compared * len(np.unique(layout.images[common])),
        common_n=is_compared * common.sum(),
    )
