"""The time that an evaluation spends on loading, the trace, methods, passes that metrics ask for,
and metrics.

A run prints these times and stores them in its manifest, so that a user sees what to leave out. A
watch is passed down to the loop. It reads the time only when one part ends and the next begins,
so no value depends on it. A lazy computation counts for the part that asks for it first: the first
method that needs ablation drops has their time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

LOADING = "loading"
TRACE = "trace"
METHODS = "methods"
PASSES = "metrics' passes"
METRICS = "metrics"
PARTS = (LOADING, TRACE, METHODS, PASSES, METRICS)
MAX_LAPS = 4096  # the most laps that are kept before the older ones are added up

Mark = Any
"""A moment: seconds, or an event of a GPU."""
# The time inside the context manager counts for the part of this name, except the time of other
# parts inside it.
Watch = Callable[[str], AbstractContextManager[None]]


def untimed(part: str) -> AbstractContextManager[None]:
    """Return a context manager that reads no time: the watch of evaluations that aren't timed."""
    return nullcontext()


class Stopwatch:
    """The seconds of each part, measured between the marks at which it begins and ends. Its
    `measure` is a Watch.

    mark: sets a mark. between: returns the seconds from one mark to another; it is called a while
    after the marks.
    """

    def __init__(
        self,
        mark: Callable[[], Mark] = time.perf_counter,
        between: Callable[[Mark, Mark], float] = lambda start, end: end - start,
    ) -> None:
        self._mark = mark
        self._between = between
        self._part: str | None = None  # None: outside of all parts
        self._last: Mark = None
        self._laps: list[tuple[str, Mark, Mark]] = []
        self._seconds = dict.fromkeys(PARTS, 0.0)

    @staticmethod
    def for_device(device: torch.device) -> Stopwatch:
        """Return the stopwatch for a device.

        On a GPU it sets events in the stream, for which no pass waits. A part's time is the time of
        its kernels, and of the process while the stream is empty.
        """
        if device.type != "cuda":
            return Stopwatch()
        stream = torch.cuda.current_stream(device)
        return Stopwatch(
            lambda: stream.record_event(torch.cuda.Event(enable_timing=True)), between_events
        )

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Count the time inside for this part, except the time of other parts inside it."""
        outer = self._part
        self._switch_to(name)
        try:
            yield
        finally:
            self._switch_to(outer)

    def seconds(self) -> dict[str, float]:
        """Return {part: seconds} of the time that has ended, with all of PARTS as keys. Wait for a
        GPU.
        """
        self._add_up(len(self._laps))
        return dict(self._seconds)

    def _switch_to(self, part: str | None) -> None:
        """End the current part, and begin the next one."""
        now = self._mark()
        if self._part is not None:
            self._laps.append((self._part, self._last, now))
        self._part = part
        self._last = now
        if len(self._laps) >= MAX_LAPS:
            self._add_up(MAX_LAPS // 2)  # only the older laps, whose events a GPU has long passed

    def _add_up(self, count: int) -> None:
        """Add the first laps to the seconds of their parts."""
        for part, start, end in self._laps[:count]:
            self._seconds[part] = self._seconds.get(part, 0.0) + self._between(start, end)
        self._laps = self._laps[count:]


def between_events(start: torch.cuda.Event, end: torch.cuda.Event) -> float:
    """Return the seconds from one event to another; wait for the second."""
    end.synchronize()
    seconds: float = start.elapsed_time(end) / 1000
    return seconds
