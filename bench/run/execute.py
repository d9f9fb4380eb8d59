"""One job of a sweep, from its configuration to what it leaves in the run folder."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from axiom_bench.errors import BenchError
from axiom_bench.run import (
    aggregation,
    compute,
    correct,
    costs,
    freed_memory,
    manifest,
    notes,
    pictures,
    settings,
    timing,
)
from axiom_bench.run.claims import claimed
from axiom_bench.run.job import Job
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.progress import progress
from axiom_bench.run.shards import Shard
from axiom_bench.run.user_code import add_current_folder


def execute(config: DictConfig) -> Outcome:
    """Runs a job. It never raises: a failure is an outcome too, so that the other jobs of the sweep go on."""
    add_current_folder()
    name = str(OmegaConf.select(config, "model.name"))
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        return _run(resolved)
    except BenchError as error:
        return Outcome(name, {}, failure=Failure(name, str(error), mendable=True))
    except OmegaConfBaseException as error:
        return Outcome(name, {}, failure=Failure(name, str(error).split("\n")[0], mendable=True))
    except Exception as error:  # noqa: BLE001 - one job's defect must not take the sweep's other jobs with it
        whose = getattr(error, "__notes__", [])  # a plug-in's own mistake says so, and can be mended
        message = ", ".join([f"{type(error).__name__}: {error}", *whose])
        return Outcome(name, {}, failure=Failure(name, message, bool(whose), trace=traceback.format_exc()))


def _run(config: dict[str, Any]) -> Outcome:
    start = time.perf_counter()
    settings.check(config)
    folder = run_folder(config)
    chosen = job = Job.of(config)
    job.device.prepare()
    freed_memory.keep()
    whole = compute.cut_of(job)
    with notes.taken() as said:
        chooses = bool(config["data"].get("only_correct"))
        job, left_out = correct.only_correct(job, whole, folder) if chooses else (job, ())
        job = compute.decided(job, whole)
        shards = compute.todo(job)
        computed = _compute_missing(job, whole, shards, folder)
        over_data = aggregation.ensure(job, shards, folder)
        runtime = timing.ensure(job, whole, config["runtime"], computed > 0, folder)
        shown = pictures.ensure(job, whole, config["pictures"], folder)
    return Outcome(
        job=job.name,
        config=config,
        facts=manifest.facts(
            replace(job, indices=chosen.indices), len(job.indices), correct.OTHERS if chooses else None
        ),
        records=(*(file for shard in shards for file in shard.files.values()), *over_data),
        curves=tuple(file for shard in shards for file in shard.curve_files()),
        runtime=runtime,
        pictures=shown,
        images=len(job.indices),
        left_out=left_out,
        shards=len(shards),
        shards_computed=computed,
        seconds=time.perf_counter() - start,
        notes=(*job.notes, *said.lines(), *correct.said(left_out, len(chosen.indices))),
    )


def _compute_missing(job: Job, whole: compute.CutModel, shards: tuple[compute.Todo, ...], folder: Path) -> int:
    """Computes what isn't there, and no other process computes; says how many shards that were."""
    missing, computed = [one for one in shards if one.missing(folder)], 0
    images, console, start = sum(len(one.shard) for one in missing), Console(), time.perf_counter()
    if missing:
        _say_cost(job, [one.shard for one in missing], console)
        held = closing(claimed(missing, folder, lambda count: _say_waiting(job, count, console)))
        with progress(job.name, images, console) as advance, held as mine:
            for one, files in mine:
                if files:
                    compute.compute(job, whole, one.shard, files, folder)
                    computed += 1
                advance(len(one.shard))
        rate = images / (time.perf_counter() - start)
        console.print(f"{job.name}: {images} images, {rate:.1f} images/s", highlight=False, soft_wrap=True)
    if len(missing) < len(shards):
        there = len(shards) - len(missing)
        console.print(
            f"{job.name}: {there} of {len(shards)} shards were already there", highlight=False, soft_wrap=True
        )
    return computed


def _say_waiting(job: Job, count: int, console: Console) -> None:
    said = f"{job.name}: {count} shards were left to other processes; waiting for what they still compute"
    console.print(said, highlight=False, soft_wrap=True)


def _say_cost(job: Job, missing: Sequence[Shard], console: Console) -> None:
    """What is about to be computed, in forward passes; nothing where the metrics need none."""
    cost = costs.Cost.of(job.metrics, len(job.methods))
    if cost.per_image:
        images, rows = sum(map(len, missing)), sum(map(job.rows, missing))
        console.print(f"{job.name}: {cost.line(images, rows)}", highlight=False, soft_wrap=True)


def run_folder(config: dict[str, Any]) -> Path:
    """Where a run's files are: <results>/<experiment>/<run>."""
    return Path(str(config["results"]), config["experiment"], str(config["run"]))
