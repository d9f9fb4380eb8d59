"""Charts that are matrices: the agreement of metrics, Kendall's tau between every two over the
methods that both have a value of. And the class that a map points at against the class that it
explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter
from scipy.stats import kendalltau

from axiom_bench.columns import OK
from axiom_bench.judging.judgement import spoiled_methods
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, SMALL, Chart, Figure, LeftOut, canvas
from axiom_bench.report.charts.styles import metrics_in_order
from axiom_bench.report.options import PAGE, number_of, options_of
from axiom_bench.statistics.labels import Setting, Value, rows_at, share
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading

AGREEMENT = Chart("agreement", "Agreement of metrics", "Network")
MIN_METHODS = 4  # of fewer, every order is likely by chance
ROW, WIDEST = 0.2, 0.4  # inches: the height of a cell, and the most of its width
WRITTEN = 0.22  # inches: the width from which on a cell's number is written into it
PUOR = ("#b35806", "#f1a340", "#f7f7f7", "#998ec3", "#542788")  # ColorBrewer's
DIGITS = 3  # significant, as numbers are printed: closer values tie
COLUMNS = {"row": "Metric", "column": "and", "tau": "Kendall's tau", "p": "p", "n": "Methods"}  # fmt: skip


def draw_agreement(run: RunFolder) -> Iterator[Figure]:
    """A figure for each network with two metrics that have a direction and MIN_METHODS methods in
    common.
    """
    for number, setting in enumerate(run.settings):
        values = _leading_values(run, setting)
        cells = agreement(values) if len(values) > 1 else pd.DataFrame()
        if cells.empty:
            continue
        label, titles = (
            run.label(setting),
            {name: run.metadata.value(name).title for name in values.index},
        )
        frame = cells.replace({"row": titles, "column": titles})
        frame = frame.rename(columns=COLUMNS)[list(COLUMNS.values())]
        caption = (
            "Kendall's tau-b between two metrics, over the methods that both have a value of: 1 where they put all "
            "methods in one order, \N{MINUS SIGN}1 in opposite orders. Each metric by what tables lead with, turned so "
            f"that more is better. Methods: {label} {cells['n'].min()} to {cells['n'].max()}; those with the same "
            f"values in all metrics count once, and of fewer than {MIN_METHODS} a cell is empty. Over so few, tau is "
            "rough: p is the chance of one as far from 0 if the orders had nothing in common, for one pair of metrics."
        )
        rows, columns = (
            [title for title in titles.values() if title in {*frame[name]}]
            for name in ("Metric", "and")
        )
        name = "agreement" if len(run.settings) == 1 else f"agreement_{number}"
        plot = partial(_plot_agreement, frame, rows, columns)
        yield Figure(
            name,
            f"{AGREEMENT.title}, {label}",
            caption,
            plot,
            chart=AGREEMENT,
            label=label,
            frame=frame,
        )


def agreement(values: pd.DataFrame) -> pd.DataFrame:
    """For each two metrics their tau, p and n, the number of methods; none of fewer than
    MIN_METHODS methods.

    values: metrics x methods, more is better, NaN where a method has no value. Methods whose values
    are equal in all metrics count once, and values that print alike tie. row: the later of the two
    metrics.
    """
    rounded = values.map(lambda value: float(f"{value:.{DIGITS}g}"))
    rows = rounded.T.drop_duplicates().T.to_numpy()
    cells = []
    for first, second in combinations(range(len(rows)), 2):
        both = ~np.isnan(rows[[first, second]]).any(axis=0)
        if (count := int(both.sum())) >= MIN_METHODS:
            test = kendalltau(rows[first, both], rows[second, both])
            if np.isfinite(test.statistic):  # not where a metric is the same for all methods
                names = (values.index[second], values.index[first])
                cells.append((*names, float(test.statistic), float(test.pvalue), count))
    return pd.DataFrame(cells, columns=["row", "column", "tau", "p", "n"])


def _leading_values(run: RunFolder, setting: Setting) -> pd.DataFrame:
    """Metrics with a direction x methods: what tables lead with, on the images that all compared
    methods have.
    """
    rows = rows_at(leading(run.summary), setting)
    rows = rows[
        ~rows["method"].isin({METHOD_FREE, *spoiled_methods(run)}) & rows["compared"].astype(bool)
    ]
    values = {}
    for name in metrics_in_order(run, set(rows["metric"])):
        value = run.metadata.value(name)
        selected = rows[rows["metric"] == name].set_index("method")[f"common_{value.lead}"].dropna()
        if value.has_direction and len(selected):
            selected = selected.where(selected.abs() >= value.rounding, 0.0)
            values[name] = selected if value.better == "higher" else -selected
    return pd.DataFrame(values).T


def _plot_agreement(frame: pd.DataFrame, rows: list[str], columns: list[str]) -> Canvas:
    """rows, columns: the metrics, the earlier as columns and the later as rows."""
    cells = frame.pivot(index="Metric", columns="and").reindex(index=rows)
    label = LETTER * max(map(len, [*rows, *columns])) + 0.2
    width = min(WIDEST, (PAGE - label) / len(columns))
    figure = canvas(label + width * len(columns), 0.7 * label + ROW * len(rows))
    axes = figure.subplots()
    look: dict[str, Any] = {
        "vmin": -1,
        "vmax": 1,
        "cmap": LinearSegmentedColormap.from_list("PuOr", PUOR),
    }
    look |= {
        "annot": width >= WRITTEN,
        "fmt": ".1f",
        "annot_kws": {"size": SMALL - 1},
        "cbar": False,
    }
    seaborn.heatmap(cells["Kendall's tau"][columns], ax=axes, **look)
    axes.set(xlabel="", ylabel="")
    axes.grid(visible=False)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0)
    axes.set_xticks(
        np.arange(len(columns)) + 0.5, columns, rotation=45, ha="right", rotation_mode="anchor"
    )
    return figure


CONFUSION = "Explained class and class seen"
MAX_CLASSES = 20  # in a matrix: of more, those that are explained most often
SIDE = 2.1  # inches: of a panel
FILLED = 0.15  # inches: of a cell from which on its number is written into it
NEEDS = (
    "it takes images of several classes, as those of data=scenes or data=voc, and target=each_label"
)
LINE = 0.085  # inches: the height of a class's name
DARK = 0.5  # of a row: from here on the number is white


def draw_confusion(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each setting and each value that names a class."""
    if not run.class_records.counts(run.class_records.metrics).get(OK):
        chosen = options_of(run).figures
        reason = "No metric is chosen: report.figures.class_seen=METRIC."
        reason = (
            drawing.not_measured(run, chosen.class_seen, NEEDS) if chosen.class_seen else reason
        )
        yield LeftOut(CONFUSION, reason, chosen.numbers.get(str(chosen.class_seen), ""))
    for name in run.class_records.metrics:
        defined = run.class_records.frame([name])
        for number, setting in enumerate(run.settings):
            rows = rows_at(defined[defined["status"] == OK], setting)
            if len(rows):
                yield _confusion_figure(run, run.metadata.value(name), setting, number, rows)


