"""Which class a map makes one see, against the class that it explains: a matrix for each method."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from axiom_bench.report.figures.drawing import Drawing, LeftOut, canvas, panels, style
from axiom_bench.report.numbers import share
from axiom_bench.report.run_folder import RunFolder, Setting, Value
from axiom_bench.report.summary import at

TITLE = "Explained class and class seen"
MOST = 20  # classes in a matrix: of more, those that are explained most often
SIDE = 2.7
WRITTEN = 10  # classes up to which a cell's number is written into it
DARK = 0.5  # of a row: from here on the number is white


def draw(run: RunFolder) -> Iterator[Drawing | LeftOut]:
    """One figure for each setting and each value that names a class."""
    known = run.named[run.named["status"] == "ok"]
    if known.empty:
        yield LeftOut(TITLE, "No record names a class that is seen: class_discriminability needs images of several.")
    for name in known["metric"].cat.categories:
        for number, setting in enumerate(run.settings):
            rows = at(known[known["metric"] == name], setting)
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
    classes = sorted(often.index[:MOST])
    methods = [method for method in rows["method"].cat.categories if (rows["method"] == method).any()]
    columns = min(3, len(methods))
    with style():
        figure = canvas(1.2 + SIDE * columns, 0.5 + (SIDE + 0.5) * -(-len(methods) // columns))
        _fill(figure, rows, methods, classes, _names(run, setting.data, classes))
    images = rows.drop_duplicates(["image_id", "target_class"])
    cut = f" The {MOST} of {len(often)} classes that are explained most often." if len(often) > MOST else ""
    caption = (
        f"{run.label(setting)}, {value.title.lower()}: the share of an explained class's maps (a row) that show each "
        f"class (a column); above each method, all its maps that show the class they explain. "
        f"n = {len(images):,} explained classes in {images['image_id'].nunique():,} images.{cut}"
    )
    name = f"confusion_{value.name}" + (f"_{number}" if len(run.settings) > 1 else "")
    return Drawing(name, f"{TITLE}, {run.label(setting)}", caption, figure)


def _fill(figure: Figure, rows: pd.DataFrame, methods: list[str], classes: list[int], names: list[str]) -> None:
    """A panel for each method, all on one scale."""
    every = panels(figure, len(methods), sharex=True, sharey=True)
    for axes, method in zip(every, methods, strict=True):
        here = rows[rows["method"] == method]
        matrix = confusion(here, classes)
        picture = axes.imshow(matrix, vmin=0, vmax=1, cmap="Blues", aspect="equal")
        right = int((here["value"] == here["target_class"]).sum())
        axes.set_title(f"{method}: {share(right, len(here))}", fontsize=8.5)
        axes.set_xticks(range(len(classes)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(classes)), names)
        axes.grid(visible=False)
        if len(classes) <= WRITTEN:
            for (row, column), cell in np.ndenumerate(matrix):
                if cell >= 0.005:
                    colour = "white" if cell > DARK else "0.2"
                    axes.text(column, row, f"{100 * cell:.0f}", ha="center", va="center", fontsize=6.5, color=colour)
    figure.supxlabel("class seen", fontsize=10)
    figure.supylabel("class explained", fontsize=10)
    figure.colorbar(picture, ax=every, shrink=0.6, format=PercentFormatter(1, decimals=0))


def _names(run: RunFolder, data: str, classes: list[int]) -> list[str]:
    """The classes' names as the manifest says them, else their indices."""
    about = (run.manifest.get("data") or {}).get(data) or {}
    known = about.get("classes") or ()
    return [str(known[one]) if one < len(known) else str(one) for one in classes]
