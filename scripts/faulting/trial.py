"""What came of one trial of a fault, and the table of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

HEADER = (
    "| fault | times | gone within, max s | records identical | shards repeated, max | words |",
    "|:---|---:|---:|---:|---:|:---|",
)


@dataclass
class Trial:
    """fault: the table's row. times: faults in this trial. gone: seconds from the fault to the last process's end, the
    longest. identical: whether the same command ended with the records of an undisturbed run. repeated: the most shards
    that one process began in vain. words: what the user was told. broken: a sentence for each promise that broke."""

    fault: str
    number: int
    times: int = 0
    gone: float | None = None
    identical: bool = False
    repeated: int = 0
    words: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def took(self, seconds: float, limit: float) -> None:
        """A process was gone so many seconds after its signal."""
        self.gone = max(self.gone or 0.0, seconds)
        if seconds > limit:
            self.broken.append(f"gone after {seconds:.1f} s, not within {limit:.0f} s")

    def must(self, holds: bool, sentence: str) -> None:
        """A promise, and what to say where it doesn't hold."""
        if not holds:
            self.broken.append(sentence)


@dataclass(frozen=True)
class Case:
    """What a trial gets. work: the folder that all trials share; folder: empty, the trial's own. random: decides all
    that is by chance. number: the trial's, from 0, of about `times`."""

    work: Path
    folder: Path
    random: Random
    number: int
    times: int


@dataclass(frozen=True)
class Fault:
    """name: the table's row. attempt: makes one trial. times: faults that the table is to show."""

    name: str
    attempt: Callable[[Trial, Case], None]
    times: int


def table(trials: Sequence[Trial]) -> str:
    """A row for each fault, in the order of the trials."""
    rows = [_row(name, [trial for trial in trials if trial.fault == name])
            for name in dict.fromkeys(trial.fault for trial in trials)]  # fmt: skip
    return "\n".join([*HEADER, *rows])


def _row(name: str, trials: Sequence[Trial]) -> str:
    gone = [trial.gone for trial in trials if trial.gone is not None]
    identical = sum(trial.identical for trial in trials)
    words = list(dict.fromkeys(word for trial in trials for word in trial.words))
    cells = (
        *(name, f"{sum(trial.times for trial in trials):,}", f"{max(gone):.1f}" if gone else "-"),
        *(f"{identical} of {len(trials)} runs", str(max(trial.repeated for trial in trials))),
        "; ".join(words) or "-",
    )
    return f"| {' | '.join(cells)} |"
