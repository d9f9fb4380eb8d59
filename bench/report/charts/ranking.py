"""Draw rankings of the methods: one row per metric, and mean ranks over networks and data sets
(Demsar 2006).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from axiom_bench.report.charts.drawing import (
    LETTER,
    SMALL,
    Figure,
    LeftOut,
    canvas,
    draw_matrix,
    wrap_name,
)
from axiom_bench.report.charts.styles import common_rows
from axiom_bench.report.options import PAGE, options_of
from axiom_bench.statistics.labels import (
    FLOAT32_ROUNDING,
    NOTHING,
    Setting,
    Value,
    number,
    p_value,
    percent,
    rows_at,
)
from axiom_bench.statistics.mean_ranks import FEWEST_SETTINGS, MeanRanks, mean_ranks
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading_rows

TITLE = "Which method leads in what"
ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}
WRITTEN = 0.37  # inches: the minimum width of a cell with its value in it
NAME = 40  # letters of a metric's title in one line
LINE = 0.115  # inches: the height of a line of text
GAP = 0.05  # inches: the space above the text of a row
LIGHTER = 1.3  # the share that would have the darkest colour, on which numbers can't be read
DARK = 0.7  # the share above which the number is white
EACH_ROW = "each row orders the methods by one metric, from the best (dark) to the last (white)"
CHANCE = "Places may differ by chance: the tables have the intervals."


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield a figure for each setting that has several methods, and one over all such settings if
    there are several.

    Metrics in which no method can be best are left out.
    """
    values = [
        value
        for value in map(run.metadata.value, run.metrics)
        if value.has_direction and not value.reached_by
    ]
    summary = leading_rows(run.summary[run.summary["method"] != METHOD_FREE])
    tables = {}
    for setting in run.settings:
        table = leading_values(rows_at(summary, setting), values)
        if table.shape[1] > 1 and len(table) and run.ranks_methods(setting):
            tables[setting] = table
    if len(tables) > 1:
        yield _figure_over_all(run, tables, values)
    for index, setting in enumerate(run.settings):
        title = f"{TITLE}, {run.label(setting)}"
        if setting in tables:
            name = f"ranking_{index}" if len(run.settings) > 1 else "ranking"
            rows = rows_at(summary, setting)
            yield _figure_of_setting(run, setting, name, title, tables[setting], rows)
            continue
        # the most specific reason comes first
        if run.metadata.model(setting.model).random_weights:
            reason = "The weights are random: values of an untrained network rank no method."
        elif not run.ranks_methods(setting):
            reason = "Values of a network that is no better than chance rank no method."
        else:
            reason = "It takes two methods with values, and a metric by which a method can be best."
        yield LeftOut(title, reason)


def leading_values(summary: pd.DataFrame, values: list[Value]) -> pd.DataFrame:
    """Return the statistic with which tables begin, over the images that all compared methods have.

    Args:
        summary: The rows of the run's summary for one setting.
        values: The metrics.

    Returns:
        A table with metrics as rows and methods as columns. Rows and columns without a value are
        left out.
    """
    rows = summary[summary["metric"].isin([value.name for value in values]) & summary["compared"]]
    lead_by_metric = {value.name: value.lead for value in values}
    leads = []
    for _, row in rows.iterrows():
        # a value of the whole data set is a single number
        lead = "mean" if row["whole_set"] else lead_by_metric[str(row["metric"])]
        leads.append(row[f"common_{lead}"])
    rows = rows.assign(lead=np.array(leads, dtype=float))
    table = rows.pivot(index="metric", columns="method", values="lead")
    methods = list(dict.fromkeys(rows["method"]))
    table = table.reindex(index=list(lead_by_metric), columns=methods)
    return table.dropna(how="all").dropna(how="all", axis=1)


def rank_methods(row: pd.Series, better: str, rounding: float = FLOAT32_ROUNDING) -> pd.Series:
    """Return the place of each method in a row, 1 for the best.

    Methods that print alike have the mean of their places. A method without a value has NaN.

    Args:
        row: The values of one metric by method.
        better: "lower" or "higher".
        rounding: Values below it are rounding, and count as 0.
    """
    printed = row.map(lambda value: 0.0 if abs(value) < rounding else float(f"{value:.3g}"))
    return printed.rank(method="average", ascending=better == "lower")


