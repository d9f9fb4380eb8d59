"""Findings: each is one difference between a run and its baseline, which is better or worse."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from axiom_bench.columns import OK
from axiom_bench.errors import plural
from axiom_bench.gate.compare import AFTER_SUFFIX, KEY, Limit, Place, Rules, compare, tolerance
from axiom_bench.statistics.labels import number
from axiom_bench.statistics.summary import counts_of

DIGITS = 6  # significant digits of a number in a baseline
WHOLE_SET = " (whole set)"  # ends the name of a metric's value of the whole data set
# The metric in rows of a network's accuracy. No metric has this name, because it has a space.
ACCURACY = "network accuracy"

# Verdicts.
BETTER = "better"
WORSE = "worse"
CHANGED = "changed"
ORDER = (WORSE, CHANGED, BETTER)  # the worst first
MAX_NAME = 200  # characters of a name that are printed

Better = Mapping[str, str]  # metric -> "lower", "higher" or "none"


@dataclass(frozen=True)
class Finding:
    """A difference between a run and its baseline."""

    # The names of KEY of a row. If a name came or went, the column and the name:
    # ("method", "grad_cam").
    place: tuple[str, ...]
    # What differs: mean, median, n, statuses, tolerance, or row (which came or went).
    what: str
    text: str  # the difference as a clause
    verdict: str = CHANGED  # BETTER or WORSE according to the metric's direction, if it has one
    before: float | None = None  # the number in the baseline, if numbers differ
    after: float | None = None  # the number in the run, if numbers differ
    allowed: float | None = None  # how far the number may move

    @property
    def row(self) -> Place | None:
        """The row of a baseline, or None for a name that came or went."""
        return self.place if len(self.place) == len(KEY) else None

    @property
    def line(self) -> str:
        """The finding in one sentence of printable characters."""
        suffix = "" if self.verdict == CHANGED else f", which is {self.verdict}"
        text = "".join(letter if letter.isprintable() else "?" for letter in self.text)
        return f"{' '.join(map(printable, self.place))}: {text}{suffix}."

    @property
    def size(self) -> float:
        """The movement divided by the allowed movement; infinite if either doesn't exist."""
        if self.before is None or self.after is None or not self.allowed:
            return math.inf
        movement = abs(self.after - self.before) / self.allowed
        return movement if math.isfinite(movement) else math.inf


def count_text(findings: Iterable[Finding]) -> str:
    """Return how many findings have each verdict, in words, for the gate's conclusion.

    >>> gone = Finding(("method", "a"), "row", "gone")
    >>> count_text([gone, Finding(("a",), "mean", "was 1, is 2", BETTER)])
    '1 better, 1 changed'
    """
    verdicts = [finding.verdict for finding in findings]
    counts = {name: verdicts.count(name) for name in (WORSE, BETTER, CHANGED)}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def printable(name: str) -> str:
    r"""Return a name for a line of text, quoted if it isn't safe to print.

    Names aren't safe that contain characters that end a line or control a terminal. A line that
    begins with :: or ##[ would be a command to GitHub Actions.

    >>> printable("layer4"), printable("a\nb"), printable("::error::b")
    ('layer4', "'a\\nb'", "'::error::b'")
    """
    if not name.isprintable() or name.lstrip().startswith(("::", "##[")) or not name.strip():
        name = repr(name)
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."


def differences(expected: pd.DataFrame, actual: pd.DataFrame, better: Better) -> list[Finding]:
    """Return all findings between the rows of two baselines, the worst first."""
    findings = [*_moved_names(expected, actual), *_moved_values(expected, actual, better)]
    return sorted(findings, key=lambda finding: ORDER.index(finding.verdict))


