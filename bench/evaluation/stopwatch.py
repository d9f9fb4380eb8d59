"""Where the time of an evaluation goes: to loading, the trace, methods, passes that metrics ask for, and metrics.

A watch is handed down to the loop and reads the time only where one part ends and the next begins: no value depends on
it. What is lazy is charged to the part that asks first, as ablation drops to the first method that needs them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

LOADING, TRACE, METHODS, PASSES, METRICS = "loading", "trace", "methods", "metrics' passes", "metrics"
PARTS = (LOADING, TRACE, METHODS, PASSES, METRICS)
MAX_LAPS = 4096  # that are kept before the older ones are added up


Watch = Callable[[str], AbstractContextManager[None]]  # the time inside is that of this part, but for parts inside it


def untimed(part: str) -> AbstractContextManager[None]:
    """A watch that reads no time."""
    return nullcontext()


class Stopwatch:
    """Seconds of each part, by the marks where it begins and ends. Its `part` is a Watch.

    mark: sets a mark. between: the seconds from one mark to another, asked for a while later.
    """

    def __init__(
        self,
        mark: Callable[[], Any] = time.perf_counter,
        between: Callable[[Any, Any], float] = lambda start, end: end - start,
    ) -> None:
        self._mark, self._between = mark, between
        self._part: str | None = None  # None: outside of all parts
        self._last: Any = None
        self._laps: list[tuple[str, Any, Any]] = []
        self._seconds = dict.fromkeys(PARTS, 0.0)

    @staticmethod
    def on(device: torch.device) -> Stopwatch:
        """On a GPU by events in its stream, which no pass waits for: a part's time is that of its kernels, and of the
        process where the stream has run empty."""
        if device.type != "cuda":
            return Stopwatch()
        stream = torch.cuda.current_stream(device)
        return Stopwatch(lambda: stream.record_event(torch.cuda.Event(enable_timing=True)), between_events)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The time inside is that of this part, but for that of the parts inside it."""
        outer = self._part
        self._turn_to(name)
        try:
            yield
        finally:
            self._turn_to(outer)

    def seconds(self) -> dict[str, float]:
        """{part: seconds} of what has ended, each of PARTS among them; waits for a GPU."""
        self._add_up(len(self._laps))
        return dict(self._seconds)

    def _turn_to(self, part: str | None) -> None:
        now = self._mark()
        if self._part is not None:
            self._laps.append((self._part, self._last, now))
        self._part, self._last = part, now
        if len(self._laps) >= MAX_LAPS:
            self._add_up(MAX_LAPS // 2)  # the older ones, whose events a GPU has long passed

    def _add_up(self, count: int) -> None:
        for part, start, end in self._laps[:count]:
            self._seconds[part] = self._seconds.get(part, 0.0) + self._between(start, end)
        self._laps = self._laps[count:]


def between_events(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    """Seconds."""
    end.synchronize()
    return start.elapsed_time(end) / 1000
