"""The class that a map points at against the class that it explains."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from axiom_bench.columns import OK
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, SMALL, Figure, LeftOut
from axiom_bench.report.options import PAGE, number_of, options_of
from axiom_bench.statistics.labels import Setting, Value, rows_at, share
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Explained class and class seen"
MAX_CLASSES = 20  # in a matrix: of more, those that are explained most often
SIDE = 2.1  # inches: of a panel
CELL = 0.15  # inches: of a cell from which on its number is written into it
NEEDS = "it takes images of several classes, as those of data=scenes or data=voc, and target=each_label"
LINE = 0.085  # inches: the height of a class's name
DARK = 0.5  # of a row: from here on the number is white


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each setting and each value that names a class."""
    if not run.class_records.counts(run.class_records.metrics).get(OK):
        chosen = options_of(run).figures
        reason = "No metric is chosen: report.figures.class_seen=METRIC."
        reason = drawing.not_measured(run, chosen.class_seen, NEEDS) if chosen.class_seen else reason
        yield LeftOut(TITLE, reason, chosen.numbers.get(str(chosen.class_seen), ""))
    for name in run.class_records.metrics:
        defined = run.class_records.frame([name])
        for number, setting in enumerate(run.settings):
            rows = rows_at(defined[defined["status"] == OK], setting)
            if len(rows):
                yield _figure(run, run.metadata.value(name), setting, number, rows)


def confusion(rows: pd.DataFrame, classes: list[int]) -> np.ndarray:
    """Per explained class (row) the share of its maps that show each class (column): (n, n), NaN without a map.

    What is seen outside of `classes` counts, but has no column: a row may sum to less than 1.
    """
    seen = rows["value"].astype(int)
    counts = pd.crosstab(rows["target_class"], seen).reindex(index=classes, columns=classes, fill_value=0)
    explained = rows["target_class"].value_counts().reindex(classes)
    return counts.to_numpy() / explained.to_numpy(dtype=float)[:, None]


def _figure(run: RunFolder, value: Value, setting: Setting, number: int, rows: pd.DataFrame) -> Figure:
    often = rows["target_class"].value_counts(sort=True)
    classes = sorted(often.index[:MAX_CLASSES])
    images = rows.drop_duplicates(["image_id", "target_class"])
    cut = f" The {MAX_CLASSES} of {len(often)} classes that are explained most often."
    caption = (
        f"{run.label(setting)}, {value.title.lower()}: the share of an explained class's maps (a row) that show each "
        f"class (a column); above each method, all its maps that show the class they explain. "
        f"n = {images['image_id'].nunique():,} images, {len(images):,} rows (an image and an explained class)."
    ) + (cut if len(often) > MAX_CLASSES else "")
    name = f"confusion_{value.name}" + (f"_{number}" if len(run.settings) > 1 else "")
    of_methods = {run.metadata.method_title(str(method)): own
                  for method, own in rows.groupby("method", observed=True)}  # fmt: skip
    names = [run.class_name(setting.model, index) for index in classes]
    names = [name if drawing.can_draw(name) else str(index) for index, name in zip(classes, names, strict=True)]
    plot = partial(_plot, of_methods, classes, names)
    return Figure(name, f"{TITLE}, {run.label(setting)}", caption, plot, number_of(run, value.name))


def _plot(of_methods: dict[str, pd.DataFrame], classes: list[int], names: list[str]) -> Canvas:
    """A panel for each method, all on one scale. of_methods: the rows by title."""
    label = LETTER * max(map(len, names)) + 0.6
    per_row = drawing.across(len(of_methods), PAGE - label, SIDE, SIDE + 0.3)
    side = min(SIDE, (PAGE - label) / per_row)
    cell = 0.88 * side / len(classes)
    every = 1 + int(LINE / cell)  # class's name
    figure = drawing.canvas(side * per_row + label, label + (side + 0.25) * -(-len(of_methods) // per_row))
    all_axes = drawing.panels(figure, len(of_methods), per_row, sharex=True, sharey=True)
    for axes, (title, rows) in zip(all_axes, of_methods.items(), strict=True):
        shares = confusion(rows, classes)
        texts = [[f"{100 * seen:.0f}" if seen >= 0.005 and cell >= CELL else "" for seen in row] for row in shares]
        picture = drawing.matrix(axes, shares, texts, 1, DARK, SMALL - 1, "equal")
        correct = int((rows["value"] == rows["target_class"]).sum())
        heading = drawing.wrapped(f"{title}: {share(correct, len(rows))}", int(side / LETTER))
        axes.set_title(heading, fontsize=SMALL)
        axes.set_xticks(range(0, len(classes), every), names[::every], rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(0, len(classes), every), names[::every])
    figure.supxlabel("class seen")
    figure.supylabel("class explained")
    look: dict[str, Any] = {"location": "top", "aspect": 40, "pad": 0.02, "format": PercentFormatter(1, decimals=0)}
    figure.colorbar(picture, ax=all_axes, **look).ax.tick_params(labelsize=SMALL)
    return figure