def share_of_worse_methods(table: pd.DataFrame, values: Iterable[Value]) -> pd.DataFrame:
    """Return the share of a row's other methods that do worse than each method.

    The best method has 1, the last has 0. If all print alike, each has 1/2.

    Args:
        table: The values, with metrics as rows and methods as columns.
        values: The metrics of the rows, and perhaps others.

    Returns:
        The shares, with the rows and columns of `table`.
    """
    value_by_name = {value.name: value for value in values}
    rows = []
    for name, row in table.iterrows():
        value = value_by_name[str(name)]
        rows.append(rank_methods(row, value.better, value.rounding))
    place = pd.DataFrame(np.array(rows), index=table.index, columns=table.columns)
    num_others = place.notna().sum(axis=1) - 1
    return 1 - (place - 1).div(num_others.clip(lower=1), axis=0)


def _figure_of_setting(
    run: RunFolder,
    setting: Setting,
    name: str,
    title: str,
    table: pd.DataFrame,
    summary: pd.DataFrame,
) -> Figure:
    """Return the figure of one setting, whose cells show the values.

    `summary` has the setting's rows of the run's summary.
    """
    values = [run.metadata.value(metric) for metric in table.index]
    notes = {}
    for value in values:
        note = common_rows(summary[summary["metric"] == value.name])
        if note:
            notes[value.name] = note
    subject = "Numbers are" if _has_wide_cells(table) else "The order is by"
    sentences = [
        f"{run.label(setting)}: {EACH_ROW}. Equal printed values have one colour. A dash: no value "
        f"to compare. {subject} the value of the whole data set, the median of a ratio or "
        "square, otherwise the mean.",
    ]
    if notes:
        sentences.append(
            "If a method has fewer rows, the label is the number of rows that all compared methods "
            "have, and values are over these rows. The overview uses all rows of each method."
        )
    caption = " ".join([*sentences, CHANCE])
    texts = [
        table.loc[value.name].map(partial(number, rounding=value.rounding)) for value in values
    ]
    shares = share_of_worse_methods(table, values)
    plot = partial(_plot, run, shares, np.array(texts), values, notes)
    return Figure(name, title, caption, plot)


def _figure_over_all(
    run: RunFolder, tables: Mapping[Setting, pd.DataFrame], values: list[Value]
) -> Figure:
    """Return the figure of the mean over settings, which counts each network once, whatever its
    values.
    """
    shares = pd.concat([share_of_worse_methods(table, values) for table in tables.values()])
    mean = shares.groupby(level=0).mean()
    methods = [name for name in (run.manifest.methods or shares.columns) if name in shares.columns]
    mean_values = [value for value in values if value.name in mean.index]
    mean = mean.reindex(index=[value.name for value in mean_values], columns=methods)
    texts = mean.map(lambda share: NOTHING if np.isnan(share) else f"{100 * share:.0f}")
    caption = (
        f"Over {len(tables)} settings ({', '.join(map(run.label, tables))}): {EACH_ROW}. A number "
        "is the percentage of the other methods that do worse, the mean over the settings. It is "
        f"50 if all methods print the same value. {CHANCE}"
    )
    plot = partial(_plot, run, mean, texts.to_numpy(), mean_values, {})
    return Figure("ranking_over_all", f"{TITLE}, over all", caption, plot)


def _has_wide_cells(table: pd.DataFrame) -> bool:
    """Return whether a cell of the table's figure is wide enough for its value."""
    return (PAGE - 0.15 - LETTER * NAME) / table.shape[1] >= WRITTEN


def _plot(
    run: RunFolder,
    shares: pd.DataFrame,
    texts: np.ndarray,
    values: Sequence[Value],
    notes: Mapping[str, str],
) -> Canvas:
    """Draw a matrix of metrics and methods, coloured by share. Wide cells have texts.

    `notes` has the rows of metrics that some methods lack.
    """
    titles = [run.metadata.method_title(str(method)) for method in shares.columns]
    labels = []
    for value in values:
        # the arrow points to the better values
        label = wrap_name(f"{value.title} {ARROWS[value.better]}", NAME)
        if value.name in notes:
            label = f"{label}\n{notes[value.name]}"
        labels.append(label)
    row_height = LINE * (1 + max(label.count("\n") for label in labels)) + GAP
    figure = canvas(PAGE, 0.3 + LETTER * max(map(len, titles)) + row_height * len(labels))
    axes = figure.subplots()
    texts = texts if _has_wide_cells(shares) else np.empty((0, 0))
    draw_matrix(axes, shares, texts, LIGHTER, DARK, SMALL, "auto")
    axes.set_xticks(range(shares.shape[1]), titles, rotation=90)
    axes.set_yticks(range(len(values)), labels)
    axes.tick_params(length=0)
    return figure


