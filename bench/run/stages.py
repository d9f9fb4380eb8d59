"""The seconds that each stage of a job took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

START, WRITING, WHOLE_SET, RUN_TIMES, PICTURES = "start", "writing", "whole data set", "run times", "pictures"


class Stages:
    """A watch whose laps are stages: `end` names the stage that has just ended."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._now = now
        self._last = now()

    def end(self, name: str, parts: Mapping[str, float] | None = None) -> None:
        """The time since the last stage's end, or the start, is that of this stage, but for that of its parts."""
        now = self._now()
        laps = parts or {}
        rest = max(0.0, now - self._last - sum(laps.values()))
        for lap, seconds in (*laps.items(), (name, rest)):
            self.seconds[lap] = self.seconds.get(lap, 0.0) + seconds
        self._last = now
