"""Findings: one difference between a run and its baseline each, told better from worse."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

BETTER, WORSE, CHANGED = "better", "worse", "changed"  # verdicts
KEY = ("model", "layer", "data", "method", "metric")
Row = tuple[str, ...]  # the names of KEY

MAX_NAME = 200  # characters that are printed


@dataclass(frozen=True)
class Finding:
    """A difference.

    place: the names of KEY of its row; of a name that came or went ("method", "grad_cam"), the column and the name.
    what: what differs: mean, median, n, statuses, tolerance, values (rows that have one), or row (came, or went).
    text: the difference as a clause. verdict: BETTER or WORSE by the metric's direction, else CHANGED. before, after:
    the numbers, where it is of numbers. allowed: how far they might have moved. p: after Holm, of a sampled comparison.
    """

    place: tuple[str, ...]
    what: str
    text: str
    verdict: str = CHANGED
    before: float | None = None
    after: float | None = None
    allowed: float | None = None
    p: float | None = field(default=None)

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


def verdict(before: float, after: float, better: str) -> str:
    """better: "lower", "higher", or a metric without a direction."""
    if better not in ("lower", "higher") or not (math.isfinite(before) and math.isfinite(after)):
        return CHANGED
    return BETTER if (after < before) == (better == "lower") else WORSE


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
