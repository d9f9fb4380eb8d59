"""Findings: one difference between a run and its baseline each, told better from worse."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.summary import counts_of

# A float32 value may differ by 1e-5 between machines and batch sizes; an error that is exactly zero in theory
# (any CAM on pooling + linear) is such rounding and nothing else, and no relative tolerance could hold it.
MACHINE_DIFFERENCE = 1e-5

_RULE = re.compile(r"(mean|median):(\d{1,9}(?:\.\d{1,9})?(?:e-?\d{1,2})?)(%?)")
_MOST_RULES = 2


@dataclass(frozen=True)
class Limit:
    """The largest change that one statistic may make, either way: relative to the baseline's value, or absolute.

    It is never less than MACHINE_DIFFERENCE.
    """

    statistic: str
    amount: float
    relative: bool

    def allowed(self, baseline: float) -> float:
        """How far the statistic may move from this value, in its unit."""
        return max(self.amount * abs(baseline) if self.relative else self.amount, MACHINE_DIFFERENCE)

    def holds(self, baseline: float, current: float) -> bool:
        """Whether the current value is within the limit. What isn't finite holds against the same alone."""
        if not (math.isfinite(baseline) and math.isfinite(current)):
            return baseline == current or (math.isnan(baseline) and math.isnan(current))
        return abs(current - baseline) <= self.allowed(baseline)

    def __str__(self) -> str:
        return f"{100 * self.amount:.6g} %" if self.relative else f"{self.amount:.6g}"


def tolerance(text: str, metric: str) -> tuple[Limit, ...]:
    """`median:0.5%` or `median:0.01`, or several with a space between. Raises BenchError for anything else.

    >>> [str(limit) for limit in tolerance("mean:1% median:0.01", "box_iou")]
    ['1 %', '0.01']
    """
    matches = [_RULE.fullmatch(part) for part in text.split()[: _MOST_RULES + 1]]
    limits = [Limit(m[1], float(m[2]) / (100 if m[3] else 1), bool(m[3])) for m in matches if m]
    if not limits or len(limits) < len(matches) or len({limit.statistic for limit in limits}) < len(limits):
        raise BenchError(
            f"The metric {metric!r} has the tolerance {text[:100]!r}; write median:0.5%, mean:0.01, or both with a "
            "space."
        )
    return tuple(limits)


DIGITS = 6  # of a number in a baseline
WHOLE_SET = " (whole set)"  # after the name of a metric's value of the whole data set
ACCURACY = "network accuracy"  # of rows of no metric: no metric's name has a space


BETTER, WORSE, CHANGED = "better", "worse", "changed"  # verdicts
ORDER = (WORSE, CHANGED, BETTER)
KEY = ("model", "layer", "data", "method", "metric")
Row = tuple[str, ...]  # the names of KEY

MAX_NAME = 200  # characters that are printed


@dataclass(frozen=True)
class Finding:
    """A difference between a run and its baseline.

    place: The names of KEY of its row. Of a name that came or went, the column and the name: ("method", "grad_cam").
    what: What differs: mean, median, n, statuses, tolerance, or row (which came or went).
    text: The difference as a clause.
    verdict: BETTER or WORSE by the metric's direction, else CHANGED.
    before, after: The numbers, if numbers differ.
    allowed: How far they might have moved.
    """

    place: tuple[str, ...]
    what: str
    text: str
    verdict: str = CHANGED
    before: float | None = None
    after: float | None = None
    allowed: float | None = None

    @property
    def row(self) -> Row | None:
        """The row of a baseline that it is of; None for a name that came or went."""
        return self.place if len(self.place) == len(KEY) else None

    @property
    def line(self) -> str:
        """One sentence, of printable characters alone."""
        suffix = "" if self.verdict == CHANGED else f", which is {self.verdict}"
        text = "".join(letter if letter.isprintable() else "?" for letter in self.text)
        return f"{' '.join(map(printable, self.place))}: {text}{suffix}."

    @property
    def size(self) -> float:
        """The movement over what was allowed; infinite where there is no such number."""
        if self.before is None or self.after is None or not self.allowed:
            return math.inf
        movement = abs(self.after - self.before) / self.allowed
        return movement if math.isfinite(movement) else math.inf


