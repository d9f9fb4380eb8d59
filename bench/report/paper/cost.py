"""The table of run times, each beside that of one method."""

from __future__ import annotations

from axiom_bench.report.tables.table import Cell, Group, Table
from axiom_bench.statistics.metadata import Setting
from axiom_bench.statistics.numbers import NOTHING, number
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.runtime import TRACE, milliseconds

TIMES = "\N{MULTIPLICATION SIGN}"


def cost_table(run: RunFolder, against: str) -> Table | None:
    """Methods as rows, networks as columns: ms an image, trace and method together, and in brackets how many times the
    time of `against` that is. None where nothing was timed."""
    if run.runtime.empty:
        return None
    columns = {run.label(setting): _column(run, setting, against) for setting in run.settings}
    methods = [name for name in run.methods if any(name in c for c in columns.values())]
    rows = tuple(
        (Cell(run.metadata.method_title(method)), *(Cell(column.get(method, NOTHING)) for column in columns.values()))
        for method in methods
    )
    device = run.manifest.get("device") or "an unknown device"
    notes = (
        f"Milliseconds an image of one trace and the method; in brackets, how many times those of "
        f"{run.metadata.method_title(against)} at the same network. Measured on {device}.",
    )
    return Table(
        "cost", f"Run time beside {run.metadata.method_title(against)}", ("Method", *columns), (Group("", rows),), notes
    )


def _column(run: RunFolder, setting: Setting, against: str) -> dict[str, str]:
    """{method: its time and ratio, written}"""
    times = milliseconds(run, setting)
    total = times.drop(TRACE, errors="ignore") + times.get(TRACE, float("nan"))
    base = total.get(against, float("nan"))
    return {str(method): f"{number(ms)} ({number(ms / base)}{TIMES})" for method, ms in total.items()}
