"""Which method leads in what: every metric as a row, and mean ranks over networks and data sets
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
    matrix,
    wrapped,
)
from axiom_bench.report.options import PAGE, options_of
from axiom_bench.statistics.labels import (
    FLOAT32_ROUNDING,
    NOTHING,
    Setting,
    Value,
    number,
    p_value,
    rows_at,
)
from axiom_bench.statistics.ranking import FEWEST_SETTINGS, MeanRanks, mean_ranks
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading

TITLE = "Which method leads in what"
ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}
WRITTEN = 0.37  # inches: the width of a cell from which on its value is written into it
NAME = 40  # letters of a metric's title in one line
LINE, GAP = 0.115, 0.05  # inches: the height of a line of text, and what is above it in its row
LIGHTER = 1.3  # of the colours' range: the darkest would drown the numbers
DARK = 0.7  # from here on the number is white
EACH_ROW = "each row orders the methods by one metric, from the best (dark) to the last (white)"
CHANCE = "A place says nothing of chance: see the errors in the tables."


def draw(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each setting that has several methods; where there are several such, first one
    over all. Metrics in which no method can be best are left out.
    """
    values = [
        value
        for value in map(run.metadata.value, run.metrics)
        if value.has_direction and not value.reached_by
    ]
    summary = leading(run.summary[run.summary["method"] != METHOD_FREE])
    fitting = {}
    for setting in run.settings:
        table = leads(rows_at(summary, setting), values)
        if table.shape[1] > 1 and len(table) and run.ranks(setting):
            fitting[setting] = table
    if len(fitting) > 1:
        yield _over_all(run, fitting, values)
    for count, setting in enumerate(run.settings):
        title = f"{TITLE}, {run.label(setting)}"
        if setting in fitting:
            name = f"ranking_{count}" if len(run.settings) > 1 else "ranking"
            yield _of_one(run, setting, name, title, fitting[setting])
        elif run.metadata.model(setting.model).random_weights:
            yield LeftOut(
                title, "The weights are random: values of an untrained network rank no method."
            )
        elif not run.ranks(setting):
            yield LeftOut(
                title, "Values of a network that is no better than chance rank no method."
            )
        else:
            yield LeftOut(
                title,
                "It takes two methods with values, and a metric by which a method can be best.",
            )


def leads(summary: pd.DataFrame, values: list[Value]) -> pd.DataFrame:
    """Metrics x methods: the statistic that tables lead with, over the images that all compared
    methods have; without rows and columns that have no value.
    """
    rows = summary[summary["metric"].isin([value.name for value in values]) & summary["compared"]]
    lead = {value.name: value.lead for value in values}
    leads = [
        row["common_mean" if row["whole_set"] else f"common_{lead[str(row['metric'])]}"]
        for _, row in rows.iterrows()
    ]
    table = rows.assign(lead=np.array(leads, dtype=float)).pivot(
        index="metric", columns="method", values="lead"
    )
    ordered = table.reindex(index=list(lead), columns=list(dict.fromkeys(rows["method"])))
    return ordered.dropna(how="all").dropna(how="all", axis=1)


def places(row: pd.Series, better: str, rounding: float = FLOAT32_ROUNDING) -> pd.Series:
    """1 for the best method; those that print alike have the mean of their places; NaN for one
    without a value.
    """
    printed = row.map(lambda value: 0.0 if abs(value) < rounding else float(f"{value:.3g}"))
    return printed.rank(method="average", ascending=better == "lower")


def ahead(table: pd.DataFrame, values: Iterable[Value]) -> pd.DataFrame:
    """The share of a row's other methods that do worse: 1 for the best, 0 for the last, 1/2 for all
    where all print alike. Metrics x methods -> the same; values: the rows', and perhaps more.
    """
    of_name = {value.name: value for value in values}
    rows = [
        places(row, of_name[str(name)].better, of_name[str(name)].rounding)
        for name, row in table.iterrows()
    ]
    place = pd.DataFrame(np.array(rows), index=table.index, columns=table.columns)
    return 1 - (place - 1).div((place.notna().sum(axis=1) - 1).clip(lower=1), axis=0)


def _of_one(run: RunFolder, setting: Setting, name: str, title: str, table: pd.DataFrame) -> Figure:
    values = [run.metadata.value(metric) for metric in table.index]
    shown = "Numbers are" if _is_written(table) else "The order is by"
    caption = (
        f"{run.label(setting)}: {EACH_ROW}; those that print alike have one colour, and a dash is "
        f"no value to compare. {shown} what tables lead with: the value of the whole data set, "
        "the median of a ratio or square, else the mean; on the images that all compared methods "
        f"have. {CHANCE}"
    )
    texts = [
        table.loc[value.name].map(partial(number, rounding=value.rounding)) for value in values
    ]
    return Figure(
        name, title, caption, partial(_plot, run, ahead(table, values), np.array(texts), values)
    )


