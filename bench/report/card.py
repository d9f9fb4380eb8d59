"""The scorecard of metrics as a table, a line for each metric, and in words: the rows of
`judging.card`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import pandas as pd

from axiom_bench.judging.agreement import TAU
from axiom_bench.judging.card import (
    PRIMARY,
    committed_card,
    committed_rows,
    interval_over_networks,
    verdicts,
)
from axiom_bench.judging.judgement import GOAL
from axiom_bench.judging.tests import (
    BEATS,
    DEGREES,
    FEW_METHODS,
    NEEDED,
    OF_A_TRUTH,
    PLACE,
    RELIABILITY,
    SANITY,
    TESTS,
    UNCLEAR,
)
from axiom_bench.report.tables.table import Cell, Group, Table, numeric
from axiom_bench.report.tables.text import ARROWS
from axiom_bench.statistics.labels import NOTHING, with_interval
from axiom_bench.statistics.run_folder import RunFolder

Column = tuple[str, str]  # test and truth
MOST_IMAGES = 1_000_000  # that are written as a number
CIRCULAR = "circular"
MEAN_NOTE = (
    "Mean: of the networks' values, with an interval over families of networks, networks and "
    "images; networks of one recipe are a family."
)
CIRCULAR_NOTE = (
    "Circular: the truth is computed from what the metric is computed from, so the row counts for "
    "nothing."
)


def line_table(
    runs: Sequence[RunFolder], card: pd.DataFrame, name: str = "scorecard", title: str = "Scorecard of metrics",
    label: str = "",
) -> Table:  # fmt: skip
    """A line for each metric. Of several networks a test's column says on how many the metric
    passes, where it is worst and the mean of their values. label: of one setting's table, which has
    the values, and the verdict in words.
    """
    cell = partial(_measured, runs[0]) if label else _over_networks
    lines = {
        metric: {column: cell(rows) for column, rows in line.items()}
        for metric, line in _lines(card).items()
    }
    columns = [
        column
        for column in _columns(card)
        if any(cells[column].text != NOTHING for cells in lines.values())
    ]
    words = (
        {metric: (Cell(text or NOTHING),) for metric, text in in_words(runs[0], card).items()}
        if label
        else {}
    )
    rows = tuple(
        (Cell(_title(runs, metric)), *(cells[column] for column in columns), *words.get(metric, ()))
        for metric, cells in lines.items()
    )
    header = (
        "Metric",
        *(_heading(runs, *column) for column in columns),
        *(["Verdict"] if label else []),
    )
    notes = [
        about.note
        for test, about in TESTS.items()
        if about.note and test in {test for test, _ in columns}
    ]
    notes += [MEAN_NOTE] * (not label) + [CIRCULAR_NOTE] * bool(card["circular"].any())
    if label:
        return Table.of_setting(
            name, title, label, header, (Group("", rows),), tuple(notes), 1, text_last=True
        )
    return Table(name, title, header, (Group("", rows),), tuple(notes), len(header))


def line_cells(card: pd.DataFrame) -> dict[str, dict[Column, str]]:
    """{metric: {(test, truth): such as "10 of 12; planted_or 0.17"}}: on how many networks it
    passes, and its lowest value where it fails.
    """
    return {
        metric: {column: _passes(rows) for column, rows in line.items()}
        for metric, line in _lines(card).items()
    }


def _columns(card: pd.DataFrame) -> list[Column]:
    """Of the tests of a truth a column for each truth, of the others one; of measures where the
    card has them.
    """
    of_truths = card[card["test"].isin(OF_A_TRUTH)]
    by_truth = dict.fromkeys(zip(of_truths["test"], of_truths["truth"], strict=True))
    others = [
        test for test, about in TESTS.items() if not about.is_measure or test in set(card["test"])
    ]
    return [
        *sorted(by_truth, key=lambda column: OF_A_TRUTH.index(column[0])),
        *((test, "") for test in others if test not in OF_A_TRUTH),
    ]


def _lines(card: pd.DataFrame) -> dict[str, dict[Column, pd.DataFrame]]:
    """{metric: {(test, truth): rows}}, of `_columns`."""
    truth = card["truth"].where(card["test"].isin(OF_A_TRUTH), "")
    cells, columns = (
        dict(iter(card.groupby([card["metric"], card["test"], truth], sort=False))),
        _columns(card),
    )
    return {
        str(metric): {column: cells.get((metric, *column), card[:0]) for column in columns}
        for metric in card["metric"].unique()
    }


def _passes(rows: pd.DataFrame) -> str:
    counted = rows[rows["passes"].notna()]
    if counted.empty:
        return CIRCULAR if rows["circular"].any() else NOTHING
    failed = counted[~counted["passes"].astype(bool)]
    count = f"{len(counted) - len(failed)} of {len(counted)}"
    if failed.empty:
        return count
    worst = failed.sort_values("value", kind="stable").iloc[0]
    return f"{count}; {worst['network']} {worst['value']:.2f}"


def _over_networks(rows: pd.DataFrame) -> Cell:
    """As `_passes`, with the mean of several networks and its interval over other networks and
    images.
    """
    counted = rows[rows["passes"].notna() & (rows["test"] != SANITY)]
    if counted["network"].nunique() < 2:
        return Cell(_passes(rows))
    mean = float(counted.groupby("network", sort=False)["value"].mean().mean())
    return Cell(f"{_passes(rows)}; mean {with_interval(mean, *interval_over_networks(counted))}")


def _measured(run: RunFolder, rows: pd.DataFrame) -> Cell:
    """The value of a test's one row, or as `_passes`; of a place the best."""
    row: Any = next(rows.itertuples(), None)
    if row is None or math.isnan(row.value):
        return Cell(NOTHING)
    if row.test == PLACE:
        places = f"{row.value:.0f} of {row.n} [{row.low:.0f}, {row.high:.0f}]"
        return numeric(row.value, f"{run.metadata.method_title(row.truth)}, {places}")
    if len(rows) > 1 or row.circular:
        return _over_networks(rows)
    if row.test == NEEDED:
        return numeric(row.value, f"\N{ALMOST EQUAL TO} {count_in_words(row.value)}")
    if row.test == RELIABILITY:
        return numeric(row.value, f"{row.value:.2f} ({row.about})")
    return numeric(row.value, with_interval(row.value, row.low, row.high))


