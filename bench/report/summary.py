"""From records to statistics: pure functions of the long rows, one output row for each group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from axiom_bench.columns import WHOLE_SET
from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import Setting, Value

KEYS = ("model", "layer", "data", "method", "metric", "whole_set")
STATISTICS = ("n", "rows", "mean", "median", "standard_error", "statuses")
SPLITS = ("correct", "wrong", "unknown")


def summarise(records: pd.DataFrame, by: Sequence[str] = KEYS) -> pd.DataFrame:
    """One row for each group of `by`, sorted: n (rows with status ok), rows, mean, median, standard_error, statuses.

    whole_set tells values of the whole data set (image_id "*") from values per image; where images have the same
    value, n, rows and statuses are theirs: what it stands on. standard_error is the sample standard deviation over
    sqrt(n), NaN for n < 2. statuses reads "ok:120 zero_map:3".
    """
    by = list(by)
    rows = records.assign(whole_set=records["image_id"] == WHOLE_SET)
    if rows.empty:
        return pd.DataFrame(columns=[*by, *STATISTICS])
    rows["value"] = rows["value"].where(rows["status"] == "ok")
    values = rows.groupby(by, observed=True)["value"]
    table = values.agg(n="count", rows="size", mean="mean", median="median", deviation="std").reset_index()
    table["standard_error"] = table.pop("deviation") / np.sqrt(table["n"].where(table["n"] > 1))
    table = _counted(table.merge(_statuses(rows, by), on=by, how="left", validate="one_to_one"), by)
    names = [name for name in by if name != "whole_set"]
    return table.astype(dict.fromkeys(names, object))[[*by, *STATISTICS]]


def leading(summary: pd.DataFrame) -> pd.DataFrame:
    """Of each metric what a reader is told first: the value of the whole data set where there is one, or else the
    statistics over images."""
    keys = [name for name in KEYS if name != "whole_set"]
    has_one = summary.groupby(keys, observed=True)["whole_set"].transform("any").astype(bool)
    return summary[summary["whole_set"].astype(bool) | ~has_one]


def _counted(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The table with the images' counts in the rows of the whole data set."""
    if "whole_set" not in by or not table["whole_set"].any():
        return table
    keys, counts = [name for name in by if name != "whole_set"], ["n", "rows", "statuses"]
    own = table.loc[~table["whole_set"], [*keys, *counts]]
    beside = table[keys].merge(own, on=keys, how="left").set_index(table.index)
    known = beside["n"].notna()
    for name in counts:
        table[name] = beside[name].where(known, table[name]).astype(table[name].dtype)
    return table


def _statuses(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    counts = rows.groupby([*by, "status"], observed=True).size().reset_index(name="count")
    counts["statuses"] = counts["status"].astype(str) + ":" + counts["count"].astype(str)
    return counts.groupby(by, observed=True)["statuses"].agg(" ".join).reset_index()


def counts_of(statuses: str) -> dict[str, int]:
    """The counts in a `statuses` text: "ok:120 zero_map:3" -> {"ok": 120, "zero_map": 3}."""
    pairs = (pair.rpartition(":") for pair in statuses.split())
    return {name: int(count) for name, _, count in pairs}


def classified(records: pd.DataFrame) -> pd.Series:
    """For each row: is the explained class the predicted one? "correct", "wrong", or "unknown" (a class is -1)."""
    target, predicted = records["target_class"], records["predicted_class"]
    known = (target >= 0) & (predicted >= 0)
    names = np.select([known & (target == predicted), known], ["correct", "wrong"], "unknown")
    return pd.Series(pd.Categorical(names, SPLITS, ordered=True), index=records.index)


def by_correctness(records: pd.DataFrame) -> pd.DataFrame:
    """`summarise` with a further key `split`; values of the whole data set have no split and are left out."""
    images = records[records["image_id"] != WHOLE_SET]
    return summarise(images.assign(split=classified(images)), (*KEYS, "split"))


def at(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """The rows of a summary that belong to one setting."""
    return table[(table.model == setting.model) & (table.layer == setting.layer) & (table.data == setting.data)]


def best(values: pd.Series, value: Value) -> pd.Series:
    """Which entries are best in the metric's direction, as read: what prints the same ties. NaN never is; nor has
    a metric without a direction a best one."""
    known = values.dropna()
    if value.better not in ("lower", "higher") or known.empty:
        return pd.Series(False, index=values.index)
    top = number(known.min() if value.better == "lower" else known.max())
    return values.map(lambda one: pd.notna(one) and number(one) == top).astype(bool)
