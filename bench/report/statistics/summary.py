"""From records to statistics: pure functions of the long rows, one output row for each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from axiom_bench.columns import OK, WHOLE_SET

KEYS = ("model", "layer", "data", "method", "metric", "whole_set")
SPLIT_KEYS = (*KEYS, "split")
COUNTS = ("images", "n", "rows", "statuses")
STATISTICS = ("images", "n", "rows", "mean", "median", "standard_error", "statuses")
SPLITS = ("correct", "wrong", "unknown")


def summarise(
    records: pd.DataFrame, by: Sequence[str] = KEYS, image_value_of: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """One row for each group of `by`, sorted, with the columns STATISTICS.

    n: rows with status "ok", which the statistics are over; images: how many images these are of; rows: all rows.
    statuses reads "ok:120 zero_map:3". whole_set tells values of the whole data set (image_id "*") from values of
    images. Their images, n, rows and statuses are those of the value of images that they were computed from: the one
    that image_value_of names, see `RunFolder.image_value_of`, else the one of the same name.

    standard_error: of the mean over rows, by image, since the rows of an image (its objects) belong together. With
    n_i rows of sum T_i in image i of m images, and n = sum n_i, the mean is the ratio sum T_i / n, whose variance is

        m / (m - 1) * sum_i (T_i - mean * n_i)^2 / n^2,

    the linearised variance of a ratio for clusters of unequal size (Cochran, Sampling Techniques, 3rd ed. 1977,
    chapter 9A; the cluster-robust error of Liang and Zeger, Biometrika 1986, of a regression on a constant). With one
    row an image it is the sample standard deviation over sqrt(n). NaN for m < 2 and for values of the whole data set,
    whose errors the run's bootstrap gives: see `with_bootstrap_errors`.
    """
    by = list(by)
    rows = records.assign(whole_set=records["image_id"] == WHOLE_SET)
    if rows.empty:
        return pd.DataFrame(columns=[*by, *STATISTICS])
    rows["value"] = rows["value"].where(rows["status"] == OK)
    values = rows.groupby(by, observed=True)["value"]
    table = values.agg(n="count", rows="size", mean="mean", median="median").reset_index()
    table = table.merge(_errors_by_image(rows, by), on=by, how="left", validate="one_to_one")
    table["images"] = table["images"].fillna(0).astype(int)
    table = table.merge(_statuses(rows, by), on=by, how="left", validate="one_to_one")
    table = _with_counts_of_images(table, by, image_value_of or {})
    names = [name for name in by if name != "whole_set"]
    return table.astype(dict.fromkeys(names, object))[[*by, *STATISTICS]]


def with_bootstrap_errors(summary: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    """The summary with the standard errors of values of the whole data set: the standard deviation of a value over
    the run's resamples of the images (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, algorithm 6.1).

    whole_set: `reading.WHOLE_SET_COLUMNS`. NaN where a value has no replicates, and for fewer than two images.
    """
    keys = ["model", "layer", "data", "method", "metric"]
    if whole_set.empty or summary.empty:
        return summary
    errors = whole_set[keys].assign(bootstrap=[bootstrap_error(values) for values in whole_set["replicates"]])
    aligned = summary[keys].merge(errors.astype(dict.fromkeys(keys, object)), on=keys, how="left")["bootstrap"]
    use = summary["whole_set"].astype(bool) & summary["mean"].notna()
    return summary.assign(standard_error=summary["standard_error"].mask(use, aligned.set_axis(summary.index)))


def bootstrap_error(replicates: Sequence[float] | np.ndarray | None) -> float:
    """The standard deviation over the finite replicates; NaN for fewer than two."""
    values = np.asarray([] if replicates is None else replicates, dtype=np.float64)
    values = values[np.isfinite(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def leading(summary: pd.DataFrame) -> pd.DataFrame:
    """Of each metric the rows that a report leads with: the value of the whole data set where there is one, else the
    statistics over images."""
    keys = [name for name in KEYS if name != "whole_set"]
    has_whole_set = summary.groupby(keys, observed=True)["whole_set"].transform("any").astype(bool)
    return summary[summary["whole_set"].astype(bool) | ~has_whole_set]


def counts_of(statuses: str) -> dict[str, int]:
    """The counts in a `statuses` text: "ok:120 zero_map:3" -> {"ok": 120, "zero_map": 3}."""
    pairs = (pair.rpartition(":") for pair in statuses.split())
    return {name: int(count) for name, _, count in pairs}


def classified(records: pd.DataFrame) -> pd.Series:
    """For each row: is the explained class the predicted one? "correct", "wrong", or "unknown" (a class is -1)."""
    target, predicted = records["target_class"], records["predicted_class"]
    is_known = (target >= 0) & (predicted >= 0)
    names = np.select([is_known & (target == predicted), is_known], ["correct", "wrong"], "unknown")
    return pd.Series(pd.Categorical(names, SPLITS, ordered=True), index=records.index)


def with_split(records: pd.DataFrame) -> pd.DataFrame:
    """The rows of single images with the column `split`, see `classified`: values of a whole data set have no split."""
    images = records[records["image_id"] != WHOLE_SET]
    return images.assign(split=classified(images))


def _errors_by_image(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Columns `by`, images (m) and standard_error of each group of single images' values; see `summarise`."""
    single = rows[(rows["status"] == OK) & ~rows["whole_set"]]
    images = single.groupby([*by, "image_id"], observed=True)["value"].agg(total="sum", count="count").reset_index()
    groups = images.groupby(by, observed=True)
    mean = groups["total"].transform("sum") / groups["count"].transform("sum")
    images["squared"] = (images["total"] - mean * images["count"]) ** 2
    table = images.groupby(by, observed=True).agg(
        images=("total", "size"), n=("count", "sum"), squared=("squared", "sum")
    )
    m = table["images"].where(table["images"] > 1)
    table["standard_error"] = np.sqrt(m / (m - 1) * table.pop("squared")) / table.pop("n")
    return table.reset_index()


def _with_counts_of_images(table: pd.DataFrame, by: list[str], image_value_of: Mapping[str, str]) -> pd.DataFrame:
    """The table with the images' counts in the rows of the whole data set."""
    if "whole_set" not in by or not table["whole_set"].any():
        return table
    keys = [name for name in by if name != "whole_set"]
    of_images = table.loc[~table["whole_set"], [*keys, *COUNTS]]
    sources = table[keys].assign(metric=table["metric"].astype(object).replace(dict(image_value_of)))
    of_images["metric"] = of_images["metric"].astype(object)
    counts = sources.merge(of_images, on=keys, how="left").set_index(table.index)
    has_images = counts["n"].notna() & table["whole_set"]
    for name in COUNTS:
        table[name] = counts[name].where(has_images, table[name]).astype(table[name].dtype)
    return table


def _statuses(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    counts = rows.groupby([*by, "status"], observed=True).size().reset_index(name="count")
    counts["statuses"] = counts["status"].astype(str) + ":" + counts["count"].astype(str)
    return counts.groupby(by, observed=True)["statuses"].agg(" ".join).reset_index()
