"""Perturbation curves: what the model says against the share of the pixels that is changed, a line for each method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from axiom_bench.report.curves import MeanCurve, mean_curves
from axiom_bench.report.figures.drawing import PALETTE, Drawing, LeftOut, canvas, panels, style
from axiom_bench.report.run_folder import RunFolder

DASHES = ("-", "--", ":", "-.")  # a colour returns with other dashes
SHADE = 0.15  # of a band, where there are few of them
BANDS = 4  # from here on each is fainter, so that together they stay lighter than the lines
MARKED = 12  # points that a curve may have for each to be marked


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each curve whose metric says where its points are; nothing for a run without such."""
    axes: Mapping[str, Mapping[str, Any]] = run.manifest.get("axes") or {}
    curves = mean_curves(run, axes)
    for name, about in axes.items():
        title = f"{about.get('title', name)}: perturbation curves"
        own = [one for one in curves if one.curve == name and len(one.mean) == len(about["at"])]
        yield _drawing(run, name, title, about, own) if own else LeftOut(title, f"The run has no curve {name}.")


def _drawing(run: RunFolder, name: str, title: str, about: Mapping[str, Any], curves: Sequence[MeanCurve]) -> Drawing:
    settings = list(dict.fromkeys(one.setting for one in curves))
    methods = [method for method in run.manifest.get("methods") or () if method in {one.method for one in curves}]
    looks = {
        method: {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i // len(PALETTE) % len(DASHES)]}
        for i, method in enumerate(methods)
    }
    with style():
        lines = -(-len(settings) // 3)
        figure = canvas(2.6 + 3.6 * min(3, len(settings)), max(3.3 * lines, 1.2 + 0.21 * len(methods)))
        drawn = panels(figure, len(settings), sharex=True, sharey=True)
        for axes, setting in zip(drawn, settings, strict=True):
            for one in (one for one in curves if one.setting == setting):
                _line(axes, about["at"], one, looks[one.method], SHADE * min(1, BANDS / len(methods)))
            axes.set_title(run.label(setting))
        handles, labels = _legend(drawn, methods)
        figure.legend(handles, labels, loc="outside right upper", fontsize=8)
        figure.supxlabel(about["x"], fontsize=10)
        figure.supylabel(f"mean {about['y']}", fontsize=10)
    return Drawing(f"perturbation_{name}", title, _caption(about, curves), figure)


def _line(axes: Any, at: Sequence[float], one: MeanCurve, look: Mapping[str, Any], alpha: float) -> None:
    marker = {"marker": "o", "markersize": 3} if len(at) <= MARKED else {}
    axes.plot(at, one.mean, label=one.method, linewidth=1.3, **look, **marker)
    low, high = one.mean - one.half_width, one.mean + one.half_width
    axes.fill_between(at, low, high, color=look["color"], alpha=alpha, linewidth=0)


def _legend(drawn: Sequence[Any], methods: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Each method once, whichever panels it is in."""
    found = {label: handle for axes in drawn for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    return [found[method] for method in methods], list(methods)


def _caption(about: Mapping[str, Any], curves: Sequence[MeanCurve]) -> str:
    counts = [one.count for one in curves]
    n = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    better = {"higher": "; higher is better", "lower": "; lower is better"}.get(str(about.get("better")), "")
    return f"Mean {about['y']} against the {about['x']}{better}; bands are 95 % confidence intervals, n = {n} a curve."