def _moved_names(expected: pd.DataFrame, actual: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding for each name that came or went, then one for each single row that did.

    A method that is left out would otherwise give a finding for each of its rows.
    """
    missing = "missing from the run"
    new = "not in the baseline"
    sides = ((expected, actual, missing, "baseline"), (actual, expected, new, "run"))
    for column in KEY:
        for rows, other_rows, text, owner in sides:
            for name in sorted(set(rows[column]) - set(other_rows[column])):
                count = (rows[column] == name).sum()
                yield Finding(
                    (column, name), "row", f"{text}, {plural(count, 'row')} of the {owner}"
                )
    before = places(expected)
    after = places(actual)
    # Rows of a name that came or went are reported above.
    common = [set(expected[column]) & set(actual[column]) for column in KEY]
    for place in sorted({*before} ^ {*after}):
        if all(name in names for name, names in zip(place, common, strict=True)):
            yield Finding(place, "row", missing if place in before else new)


RULES = Rules(
    KEY,
    lambda rows: tolerance(rows["tolerance" + AFTER_SUFFIX].iloc[0], rows["metric"].iloc[0]),
    limited_by=("metric", "tolerance" + AFTER_SUFFIX),
    numbers=("mean", "median"),
    equal=("n", "statuses", "tolerance"),
)


def _moved_values(
    expected: pd.DataFrame, actual: pd.DataFrame, better: Better
) -> Iterator[Finding]:
    """Yield a finding for every count and value that differs in the rows that both have."""
    for difference in compare(expected, actual, RULES):
        place = difference.place
        row = difference.rows.iloc[0]
        # Fewer values are worse: a map that became zero has no value.
        has_fewer_values = _count_values(row["statuses" + AFTER_SUFFIX]) < _count_values(
            row["statuses"]
        )
        for name in RULES.equal:
            if difference.differs[name].any():
                is_worse = name != "tolerance" and has_fewer_values
                text = f"{name} was {row[name]}, is {row[name + AFTER_SUFFIX]}"
                yield Finding(place, name, text, WORSE if is_worse else CHANGED)
        for limit in tolerance(row["tolerance" + AFTER_SUFFIX], place[-1]):
            if difference.differs[limit.statistic].any():
                before = float(row[limit.statistic])
                after = float(row[limit.statistic + AFTER_SUFFIX])
                yield moved_finding(place, limit, before, after, direction(place[-1], better))


def _count_values(statuses: str) -> int:
    """Return how many rows have a value."""
    return counts_of(statuses).get(OK, 0)


def moved_finding(place: Place, limit: Limit, before: float, after: float, better: str) -> Finding:
    """Return the finding of a value that moved.

    Args:
        place: The names of KEY of the value's row.
        limit: The limit that the value exceeds.
        before: The value in the baseline.
        after: The value in the run.
        better: "lower", "higher", or "none" for a metric without a direction.

    Returns:
        The finding.
    """
    relative = percent(before, after)
    difference = number(after - before)
    if relative:
        difference += f", {relative}"
    text = (
        f"{limit.statistic} was {before:.{DIGITS}g}, is {after:.{DIGITS}g} "
        f"({difference}; allowed {limit})"
    )
    # No direction says whether a value that became, or was, NaN or infinite is better.
    verdict = CHANGED
    if better in ("lower", "higher") and math.isfinite(before) and math.isfinite(after):
        verdict = BETTER if (after < before) == (better == "lower") else WORSE
    return Finding(
        place=place,
        what=limit.statistic,
        text=text,
        verdict=verdict,
        before=before,
        after=after,
        allowed=float(limit.allowed(before)),
    )


def percent(before: float, after: float) -> str:
    """Return by how many percent a value changed; empty if it was 0, or if one isn't finite."""
    if not before or not math.isfinite(after + before):
        return ""
    return f"{100 * (after - before) / abs(before):+.3g} %"


def places(table: pd.DataFrame) -> list[Place]:
    """Return the names of KEY of each row of a baseline."""
    return [tuple(map(str, names)) for names in table[list(KEY)].itertuples(index=False)]


def direction(metric: str, better: Better) -> str:
    """Return "lower", "higher" or "none" for the name of a metric in a baseline."""
    if metric == ACCURACY:
        return "higher"
    return better.get(metric.removesuffix(WHOLE_SET), "none")