def _over_all(
    run: RunFolder, tables: Mapping[Setting, pd.DataFrame], values: list[Value]
) -> Figure:
    """The mean over settings, which counts each network once, whatever its values."""
    shares = pd.concat([ahead(table, values) for table in tables.values()])
    mean = shares.groupby(level=0).mean()
    methods = [name for name in (run.manifest.methods or shares.columns) if name in shares.columns]
    ordered = [value for value in values if value.name in mean.index]
    mean = mean.reindex(index=[value.name for value in ordered], columns=methods)
    texts = mean.map(lambda share: NOTHING if np.isnan(share) else f"{100 * share:.0f}")
    caption = (
        f"Over {len(tables)} settings ({', '.join(map(run.label, tables))}): {EACH_ROW}. Numbers "
        "are per cent: how many of the other methods do worse, mean over the settings; 50 where "
        f"all print alike. {CHANCE}"
    )
    plot = partial(_plot, run, mean, texts.to_numpy(), ordered)
    return Figure("ranking_over_all", f"{TITLE}, over all", caption, plot)


def _is_written(table: pd.DataFrame) -> bool:
    """Whether a cell is wide enough for its value."""
    return (PAGE - 0.15 - LETTER * NAME) / table.shape[1] >= WRITTEN


def _plot(
    run: RunFolder, shares: pd.DataFrame, texts: np.ndarray, values: Sequence[Value]
) -> Canvas:
    """Metrics x methods: coloured by share, with a text in each cell where there is room."""
    titles = [run.metadata.method_title(str(method)) for method in shares.columns]
    labels = [
        wrapped(f"{value.title} {ARROWS[value.better]}", NAME) for value in values
    ]  # the arrow: to the better
    heights = LINE * (1 + max(label.count("\n") for label in labels)) + GAP
    figure = canvas(PAGE, 0.3 + LETTER * max(map(len, titles)) + heights * len(labels))
    axes = figure.subplots()
    texts = texts if _is_written(shares) else np.empty((0, 0))
    matrix(axes, shares, texts, LIGHTER, DARK, SMALL, "auto")
    axes.set_xticks(range(shares.shape[1]), titles, rotation=90)
    axes.set_yticks(range(len(values)), labels)
    axes.tick_params(length=0)
    return figure


RANKS_TITLE = "Mean ranks over networks and data sets"
RANK_LINE, BAR = 0.32, 0.16  # inches between the lines to the names, and between bars


def draw_mean_ranks(run: RunFolder) -> Iterator[Figure | LeftOut]:
    """One figure for each headline metric with a direction, from FEWEST_SETTINGS networks or data
    sets on.
    """
    values = [run.metadata.value(name) for name in options_of(run).headline if name in run.metrics]
    measured = [
        (value, ranks)
        for value in values
        if value.has_direction
        and not value.reached_by
        and (ranks := mean_ranks(run, value.name)) is not None
    ]
    if reason := _no_mean_ranks(run, [ranks for _, ranks in measured]):
        yield LeftOut(RANKS_TITLE, reason)
        return
    for value, ranks in measured:
        caption = (
            f"{value.title}: mean rank of each method over {ranks.count} networks or data sets, 1 "
            "is best. Bars join methods whose mean ranks differ by less than the critical "
            f"difference, {ranks.critical:.2f} (Nemenyi, 5 % over all pairs); that all are alike: "
            f"{p_value(ranks.p)} (Friedman). Methods that coincide share their rank."
        )
        plot = partial(_plot_mean_ranks, ranks, run.metadata.method_title)
        yield Figure(f"mean_ranks_{value.name}", f"{RANKS_TITLE}, {value.title}", caption, plot)


def _no_mean_ranks(run: RunFolder, all_ranks: Sequence[MeanRanks]) -> str:
    """Why there is no figure; empty where there is."""
    if len({(setting.model, setting.data) for setting in run.settings}) < len(run.settings):
        return "The layers of one network don't count as independent of each other."
    if not all_ranks:
        return (
            "It takes a headline metric in which several methods have a value on several networks "
            "or data sets."
        )
    widest = max(all_ranks, key=lambda ranks: len(ranks.ranks))
    methods = len(widest.ranks)
    if widest.count >= FEWEST_SETTINGS:
        return ""
    return (
        f"{methods} methods on {widest.count} networks or data sets: two mean ranks would have to "
        f"differ by {widest.critical:.1f} places for a significant difference (Nemenyi, 5 %), and "
        f"all lie within {methods - 1}. It takes {FEWEST_SETTINGS} or more (model=a,b,c, or "
        "axiom-bench report RUN RUN of several runs); the table of places compares methods on "
        "each of them by image."
    )


def _plot_mean_ranks(ranks: MeanRanks, title: Callable[[str], str]) -> Canvas:
    count, bars = len(ranks.ranks), ranks.alike()
    left = (count + 1) // 2
    height = 0.9 + BAR * len(bars) + RANK_LINE * left
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
    for place, (name, rank) in enumerate(ranks.ranks.items()):
        is_left = place < left
        line = place if is_left else count - 1 - place
        y, end = -BAR * (len(bars) + 1) - RANK_LINE * (line + 0.5), 0.7 if is_left else count + 0.3
        axes.plot([rank, rank, end], [0, y, y], color="0.45", linewidth=0.9)
        x, side = (end - 0.08, "right") if is_left else (end + 0.08, "left")
        axes.text(x, y, f"{title(str(name))} {rank:.1f}", ha=side, va="center", fontsize=8)
    return figure
