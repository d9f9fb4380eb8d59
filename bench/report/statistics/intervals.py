"""The summary's intervals: mean_low, mean_high, median_low, median_high, of every mean and median."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from axiom_bench.columns import OK, WHOLE_SET
from axiom_bench.report.statistics.bootstrap import mean_intervals, median_intervals
from axiom_bench.report.statistics.summary import bootstrap_error

COLUMNS = ("mean_low", "mean_high", "median_low", "median_high")
PLACE = ["model", "layer", "data"]
KEYS = [*PLACE, "method", "metric"]
NORMAL = 1.959964  # standard errors on either side of a value of the whole data set


def with_intervals(summary: pd.DataFrame, records: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    """The summary with COLUMNS: 95 % intervals by a bootstrap over images, see `bootstrap`. NaN for too few images.

    A value of the whole data set has the interval of 1.96 standard deviations of the replicates that the run stored
    (`reading.WHOLE_SET_COLUMNS`) on either side, as its mean and as its median.
    """
    table = summary.assign(**dict.fromkeys(COLUMNS, np.nan))
    if summary.empty:
        return table
    single = records[(records["image_id"] != WHOLE_SET) & (records["status"] == OK)]
    parts = [_of_setting(rows, place) for place, rows in single.groupby(PLACE, observed=True)]
    parts.append(_of_whole_sets(table, whole_set))
    ends = pd.concat(parts, ignore_index=True).astype(dict.fromkeys(KEYS, object) | {"whole_set": bool})
    return summary.merge(ends, on=[*KEYS, "whole_set"], how="left", validate="one_to_one").set_axis(summary.index)


def _of_setting(rows: pd.DataFrame, place: Sequence[str]) -> pd.DataFrame:
    """KEYS, whole_set and COLUMNS of the means and medians over these rows."""
    image, _ = pd.factorize(rows["image_id"])
    row, unique = pd.factorize(image * (int(rows["target_class"].max()) + 2) + rows["target_class"].to_numpy() + 1)
    columns = rows.groupby(["method", "metric"], observed=True)
    names = pd.MultiIndex.from_tuples([key for key, _ in columns], names=["method", "metric"])
    values = np.full((len(unique), len(names)), np.nan)
    values[row, columns.ngroup().to_numpy()] = rows["value"]
    images = np.zeros(len(unique), dtype=np.int64)
    images[row] = image
    ends = np.concatenate([mean_intervals(values, images), median_intervals(values, images)])
    table = names.to_frame(index=False).assign(**dict(zip(PLACE, place, strict=True)), whole_set=False)
    return table.assign(**dict(zip(COLUMNS, ends, strict=True)))


def _of_whole_sets(summary: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    stored = whole_set.drop_duplicates(KEYS)[[*KEYS, "replicates"]]
    rows = summary.loc[summary["whole_set"].astype(bool), [*KEYS, "whole_set", "mean"]].merge(stored, on=KEYS)
    reach = NORMAL * np.array([bootstrap_error(values) for values in rows["replicates"]], dtype=float)
    low, high = rows["mean"] - reach, rows["mean"] + reach
    return rows[[*KEYS, "whole_set"]].assign(mean_low=low, mean_high=high, median_low=low, median_high=high)
