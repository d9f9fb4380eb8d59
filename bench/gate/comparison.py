"""Comparison of a run's numbers with a baseline. Every difference has its own line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.errors import BenchError
from axiom_bench.gate.baseline import DIGITS, KEY, Baseline, find
from axiom_bench.gate.limits import tolerance
from axiom_bench.report.numbers import number
from axiom_bench.report.run_folder import RunFolder

HOLDS, MOVED, NOT_COMPARABLE = 0, 1, 2  # exit codes


@dataclass(frozen=True)
class GateResult:
    """exit_code: 0 holds, 1 moved, 2 can't compare. lines: why, one sentence each."""

    exit_code: int
    lines: tuple[str, ...]


def gate(run_folder: Path, baseline: Path) -> GateResult:
    """Compare a run with a baseline. Never raises for a bad run or baseline.

    baseline: a file, or the name of a baseline that comes with the package, as `quick`.
    """
    try:
        current = RunFolder.read(Path(run_folder))
        expected = Baseline.read(find(Path(baseline)))
        actual = Baseline.of(current)
        _check_configurations(expected.configuration, actual.configuration)
        differences = [*_names(expected.rows, actual.rows), *_values(expected.rows, actual.rows)]
    except BenchError as error:
        return GateResult(NOT_COMPARABLE, (f"Can't compare: {error}",))
    if differences:
        count = f"{len(differences)} difference{'s' if len(differences) > 1 else ''} from {baseline}."
        last = f"Moved: {count} If it is meant, refresh the baseline in a commit of its own."
        return GateResult(MOVED, (*differences, last))
    return GateResult(HOLDS, (f"Holds: {len(actual.rows)} rows of {baseline} are within their tolerances.",))


def _check_configurations(expected: Mapping[str, str], actual: Mapping[str, str]) -> None:
    """Raises BenchError where two runs aren't comparable."""
    names = [name for name in {**expected, **actual} if expected.get(name) != actual.get(name)]
    if names:
        differences = "; ".join(
            f"{name} was {expected.get(name, 'absent')!r}, is {actual.get(name, 'absent')!r}" for name in names
        )
        raise BenchError(
            f"the baseline is of another configuration ({differences}); give the baseline of this experiment."
        )


def _names(expected: pd.DataFrame, actual: pd.DataFrame) -> Iterator[str]:
    """Names that came or went: one line each rather than one for every row."""
    for column in KEY:
        for name in sorted(set(expected[column]) - set(actual[column])):
            yield f"{column} {name}: missing from the run, {(expected[column] == name).sum()} rows of the baseline."
        for name in sorted(set(actual[column]) - set(expected[column])):
            yield f"{column} {name}: not in the baseline, {(actual[column] == name).sum()} rows of the run."


def _values(expected: pd.DataFrame, actual: pd.DataFrame) -> Iterator[str]:
    """One line for every row, count or value that differs, but for names that `_names` reports."""
    before, after = _by_key(expected), _by_key(actual)
    common = [set(expected[column]) & set(actual[column]) for column in KEY]
    for key in sorted({*before, *after}):
        place = " ".join(key)
        if key in before and key in after:
            yield from (f"{place}: {difference}" for difference in _differences(before[key], after[key]))
        elif all(name in names for name, names in zip(key, common, strict=True)):
            yield f"{place}: {'missing from the run' if key in before else 'not in the baseline'}."


def _by_key(table: pd.DataFrame) -> dict[tuple[str, ...], dict[str, Any]]:
    rows = ({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
    return {tuple(str(row[name]) for name in KEY): row for row in rows}


def _differences(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> Iterator[str]:
    for name in ("n", "statuses", "tolerance"):
        if expected[name] != actual[name]:
            yield f"{name} was {expected[name]}, is {actual[name]}."
    for limit in tolerance(actual["tolerance"], actual["metric"]):
        a, b = expected[limit.statistic], actual[limit.statistic]
        if not limit.holds(a, b):
            change = f", {100 * (b - a) / abs(a):+.3g} %" if a and not math.isnan(a + b) else ""
            yield f"{limit.statistic} was {a:.{DIGITS}g}, is {b:.{DIGITS}g} ({number(b - a)}{change}; allowed {limit})."
