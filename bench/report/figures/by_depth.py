"""The `layers` experiment: the method-free axiom errors against depth, medians with the band between the quartiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from bench.report.figures.drawing import MARKERS, PALETTE, Drawing, LeftOut, canvas, panels, style
from bench.report.run_folder import METHOD_FREE, WHOLE_SET, RunFolder

TITLE = "Axiom errors by depth"
SPREAD = 30.0


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """A panel for each model and data set with several layers; nothing at all for a run of one layer a model."""
    pairs = {(setting.model, setting.data): 0 for setting in run.settings}
    for setting in run.settings:
        pairs[setting.model, setting.data] += 1
    deep = [pair for pair, layers in pairs.items() if layers > 1]
    if not deep:
        return
    names = run.options.figures.by_depth
    rows = run.records
    rows = rows[rows["metric"].isin(names) & (rows["method"] == METHOD_FREE) & (rows["image_id"] != WHOLE_SET)]
    rows = rows[rows["status"] == "ok"]
    if rows.empty:
        yield LeftOut(TITLE, f"The run has no values of {' or '.join(names)}.")
        return
    with style():
        figure = canvas(2.2 + 3.4 * min(3, len(deep)), 3.9 * -(-len(deep) // 3))
        for axes, (model, data) in zip(panels(figure, len(deep)), deep, strict=True):
            _panel(axes, run, rows[(rows["model"] == model) & (rows["data"] == data)])
            axes.set_title(model)
    n = rows.groupby(["model", "layer", "data", "metric"], observed=True).size()
    count = f"{n.min():,}" if n.min() == n.max() else f"{n.min():,} to {n.max():,}"
    caption = f"Layers in the order of the run; medians, and the band between the quartiles. n = {count} a median."
    yield Drawing("by_depth", TITLE, caption, figure)


def _panel(axes: Any, run: RunFolder, rows: pd.DataFrame) -> None:
    layers = [layer for layer in rows["layer"].cat.categories if (rows["layer"] == layer).any()]
    shown = []
    for i, name in enumerate(run.options.figures.by_depth):
        groups = rows[rows["metric"] == name].groupby("layer", observed=True)["value"]
        quartiles = groups.quantile(np.array([0.25, 0.5, 0.75])).unstack().reindex(layers)
        colour = PALETTE[i % len(PALETTE)]
        how = {"color": colour, "marker": MARKERS[i % len(MARKERS)], "label": run.value(name).title}
        axes.plot(range(len(layers)), quartiles[0.5], **how)
        axes.fill_between(range(len(layers)), quartiles[0.25], quartiles[0.75], color=colour, alpha=0.2, linewidth=0)
        shown.append(quartiles)
    values = pd.concat(shown).stack()
    if (values > 0).all() and values.max() > SPREAD * values.min():
        axes.set_yscale("log")
    elif (values >= 0).all():
        axes.set_ylim(bottom=0)
    axes.set_xticks(range(len(layers)), layers, rotation=30, ha="right", rotation_mode="anchor")
    axes.set(xlabel="layer", ylabel="error [ratio]")
    axes.legend(loc="best")
