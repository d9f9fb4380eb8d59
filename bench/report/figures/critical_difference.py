"""Mean ranks over networks and data sets, with bars over the methods that can't be told apart (Demsar 2006)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas
from axiom_bench.report.options import options_of
from axiom_bench.statistics.numbers import p_value
from axiom_bench.statistics.places import FEWEST_SETTINGS, MeanRanks, mean_ranks
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Mean ranks over networks and data sets"
LINE, BAR = 0.32, 0.16  # inches between the lines to the names, and between bars


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each headline metric with a direction, from FEWEST_SETTINGS networks or data sets on."""
    places = {(setting.model, setting.data) for setting in run.settings}
    values = [run.metadata.value(name) for name in options_of(run).headline if name in run.metrics]
    found = {
        value: ranks for value in values if value.has_direction and (ranks := mean_ranks(run, value.name)) is not None
    }
    if len(places) < len(run.settings):
        yield LeftOut(TITLE, "The layers of one network don't count as independent of each other.")
        return
    if not found:
        yield LeftOut(
            TITLE, "It takes a headline metric in which several methods have a value on several networks or data sets."
        )
        return
    widest = max(found.values(), key=lambda ranks: len(ranks.ranks))
    if widest.count < FEWEST_SETTINGS:
        yield LeftOut(TITLE, _too_few(widest))
        return
    for value, ranks in found.items():
        caption = (
            f"{value.title}: mean rank of each method over {ranks.count} networks or data sets, 1 is best. Bars join "
            f"methods whose mean ranks differ by less than the critical difference, {ranks.critical:.2f} (Nemenyi, 5 "
            f"% over all pairs); that all are alike: {p_value(ranks.p)} (Friedman). Methods that coincide share their "
            "rank."
        )
        titles = {str(name): run.metadata.method_title(str(name)) for name in ranks.ranks.index}
        yield Drawing(
            f"mean_ranks_{value.name}",
            f"{TITLE}, {value.title}",
            caption,
            partial(_plot, ranks, titles),
            in_column=False,
        )


def _too_few(ranks: MeanRanks) -> str:
    methods = len(ranks.ranks)
    return (
        f"{methods} methods on {ranks.count} networks or data sets: two mean ranks would have to differ by "
        f"{ranks.critical:.1f} places to be told apart (Nemenyi, 5 %), and all lie within {methods - 1}. It takes "
        f"{FEWEST_SETTINGS} or more (model=a,b,c, or axiom-bench report RUN RUN of several runs); the table of places "
        "compares methods on each of them by image."
    )


def _plot(ranks: MeanRanks, titles: Mapping[str, str], width: float) -> Figure:
    count, bars = len(ranks.ranks), ranks.alike()
    left = (count + 1) // 2
    height = 0.9 + BAR * len(bars) + LINE * left
    figure = canvas(width, height)
    axes = figure.subplots()
    axes.set(xlim=(1 - 0.35 * count, count + 0.35 * count), ylim=(-height + 0.5, 0.5))
    axes.set_axis_off()
    _ruler(axes, count, ranks.critical)
    for number, (first, last) in enumerate(bars, start=1):
        ends = (ranks.ranks.iloc[first] - 0.05, ranks.ranks.iloc[last] + 0.05)
        axes.plot(ends, [-BAR * number] * 2, color="0.15", linewidth=4, solid_capstyle="butt")
    for place, (name, rank) in enumerate(ranks.ranks.items()):
        is_left = place < left
        line = place if is_left else count - 1 - place
        y, end = -BAR * (len(bars) + 1) - LINE * (line + 0.5), 0.7 if is_left else count + 0.3
        axes.plot([rank, rank, end], [0, y, y], color="0.45", linewidth=0.9)
        side = "right" if is_left else "left"
        axes.text(
            end + (-0.08 if is_left else 0.08), y, f"{titles[str(name)]} {rank:.1f}", ha=side, va="center", fontsize=8
        )
    return figure


def _ruler(axes: Axes, count: int, critical: float) -> None:
    axes.plot([1, count], [0, 0], color="0.15", linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.06], color="0.15", linewidth=1)
        axes.text(rank, 0.09, str(rank), ha="center", va="bottom", fontsize=8)
    axes.plot([1, 1 + critical], [0.36, 0.36], color="0.15", linewidth=1.5)
    axes.text(1 + critical + 0.1, 0.36, f"critical difference {critical:.2f}", ha="left", va="center", fontsize=8)
