"""submitit: tasks as an array of Slurm's jobs, or processes of this machine as Slurm would have them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import submitit as engine

from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name, whole
from axiom_bench.run.executors import Executor, remote

FOLDER = ".submitit"  # in the run folder: what jobs print
LOOK = 2.0  # seconds


@contextmanager
def submitit(
    folder: Path,
    cluster: Name = "slurm",
    tasks: Annotated[int, whole(1, "a number of jobs")] = 16,
    timeouts: Annotated[int, whole(0, "a number of times")] = 3,
    parameters: dict[str, Any] | None = None,
) -> Iterator[Executor]:
    """cluster: slurm or local. tasks: jobs of an array, over which the shards are spread. timeouts: how often a job
    whose time is over is queued again. parameters: submitit's own, as timeout_min."""
    limit = {"slurm_max_num_timeout": timeouts} if cluster == "slurm" else {}
    queue = engine.AutoExecutor(folder=folder / FOLDER / "%j", cluster=cluster, **limit)
    queue.update_parameters(**{key: value for key, value in (parameters or {}).items() if value is not None})
    yield Submitit(queue, tasks)


class Submitit:
    """queue: submitit's executor."""

    shares_folder = True  # submitit's own folder is in it

    def __init__(self, queue: Any, tasks: int) -> None:
        self.queue, self.tasks = queue, tasks
        self.waiting: list[_Task] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> _Task:
        """See `Executor`. Tasks that wait when a result is asked for become one array."""
        self.waiting.append(_Task(self, _Call(remote(function, arguments))))
        return self.waiting[-1]

    def start(self) -> list[Any]:
        """Hands what waits to the queue: the jobs."""
        waiting, self.waiting = self.waiting, []
        with self.queue.batch():
            jobs = [self.queue.submit(task.call) for task in waiting]
        for task, job in zip(waiting, jobs, strict=True):
            task.job = job
        return jobs


class _Task:
    job: Any = None

    def __init__(self, executor: Submitit, call: _Call) -> None:
        self.executor, self.call = executor, call

    def result(self) -> Any:
        if self.job is None:
            self.executor.start()
        while not self.job.done():
            is_lost = _has_left_the_queue(self.job)
            time.sleep(LOOK)  # in which a file system of several machines shows the result
            if is_lost and not self.job.done():
                raise BenchError(
                    f"Slurm's job {self.job.job_id} ended without a result, as one that is killed for want of memory "
                    f"does; {self.job.paths.stderr} says more. Finished shards are kept: the same command goes on."
                )
        return self.job.result()

    def cancel(self) -> None:
        if self.job is not None:
            self.job.cancel()


def _has_left_the_queue(job: Any) -> bool:
    """submitit asks Slurm's accounting, which not every cluster has, and would wait for ever."""
    if not isinstance(job, engine.SlurmJob):
        return False
    asked = subprocess.run(["squeue", "-h", "-j", job.job_id], capture_output=True, text=True, check=False)
    return not asked.stdout.strip() and (asked.returncode == 0 or "Invalid job id" in asked.stderr)


class _Call:
    """A job. One that is stopped for its time, or for another job, is queued again. It runs beside the main thread,
    where submitit's handlers of signals raise: no code of a user's may catch that."""

    def __init__(self, call: tuple[Any, ...]) -> None:
        self.call = call

    def __call__(self) -> Any:
        return ThreadPoolExecutor(1).submit(*self.call).result()

    def checkpoint(self) -> Any:
        """See submitit's documentation."""
        return engine.helpers.DelayedSubmission(self)
