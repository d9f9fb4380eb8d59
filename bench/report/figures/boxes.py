"""The one box-plot: quartiles, whiskers to 1.5 interquartile ranges, every point beyond them faint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from axiom_bench.report.run_folder import Value

MOST_POINTS = 2000  # of a line that a PDF keeps as shapes: far-out points of all of ImageNet would fill megabytes
FACE = 0.35  # opacity of a box


def boxes(axes: Any, groups: Sequence[pd.Series], colours: Sequence[str], upright: bool, means: bool = False) -> None:
    """A box of each group in its colour, at 0, 1, ...; upright, or lying from the top down. means: as diamonds."""
    diamond = {"marker": "D", "markersize": 2.5, "markerfacecolor": "white", "markeredgecolor": "0.15"}
    faint = {"marker": "o", "markersize": 1.5, "alpha": 0.35, "markerfacecolor": "0.3", "markeredgewidth": 0}
    drawn = axes.boxplot(
        groups,
        positions=range(len(groups)),
        orientation="vertical" if upright else "horizontal",
        widths=0.6,
        patch_artist=True,
        medianprops={"color": "0.1", "linewidth": 1.2},
        meanprops=diamond | {"markeredgewidth": 0.7},
        flierprops=faint,
        showmeans=means,
        manage_ticks=False,
    )
    for i, (box, colour) in enumerate(zip(drawn["boxes"], colours, strict=True)):
        box.set(facecolor=(colour, FACE), edgecolor=colour, linewidth=0.8)
        for line in (*drawn["whiskers"][2 * i : 2 * i + 2], *drawn["caps"][2 * i : 2 * i + 2]):
            line.set(color=colour, linewidth=0.8)
    for line in drawn["fliers"]:
        line.set_rasterized(len(line.get_xdata()) > MOST_POINTS)


def axis_label(value: Value) -> str:
    """The metric with its unit, unless the title says it: "Confidence drop [probability]"."""
    return value.title if not value.unit or value.unit in value.title else f"{value.title} [{value.unit}]"
