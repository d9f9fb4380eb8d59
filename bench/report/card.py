"""The scorecard as tables: the rows of `judging.card`, and one line for each metric."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from axiom_bench.judging.card import (
    CONTROLS,
    DEGREES,
    GAMING,
    OF_A_TRUTH,
    RELIABILITY,
    SANITY,
    TESTS,
    TRUTH_AHEAD,
    TRUTH_FIRST,
)
from axiom_bench.judging.headline import PRIMARY, committed_rows, verdicts
from axiom_bench.judging.networks import over_networks
from axiom_bench.report.tables.table import Cell, Group, Table, count
from axiom_bench.report.tables.text import ARROWS
from axiom_bench.statistics.labels import NOTHING, with_interval
from axiom_bench.statistics.run_folder import RunFolder

TITLES = {
    TRUTH_AHEAD: "Truth ahead",
    TRUTH_FIRST: "Truth not significantly behind",
    DEGREES: "Degrees",
    CONTROLS: "Controls",
    RELIABILITY: "Reliability",
    SANITY: "Sanity",
    GAMING: "Gaming",
}
NOTES = (
    "Truth: the share of images on which the right explanation is better than the best method or control. Ahead: none "
    "has a better value. Not significantly behind: none is significantly better. Degrees, controls: the share of pairs "
    "(less and more spoiled; method and control) that sets of up to 100 images put in the right order. Reliability: "
    "Kendall's tau of two halves.",
    "Gaming: the share of images on which a map that is the same for all is better than the best method. One that is "
    "made for each image says how far the metric can be driven, and has no verdict.",
    "Circular: the truth is computed from what the metric is computed from, so the row counts for nothing.",
)
CIRCULAR = "circular"


def line_table(runs: Sequence[RunFolder], card: pd.DataFrame) -> Table:
    """A line for each metric: on how many networks it passes each test, and where it fails first."""
    lines = line_cells(card)
    rows = tuple((Cell(_title(runs, metric)), *map(Cell, cells.values())) for metric, cells in lines.items())
    header = ("Metric", *(_heading(runs, *column) for column in next(iter(lines.values()), {})))
    return Table("scorecard", "Scorecard of metrics", header, (Group("", rows),), NOTES, len(header))


def line_cells(card: pd.DataFrame) -> dict[str, dict[tuple[str, str], str]]:
    """{metric: {(test, truth): such as "10 of 12; planted_or 0.17"}}: on how many networks it passes, and its lowest
    value where it fails. Of the tests of a truth a column for each truth, of the others one."""
    names = ["metric", "test", "truth", "network", "value", "circular", "passes"]
    rows_of: dict[str, dict[tuple[str, str], list[Any]]] = {str(metric): {} for metric in card["metric"].unique()}
    row: Any
    for row in card[names].itertuples(index=False):
        column = (row.test, row.truth if row.test in OF_A_TRUTH else "")
        rows_of[row.metric].setdefault(column, []).append(row)
    of_truths = card[card["test"].isin(OF_A_TRUTH)]
    by_truth = dict.fromkeys(zip(of_truths["test"], of_truths["truth"], strict=True))
    columns = [
        *sorted(by_truth, key=lambda column: TESTS.index(column[0])),
        *((test, "") for test in TESTS if test not in OF_A_TRUTH),
    ]
    return {
        metric: {column: _cell(of_metric.get(column, [])) for column in columns}
        for metric, of_metric in rows_of.items()
    }


def networks_table(runs: Sequence[RunFolder], card: pd.DataFrame) -> Table:
    """A row for each metric, test and truth: its mean over networks, and the means without one of them."""
    groups = []
    for metric, rows in over_networks(card).groupby("metric", sort=False):
        cells = tuple(tuple(map(Cell, networks_cells(row))) for row in rows.to_dict("records"))
        groups.append(Group(_title(runs, str(metric)), cells))
    return Table("scorecard_networks", "Over networks", NETWORKS, tuple(groups), (NETWORKS_NOTE,), len(NETWORKS))


NETWORKS = ("Test", "Truth", "Passes", "Mean [95 %]", "Without one network")
NETWORKS_NOTE = (
    "Mean: of the networks' values, with an interval over families of networks, networks and images; networks of one "
    "recipe are a family. Without one network: the lowest and the highest mean, and which is left out."
)


def networks_cells(row: Mapping[Hashable, Any]) -> tuple[str, ...]:
    """Of a row of `networks.over_networks`, under NETWORKS."""
    mean = with_interval(*(row[end] for end in ("mean", "low", "high")))
    ends = [f"{row[end]:.2f} ({row[f'without_{end}']})" for end in ("lowest", "highest") if row[f"without_{end}"]]
    return TITLES[row["test"]], row["truth"], f"{row['passed']} of {row['networks']}", mean, " to ".join(ends)


def detail_table(runs: Sequence[RunFolder], metric: str, card: pd.DataFrame) -> Table:
    """A metric's rows of the card, a group for each test."""
    groups = [
        Group(
            TITLES[test],
            tuple(
                _detail(runs, row)
                for row in card[(card["metric"] == metric) & (card["test"] == test)].to_dict("records")
            ),
        )
        for test in TESTS
    ]
    header = ("Test", "Network", "Truth", "Value [95 %]", "Images", "Verdict", "")
    filled = tuple(group for group in groups if group.rows)
    return Table(f"scorecard_{metric}", _title(runs, metric), header, filled, NOTES, 3, text_last=True)