def confusion(rows: pd.DataFrame, classes: list[int]) -> np.ndarray:
    """Per explained class (row) the share of its maps that show each class (column): (n, n), NaN
    without a map.

    What is seen outside of `classes` counts, but has no column: a row may sum to less than 1.
    """
    seen = rows["value"].astype(int)
    counts = pd.crosstab(rows["target_class"], seen).reindex(
        index=classes, columns=classes, fill_value=0
    )
    explained = rows["target_class"].value_counts().reindex(classes)
    return counts.to_numpy() / explained.to_numpy(dtype=float)[:, None]


def _confusion_figure(
    run: RunFolder, value: Value, setting: Setting, number: int, rows: pd.DataFrame
) -> Figure:
    often = rows["target_class"].value_counts(sort=True)
    classes = sorted(often.index[:MAX_CLASSES])
    images = rows.drop_duplicates(["image_id", "target_class"])
    cut = f" The {MAX_CLASSES} of {len(often)} classes that are explained most often."
    caption = (
        f"{run.label(setting)}, {value.title.lower()}: the share of an explained class's maps (a "
        "row) that show each class (a column); above each method, all its maps that show the "
        f"class they explain. n = {images['image_id'].nunique():,} images, {len(images):,} rows "
        "(an image and an explained class)."
    ) + (cut if len(often) > MAX_CLASSES else "")
    name = f"confusion_{value.name}" + (f"_{number}" if len(run.settings) > 1 else "")
    of_methods = {run.metadata.method_title(str(method)): own
                  for method, own in rows.groupby("method", observed=True)}  # fmt: skip
    names = [run.class_name(setting.model, index) for index in classes]
    names = [
        name if drawing.can_draw(name) else str(index)
        for index, name in zip(classes, names, strict=True)
    ]
    plot = partial(_plot_confusion, of_methods, classes, names)
    return Figure(
        name, f"{CONFUSION}, {run.label(setting)}", caption, plot, number_of(run, value.name)
    )


def _plot_confusion(
    of_methods: dict[str, pd.DataFrame], classes: list[int], names: list[str]
) -> Canvas:
    """A panel for each method, all on one scale. of_methods: the rows by title."""
    label = LETTER * max(map(len, names)) + 0.6
    per_row = drawing.across(len(of_methods), PAGE - label, SIDE, SIDE + 0.3)
    side = min(SIDE, (PAGE - label) / per_row)
    cell = 0.88 * side / len(classes)
    every = 1 + int(LINE / cell)  # class's name
    figure = drawing.canvas(
        side * per_row + label, label + (side + 0.25) * -(-len(of_methods) // per_row)
    )
    all_axes = drawing.panels(figure, len(of_methods), per_row, sharex=True, sharey=True)
    for axes, (title, rows) in zip(all_axes, of_methods.items(), strict=True):
        shares = confusion(rows, classes)
        texts = [
            [f"{100 * seen:.0f}" if seen >= 0.005 and cell >= FILLED else "" for seen in row]
            for row in shares
        ]
        picture = drawing.matrix(axes, shares, texts, 1, DARK, SMALL - 1, "equal")
        correct = int((rows["value"] == rows["target_class"]).sum())
        heading = drawing.wrapped(f"{title}: {share(correct, len(rows))}", int(side / LETTER))
        axes.set_title(heading, fontsize=SMALL)
        axes.set_xticks(
            range(0, len(classes), every),
            names[::every],
            rotation=90 if max(map(len, names)) > 2 else 0,
        )
        axes.set_yticks(range(0, len(classes), every), names[::every])
    figure.supxlabel("class seen")
    figure.supylabel("class explained")
    look: dict[str, Any] = {
        "location": "top",
        "aspect": 40,
        "pad": 0.02,
        "format": PercentFormatter(1, decimals=0),
    }
    figure.colorbar(picture, ax=all_axes, **look).ax.tick_params(labelsize=SMALL)
    return figure
