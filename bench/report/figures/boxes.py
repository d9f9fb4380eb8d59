"""The one box-plot: quartiles, whiskers to 1.5 interquartile ranges, every point beyond them faint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.metadata import Value

MOST_POINTS = 2000  # beyond the whiskers of a box: of more, so many are drawn, and a PDF keeps them as a picture
FACE = 0.35  # opacity of a box


def boxes(axes: Any, groups: Sequence[Floats], colours: Sequence[str], upright: bool, means: bool = False) -> None:
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
        if len(line.get_xdata()) > MOST_POINTS:
            line.set_rasterized(True)
            _thin_out(line)


def fewer_points(groups: Iterable[Floats]) -> str:
    """For the caption of these groups' boxes: whether points may be left out; empty where none are."""
    largest = max(map(len, groups))
    return f"Of points beyond a box's whiskers at most {MOST_POINTS:,} are drawn." if largest > MOST_POINTS else ""


def _thin_out(line: Any) -> None:
    """MOST_POINTS of the points, evenly over their order, the farthest of either side among them."""
    points = np.asarray(line.get_data(), dtype=float)
    points = points[:, np.lexsort(points)]
    line.set_data(points[:, np.linspace(0, points.shape[1] - 1, MOST_POINTS).round().astype(int)])


def axis_label(value: Value) -> str:
    """The metric with its unit, unless the title says it: "Confidence drop [probability]"."""
    return value.title if not value.unit or value.unit in value.title else f"{value.title} [{value.unit}]"
