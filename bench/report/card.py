"""The scorecard of metrics, from the rows of `judging.card`: as a table with a line for each
metric, and in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pandas as pd

from axiom_bench.errors import plural
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
    CONTROLS,
    DEGREES,
    FEW_METHODS,
    GAMING,
    IMAGES_NEEDED,
    PLACE,
    RELIABILITY,
    SANITY,
    TESTS,
    TRUTH_AHEAD,
    TRUTH_FIRST,
    TRUTH_TESTS,
    UNCLEAR,
)
from axiom_bench.report.tables.table import Cell, Group, Table, number_cell
from axiom_bench.report.tables.text import ARROWS
from axiom_bench.statistics.labels import NOTHING, with_interval
from axiom_bench.statistics.run_folder import RunFolder

Column = tuple[str, str]  # test and truth
MOST_IMAGES = 1_000_000  # a larger number of images is "over 1,000,000"
CIRCULAR = "circular"
MEAN_NOTE = (
    "Mean: of the networks' values, with an interval over families of networks, networks and "
    "images; networks of one recipe are a family."
)
CIRCULAR_NOTE = (
    "Circular: truth and metric are computed from the same data, so the row isn't counted."
)


def line_table(
    runs: Sequence[RunFolder],
    card: pd.DataFrame,
    name: str = "scorecard",
    title: str = "Scorecard of metrics",
    label: str = "",
) -> Table:
    """Return the scorecard as a table with a line for each metric.

    For several networks, a test's column says on how many the metric passes, the worst network, and
    the mean of their values. The table of one setting has the values, and the verdict in words.

    Args:
        runs: The runs that were judged.
        card: The rows of the scorecard.
        name: The name of the table's files.
        title: The title of the table.
        label: The label of the one setting; "" for several networks.
    """
    cell = partial(_measured, runs[0]) if label else _over_networks
    lines = {}
    for metric, rows_by_column in _lines(card).items():
        lines[metric] = {column: cell(rows) for column, rows in rows_by_column.items()}
    # A column without any value is left out.
    columns = [
        column
        for column in _columns(card)
        if any(cells[column].text != NOTHING for cells in lines.values())
    ]
    header = ["Metric"]
    for test, truth in columns:
        heading = TESTS[test].title
        if truth:
            titles = (run.metadata.method_title(truth) for run in runs if truth in run.methods)
            heading += f": {next(titles)}"
        header.append(heading)
    words_by_metric = trust_by_metric(runs[0], card) if label else {}
    rows = []
    for metric, cells in lines.items():
        value = next(run.metadata.value(metric) for run in runs if metric in run.metrics)
        row = [Cell(value.title + ARROWS.get(value.better, ""))]
        row += [cells[column] for column in columns]
        if metric in words_by_metric:
            row.append(Cell(words_by_metric[metric] or NOTHING))
        rows.append(tuple(row))
    tests = {test for test, _ in columns}
    notes = [about.note for test, about in TESTS.items() if about.note and test in tests]
    if not label:
        notes.append(MEAN_NOTE)
    if card["circular"].any():
        notes.append(CIRCULAR_NOTE)
    groups = (Group("", tuple(rows)),)
    if label:
        header.append("Verdict")
        return Table.of_setting(
            name, title, label, tuple(header), groups, tuple(notes), 1, text_last=True
        )
    return Table(name, title, tuple(header), groups, tuple(notes), len(header))


def line_cells(card: pd.DataFrame) -> dict[str, dict[Column, str]]:
    """Return {metric: {(test, truth): text}}. A text such as "10 of 12; planted_or 0.17" says on
    how many networks the metric passes, and its lowest value if it fails.
    """
    cells = {}
    for metric, rows_by_column in _lines(card).items():
        cells[metric] = {column: _passes(rows) for column, rows in rows_by_column.items()}
    return cells


def _columns(card: pd.DataFrame) -> list[Column]:
    """Return the columns of a scorecard. A test against a truth has a column for each truth, any
    other test has one. A measure has a column only if the card has it.
    """
    truth_rows = card[card["test"].isin(TRUTH_TESTS)]
    truth_columns = dict.fromkeys(zip(truth_rows["test"], truth_rows["truth"], strict=True))
    columns = sorted(truth_columns, key=lambda column: TRUTH_TESTS.index(column[0]))
    tests = set(card["test"])
    for test, about in TESTS.items():
        is_absent = about.is_measure and test not in tests
        if test not in TRUTH_TESTS and not is_absent:
            columns.append((test, ""))
    return columns


def _lines(card: pd.DataFrame) -> dict[str, dict[Column, pd.DataFrame]]:
    """Return {metric: {(test, truth): rows}} with the columns of `_columns`."""
    truth = card["truth"].where(card["test"].isin(TRUTH_TESTS), "")
    groups = dict(iter(card.groupby([card["metric"], card["test"], truth], sort=False)))
    columns = _columns(card)
    lines = {}
    for metric in card["metric"].unique():
        lines[str(metric)] = {column: groups.get((metric, *column), card[:0]) for column in columns}
    return lines


def _passes(rows: pd.DataFrame) -> str:
    """Return on how many networks a metric passes a test, and its worst network if it fails."""
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
    """Return the text of `_passes`. For several networks, add the mean and its interval over other
    networks and images.
    """
    counted = rows[rows["passes"].notna() & (rows["test"] != SANITY)]
    if counted["network"].nunique() < 2:
        return Cell(_passes(rows))
    mean = float(counted.groupby("network", sort=False)["value"].mean().mean())
    mean_text = with_interval(mean, *interval_over_networks(counted))
    return Cell(f"{_passes(rows)}; mean {mean_text}")


def _measured(run: RunFolder, rows: pd.DataFrame) -> Cell:
    """Return the value of a test's one row, or the text of `_passes`. A test of places has the best
    place.
    """
    row: Any = next(rows.itertuples(), None)
    if row is None or math.isnan(row.value):
        return Cell(NOTHING)
    if row.test == PLACE:
        places = f"{row.value:.0f} of {row.n} [{row.low:.0f}, {row.high:.0f}]"
        return number_cell(row.value, f"{run.metadata.method_title(row.truth)}, {places}")
    if len(rows) > 1 or row.circular:
        return _over_networks(rows)
    if row.test == IMAGES_NEEDED:
        return number_cell(row.value, f"\N{ALMOST EQUAL TO} {count_in_words(row.value)}")
    if row.test == RELIABILITY:
        return number_cell(row.value, f"{row.value:.2f} ({row.about})")
    return number_cell(row.value, with_interval(row.value, row.low, row.high))


def count_in_words(images: float) -> str:
    """Return a number of images with two digits, such as "1,400"; "over 1,000,000" if methods are
    nearly tied.
    """
    return "over 1,000,000" if images > MOST_IMAGES else f"{float(f'{images:.1e}'):,.0f}"


def trust_by_metric(run: RunFolder, card: pd.DataFrame) -> dict[str, str]:
    """Return {metric: how far its order of the methods can be trusted} of the rows of one setting.
    A text is empty if no test answers it.
    """
    by_metric = card.groupby("metric", sort=False)
    return {str(metric): "; ".join(_words(run, rows)) for metric, rows in by_metric}


def _words(run: RunFolder, card: pd.DataFrame) -> Iterator[str]:
    """Yield whether a metric puts spoiled explanations in order, whether its order of the methods
    holds, and a control at the top.
    """
    degrees = card[(card["test"] == DEGREES) & ~card["circular"].astype(bool)]
    if len(degrees):  # the verdict depends on the interval of the share of right pairs
        if (degrees["low"] >= GOAL).all():
            verdict = "passes"
        elif (degrees["high"] < GOAL).any():
            verdict = "fails"
        else:
            verdict = "unclear"
        yield f"{verdict}: {degrees['value'].mean():.0%} of spoiled explanations in the right order"
    # The first row of each test is written last, and stays.
    rows = {row["test"]: row for row in reversed(card.to_dict("records"))}
    tau = rows.get(RELIABILITY)
    control = rows.get(PLACE)
    needed = rows.get(IMAGES_NEEDED)
    if needed is not None and needed["about"] == FEW_METHODS:
        yield f"can't be judged, because there are {FEW_METHODS}"
    elif tau is not None and math.isfinite(tau["value"]):
        if tau["value"] >= TAU:
            yield "two halves of the images agree on the order"
        else:
            half = tau["about"].removeprefix("of ")
            yield f"unsure: two halves, {half} each, rank the methods differently"
    if needed is not None and not math.isnan(needed["value"]):
        images = count_in_words(needed["value"])
        yield f"{images} images distinguish half of the pairs of methods"
    if control is not None and control["about"] in (BEATS, UNCLEAR):
        yield f"{run.metadata.method_title(control['truth'])}, a control, is {control['about']}"


# The tests that count for leading, as a reader of a report asks for them.
SCORECARD = "On the scorecard of metrics"
QUESTIONS = {
    TRUTH_AHEAD: "Does the right explanation have the best value, if it is known?",
    TRUTH_FIRST: "Is no method significantly better than the right explanation?",
    DEGREES: "Do explanations get worse values, the more they are spoiled?",
    CONTROLS: "Do methods have better values than maps that explain nothing?",
    SANITY: "Is the value the same for a mirrored image and for doubled logits?",
    GAMING: "Is no map that is the same for all images the best?",
}
FAILURES = {  # {test: what was found on a network on which a metric fails it}
    TRUTH_AHEAD: "a method or control has a better value than the right explanation",
    TRUTH_FIRST: "a method or control is significantly better than the right explanation",
    DEGREES: "spoiled explanations don't get clearly worse values",
    CONTROLS: "methods don't get clearly better values than maps that explain nothing",
    SANITY: "a mirrored image or doubled logits change the value",
    GAMING: "one map for all images is the best",
}


@dataclass(frozen=True)
class Tick:
    """A metric's verdict in one test of the committed scorecard."""

    test: str
    question: str
    holds: bool | None
    """Whether the metric passes; `None` if it can't be tested."""
    passed: int
    """The number of networks on which it passes."""
    counted: int
    """The number of networks on which it can be tested."""

    @property
    def networks(self) -> str:
        """The number of networks on which it passes, such as "9 of 11 networks"."""
        return f"{self.passed} of {self.counted} networks" if self.counted else "not tested"


