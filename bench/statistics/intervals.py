"""The summary's intervals: mean_low, mean_high, median_low, median_high, of every mean and median."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from axiom_bench.records.by_metric import Records
from axiom_bench.statistics.bootstrap import ends_of_means, median_intervals, summed
from axiom_bench.statistics.matrix import PLACE, Layout, matrix
from axiom_bench.statistics.summary import bootstrap_error

COLUMNS = ("mean_low", "mean_high", "median_low", "median_high")
KEYS = [*PLACE, "method", "metric"]
NORMAL = 1.959964  # standard errors on either side of a value of the whole data set


def with_intervals(
    summary: pd.DataFrame, records: Records, layouts: Mapping[tuple[str, ...], Layout], whole_set: pd.DataFrame
) -> pd.DataFrame:
    """The summary with COLUMNS: 95 % intervals by a bootstrap over images, see `bootstrap`. NaN for too few images.

    layouts: of the settings, see `matrix.layouts`.

    A value of the whole data set has, as its mean and as its median, 1.96 standard deviations of the replicates that
    the run stored (`reading.WHOLE_SET_COLUMNS`) on either side.
    """
    if summary.empty:
        return summary.assign(**dict.fromkeys(COLUMNS, np.nan))
    parts = [_of_setting(records, layout, place) for place, layout in layouts.items()]
    ends = pd.concat([*parts, _of_whole_sets(summary, whole_set)], ignore_index=True)
    ends = ends.astype(dict.fromkeys(KEYS, object) | {"whole_set": bool} | dict.fromkeys(COLUMNS, float))
    return summary.merge(ends, on=[*KEYS, "whole_set"], how="left", validate="one_to_one").set_axis(summary.index)


def _of_setting(records: Records, layout: Layout, place: tuple[str, ...]) -> pd.DataFrame:
    """KEYS, whole_set and COLUMNS of one setting. One metric's values are in memory at a time."""
    sums, medians, names = [], [], []
    for metric in records.metrics:
        own = matrix(records, layout, metric)
        if own is not None:
            sums.append(summed(own.values, own.images))
            medians.append(median_intervals(own.values, own.images))
            names += [(method, metric) for method in own.methods]
    ends = np.concatenate([ends_of_means(sums), np.concatenate(medians, axis=1)])
    methods, metrics = zip(*names, strict=True)
    table = pd.DataFrame(dict(zip(COLUMNS, ends, strict=True)))
    return table.assign(**dict(zip(PLACE, place, strict=True)), method=methods, metric=metrics, whole_set=False)


def _of_whole_sets(summary: pd.DataFrame, whole_set: pd.DataFrame) -> pd.DataFrame:
    stored = whole_set.drop_duplicates(KEYS)[[*KEYS, "replicates"]].astype(dict.fromkeys(KEYS, object))
    rows = summary.loc[summary["whole_set"].astype(bool), [*KEYS, "whole_set", "mean"]].merge(stored, on=KEYS)
    reach = NORMAL * np.array([bootstrap_error(values) for values in rows["replicates"]], dtype=float)
    low, high = rows["mean"] - reach, rows["mean"] + reach
    return rows[[*KEYS, "whole_set"]].assign(mean_low=low, mean_high=high, median_low=low, median_high=high)
