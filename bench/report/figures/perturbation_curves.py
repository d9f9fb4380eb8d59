"""Perturbation curves: the model's output against the share of the pixels that is changed, a line for each method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from axiom_bench.report.figures.drawing import PALETTE, Drawing, LeftOut, canvas, panels
from axiom_bench.report.numbers import counts_text
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.statistics.curves import MeanCurve, mean_curves

DASHES = ("-", "--", ":", "-.")  # a colour returns with other dashes
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
        yield _drawing(run, name, title, axis, own) if own else LeftOut(title, f"The run has no curve {name}.")


def _drawing(run: RunFolder, name: str, title: str, axis: Mapping[str, Any], curves: Sequence[MeanCurve]) -> Drawing:
    return Drawing(f"perturbation_{name}", title, _caption(axis, curves), partial(_plot, run, axis, curves))


def _plot(run: RunFolder, axis: Mapping[str, Any], curves: Sequence[MeanCurve]) -> Figure:
    settings = list(dict.fromkeys(curve.setting for curve in curves))
    methods = [method for method in run.manifest.get("methods") or () if method in {curve.method for curve in curves}]
    styles = {
        method: {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i // len(PALETTE) % len(DASHES)]}
        for i, method in enumerate(methods)
    }
    lines = -(-len(settings) // 3)
    figure = canvas(2.6 + 3.6 * min(3, len(settings)), max(3.3 * lines, 1.2 + 0.21 * len(methods)))
    drawn = panels(figure, len(settings), sharex=True, sharey=True)
    for axes, setting in zip(drawn, settings, strict=True):
        for curve in (curve for curve in curves if curve.setting == setting):
            _line(axes, axis["at"], curve, styles[curve.method], SHADE * min(1, BANDS / len(methods)))
        axes.set_title(run.label(setting))
    handles, labels = _legend(drawn, methods)
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    figure.supxlabel(axis["x"], fontsize=10)
    figure.supylabel(f"mean {axis['y']}", fontsize=10)
    return figure


def _line(axes: Any, at: Sequence[float], curve: MeanCurve, line_style: Mapping[str, Any], alpha: float) -> None:
    marker = {"marker": "o", "markersize": 3} if len(at) <= MAX_MARKED else {}
    axes.plot(at, curve.mean, label=curve.method, linewidth=1.3, **line_style, **marker)
    low, high = curve.mean - curve.half_width, curve.mean + curve.half_width
    axes.fill_between(at, low, high, color=line_style["color"], alpha=alpha, linewidth=0)


def _legend(drawn: Sequence[Any], methods: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Each method once, whichever panels it is in."""
    pairs = (pair for axes in drawn for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    handles = {label: handle for handle, label in pairs}
    return [handles[method] for method in methods], list(methods)


def _caption(axis: Mapping[str, Any], curves: Sequence[MeanCurve]) -> str:
    counts = counts_text((curve.images for curve in curves), (curve.rows for curve in curves))
    better = {"higher": "; higher is better", "lower": "; lower is better"}.get(str(axis.get("better")), "")
    return (
        f"Mean {axis['y']} against the {axis['x']}{better}; bands are 95 % confidence intervals of the mean over rows, "
        f"by image. {counts} a curve."
    )