def ticks(run: RunFolder, value: str) -> list[Tick]:
    """Return the verdicts of the committed scorecard on a metric of a run. The list is empty if the
    metric wasn't judged with these settings.
    """
    if committed_rows(run.config, run.metadata.metric_of(value), value).empty:
        return []
    return _committed_ticks(value)


@cache
def _committed_ticks(value: str) -> list[Tick]:
    """Return the verdicts of the committed scorecard on a metric."""
    return _ticks(committed_card(), value)


def _ticks(card: pd.DataFrame, value: str) -> list[Tick]:
    """Return the verdicts of a scorecard on a metric."""
    rows = card[card["metric"] == value]
    rows = rows[(rows["truth"] == PRIMARY) | ~rows["test"].isin(TRUTH_TESTS)]
    verdict_by_test = verdicts(rows)[value]
    verdict_ticks = []
    for test, question in QUESTIONS.items():
        is_counted = rows["passes"].notna() & ~rows["circular"].astype(bool)
        counted = rows[(rows["test"] == test) & is_counted]
        passed = int(counted["passes"].astype(bool).sum())
        tick = Tick(test, question, verdict_by_test[test], passed, len(counted))
        verdict_ticks.append(tick)
    return verdict_ticks


def committed_verdict(run: RunFolder, value: str) -> str:
    """Return sentences on which tests of the committed scorecard a metric of a run passes and
    fails. The text is empty if the metric wasn't judged with these settings.
    """
    verdict_ticks = ticks(run, value)
    if all(tick.holds is None for tick in verdict_ticks):
        return ""
    return _conclusion(verdict_ticks, f"{SCORECARD}, whose tests have known answers, it")


def conclusion(card: pd.DataFrame, value: str) -> str:
    """Return sentences on which tests of a scorecard a metric passes and fails."""
    verdict_ticks = _ticks(card, value)
    passed = [TESTS[tick.test].title.lower() for tick in verdict_ticks if tick.holds]
    return _conclusion(verdict_ticks, f"The metric {value}", passed)


def _conclusion(verdict_ticks: Sequence[Tick], subject: str, titles: Sequence[str] = ()) -> str:
    """Return on how many tests the subject passes, with the titles of these tests, and why it
    fails the others.
    """
    tested = [tick for tick in verdict_ticks if tick.holds is not None]
    failed = [tick for tick in tested if not tick.holds]
    sentence = f"{subject} passes {len(tested) - len(failed)} of {len(tested)} tests"
    sentence += f" ({', '.join(titles)})." if titles else "."
    if not failed:
        return sentence
    failures = []
    for tick in failed:
        networks = f"{tick.counted - tick.passed} of {plural(tick.counted, 'network')}"
        failures.append(f"{FAILURES[tick.test]} ({networks})")
    return f"{sentence} It fails because {'; '.join(failures)}."
