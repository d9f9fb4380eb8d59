"""Draw charts that are matrices.

The first shows the agreement of metrics: Kendall's tau between every two metrics over the methods
for which both have a value. The second shows the class at which a map points against the class that
the map explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
import seaborn
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from scipy.stats import kendalltau

from axiom_bench.columns import OK
from axiom_bench.judging.judgement import spoiled_methods
from axiom_bench.records.by_metric import count_images
from axiom_bench.report.charts import drawing
from axiom_bench.report.charts.drawing import LETTER, SMALL, Chart, Figure, LeftOut, canvas
from axiom_bench.report.charts.styles import metrics_in_order
from axiom_bench.report.options import PAGE, options_of
from axiom_bench.statistics.labels import Setting, Value, rows_at, share
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading_rows

AGREEMENT = Chart("agreement", "Agreement of metrics", "Network")
MIN_METHODS = 4  # of fewer methods, every order is likely by chance
ROW = 0.2  # inches: the height of a cell
WIDEST = 0.4  # inches: the maximum width of a cell
WRITTEN = 0.22  # inches: the minimum width of a cell with a number in it
PUOR = ("#b35806", "#f1a340", "#f7f7f7", "#998ec3", "#542788")  # the colours of ColorBrewer's PuOr
DIGITS = 3  # significant digits that are printed: closer values tie
COLUMNS = {  # {column of `kendall_agreement`: its title}
    "row": "Metric",
    "column": "and",
    "tau": "Kendall's tau",
    "p": "p",
    "n": "Methods",
}


def draw_agreement(run: RunFolder) -> Iterator[Figure]:
    """Yield a figure for each network with two metrics that have a direction and at least
    MIN_METHODS methods in common.
    """
    for number, setting in enumerate(run.settings):
        values = _leading_values(run, setting)
        cells = kendall_agreement(values) if len(values) > 1 else pd.DataFrame()
        if cells.empty:
            continue
        label = run.label(setting)
        titles = {name: run.metadata.value(name).title for name in values.index}
        frame = cells.replace({"row": titles, "column": titles})
        frame = frame.rename(columns=COLUMNS)[list(COLUMNS.values())]
        caption = (
            "Do two metrics put the methods in the same order? Kendall's tau-b is 1 if the orders "
            "are the same, and \N{MINUS SIGN}1 if they are opposite. Each metric is the mean or "
            "median of the overview, with its sign changed if lower is better. Methods on "
            f"{label}: {cells['n'].min()} to {cells['n'].max()}. Methods with the same values in "
            f"all metrics count once. Cells of fewer than {MIN_METHODS} methods are empty. Over so "
            "few methods tau is rough: the data have p, the probability of a tau at least as far "
            "from 0 if the two orders were unrelated."
        )
        # the matrix is a triangle: the first metric has no row, and the last no column
        rows = [title for title in titles.values() if title in {*frame["Metric"]}]
        columns = [title for title in titles.values() if title in {*frame["and"]}]
        yield Figure(
            name="agreement" if len(run.settings) == 1 else f"agreement_{number}",
            title=f"{AGREEMENT.title}, {label}",
            caption=caption,
            plot=partial(_plot_agreement, frame, rows, columns),
            chart=AGREEMENT,
            label=label,
            frame=frame,
        )


def kendall_agreement(values: pd.DataFrame) -> pd.DataFrame:
    """Return Kendall's tau between every two metrics.

    Methods whose values are equal in all metrics count once, and values that print alike tie.

    Args:
        values: The values of metrics (rows) and methods (columns). More is better, and NaN stands
            for no value.

    Returns:
        A row for each two metrics with at least MIN_METHODS methods. "row" is the later metric,
        "column" the earlier one. "tau" and "p" are of Kendall's test, "n" is the number of methods.
    """
    rounded = values.map(lambda value: float(f"{value:.{DIGITS}g}"))
    rows = rounded.T.drop_duplicates().T.to_numpy()
    cells = []
    for first, second in combinations(range(len(rows)), 2):
        has_both = ~np.isnan(rows[[first, second]]).any(axis=0)
        count = int(has_both.sum())
        if count < MIN_METHODS:
            continue
        test = kendalltau(rows[first, has_both], rows[second, has_both])
        if np.isfinite(test.statistic):  # NaN if a metric is the same for all methods
            cell = {
                "row": values.index[second],
                "column": values.index[first],
                "tau": float(test.statistic),
                "p": float(test.pvalue),
                "n": count,
            }
            cells.append(cell)
    return pd.DataFrame(cells, columns=["row", "column", "tau", "p", "n"])


def _leading_values(run: RunFolder, setting: Setting) -> pd.DataFrame:
    """Return the statistic with which tables begin, on the images that all compared methods have.
    Metrics with a direction are rows, and methods are columns.
    """
    rows = rows_at(leading_rows(run.summary), setting)
    is_left_out = rows["method"].isin({METHOD_FREE, *spoiled_methods(run)})
    rows = rows[~is_left_out & rows["compared"].astype(bool)]
    values = {}
    for name in metrics_in_order(run, set(rows["metric"])):
        value = run.metadata.value(name)
        metric_rows = rows[rows["metric"] == name].set_index("method")
        lead = metric_rows[f"common_{value.lead}"].dropna()
        if value.has_direction and len(lead):
            lead = lead.where(lead.abs() >= value.rounding, 0.0)
            values[name] = lead if value.better == "higher" else -lead
    return pd.DataFrame(values).T


def _plot_agreement(frame: pd.DataFrame, rows: list[str], columns: list[str]) -> Canvas:
    """Draw a matrix with these metrics as rows and columns."""
    cells = frame.pivot(index="Metric", columns="and").reindex(index=rows)
    label = LETTER * max(map(len, [*rows, *columns])) + 0.2
    width = min(WIDEST, (PAGE - label) / len(columns))
    figure = canvas(label + width * len(columns), 0.7 * label + ROW * len(rows))
    axes = figure.subplots()
    seaborn.heatmap(
        cells["Kendall's tau"][columns],
        ax=axes,
        vmin=-1,
        vmax=1,
        cmap=LinearSegmentedColormap.from_list("PuOr", PUOR),
        annot=width >= WRITTEN,
        fmt=".1f",
        annot_kws={"size": SMALL - 1},
        cbar=False,
    )
    for text in axes.texts:
        text.set_text(text.get_text().replace("-", "\N{MINUS SIGN}"))
    axes.set(xlabel="", ylabel="")
    axes.grid(visible=False)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows, rotation=0)
    axes.set_xticks(
        np.arange(len(columns)) + 0.5, columns, rotation=45, ha="right", rotation_mode="anchor"
    )
    return figure


CONFUSION = "Explained class and class seen"
MAX_CLASSES = 20  # a matrix shows at most this many classes: those that are explained most often
SIDE = 2.1  # inches: the maximum width of a panel
FILLED = 0.15  # inches: the minimum width of a cell with a number in it
NEEDS = (
    "it takes images of several classes, such as those of data=scenes or data=voc, and "
    "target=each_label"
)
LINE = 0.085  # inches: the height of a class's name
DARK = 0.5  # the share of a row above which the number is white


def draw_confusion(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield a figure for each setting and each metric whose value is a class."""
    if not run.class_records.counts(run.class_records.metrics).get(OK):
        chosen = options_of(run).figures
        reason = "No metric is chosen: report.figures.class_seen=METRIC."
        if chosen.class_seen:
            reason = drawing.reason_without_value(run, chosen.class_seen, NEEDS)
        yield LeftOut(CONFUSION, reason, "confusion_")
    for name in run.class_records.metrics:
        defined = run.class_records.frame([name])
        for number, setting in enumerate(run.settings):
            rows = rows_at(defined[defined["status"] == OK], setting)
            if len(rows):
                yield _confusion_figure(run, run.metadata.value(name), setting, number, rows)


