"""The pages of the parts, made in several processes, because the comparisons of all methods take
most of the time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

from axiom_bench.environment import num_cores
from axiom_bench.errors import BenchError
from axiom_bench.report.leaderboard.parts import Costs, Part, page


@dataclass(frozen=True, eq=False)
class MadePart:
    """A part with all of its comparisons, and its page."""

    part: Part
    page: str


@dataclass(frozen=True)
class PartTask:
    """The facts from which a process makes a part's page."""

    suite: str
    name: str
    folder: Path
    costs: Costs
    has_gallery: bool


def made_parts(
    suites: Mapping[str, Mapping[str, Path]],
    costs: Costs,
    galleries: Collection[tuple[str, str]],
) -> list[MadePart]:
    """Read all parts, compare their methods and make their pages, with a process for each core.

    Args:
        suites: {suite: {part: run folder}}.
        costs: The costs of methods.
        galleries: The (suite, part) that have a page of pictures.

    Returns:
        The parts in the order of `suites`.

    Raises:
        BenchError: If a run can't be read, or a process ended early.
    """
    tasks = []
    for suite, folders in suites.items():
        for name, folder in folders.items():
            tasks.append(PartTask(suite, name, folder, costs, (suite, name) in galleries))
    num_processes = min(num_cores(), len(tasks))
    if num_processes < 2:
        return [_made_part(task) for task in tasks]
    with ProcessPoolExecutor(num_processes, multiprocessing.get_context("spawn")) as processes:
        try:
            return list(processes.map(_made_part, tasks))
        except BrokenProcessPool as error:
            raise BenchError(
                "A process that compared methods ended early, probably because memory ran out. "
                "Close other programs and run the command again."
            ) from error


def _made_part(task: PartTask) -> MadePart:
    """Return a part and its page. Matrix products take one thread, since every core has a
    process.
    """
    with threadpool_limits(1, "blas"):
        part = Part.read(task.suite, task.name, task.folder)
        return MadePart(part, page(part, task.costs, task.has_gallery))