def count_in_words(images: float) -> str:
    """Return a number of images with two digits, such as "1,400"; "over 1,000,000" if methods are
    nearly tied.
    """
    return "over 1,000,000" if images > MOST_IMAGES else f"{float(f'{images:.1e}'):,.0f}"


def in_words(run: RunFolder, card: pd.DataFrame) -> dict[str, str]:
    """{metric: how far its order of the methods can be trusted}, of the rows of one setting; empty
    where nothing tells.
    """
    by_metric = card.groupby("metric", sort=False)
    return {str(metric): "; ".join(_words(run, rows)) for metric, rows in by_metric}


def _words(run: RunFolder, card: pd.DataFrame) -> Iterator[str]:
    """Whether spoiled explanations are put in order, whether the order of the methods holds, and a
    control at the top.
    """
    degrees = card[(card["test"] == DEGREES) & ~card["circular"].astype(bool)]
    if len(degrees):  # by the interval of the share of right pairs
        failing = "fails" if (degrees["high"] < GOAL).any() else "unclear"
        passing = "passes" if (degrees["low"] >= GOAL).all() else failing
        yield f"{passing}: {degrees['value'].mean():.0%} of spoiled explanations in the right order"
    rows = {row["test"]: row for row in reversed(card.to_dict("records"))}  # the first of each
    tau, control = rows.get(RELIABILITY), rows.get(PLACE)
    needed = rows.get(NEEDED)
    if needed is not None and needed["about"] == FEW_METHODS:
        yield FEW_METHODS
    elif tau is not None and math.isfinite(tau["value"]):
        yield (
            "two halves of the images agree on the order"
            if tau["value"] >= TAU
            else (
                f"unsure: two halves, {tau['about'].removeprefix('of ')} each, order the methods "
                "otherwise"
            )
        )
    if needed is not None and not math.isnan(needed["value"]):
        yield (
            f"half of the pairs of methods take {count_in_words(needed['value'])} images or fewer "
            "to separate"
        )
    if control is not None and control["about"] in (BEATS, UNCLEAR):
        yield f"{run.metadata.method_title(control['truth'])}, a control, is {control['about']}"


def committed_line(run: RunFolder, value: str) -> str:
    """What the committed scorecard says of a metric of a run, such as "fails truth first (9 of 11;
    planted_or 0.00) and degrees (8 of 9; planted_or 0.82), passes controls (11 of 11)". Empty where
    it wasn't judged with these settings.
    """
    return (
        ""
        if committed_rows(run.config, run.metadata.metric_of(value), value).empty
        else _committed_in_words(value)
    )


@cache
def _committed_in_words(value: str) -> str:
    rows = committed_card()
    rows = rows[
        (rows["metric"] == value) & ((rows["truth"] == PRIMARY) | ~rows["test"].isin(OF_A_TRUTH))
    ]
    verdicts_of, cells = verdicts(rows)[value], line_cells(rows)[value]
    parts = []
    for verb, verdict in (("fails", False), ("passes", True)):
        tests = [test for test, holds in verdicts_of.items() if holds is verdict]
        texts = [
            cells.get((test, PRIMARY if test in OF_A_TRUTH else ""), NOTHING) for test in tests
        ]
        words = [
            f"{TESTS[test].title.lower()} ({text})" for test, text in zip(tests, texts, strict=True)
        ]
        parts += [f"{verb} {', '.join(words)}"] if words else []
    return "; ".join(parts)


def _heading(runs: Sequence[RunFolder], test: str, truth: str) -> str:
    titles = (run.metadata.method_title(truth) for run in runs if truth in run.methods)
    return f"{TESTS[test].title}: {next(titles)}" if truth else TESTS[test].title


def _title(runs: Sequence[RunFolder], metric: str) -> str:
    value = next(run.metadata.value(metric) for run in runs if metric in run.metrics)
    return value.title + ARROWS.get(value.better, "")
