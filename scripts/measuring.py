"""What the scripts share: times taken in turn, and tables in Markdown."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

Calls = Mapping[str, Callable[[], object]]
CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def timed(
    calls: Calls, repeats: int, clock: Callable[[], float] = time.perf_counter, device: torch.device = CPU
) -> dict[str, list[float]]:
    """Seconds of every case in every repeat, the device synchronised, after one warm-up turn.

    All cases run in turn, repeat after repeat, so that other load on the machine affects all of them alike.
    """
    seconds: dict[str, list[float]] = {title: [] for title in calls}
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for repeat in range(repeats + 1):
        for title, call in calls.items():
            synchronise()
            start = clock()
            call()
            synchronise()
            if repeat:
                seconds[title].append(clock() - start)
    return seconds


def ratios(times: Sequence[float], others: Sequence[float]) -> list[float]:
    """One case's time divided by another's, in every repeat."""
    return [seconds / other for seconds, other in zip(times, others, strict=True)]


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over the repeats of one case's time divided by another's."""
    return statistics.median(ratios(times, others))


def markdown(rows: Sequence[Sequence[str]], rule: str = "") -> str:
    """A table whose first row is its header; pipes in cells are escaped. rule: below the header; default: all text."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, rule or "| " + " | ".join("---" for _ in rows[0]) + " |")
    return "\n".join(lines)
