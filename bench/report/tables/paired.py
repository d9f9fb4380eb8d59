"""One method against every other, paired by image: on how many images it is better, and whether that can be chance."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.numbers import number
from axiom_bench.report.paired import LEVEL, compare
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder
from axiom_bench.report.table import Cell, Group, Table, row
from axiom_bench.report.tables.text import ARROWS, group_title


def paired_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric with a direction; none where the run's
    `config.report.compare` names no method."""
    control = run.options.compare
    if control is None:
        return
    header = ("Against", "n", f"{control} better", "Same", "Worse", "Median difference", "p", "p, Holm")
    for i, setting in enumerate(run.settings, start=1):
        records = run.at(setting)
        values = [value for value in map(run.value, run.metrics) if value.better in ARROWS]
        found = compare(records[records["method"] != METHOD_FREE], control, {v.name: v.better for v in values})
        groups = (Group(group_title(v), tuple(_rows(found[found["metric"] == v.name]))) for v in values)
        title = f"{control} against the others, {run.label(setting)}"
        yield Table(
            f"paired_{i}", title, header, tuple(group for group in groups if group.rows), _notes(control, found)
        )


def _rows(found: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    for one in found.to_dict("records"):
        counts = (str(one[name]) for name in ("n", "better", "same", "worse"))
        *cells, last = row(one["method"], *counts, *(number(one[name]) for name in ("difference", "p", "adjusted")))
        yield (*cells, Cell(last.text, one["adjusted"] < LEVEL))


def _notes(control: str, found: pd.DataFrame) -> tuple[str, ...]:
    if found.empty:
        return (f"{control} shares no value with another method here.",)
    return (
        f"n: images where both have a value. Better, same, worse: the images on which {control} is. Median difference: "
        f"of {control} minus the other.",
        "p: Wilcoxon's signed-rank test over the images that differ, two-sided. p, Holm: adjusted for all rows of its "
        f"metric; bold below {LEVEL:g}. It says that a difference isn't chance, not that it is large.",
    )