def counted(findings: Iterable[Finding]) -> str:
    """How many of each verdict.

    >>> counted([Finding(("method", "a"), "row", "gone"), Finding(("a",), "mean", "was 1, is 2", BETTER)])
    '1 better, 1 changed'
    """
    verdicts = [finding.verdict for finding in findings]
    counts = {name: verdicts.count(name) for name in (WORSE, BETTER, CHANGED)}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def printable(name: str) -> str:
    """A name for a line of text: quoted where it holds characters that end a line or control a terminal, or where a
    line that begins with it would be a command to GitHub Actions.

    >>> printable("layer4"), printable("a\\nb"), printable("::error::b")
    ('layer4', "'a\\\\nb'", "'::error::b'")
    """
    if not name.isprintable() or name.lstrip().startswith(("::", "##[")) or not name.strip():
        name = repr(name)
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."


Better = Mapping[str, str]  # metric -> "lower", "higher" or "none"


def moved_names(expected: pd.DataFrame, actual: pd.DataFrame) -> Iterator[Finding]:
    """Names that came or went, one finding each rather than one for every row, then single rows of names that both
    have."""
    missing = (expected, actual, "missing from the run", "baseline"), (actual, expected, "not in the baseline", "run")
    for column in KEY:
        for side, other, what, where in missing:
            for name in sorted(set(side[column]) - set(other[column])):
                yield Finding((column, name), "row", f"{what}, {(side[column] == name).sum()} rows of the {where}")
    before, after = by_key(expected), by_key(actual)
    common = [set(expected[column]) & set(actual[column]) for column in KEY]
    for key in sorted(before.keys() ^ after.keys()):
        if all(name in present for name, present in zip(key, common, strict=True)):
            yield Finding(key, "row", "missing from the run" if key in before else "not in the baseline")


def moved_values(expected: pd.DataFrame, actual: pd.DataFrame, better: Better) -> Iterator[Finding]:
    """A finding for every count and value that differs, of the rows that both have."""
    for key, before, after in _in_both(expected, actual):
        for name in ("n", "statuses", "tolerance"):
            if before[name] != after[name]:
                verdict = WORSE if name != "tolerance" and _values(after) < _values(before) else CHANGED
                yield Finding(key, name, f"{name} was {before[name]}, is {after[name]}", verdict)
        for limit in tolerance(after["tolerance"], after["metric"]):
            a, b = float(before[limit.statistic]), float(after[limit.statistic])
            if not limit.holds(a, b):
                yield moved(key, limit, a, b, direction(key[-1], better))


def _values(row: Mapping[str, str]) -> int:
    """How many rows have a value: a map that became zero has none."""
    return counts_of(str(row["statuses"])).get(OK, 0)


def moved(key: Row, limit: Limit, before: float, after: float, better: str) -> Finding:
    """Return the finding of a value that moved. better: "lower", "higher", or "none" for a metric without a
    direction."""
    relative = percent(before, after)
    difference = f"{number(after - before)}{relative and f', {relative}'}; allowed {limit}"
    text = f"{limit.statistic} was {before:.{DIGITS}g}, is {after:.{DIGITS}g} ({difference})"
    verdict = CHANGED
    if better in ("lower", "higher") and math.isfinite(before) and math.isfinite(after):
        verdict = BETTER if (after < before) == (better == "lower") else WORSE
    return Finding(key, limit.statistic, text, verdict, before, after, limit.allowed(before))


def percent(before: float, after: float) -> str:
    """By how many percent a value changed; empty from 0, and where one isn't finite."""
    return f"{100 * (after - before) / abs(before):+.3g} %" if before and math.isfinite(after + before) else ""


def by_key(table: pd.DataFrame) -> dict[Row, dict[str, Any]]:
    """The rows of a baseline by the names of KEY."""
    rows = ({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
    return {tuple(str(row[name]) for name in KEY): row for row in rows}


def direction(metric: str, better: Better) -> str:
    """ "lower", "higher" or "none", of a metric as it stands in a baseline."""
    if metric == ACCURACY:
        return "higher"
    return better.get(metric.removesuffix(WHOLE_SET), "none")


def _in_both(expected: pd.DataFrame, actual: pd.DataFrame) -> Iterator[tuple[Row, dict[str, Any], dict[str, Any]]]:
    before, after = by_key(expected), by_key(actual)
    yield from ((key, before[key], after[key]) for key in sorted(before.keys() & after.keys()))
