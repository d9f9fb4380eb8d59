"""The comparison of a frozen set: every name, count, status and statistic against the baseline's, by its tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from axiom_bench.gate import network_rows
from axiom_bench.gate.baseline import WHOLE_SET
from axiom_bench.gate.findings import KEY, Finding, Row, verdict
from axiom_bench.gate.limits import MACHINE_DIFFERENCE, tolerance
from axiom_bench.gate.text import DIGITS
from axiom_bench.statistics.numbers import number
from axiom_bench.statistics.summary import counts_of

Better = Mapping[str, str]  # metric -> "lower", "higher" or "none"


def names(expected: pd.DataFrame, actual: pd.DataFrame) -> Iterator[Finding]:
    """Names that came or went, one finding each rather than one for every row, then single rows of names that both
    have."""
    for column in KEY:
        for name in sorted(set(expected[column]) - set(actual[column])):
            count = (expected[column] == name).sum()
            yield Finding((column, name), "row", f"missing from the run, {count} rows of the baseline")
        for name in sorted(set(actual[column]) - set(expected[column])):
            count = (actual[column] == name).sum()
            yield Finding((column, name), "row", f"not in the baseline, {count} rows of the run")
    before, after = by_key(expected), by_key(actual)
    common = [set(expected[column]) & set(actual[column]) for column in KEY]
    for key in sorted(before.keys() ^ after.keys()):
        if all(name in present for name, present in zip(key, common, strict=True)):
            yield Finding(key, "row", "missing from the run" if key in before else "not in the baseline")


def values(expected: pd.DataFrame, actual: pd.DataFrame, better: Better) -> Iterator[Finding]:
    """A finding for every count and value that differs, of the rows that both have."""
    before, after = by_key(expected), by_key(actual)
    for key in sorted(before.keys() & after.keys()):
        yield from _differences(key, before[key], after[key], better)


def lost_rows(expected: pd.DataFrame, actual: pd.DataFrame) -> Iterator[Finding]:
    """A finding for every row of the same images that is of more or fewer of them, whatever their status."""
    before, after = by_key(expected), by_key(actual)
    for key in sorted(before.keys() & after.keys()):
        counts = [sum(counts_of(row["statuses"]).values()) for row in (before[key], after[key])]
        if counts[0] != counts[1]:
            yield Finding(key, "n", f"rows were {counts[0]}, are {counts[1]}")


def by_key(table: pd.DataFrame) -> dict[Row, dict[str, Any]]:
    """The rows of a baseline by the names of KEY."""
    rows = ({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
    return {tuple(str(row[name]) for name in KEY): row for row in rows}


def direction(metric: str, better: Better) -> str:
    """ "lower", "higher" or "none", of a metric as it stands in a baseline."""
    if metric == network_rows.ACCURACY:
        return "higher"
    return "lower" if network_rows.is_run_time(metric) else better.get(metric.removesuffix(WHOLE_SET), "none")


def moved(statistic: str, before: float, after: float, allowed: str) -> str:
    """The clause of a value that moved."""
    change = f", {100 * (after - before) / abs(before):+.3g} %" if before and math.isfinite(after + before) else ""
    difference = f"{number(after - before)}{change}; allowed {allowed}"
    return f"{statistic} was {before:.{DIGITS}g}, is {after:.{DIGITS}g} ({difference})"


def _differences(key: Row, expected: Mapping[str, Any], actual: Mapping[str, Any], better: Better) -> Iterator[Finding]:
    for name in ("n", "statuses", "tolerance"):
        if expected[name] != actual[name]:
            yield Finding(key, name, f"{name} was {expected[name]}, is {actual[name]}")
    floor = network_rows.FLOOR if network_rows.is_run_time(key[-1]) else MACHINE_DIFFERENCE
    for limit in tolerance(actual["tolerance"], actual["metric"], floor):
        a, b = float(expected[limit.statistic]), float(actual[limit.statistic])
        if not limit.holds(a, b):
            text, allowed = moved(limit.statistic, a, b, str(limit)), limit.allowed(a)
            yield Finding(key, limit.statistic, text, verdict(a, b, direction(key[-1], better)), a, b, allowed)
