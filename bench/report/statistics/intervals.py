"""The summary's intervals: mean_low, mean_high, median_low, median_high, of every mean and median."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from axiom_bench.report.statistics.bootstrap import mean_intervals, median_intervals
from axiom_bench.report.statistics.matrix import PLACE, Matrix
from axiom_bench.report.statistics.summary import bootstrap_error

COLUMNS = ("mean_low", "mean_high", "median_low", "median_high")
KEYS = [*PLACE, "method", "metric"]
NORMAL = 1.959964  # standard errors on either side of a value of the whole data set


def with_intervals(
    summary: pd.DataFrame, values: Mapping[tuple[str, ...], Matrix], whole_set: pd.DataFrame
) -> pd.DataFrame:
    """The summary with COLUMNS: 95 % intervals by a bootstrap over images, see `bootstrap`. NaN for too few images.

    A value of the whole data set has, as its mean and as its median, 1.96 standard deviations of the replicates that
    the run stored (`reading.WHOLE_SET_COLUMNS`) on either side.
    """
    if summary.empty:
        return summary.assign(**dict.fromkeys(COLUMNS, np.nan))
    parts = [_of_setting(matrix, place) for place, matrix in values.items()]
    ends = pd.concat([*parts, _of_whole_sets(summary, whole_set)], ignore_index=True)
    ends = ends.astype(dict.fromkeys(KEYS, object) | {"whole_set": bool} | dict.fromkeys(COLUMNS, float))
    return summary.merge(ends, on=[*KEYS, "whole_set"], how="left", validate="one_to_one").set_axis(summary.index)


def _of_setting(matrix: Matrix, place: tuple[str, ...]) -> pd.DataFrame:
    """KEYS, whole_set and COLUMNS of one setting."""
    of_values = (interval(matrix.values, matrix.images) for interval in (mean_intervals, median_intervals))
    table = pd.DataFrame(dict(zip(COLUMNS, np.concatenate(list(of_values)), strict=True)))
    methods, metrics = zip(*matrix.columns, strict=True)
    return table.assign(**dict(zip(PLACE, place, strict=True)), method=methods, metric=metrics, whole_set=False)


def _of_whole_sets(summary: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    stored = whole_set.drop_duplicates(KEYS)[[*KEYS, "replicates"]].astype(dict.fromkeys(KEYS, object))
    rows = summary.loc[summary["whole_set"].astype(bool), [*KEYS, "whole_set", "mean"]].merge(stored, on=KEYS)
    reach = NORMAL * np.array([bootstrap_error(values) for values in rows["replicates"]], dtype=float)
    low, high = rows["mean"] - reach, rows["mean"] + reach
    return rows[[*KEYS, "whole_set"]].assign(mean_low=low, mean_high=high, median_low=low, median_high=high)
