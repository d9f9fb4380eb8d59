"""The one box-plot: quartiles, whiskers to 1.5 interquartile ranges, every point beyond them faint."""

from __future__ import annotations

from typing import Any

import pandas as pd
import seaborn

from bench.report.figures.drawing import PALETTE
from bench.report.run_folder import Value


def boxes(axes: Any, rows: pd.DataFrame, x: str, y: str, order: list[str]) -> None:
    """seaborn's box-plot of rows[y] by rows[x] (either may hold the names) in one muted colour."""
    median = {"color": PALETTE[3], "linewidth": 1.6}
    faint = {"marker": "o", "markersize": 2, "alpha": 0.35, "markerfacecolor": "0.3", "markeredgewidth": 0}
    seaborn.boxplot(
        data=rows, x=x, y=y, order=order, ax=axes, width=0.6, linewidth=1, color=PALETTE[0], saturation=1,
        boxprops={"facecolor": (*PALETTE[0], 0.35)}, medianprops=median, flierprops=faint,
    )  # fmt: skip


def axis_label(value: Value) -> str:
    """The metric with its unit, unless the title says it: "Confidence drop [probability]"."""
    return value.title if not value.unit or value.unit in value.title else f"{value.title} [{value.unit}]"
