"""The tables that a program reads: full precision, long and wide."""

from __future__ import annotations

import pandas as pd

from axiom_bench.statistics.metadata import Setting
from axiom_bench.statistics.run_folder import RunFolder, milliseconds
from axiom_bench.statistics.summary import KEYS

_NUMBERS = (
    "images",
    "n",
    "rows",
    "mean",
    "mean_low",
    "mean_high",
    "median",
    "median_low",
    "median_high",
    "standard_error",
)
_COMMON = ("compared", "common_images", "common_n", "common_mean", "common_median")
_PLACE = ["model", "layer", "data"]


def long_frame(run: RunFolder, summary: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """One row for each setting, method, metric and split (all, correct, wrong, unknown); n: rows with status ok;
    common_...: of the rows that all compared methods have, see `statistics.common`."""
    rows = pd.concat([summary.assign(split="all"), split], ignore_index=True)
    values = {name: run.metadata.value(name) for name in run.metrics}
    rows["unit"] = [values[name].unit for name in rows["metric"]]
    rows["better"] = [values[name].better for name in rows["metric"]]
    return rows[[*KEYS, "split", "unit", "better", *_NUMBERS, *_COMMON, "statuses"]]


def wide_frame(run: RunFolder, summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each setting and method: "<metric> mean", "<metric> median", "<metric> n", ..., and the method's
    milliseconds beyond the trace (of the trace itself in the row of method "-")."""
    keys = [*_PLACE, "method"]
    if summary.empty:
        return pd.DataFrame(columns=keys)
    places = pd.MultiIndex.from_frame(summary[keys].drop_duplicates())
    parts = [pd.DataFrame(index=places)]
    for name in run.metrics:
        for whole_set in (True, False):
            rows = summary[(summary["metric"] == name) & (summary["whole_set"] == whole_set)]
            title = f"{name} (whole set)" if whole_set else name
            columns = {statistic: f"{title} {statistic}" for statistic in ("mean", "median", "n")}
            if len(rows):
                parts.append(rows.set_index(keys)[list(columns)].rename(columns=columns))
    table = pd.concat(parts, axis=1).reindex(places).copy().reset_index()  # a copy is in one piece
    return table.assign(milliseconds_per_image=_times(run, table)).convert_dtypes()


def _times(run: RunFolder, table: pd.DataFrame) -> list[float]:
    times = {setting: milliseconds(run, setting) for setting in run.settings}
    places = (Setting(*map(str, row)) for row in table[_PLACE].to_numpy())
    return [times[place].get(method, float("nan")) for place, method in zip(places, table["method"], strict=True)]
