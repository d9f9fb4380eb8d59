"""The stages of a job: what each is called while it goes on, and the seconds that it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axiom_bench.cutting.trace import CutModel
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.progress import progress

START, WRITING, WHOLE_SET, RUN_TIMES, PICTURES = "start", "writing", "whole data set", "run times", "pictures"
SHOWN = {START: "model and data", WRITING: "values", WHOLE_SET: "values of the whole data set"}  # while they go on


@dataclass(frozen=True)
class Step:
    """What a job makes its further files of, when its records are there. config: the job's; folder: the run's; stored:
    the job's records as its entry in the manifest has them."""

    facts: Facts
    cut_model: CutModel
    config: Mapping[str, Any]
    folder: Path
    stored: Mapping[str, Any]


class Stages:
    """job: its name, or what is known of it. show: a title, while the code inside goes on."""

    def __init__(
        self,
        job: str,
        now: Callable[[], float] = time.perf_counter,
        show: Callable[[str], AbstractContextManager[object]] = progress,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._job, self._now, self._show = job, now, show

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, float]]:
        """The time inside is that of this stage, but for that of the parts, {name: seconds}, that are put into what it
        yields. A stage may go on later."""
        parts: dict[str, float] = {}
        begun = self._now()
        with self._show(f"{self._job}: {SHOWN.get(name, name)}"):
            yield parts
        rest = max(0.0, self._now() - begun - sum(parts.values()))
        for part, seconds in (*parts.items(), (name, rest)):
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds
