"""The class that a map points at, against the class that it explains: a matrix for each method."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from axiom_bench.columns import OK
from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas, panels
from axiom_bench.report.numbers import share
from axiom_bench.report.run_folder import RunFolder, Setting, Value, rows_at

TITLE = "Explained class and class seen"
MAX_CLASSES = 20  # in a matrix: of more, those that are explained most often
SIDE = 2.7
MAX_WRITTEN = 10  # classes up to which a cell's number is written into it
DARK = 0.5  # of a row: from here on the number is white


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each setting and each value that names a class."""
    defined = run.class_records[run.class_records["status"] == OK]
    if defined.empty:
        yield LeftOut(TITLE, "No record names a class that is seen: class_discriminability needs images of several.")
    for name in defined["metric"].cat.categories:
        for number, setting in enumerate(run.settings):
            rows = rows_at(defined[defined["metric"] == name], setting)
            if len(rows):
                yield _drawing(run, run.value(name), setting, number, rows)


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
    plot = partial(_plot, rows, methods, classes, _names(run, setting.data, classes))
    return Drawing(name, f"{TITLE}, {run.label(setting)}", caption, plot)


def _plot(rows: pd.DataFrame, methods: list[str], classes: list[int], names: list[str]) -> Figure:
    """A panel for each method, all on one scale."""
    columns = min(3, len(methods))
    figure = canvas(1.2 + SIDE * columns, 0.5 + (SIDE + 0.5) * -(-len(methods) // columns))
    all_axes = panels(figure, len(methods), sharex=True, sharey=True)
    for axes, method in zip(all_axes, methods, strict=True):
        own = rows[rows["method"] == method]
        matrix = confusion(own, classes)
        picture = axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues", aspect="equal")
        correct = int((own["value"] == own["target_class"]).sum())
        axes.set_title(f"{method}: {share(correct, len(own))}", fontsize=8.5)
        axes.set_xticks(range(len(classes)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(classes)), names)
        axes.grid(visible=False)
        if len(classes) <= MAX_WRITTEN:
            for (row, column), cell in np.ndenumerate(matrix):
                if cell >= 0.005:
                    colour = "white" if cell > DARK else "0.2"
                    axes.text(column, row, f"{100 * cell:.0f}", ha="center", va="center", fontsize=6.5, color=colour)
    figure.supxlabel("class seen", fontsize=10)
    figure.supylabel("class explained", fontsize=10)
    figure.colorbar(picture, ax=all_axes, shrink=0.6, format=PercentFormatter(1, decimals=0))
    return figure


def _names(run: RunFolder, data: str, classes: list[int]) -> list[str]:
    """The classes' names from the manifest, else their indices."""
    names = ((run.manifest.get("data") or {}).get(data) or {}).get("classes") or ()
    return [str(names[index]) if index < len(names) else str(index) for index in classes]
