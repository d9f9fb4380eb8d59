"""One method against every other, paired by image: on how many images it is better, and whether that can be chance."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.last_lines import compare_in
from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.statistics.paired import SIGNIFICANCE
from axiom_bench.report.tables.table import Cell, Group, Table, row
from axiom_bench.report.tables.text import group_title


def paired_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric with a direction; none where the run's
    `config.report.compare` names no method. Raises BenchError where the run has no such method."""
    control = run.options.compare
    if control is None:
        return
    header = ("Against", "Images", f"{control} better", "Same", "Worse", "Median difference", "p", "p, Holm")
    values = [value for value in map(run.value, run.metrics) if value.has_direction]
    for i, setting in enumerate(run.settings, start=1):
        tests = compare_in(run, setting, control, values)
        groups = (Group(group_title(v), tuple(_rows(tests[tests["metric"] == v.name]))) for v in values)
        title = f"{control} against the others, {run.label(setting)}"
        yield Table(
            f"paired_{i}", title, header, tuple(group for group in groups if group.rows), _notes(control, tests)
        )


def _rows(tests: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    for test in tests.to_dict("records"):
        counts = (str(test[name]) for name in ("n", "better", "same", "worse"))
        numbers = (number(test[name]) for name in ("difference", "p", "adjusted"))
        *cells, last = row(test["method"], *counts, *numbers)
        yield (*cells, Cell(last.text, test["adjusted"] < SIGNIFICANCE))


def _notes(control: str, tests: pd.DataFrame) -> tuple[str, ...]:
    if tests.empty:
        return (f"{control} shares no value with another method here.",)
    return (
        "Images: those where both have a value; an image with several rows counts once, by its mean difference. "
        f"Better, same, worse: the images on which {control} is. Median difference: of {control} minus the other.",
        "p: Wilcoxon's signed-rank test over the images that differ, two-sided. p, Holm: adjusted for all rows of its "
        f"metric; bold below {SIGNIFICANCE:g}. It says that a difference isn't chance, not that it is large.",
    )
