"""Methods in the plane of two axiom errors, with the floor below which no method can lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.metadata import Setting, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder

ROW = ["image_id", "target_class"]


class Plane(NamedTuple):
    """points: method -> (mean x, mean y), over the rows where every drawn method has both values. images: how many
    images these `rows` are of; all_rows: rows of the setting."""

    points: pd.DataFrame
    floor: tuple[Floats, Floats] | None
    images: int
    rows: int
    all_rows: int


def axiom_plane(run: RunFolder, setting: Setting, errors: Sequence[str], floor: Sequence[str]) -> Plane | None:
    """The methods on the score's scale by two errors; None where no row has both of every such method.

    errors: the metrics of the axes x and y; without any there is no plane. floor: the metrics of the floor's two
    coordinates, of the same rows; a plane has no floor where a row has none, or none is chosen.
    """
    if not errors:
        return None
    x, y = errors
    rows = rows_at(run.records.rows([x, y, *floor]), setting)
    rows = rows[rows["status"] == OK].astype({"image_id": str})  # pandas can't look up categories in a pair of columns
    on_scale = [name for name in rows["method"].cat.categories if run.metadata.method(name).get("on_score_scale")]
    values = rows[rows["metric"].isin([x, y]) & rows["method"].isin(on_scale)]
    table = values.pivot_table(index=ROW, columns=["method", "metric"], values="value", observed=True)
    both = [name for name in on_scale if (name, x) in table.columns and (name, y) in table.columns]
    table = table[[(name, metric) for name in both for metric in (x, y)]].dropna()
    if table.empty:
        return None
    free = rows[(rows["method"] == METHOD_FREE) & rows["metric"].isin(floor)]
    gaps = free.pivot_table(index=ROW, columns="metric", values="value", observed=True).reindex(table.index).dropna()
    corners = None
    if floor and len(gaps) == len(table) and set(floor) <= set(gaps.columns):
        corners = floor_of_means(*(gaps[name].to_numpy(float) for name in floor))
    means = table.mean().unstack().loc[both, [x, y]]
    images = table.index.get_level_values("image_id").nunique()
    all_rows = run.layouts[setting].images
    return Plane(means, corners, images, len(table), len(all_rows))


def floor_of_means(s0: Floats, c0: Floats) -> tuple[Floats, Floats]:
    """The corners (sensitivity, conservation), each (n + 1,), of the lowest means that n images can reach together.

    From (0, mean c0), where every image has its whole gap in conservation, an image that moves its gap to sensitivity
    adds the step (s0_i, -c0_i) / n; the steepest go first. s0, c0: (n,), at least 0, both 0 for an image without a gap.
    """
    steepest = np.argsort(-_slope(s0, c0), kind="stable")
    n = len(s0)
    sensitivity = np.concatenate([[0.0], np.cumsum(s0[steepest]) / n])
    conservation = c0.mean() - np.concatenate([[0.0], np.cumsum(c0[steepest]) / n])
    return sensitivity, conservation.clip(min=0)  # the last corner is 0 but for rounding


def _slope(s0: Floats, c0: Floats) -> Floats:
    """c0 / s0 = sum |d_k| / |S|; no step at all has no slope and goes last."""
    return np.divide(c0, s0, out=np.where(c0 > 0, np.inf, 0.0), where=s0 > 0)
