"""One method against every other, paired by image: on how many images it is better, and whether that can be chance."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.last_lines import compare_in
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric
from axiom_bench.report.tables.text import group_title
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.run_folder import RunFolder


def paired_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric with a direction; none where the run's
    `config.report.compare` names no method. Raises BenchError where the run has no such method."""
    control = options_of(run).compare
    if control is None:
        return
    title_of_control = run.metadata.method_title(control)
    header = ("Against", "Images", f"{title_of_control} better", "Same", "Worse", "Median difference", "p", "p, Holm")
    values = [value for value in map(run.metadata.value, run.metrics) if value.has_direction]
    for i, setting in enumerate(run.settings, start=1):
        tests = compare_in(run, setting, control, values)
        rows_of = {value: tuple(_rows(run, tests[tests["metric"] == value.name])) for value in values}
        groups = tuple(Group(group_title(value), rows, value.name) for value, rows in rows_of.items() if rows)
        title, label, notes = (
            f"{title_of_control} against the others",
            run.label(setting),
            _notes(title_of_control, tests),
        )
        yield Table(f"paired_{i}", f"{title}, {label}", header, groups, notes, family=title, label=label)


def _rows(run: RunFolder, tests: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    for test in tests.to_dict("records"):
        counts = (count(test[name]) for name in ("n", "better", "same", "worse"))
        numbers = (numeric(test[name]) for name in ("difference", "p"))
        adjusted = numeric(test["adjusted"], bold=test["adjusted"] < LEVEL)
        yield (Cell(run.metadata.method_title(test["method"])), *counts, *numbers, adjusted)


def _notes(control: str, tests: pd.DataFrame) -> tuple[str, ...]:
    if tests.empty:
        return (f"{control} shares no value with another method here.",)
    return (
        "Images: those where both have a value; an image with several rows counts once, by its mean difference. "
        f"Better, same, worse: the images on which {control} is. Median difference: of {control} minus the other.",
        "p: Wilcoxon's signed-rank test over the images that differ, for values that are 0 or 1 the exact sign test; "
        f"two-sided. p, Holm: adjusted for the rows of its metric in this table; bold below {LEVEL:g}. It says "
        "that a difference isn't chance, not that it is large.",
    )
