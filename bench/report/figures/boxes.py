"""The one box-plot: quartiles, whiskers to 1.5 interquartile ranges, every point beyond them faint."""

from __future__ import annotations

import warnings
from typing import Any

import pandas as pd
import seaborn
from matplotlib import MatplotlibDeprecationWarning

from axiom_bench.report.figures.drawing import PALETTE
from axiom_bench.report.run_folder import Value

MOST_POINTS = 2000  # of a line that a PDF keeps as shapes: far-out points of all of ImageNet would fill megabytes


def boxes(axes: Any, rows: pd.DataFrame, x: str, y: str, order: list[str], means: bool = False) -> None:
    """seaborn's box-plot of rows[y] by rows[x] (either may hold the names) in one muted colour; means: as diamonds."""
    diamond = {"marker": "D", "markersize": 4, "markerfacecolor": "white", "markeredgecolor": "0.15"}
    median = {"color": PALETTE[3], "linewidth": 1.6}
    faint = {"marker": "o", "markersize": 2, "alpha": 0.35, "markerfacecolor": "0.3", "markeredgewidth": 0}
    with warnings.catch_warnings():
        # seaborn 0.13 itself calls matplotlib's bxp(vert=...), which matplotlib takes until 3.13.
        warnings.filterwarnings("ignore", "vert: bool was deprecated", MatplotlibDeprecationWarning)
        seaborn.boxplot(
            data=rows, x=x, y=y, order=order, ax=axes, width=0.6, linewidth=1, color=PALETTE[0], saturation=1,
            boxprops={"facecolor": (*PALETTE[0], 0.35)}, medianprops=median, flierprops=faint,
            showmeans=means, meanprops=diamond,
        )  # fmt: skip
    for line in axes.lines:
        if len(line.get_xdata()) > MOST_POINTS:
            line.set_rasterized(True)


def axis_label(value: Value) -> str:
    """The metric with its unit, unless the title says it: "Confidence drop [probability]"."""
    return value.title if not value.unit or value.unit in value.title else f"{value.title} [{value.unit}]"
