"""executor.detach=true: a run as Slurm's jobs, so that no command need stay alive. One prepares it, an array computes
the shards, and a last one, which waits for them, does what is missing and writes the report."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from axiom_bench.errors import BenchError
from axiom_bench.records import files, locks, remote, running
from axiom_bench.run import executors, manifest
from axiom_bench.run.composing.composition import Composition, composed
from axiom_bench.run.manifest import Failure
from axiom_bench.run.tasks import Task, compute_part, prepare, run_folder

HERE = "executor=local"
PROGRAM = (sys.executable, "-P", "-m", "axiom_bench.cli.main", "run")  # -P: the current folder isn't first
Command = tuple[list[str], Path | None]  # overrides, and a folder of YAML files


def detach(composition: Composition, config: dict[str, Any], config_folder: Path | None) -> list[str]:
    """Queues the jobs: the last lines. Raises BenchError where Slurm doesn't take them."""
    if config["executor"].get("cluster") != "slurm" or remote.is_url(str(config["results"])):
        raise BenchError("executor.detach=true needs Slurm, and results in a folder that its nodes see.")
    others = [word for word in composition.typed if word.lstrip("+").partition("=")[0].partition(".")[0] != "executor"]
    command: Command = [*others, HERE], config_folder
    folder, options = run_folder(config), [] if config_folder is None else ["--config-dir", str(config_folder)]
    files.ensure_writable(folder)
    with locks.held(folder), executors.opened(config["executor"], folder) as opened:
        executor = cast(Any, opened)  # submitit's, whose jobs may wait for others
        numbers: list[str] = []
        for step in (
            [(share, command, None, 1)],
            [(share, command, number, executor.tasks) for number in range(executor.tasks)],
            [(subprocess.check_call, [*PROGRAM, *options, *command[0]])],
        ):
            if numbers:
                more = (config["executor"].get("parameters") or {}).get("slurm_additional_parameters") or {}
                more = {**more, "dependency": f"afterany:{numbers[-1]}"}
                executor.queue.update_parameters(slurm_additional_parameters=more)
            for call in step:
                executor.submit(*call)
            numbers.append(executor.start()[0].job_id.partition("_")[0])
        jobs = " ".join(numbers)
        line = f"Slurm has it as jobs {jobs}: squeue --jobs={','.join(numbers)} shows them, scancel {jobs} ends them."
        about = {"experiment": config["experiment"], "run": config["run"], "overrides": list(composition.overrides)}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        running.begin(folder, {**about, "created": created, "config": config, "jobs": len(composition.jobs),
                               "queued": [line]})  # fmt: skip
    return [line, f"axiom-bench status {folder} says how far it is; its report will be {folder}/report.html."]


def share(command: Command, number: int | None, count: int) -> None:
    """Computes one of so many parts of a command line's shards; None: none, but prepares and announces its jobs."""
    with composed(*command) as composition:
        if failed := [failure.message for job in composition.job_configs() if (failure := _share(number, count, job))]:
            sys.exit("\n".join(failed))  # Slurm then tells that the job has failed; the last one says it in the report


def _share(number: int | None, count: int, config: DictConfig) -> Failure | None:
    task = Task(uuid4().hex, cast(dict[str, Any], OmegaConf.to_container(config, resolve=True)))
    plan = prepare(task)
    if isinstance(plan, Failure):
        return plan
    if number is None:
        running.announce(task.folder, plan.begun.job, {**manifest.of_job(plan.begun), "shards": plan.shards})
        return None
    keys = [key for place, key in enumerate(plan.shards) if place % count == number and key in plan.missing]
    part = compute_part(task, keys)
    return part if isinstance(part, Failure) else None