def confusion_shares(rows: pd.DataFrame, classes: list[int]) -> NDArray[np.float64]:
    """Return the share of each explained class's maps that show each class.

    A map that shows a class outside of `classes` counts, but has no column. So a row may sum to
    less than 1.

    Args:
        rows: The records, with the explained class in "target_class" and the class seen in "value".
        classes: The indices of the n classes.

    Returns:
        The shares, (n, n), with explained classes as rows; NaN for a class without a map.
    """
    seen = rows["value"].astype(int)
    counts = pd.crosstab(rows["target_class"], seen)
    counts = counts.reindex(index=classes, columns=classes, fill_value=0)
    explained = rows["target_class"].value_counts().reindex(classes)
    return counts.to_numpy() / explained.to_numpy(dtype=float)[:, None]


def _confusion_figure(
    run: RunFolder,
    value: Value,
    setting: Setting,
    number: int,
    rows: pd.DataFrame,
) -> Figure:
    """Return the figure of a setting, whose number in the run is a part of the figure's name."""
    class_counts = rows["target_class"].value_counts(sort=True)
    classes = sorted(class_counts.index[:MAX_CLASSES])
    images = rows.drop_duplicates(["image_id", "target_class"])
    num_images = count_images(images["image_id"])
    caption = (
        f"{run.label(setting)}, {value.title.lower()}: the share of an explained class's maps (a "
        "row) that show each class (a column); above each method, all its maps that show the "
        f"class they explain. n = {num_images:,} images, {len(images):,} rows "
        "(an image and an explained class)."
    )
    num_classes = len(class_counts)
    if num_classes > MAX_CLASSES:
        caption += f" The {MAX_CLASSES} of {num_classes} classes that are explained most often."
    rows_by_title = {}
    for method, method_rows in rows.groupby("method", observed=True):
        rows_by_title[run.metadata.method_title(str(method))] = method_rows
    # a class whose name no font can draw is shown by its index
    class_names = []
    for index in classes:
        class_name = run.class_name(setting.model, index)
        class_names.append(class_name if drawing.can_draw(class_name) else str(index))
    name = f"confusion_{value.name}"
    return Figure(
        name=name if len(run.settings) == 1 else f"{name}_{number}",
        title=f"{CONFUSION}, {run.label(setting)}",
        caption=caption,
        plot=partial(_plot_confusion, rows_by_title, classes, class_names),
    )


