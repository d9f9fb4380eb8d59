"""submitit: tasks as jobs of Slurm, or as processes of this machine as Slurm would have them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import submitit as engine

from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name, whole
from axiom_bench.run.executors import Executor, remote

FOLDER = ".submitit"  # in the run folder: what jobs print, and what travels to them and back
LOOK = 2.0  # seconds
ASK = 30.0  # seconds between two questions to Slurm, which all jobs of a command ask


@contextmanager
def submitit(
    folder: Path,
    cluster: Name = "slurm",
    tasks: Annotated[int, whole(1, "a number of jobs")] = 16,
    timeouts: Annotated[int, whole(0, "a number of times")] = 3,
    parameters: dict[str, Any] | None = None,
) -> Iterator[Executor]:
    """Queue a job per task.

    Args:
        folder: The run folder, on a disk that all machines share, since submitit's own folder is in it.
        cluster: slurm or local.
        tasks: The number of jobs that are queued or run at a time.
        timeouts: How often a job whose time is over is queued again.
        parameters: submitit's own, such as timeout_min.
    """
    limit = {"slurm_max_num_timeout": timeouts} if cluster == "slurm" else {}
    queue = engine.AutoExecutor(folder=folder / FOLDER / "%j", cluster=cluster, **limit)
    queue.update_parameters(**{key: value for key, value in (parameters or {}).items() if value is not None})
    executor = Submitit(queue, tasks)
    try:
        yield executor
    finally:
        executor.close()


class Submitit:
    """Threads, each of which queues a job and waits for it."""

    def __init__(self, queue: Any, tasks: int) -> None:
        self.queue = queue
        self.threads = ThreadPoolExecutor(tasks)
        self.is_queueing = threading.Lock()
        self.is_closed = threading.Event()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """See `Executor`."""
        return self.threads.submit(self.done, _Call(remote(function, arguments)))

    def done(self, call: _Call) -> Any:
        """Return what a call returns, as a job."""
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
            if is_lost and not job.done():  # a file system of several machines has had time to show the result
                raise BenchError(
                    f"Slurm's job {job.job_id} ended without a result, as one that is killed for want of memory "
                    f"does; {job.paths.stderr} says more. Finished shards are kept: the same command goes on."
                )
        result = job.result()
        for path in (job.paths.submitted_pickle, job.paths.result_pickle):
            path.unlink(missing_ok=True)
        return result

    def close(self) -> None:
        """Cancel the jobs that are left."""
        self.is_closed.set()
        self.threads.shutdown(cancel_futures=True)


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
