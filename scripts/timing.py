"""How the bench scripts take times: all cases in turn, repeat after repeat, so that other load on the machine affects
all of them alike; and ratios within a repeat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch

Calls = Mapping[str, Callable[[], object]]
CPU = torch.device("cpu")


def timed(
    calls: Calls, repeats: int, clock: Callable[[], float] = time.perf_counter, device: torch.device = CPU
) -> dict[str, list[float]]:
    """Seconds of every case in every repeat, the device synchronised, after one warm-up turn."""
    seconds: dict[str, list[float]] = {title: [] for title in calls}
    for repeat in range(repeats + 1):
        for title, call in calls.items():
            _synchronise(device)
            start = clock()
            call()
            _synchronise(device)
            if repeat:
                seconds[title].append(clock() - start)
    return seconds


def ratios(times: Sequence[float], others: Sequence[float]) -> list[float]:
    """One case's time divided by another's, in every repeat."""
    return [seconds / other for seconds, other in zip(times, others, strict=True)]


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
