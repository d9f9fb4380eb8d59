"""The seconds that each stage of a job took."""

from __future__ import annotations

import time


class Stages:
    """A watch whose laps are stages: `end` names the stage that has just ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end(self, name: str) -> None:
        """The time since the last stage's end, or the start, is that of this stage."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now
