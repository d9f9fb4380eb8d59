"""Perturbation curves: the model's output against the share of the pixels that is changed, a line for each method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from axiom_bench.report.figures.drawing import Drawing, LeftOut, across, canvas, legend, panels, set_title
from axiom_bench.report.method_styles import MethodStyle, method_styles
from axiom_bench.report.sizes import COLUMN
from axiom_bench.statistics.groups import MeanCurve, mean_curves
from axiom_bench.statistics.numbers import counts_text
from axiom_bench.statistics.run_folder import RunFolder

PANEL = 1.9  # inches: the width of a panel
LEGEND, ENTRY = 1.4, 0.14  # inches: the width of a legend beside the panels, the height of an entry
SHADE = 0.15  # of a band, where there are few of them
BANDS = 4  # from here on each is fainter, so that together they stay lighter than the lines
MAX_MARKED = 12  # points of a curve up to which each is marked


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each curve with an axis in the manifest; nothing for a run without such."""
    axes: Mapping[str, Mapping[str, Any]] = run.manifest.get("axes") or {}
    curves = mean_curves(run, axes)
    for name, axis in axes.items():
        title = f"{axis.get('title', name)}: perturbation curves"
        own = [curve for curve in curves if curve.curve == name and len(curve.mean) == len(axis["at"])]
        reason = f"No method has the curve {name} on any image: the table of statuses says why."
        yield _drawing(run, name, title, axis, own) if own else LeftOut(title, reason)


def _drawing(run: RunFolder, name: str, title: str, axis: Mapping[str, Any], curves: Sequence[MeanCurve]) -> Drawing:
    return Drawing(f"perturbation_{name}", title, _caption(axis, curves), partial(_plot, run, axis, curves))


def _plot(run: RunFolder, axis: Mapping[str, Any], curves: Sequence[MeanCurve], width: float) -> Figure:
    settings = list(dict.fromkeys(curve.setting for curve in curves))
    styles = {name: style for name, style in method_styles(run).items() if name in {curve.method for curve in curves}}
    room = width - LEGEND if width > COLUMN else width
    beside = across(len(settings), room, PANEL, PANEL)
    height = 1.9 * -(-len(settings) // beside)
    beside_legend = max(height, 0.3 + ENTRY * len(styles))
    figure = canvas(width, beside_legend if width > COLUMN else height + ENTRY * (1 + -(-len(styles) // 2)))
    drawn = panels(figure, len(settings), beside, sharex=True, sharey=True)
    for axes, setting in zip(drawn, settings, strict=True):
        for curve in (curve for curve in curves if curve.setting == setting):
            _line(axes, axis["at"], curve, styles[curve.method], SHADE * min(1, BANDS / len(styles)))
        set_title(axes, run.label(setting), room / beside)
    legend(figure, *_entries(drawn, styles), width)
    figure.supxlabel(axis["x"])
    figure.supylabel(f"mean {axis['y']}")
    return figure


def _line(axes: Any, at: Sequence[float], curve: MeanCurve, style: MethodStyle, alpha: float) -> None:
    marker = {"marker": style.marker, "markersize": 3} if len(at) <= MAX_MARKED else {}
    dash = "-" if style.dash == (1, 0) else (0, [length / 2 for length in style.dash])
    axes.plot(at, curve.mean, label=style.title, color=style.colour, linestyle=dash, **marker)
    low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
    axes.fill_between(at, low, high, color=style.colour, alpha=alpha, linewidth=0)


def _entries(drawn: Sequence[Any], styles: Mapping[str, MethodStyle]) -> tuple[list[Any], list[str]]:
    """Each method once, whichever panels it is in."""
    pairs = (pair for axes in drawn for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    handles = {label: handle for handle, label in pairs}
    titles = [style.title for style in styles.values()]
    return [handles[title] for title in titles], titles


def _caption(axis: Mapping[str, Any], curves: Sequence[MeanCurve]) -> str:
    counts = counts_text((curve.images for curve in curves), (curve.rows for curve in curves))
    better = {"higher": "; higher is better", "lower": "; lower is better"}.get(str(axis.get("better")), "")
    return (
        f"Mean {axis['y']} against the {axis['x']}{better}; bands are 95 % confidence intervals of the mean over rows, "
        f"by image. {counts} a curve."
    )