def committed_line(run: RunFolder, value: str) -> str:
    """What the committed scorecard says of a metric of a run, such as "fails truth first (9 of 11; planted_or 0.00) and
    degrees (8 of 9; planted_or 0.82), passes controls (11 of 11)". Empty where it wasn't judged with these settings."""
    metric = str(((run.manifest.get("metrics") or {}).get(value) or {}).get("metric", value))
    rows = committed_rows(run.config, metric, value)
    if rows.empty:
        return ""
    held, cells = verdicts(rows)[value], line_cells(rows)[value]
    words: dict[bool | None, list[str]] = {False: [], True: [], None: []}
    for test, holds in held.items():
        cell = cells.get((test, PRIMARY if test in OF_A_TRUTH else ""), NOTHING)
        words[holds].append(f"{TITLES[test].lower()} ({cell})")
    parts = [
        f"{verb} {', '.join(words[holds])}" for verb, holds in (("fails", False), ("passes", True)) if words[holds]
    ]
    return "; ".join(parts)


def _detail(runs: Sequence[RunFolder], row: Mapping[Hashable, Any]) -> tuple[Cell, ...]:
    ends = (row["value"], row["low"], row["high"])
    value = Cell(with_interval(*ends) if math.isfinite(row["low"]) else f"{row['value']:.2f}", False, ends[:1])
    judged = "no verdict" if pd.isna(row["passes"]) else "passes" if row["passes"] else "fails"
    verdict = CIRCULAR if row["circular"] else judged
    words = (TITLES[row["test"]], row["network"], row["truth"])
    return (*map(Cell, words), value, count(row["n"]), Cell(verdict), Cell(row["about"]))


def _cell(rows: Sequence[Any]) -> str:
    counted = [row for row in rows if not pd.isna(row.passes)]
    if not counted:
        return CIRCULAR if any(row.circular for row in rows) else NOTHING
    failed = [row for row in counted if not row.passes]
    if not failed:
        return f"{len(counted)} of {len(counted)}"
    worst = min(failed, key=lambda row: row.value)
    return f"{len(counted) - len(failed)} of {len(counted)}; {worst.network} {worst.value:.2f}"


def _heading(runs: Sequence[RunFolder], test: str, truth: str) -> str:
    titles = (run.metadata.method_title(truth) for run in runs if truth in run.methods)
    return f"{TITLES[test]}: {next(titles)}" if truth else TITLES[test]


def _title(runs: Sequence[RunFolder], metric: str) -> str:
    value = next(run.metadata.value(metric) for run in runs if metric in run.metrics)
    return value.title + ARROWS.get(value.better, "")
