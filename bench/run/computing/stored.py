"""The records of a job: finds what is missing, has it computed, and lists the files that count."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich import get_console
from rich.console import Console

from axiom_bench.cutting.trace import CutModel
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.shard import traced
from axiom_bench.evaluation.stopwatch import Stopwatch
from axiom_bench.records import files, holdings, mirror
from axiom_bench.records.holdings import Holdings, Values
from axiom_bench.run.computing import compute, costs
from axiom_bench.run.computing.compute import Task, tasks
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.job import Job, Shard
from axiom_bench.run.progress import progress
from axiom_bench.run.stages import START


@dataclass(frozen=True)
class Computed:
    """What one command computed of a job: shards and images, the seconds of each part (see `evaluation.stopwatch`),
    wall clock and processor time of the whole loop over the shards, and the passes of the model that it counted."""

    shards: int = 0
    images: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    wall: float = 0.0
    processor: float = 0.0
    passes: Mapping[str, int] = field(default_factory=dict)

    def work(self) -> dict[str, float]:
        """The job's entry in the manifest's "work"; {} where nothing was computed. processor_seconds: of the loop, in
        this process alone. Passes are counted in images, with the rows that pad a batch."""
        if not self.images:
            return {}
        rates = {"images_per_second": round(self.images / self.wall, 4)} if self.wall else {}
        return {"images": self.images, **rates, "processor_seconds": round(self.processor, 2), **self.passes}


@dataclass(frozen=True)
class Stored:
    """The files of a job's records, and the values to take from them: {method: {metric: key}}."""

    records: tuple[str, ...] = ()
    values: Values = field(default_factory=dict)
    curves: tuple[str, ...] = ()
    axes: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The entry of the job in the manifest, by which `records.reading` reads them."""
        return {"records": list(self.records), "values": self.values}


def ensure(
    facts: Facts, cut_model: CutModel, folder: Path, budget: int | None = None, share: bool = False
) -> tuple[Computed, Stored]:
    """Computes what is missing and no other process computes: (what that was, the job's records).

    budget: maximum of forward passes for an image and explained class. share: the rest is left to the processes that
    compute it. Raises BenchError where passes would be more, and, of the whole, where files have vanished meanwhile:
    what follows takes the records for those of all images.
    """
    job, all_tasks, console = facts.job, tasks(facts), get_console()
    keys = {task.key for task in all_tasks}
    held = holdings.read(folder, keys)
    for name in held.damaged:
        files.warn_damaged(folder / name)
    missing = [task for task in all_tasks if held.missing(task.key, task.wanted)]
    computed = Computed()
    if missing:
        start = time.perf_counter()
        _print(console, *_cost(job, cut_model, [task.shard for task in missing], budget))
        seconds = time.perf_counter() - start
        computed = _compute(job, cut_model, missing, folder, console, wait=not share)
        computed = replace(computed, seconds={START: seconds, **computed.seconds})
    holdings.remove(folder, held.damaged)
    if len(missing) < len(all_tasks):
        already = len(all_tasks) - len(missing)
        _print(console, f"{job.name}: {already} of {len(all_tasks)} shards were already there")
    after = holdings.read(folder, keys) if missing else held
    if not share and (gone := sum(bool(after.missing(task.key, task.wanted)) for task in all_tasks)):
        raise BenchError(
            f"{gone} of {len(all_tasks)} shards that were computed are gone from {folder}, or damaged, before the run "
            "has ended; run the same command again, and let nothing delete its files."
        )
    return computed, _stored(after, all_tasks)


def _compute(
    job: Job, cut_model: CutModel, missing: Sequence[Task], folder: Path, console: Console, wait: bool
) -> Computed:
    watch, computed = Stopwatch.on(job.device.device), []
    start, processor, passes = time.perf_counter(), time.process_time(), asdict(cut_model.passes)
    by_key = {task.key: task for task in missing}

    def say(line: str) -> None:
        _print(console, f"{job.name}: {line}")

    claimed = closing(mirror.claimed(list(by_key), folder, say, wait))
    images = sum(len(task.shard) for task in missing)
    with progress(job.name, images, console) as shown, claimed as claimed_keys:
        for key in claimed_keys:
            task = by_key[key]
            # Another process may have been faster.
            still_missing = holdings.read(folder, {key}).missing(key, task.wanted)
            if still_missing:
                compute.compute(job, cut_model, task, still_missing, folder, watch, shown.advance)
                computed.append(task)
            else:
                shown.advance(len(task.shard))
    return Computed(
        shards=len(computed),
        images=sum(len(task.shard) for task in computed),
        seconds=watch.seconds(),
        wall=time.perf_counter() - start,
        processor=time.process_time() - processor,
        passes={name: count - passes[name] for name, count in asdict(cut_model.passes).items()},
    )


def _stored(held: Holdings, all_tasks: Sequence[Task]) -> Stored:
    needed = [file for task in all_tasks for file in held.needed(task.key, task.wanted)]
    return Stored(
        records=tuple(file.name for file in needed),
        values=all_tasks[0].wanted if all_tasks else {},
        curves=tuple(file.curve_file for file in needed if file.curve_file is not None),
        axes={name: axes for file in needed for name, axes in file.axes.items()},
    )


def _cost(job: Job, cut_model: CutModel, missing: Sequence[Shard], budget: int | None) -> Iterator[str]:
    """The cost of what is missing, in forward passes; no line where only the traces need passes.

    Raises BenchError over the budget.
    """
    batch = compute.first_row(job)
    if batch is None:
        return
    versions = None if batch.interventions is None else versions_per_row(job, missing)
    cost = costs.Cost.of(job.methods, job.metrics, traced(cut_model, batch), versions)
    costs.check(cost, job.metrics, budget)
    if cost.per_image:
        images, rows = sum(map(len, missing)), sum(map(job.rows, missing))
        yield f"{job.name}: {cost.line(images, rows)}"


def versions_per_row(job: Job, missing: Sequence[Shard]) -> float:
    """The versions of an image without its parts, on average over the rows of these shards."""
    counts = [(job.rows(Shard(0, (index,))), job.data.versions(index)) for shard in missing for index in shard.indices]
    rows = sum(rows for rows, _ in counts)
    return sum(rows * versions for rows, versions in counts) / rows if rows else 0.0


def _print(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)
