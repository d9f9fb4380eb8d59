"""Dask: run tasks on a cluster, or in processes of this machine.

The address of its scheduler identifies a cluster, for example of dask-jobqueue, Kubernetes or a
cloud.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Annotated

from dask.config import set as configured
from dask.distributed import Client, LocalCluster

from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name, whole_number
from axiom_bench.run.executors import Call, Executor, Future, remote
from axiom_bench.run.executors.processes import THREADS, Processes

NO_DAEMONS = {"distributed.worker.daemon": False}  # a daemon may not start processes


@contextmanager
def dask(
    address: Name | None = None,
    workers: Annotated[int, whole_number(1, "a number of processes")] = 2,
    resources: dict[str, object] | None = None,
) -> Iterator[Executor]:
    """Connect to a cluster of Dask, or start one on this machine.

    Args:
        address: The address of the scheduler, such as tcp://HOST:8786; None: start workers on this
            machine.
        workers: The number of workers on this machine.
        resources: The share that a task takes of the resources that workers were started with, such
            as {GPU: 1}.
    """
    with configured(NO_DAEMONS), ExitStack() as stack:
        cluster: str | LocalCluster | None = address
        if cluster is None:
            cluster = stack.enter_context(
                LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            )
        client = stack.enter_context(Client(cluster))
        yield _Dask(client, resources or {})


class _Dask:
    """The executor of one client."""

    def __init__(self, client: Client, resources: dict[str, object]) -> None:
        self.client = client
        self.resources = resources

    def submit(self, function: Callable[..., object], /, *arguments: object) -> Future:
        """See `Executor`. If a worker died, Dask runs its task again, three times
        (`distributed.scheduler`).
        """
        call = remote(function, arguments)
        future: Future = self.client.submit(
            _call_in_process, call, pure=False, resources=self.resources or None
        )
        return future


def _call_in_process(call: Call) -> object:
    """Run a worker's task in a process of its own.

    The worker's threads draw from the global random state, which a plug-in may not change, and they
    need the interpreter while a task computes.
    """
    if multiprocessing.current_process().daemon:
        raise BenchError(
            "Dask's workers may start no process, as loading images does; start them with the "
            "environment variable DASK_DISTRIBUTED__WORKER__DAEMON=False."
        )
    return _process().done(call)


@cache
def _process() -> Processes:
    """Return the process that runs the tasks of this worker."""
    threads = os.environ.get(THREADS) or str(os.cpu_count() or 1)
    return Processes([(THREADS, threads)])