def _plot_confusion(
    rows_by_title: dict[str, pd.DataFrame], classes: list[int], class_names: list[str]
) -> Canvas:
    """Draw a panel for the rows of each method, all on one scale."""
    label = LETTER * max(map(len, class_names)) + 0.6
    num_panels = len(rows_by_title)
    per_row = drawing.panels_per_row(num_panels, PAGE - label, SIDE, SIDE + 0.3)
    side = min(SIDE, (PAGE - label) / per_row)
    cell = 0.88 * side / len(classes)
    step = 1 + int(LINE / cell)  # in small cells, not every class has its name
    ticks = range(0, len(classes), step)
    rotation = 90 if max(map(len, class_names)) > 2 else 0
    height = label + (side + 0.25) * -(-num_panels // per_row)
    figure = drawing.canvas(side * per_row + label, height)
    all_axes = drawing.panels(figure, num_panels, per_row, sharex=True, sharey=True)
    for axes, (title, rows) in zip(all_axes, rows_by_title.items(), strict=True):
        shares = confusion_shares(rows, classes)
        texts = [
            [f"{100 * seen:.0f}" if seen >= 0.005 and cell >= FILLED else "" for seen in row]
            for row in shares
        ]
        picture = drawing.draw_matrix(axes, shares, texts, 1, DARK, SMALL - 1, "equal")
        correct = int((rows["value"] == rows["target_class"]).sum())
        heading = drawing.wrap_name(f"{title}: {share(correct, len(rows))}", int(side / LETTER))
        axes.set_title(heading, fontsize=SMALL)
        axes.set_xticks(ticks, class_names[::step], rotation=rotation)
        axes.set_yticks(ticks, class_names[::step])
    figure.supxlabel("class seen")
    figure.supylabel("class explained")
    percent = PercentFormatter(1, decimals=0)
    bar = figure.colorbar(picture, ax=all_axes, location="top", aspect=40, pad=0.02, format=percent)
    bar.ax.tick_params(labelsize=SMALL)
    return figure
