"""submitit: run tasks as jobs of Slurm, or as processes of this machine that imitate them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import submitit as engine

from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name, whole_number
from axiom_bench.run.executors import Call, Executor, remote

FOLDER = ".submitit"  # a folder in the run folder for the output of jobs, their tasks and results
LOOK = 2.0  # seconds between two looks for a result
ASK = 30.0  # seconds between two questions to Slurm about a job; every job of a command asks


@contextmanager
def submitit(
    folder: Path,
    cluster: Name = "slurm",
    tasks: Annotated[int, whole_number(1, "a number of jobs")] = 16,
    timeouts: Annotated[int, whole_number(0, "a number of times")] = 3,
    parameters: dict[str, object] | None = None,
) -> Iterator[Executor]:
    """Queue a job per task.

    Args:
        folder: The run folder, on a disk that all machines share, since submitit's own folder is in
            it.
        cluster: slurm or local.
        tasks: The number of jobs that are queued or run at a time.
        timeouts: The number of times that a job whose time is over is queued again.
        parameters: Parameters of submitit, such as timeout_min.
    """
    limit = {"slurm_max_num_timeout": timeouts} if cluster == "slurm" else {}
    queue = engine.AutoExecutor(folder=folder / FOLDER / "%j", cluster=cluster, **limit)
    # null leaves a parameter of conf/executor/submitit.yaml to submitit
    set_parameters = {key: value for key, value in (parameters or {}).items() if value is not None}
    queue.update_parameters(**set_parameters)
    executor = Submitit(queue, tasks)
    try:
        yield executor
    finally:
        executor.close()


class Submitit:
    """An executor of threads, each of which queues a job and waits for it."""

    def __init__(self, queue: engine.AutoExecutor, tasks: int) -> None:
        self.queue = queue
        self.threads = ThreadPoolExecutor(tasks)
        self.is_queueing = threading.Lock()
        self.is_closed = threading.Event()

    def submit(self, function: Callable[..., object], /, *arguments: object) -> Future[object]:
        """See `Executor`."""
        return self.threads.submit(self.done, _Call(remote(function, arguments)))

    def done(self, call: _Call) -> object:
        """Queue a call as a job, wait for the job, and return its result."""
        with self.is_queueing:
            job = self.queue.submit(call)
        asked = time.monotonic()
        while not job.done():
            is_lost = False
            if time.monotonic() - asked > ASK:
                is_lost = _has_left_the_queue(job)
                asked = time.monotonic()
            if self.is_closed.wait(LOOK):
                job.cancel(check=False)
                raise BenchError("The command has ended.")
            # a file system of several machines has had time to show the result
            if is_lost and not job.done():
                raise BenchError(
                    f"Slurm's job {job.job_id} ended without a result, as one that is killed for "
                    f"want of memory does; {job.paths.stderr} says more. Finished shards are "
                    "kept: the same command continues from there."
                )
        result = job.result()
        for path in (job.paths.submitted_pickle, job.paths.result_pickle):
            path.unlink(missing_ok=True)
        return result

    def close(self) -> None:
        """Cancel the remaining jobs."""
        self.is_closed.set()
        self.threads.shutdown(cancel_futures=True)


def _has_left_the_queue(job: engine.Job[object]) -> bool:
    """Return True if Slurm's queue lacks the job.

    submitit asks Slurm's accounting instead. Not every cluster has it, and without it submitit
    would wait forever.
    """
    if not isinstance(job, engine.SlurmJob):
        return False
    asked = subprocess.run(
        ["squeue", "-h", "-j", job.job_id], capture_output=True, text=True, check=False
    )
    return not asked.stdout.strip() and (asked.returncode == 0 or "Invalid job id" in asked.stderr)


class _Call:
    """The content of a job. If Slurm stops the job because of its time or another job, it is queued
    again.

    The call doesn't run in the main thread, in which submitit's signal handlers raise: a user's
    code can't catch this.
    """

    def __init__(self, call: Call) -> None:
        self.call = call

    def __call__(self) -> object:
        return ThreadPoolExecutor(1).submit(*self.call).result()

    def checkpoint(self) -> engine.helpers.DelayedSubmission:
        """Return the job to queue if this one is stopped; submitit calls this method."""
        return engine.helpers.DelayedSubmission(self)
