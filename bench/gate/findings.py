"""Findings: one difference between a run and its baseline each, told better from worse."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.gate.compare import KEY, NOW, Limit, Place, Rules, compare, tolerance
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.summary import counts_of

DIGITS = 6  # of a number in a baseline
WHOLE_SET = " (whole set)"  # after the name of a metric's value of the whole data set
ACCURACY = "network accuracy"  # of rows of no metric: no metric's name has a space


BETTER, WORSE, CHANGED = "better", "worse", "changed"  # verdicts
ORDER = (WORSE, CHANGED, BETTER)
MAX_NAME = 200  # characters that are printed


@dataclass(frozen=True)
class Finding:
    """A difference between a run and its baseline.

    place: The names of KEY of its row. Of a name that came or went, the column and the name:
    ("method", "grad_cam"). what: What differs: mean, median, n, statuses, tolerance, or row (which
    came or went). text: The difference as a clause. verdict: BETTER or WORSE by the metric's
    direction, else CHANGED. before, after: The numbers, if numbers differ. allowed: How far they
    might have moved.
    """

    place: tuple[str, ...]
    what: str
    text: str
    verdict: str = CHANGED
    before: float | None = None
    after: float | None = None
    allowed: float | None = None

    @property
    def row(self) -> Place | None:
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


def differences(expected: pd.DataFrame, actual: pd.DataFrame, better: Better) -> list[Finding]:
    """Return all findings between the rows of two baselines, the worst first."""
    findings = [*_moved_names(expected, actual), *_moved_values(expected, actual, better)]
    return sorted(findings, key=lambda finding: ORDER.index(finding.verdict))


def _moved_names(expected: pd.DataFrame, actual: pd.DataFrame) -> Iterator[Finding]:
    """Names that came or went, one finding each rather than one for every row, then single rows of
    names that both have.
    """
    missing = (
        (expected, actual, "missing from the run", "baseline"),
        (actual, expected, "not in the baseline", "run"),
    )
    for column in KEY:
        for side, other, what, where in missing:
            for name in sorted(set(side[column]) - set(other[column])):
                yield Finding(
                    (column, name),
                    "row",
                    f"{what}, {(side[column] == name).sum()} rows of the {where}",
                )
    before, after = places(expected), places(actual)
    common = [set(expected[column]) & set(actual[column]) for column in KEY]
    for place in sorted({*before} ^ {*after}):
        if all(name in present for name, present in zip(place, common, strict=True)):
            yield Finding(
                place, "row", "missing from the run" if place in before else "not in the baseline"
            )


RULES = Rules(
    KEY,
    lambda rows: tolerance(rows["tolerance" + NOW].iloc[0], rows["metric"].iloc[0]),
    limited_by=("metric", "tolerance" + NOW),
    numbers=("mean", "median"),
    equal=("n", "statuses", "tolerance"),
)


def _moved_values(
    expected: pd.DataFrame, actual: pd.DataFrame, better: Better
) -> Iterator[Finding]:
    """A finding for every count and value that differs, of the rows that both have."""
    for difference in compare(expected, actual, RULES):
        place = difference.place
        row = difference.rows.iloc[0]
        for name in RULES.equal:
            if difference.differs[name].any():
                is_worse = name != "tolerance" and _values(row["statuses" + NOW]) < _values(
                    row["statuses"]
                )
                text = f"{name} was {row[name]}, is {row[name + NOW]}"
                yield Finding(place, name, text, WORSE if is_worse else CHANGED)
        for limit in tolerance(row["tolerance" + NOW], place[-1]):
            if difference.differs[limit.statistic].any():
                before, after = (float(row[limit.statistic + end]) for end in ("", NOW))
                yield moved(place, limit, before, after, direction(place[-1], better))


def _values(statuses: str) -> int:
    """How many rows have a value: a map that became zero has none."""
    return counts_of(statuses).get(OK, 0)


def moved(place: Place, limit: Limit, before: float, after: float, better: str) -> Finding:
    """Return the finding of a value that moved. better: "lower", "higher", or "none" for a metric
    without a direction.
    """
    relative = percent(before, after)
    difference = f"{number(after - before)}{relative and f', {relative}'}; allowed {limit}"
    text = f"{limit.statistic} was {before:.{DIGITS}g}, is {after:.{DIGITS}g} ({difference})"
    verdict = CHANGED
    if better in ("lower", "higher") and math.isfinite(before) and math.isfinite(after):
        verdict = BETTER if (after < before) == (better == "lower") else WORSE
    return Finding(
        place, limit.statistic, text, verdict, before, after, float(limit.allowed(before))
    )


def percent(before: float, after: float) -> str:
    """By how many percent a value changed; empty from 0, and where one isn't finite."""
    return (
        f"{100 * (after - before) / abs(before):+.3g} %"
        if before and math.isfinite(after + before)
        else ""
    )


def places(table: pd.DataFrame) -> list[Place]:
    """Return the names of KEY of each row of a baseline."""
    return [tuple(map(str, names)) for names in table[list(KEY)].itertuples(index=False)]


def direction(metric: str, better: Better) -> str:
    """ "lower", "higher" or "none", of a metric as it stands in a baseline."""
    if metric == ACCURACY:
        return "higher"
    return better.get(metric.removesuffix(WHOLE_SET), "none")