RANKS_TITLE = "Mean ranks over networks and data sets"
RANK_LINE = 0.32  # inches between the lines to the names
BAR = 0.16  # inches between bars


def draw_mean_ranks(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """Yield a figure for each headline metric with a direction, if the run has at least
    FEWEST_SETTINGS networks or data sets.
    """
    measured = []
    for name in options_of(run).headline:
        # one setting has no mean ranks, and the reason below says so
        if name not in run.metrics or len(run.settings) < 2:
            continue
        value = run.metadata.value(name)
        if not value.has_direction or value.reached_by:
            continue
        ranks = mean_ranks(run, value.name)
        if ranks is not None:
            measured.append((value, ranks))
    if reason := _reason_without_ranks(run, [ranks for _, ranks in measured]):
        yield LeftOut(RANKS_TITLE, reason)
        return
    for value, ranks in measured:
        caption = (
            f"{value.title}: mean rank of each method over {ranks.count} networks or data sets, 1 "
            "is best. Bars join methods whose mean ranks differ by less than the critical "
            f"difference, {ranks.critical:.2f} (Nemenyi, {percent(run.level)} over all pairs); "
            f"that all are alike: {p_value(ranks.p)} (Friedman). Methods that coincide share their "
            "rank."
        )
        plot = partial(_plot_mean_ranks, ranks, run.metadata.method_title)
        yield Figure(f"mean_ranks_{value.name}", f"{RANKS_TITLE}, {value.title}", caption, plot)


def _reason_without_ranks(run: RunFolder, all_ranks: Sequence[MeanRanks]) -> str:
    """Return why there is no figure of mean ranks; "" if there is one."""
    if len({(setting.model, setting.data) for setting in run.settings}) < len(run.settings):
        return "The layers of one network don't count as independent of each other."
    if not all_ranks:
        return (
            "It takes a headline metric in which several methods have a value on several networks "
            "or data sets."
        )
    largest = max(all_ranks, key=lambda ranks: len(ranks.ranks))
    methods = len(largest.ranks)
    if largest.count >= FEWEST_SETTINGS:
        return ""
    return (
        f"{methods} methods on {largest.count} networks or data sets: two mean ranks would have to "
        f"differ by {largest.critical:.1f} places for a significant difference (Nemenyi, "
        f"{percent(run.level)}), and all lie within {methods - 1}. It takes {FEWEST_SETTINGS} or "
        "more (model=a,b,c, or axiom-bench report RUN RUN of several runs); the table of places "
        "compares methods on each of them by image."
    )


def _plot_mean_ranks(ranks: MeanRanks, title: Callable[[str], str]) -> Canvas:
    """Draw a diagram of critical differences. `title` returns the title of a method."""
    count = len(ranks.ranks)
    bars = ranks.runs_alike()
    num_left = (count + 1) // 2  # names on the left of the diagram
    height = 0.9 + BAR * len(bars) + RANK_LINE * num_left
    figure = canvas(PAGE, height)
    axes = figure.subplots()
    axes.set(xlim=(1 - 0.35 * count, count + 0.35 * count), ylim=(-height + 0.5, 0.5))
    axes.set_axis_off()
    axes.plot([1, count], [0, 0], color="0.15", linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [0, 0.06], color="0.15", linewidth=1)
        axes.text(rank, 0.09, str(rank), ha="center", va="bottom", fontsize=8)
    axes.plot([1, 1 + ranks.critical], [0.36, 0.36], color="0.15", linewidth=1.5)
    text = f"critical difference {ranks.critical:.2f}"
    axes.text(1 + ranks.critical + 0.1, 0.36, text, ha="left", va="center", fontsize=8)
    for line, (first, last) in enumerate(bars, start=1):
        ends = (ranks.ranks.iloc[first] - 0.05, ranks.ranks.iloc[last] + 0.05)
        axes.plot(ends, [-BAR * line] * 2, color="0.15", linewidth=4, solid_capstyle="butt")
    names_top = -BAR * (len(bars) + 1)
    for place, (name, rank) in enumerate(ranks.ranks.items()):
        is_left = place < num_left
        line = place if is_left else count - 1 - place
        y = names_top - RANK_LINE * (line + 0.5)
        end = 0.7 if is_left else count + 0.3
        axes.plot([rank, rank, end], [0, y, y], color="0.45", linewidth=0.9)
        x = end - 0.08 if is_left else end + 0.08
        side = "right" if is_left else "left"
        axes.text(x, y, f"{title(str(name))} {rank:.1f}", ha=side, va="center", fontsize=8)
    return figure
