"""The class that a map points at, against the class that it explains: a matrix for each method."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from axiom_bench.columns import OK
from axiom_bench.report.charts.drawing import (
    LETTER,
    SMALL,
    Drawing,
    LeftOut,
    across,
    canvas,
    not_measured,
    panels,
    wrapped,
)
from axiom_bench.report.options import number_of, options_of
from axiom_bench.statistics.labels import Setting, Value, rows_at, share
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Explained class and class seen"
MAX_CLASSES = 20  # in a matrix: of more, those that are explained most often
SIDE = 2.1  # inches: of a panel
CELL = 0.15  # inches: of a cell from which on its number is written into it
NEEDS = "it takes images of several classes, as those of data=scenes or data=voc, and target=each_label"
LINE = 0.085  # inches: the height of a class's name
DARK = 0.5  # of a row: from here on the number is white


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each setting and each value that names a class."""
    counts = run.class_records.counts(run.class_records.metrics)
    if not counts.get(OK):
        metric = options_of(run).figures.class_seen
        reason = (
            not_measured(run, metric, NEEDS) if metric else "No metric is chosen: report.figures.class_seen=METRIC."
        )
        yield LeftOut(TITLE, reason, options_of(run).figures.numbers.get(str(metric), ""))
    for name in run.class_records.metrics:
        defined = run.class_records.frame([name])
        for number, setting in enumerate(run.settings):
            rows = rows_at(defined[defined["status"] == OK], setting)
            if len(rows):
                yield _drawing(run, run.metadata.value(name), setting, number, rows)


def confusion(rows: pd.DataFrame, classes: list[int]) -> np.ndarray:
    """Per explained class (row) the share of its maps that show each class (column): (n, n), NaN without a map.

    What is seen outside of `classes` counts, but has no column: a row may sum to less than 1.
    """
    seen = rows["value"].astype(int)
    counts = pd.crosstab(rows["target_class"], seen).reindex(index=classes, columns=classes, fill_value=0)
    explained = rows["target_class"].value_counts().reindex(classes)
    return counts.to_numpy() / explained.to_numpy(dtype=float)[:, None]


def _drawing(run: RunFolder, value: Value, setting: Setting, number: int, rows: pd.DataFrame) -> Drawing:
    often = rows["target_class"].value_counts(sort=True)
    classes = sorted(often.index[:MAX_CLASSES])
    methods = [method for method in rows["method"].cat.categories if (rows["method"] == method).any()]
    images = rows.drop_duplicates(["image_id", "target_class"])
    cut = (
        f" The {MAX_CLASSES} of {len(often)} classes that are explained most often." if len(often) > MAX_CLASSES else ""
    )
    caption = (
        f"{run.label(setting)}, {value.title.lower()}: the share of an explained class's maps (a row) that show each "
        f"class (a column); above each method, all its maps that show the class they explain. "
        f"n = {images['image_id'].nunique():,} images, {len(images):,} rows (an image and an explained class).{cut}"
    )
    name = f"confusion_{value.name}" + (f"_{number}" if len(run.settings) > 1 else "")
    titles = [run.metadata.method_title(method) for method in methods]
    plot = partial(_plot, rows, methods, titles, classes, _names(run, setting.data, classes))
    return Drawing(name, f"{TITLE}, {run.label(setting)}", caption, plot, number_of(run, value.name))


def _plot(
    rows: pd.DataFrame, methods: list[str], titles: list[str], classes: list[int], names: list[str], width: float
) -> Figure:
    """A panel for each method, all on one scale."""
    label = LETTER * max(map(len, names)) + 0.6
    beside = across(len(methods), width - label, SIDE, SIDE + 0.3)
    side = min(SIDE, (width - label) / beside)
    cell = 0.88 * side / len(classes)
    every = 1 + int(LINE / cell)  # class's name
    figure = canvas(side * beside + label, label + (side + 0.25) * -(-len(methods) // beside))
    all_axes = panels(figure, len(methods), beside, sharex=True, sharey=True)
    for axes, method, title in zip(all_axes, methods, titles, strict=True):
        own = rows[rows["method"] == method]
        matrix = confusion(own, classes)
        picture = axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues", aspect="equal")
        correct = int((own["value"] == own["target_class"]).sum())
        heading = wrapped(f"{title}: {share(correct, len(own))}", int(side / LETTER))
        axes.set_title(heading, fontsize=SMALL)
        axes.set_xticks(range(0, len(classes), every), names[::every], rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(0, len(classes), every), names[::every])
        axes.grid(visible=False)
        if cell >= CELL:
            _write(axes, matrix)
    figure.supxlabel("class seen")
    figure.supylabel("class explained")
    bar = figure.colorbar(
        picture, ax=all_axes, location="top", aspect=40, pad=0.02, format=PercentFormatter(1, decimals=0)
    )
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def _write(axes: Any, matrix: np.ndarray) -> None:
    """Each share that isn't nothing in its cell, in per cent."""
    for (row, column), cell in np.ndenumerate(matrix):
        if cell >= 0.005:
            colour = "white" if cell > DARK else "0.2"
            axes.text(column, row, f"{100 * cell:.0f}", ha="center", va="center", fontsize=SMALL - 1, color=colour)


def _names(run: RunFolder, data: str, classes: list[int]) -> list[str]:
    """The classes' names from the manifest, else their indices."""
    names = ((run.manifest.get("data") or {}).get(data) or {}).get("classes") or ()
    return [str(names[index]) if index < len(names) else str(index) for index in classes]
