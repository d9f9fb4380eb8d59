"""The page of each part with all of its comparisons, which take most of the leaderboard's time. So
the command makes these pages in several processes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

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


def part_tasks(
    suites: Mapping[str, Mapping[str, Path]],
    costs: Costs | None = None,
    galleries: Collection[tuple[str, str]] = (),
) -> list[PartTask]:
    """Return the tasks of all parts, in the order of `suites`.

    Args:
        suites: {suite: {part: run folder}}.
        costs: The costs of methods; `None`: no page shows any.
        galleries: The (suite, part) that have a page of pictures.
    """
    tasks = []
    for suite, folders in suites.items():
        for name, folder in folders.items():
            has_gallery = (suite, name) in galleries
            tasks.append(PartTask(suite, name, folder, costs or {}, has_gallery))
    return tasks


def made_part(task: PartTask) -> MadePart:
    """Read a part, compare its methods and make its page.

    Matrix products take one thread, because every core may have a process.

    Raises:
        BenchError: If the run can't be read.
    """
    with threadpool_limits(1, "blas"):
        part = Part.read(task.suite, task.name, task.folder)
        return MadePart(part, page(part, task.costs, task.has_gallery))
