"""Dask: a cluster by the address of its scheduler, of dask-jobqueue, Kubernetes or a cloud, or processes here."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Annotated, Any

from dask.config import set as configured
from dask.distributed import Client, LocalCluster

from axiom_bench.errors import BenchError
from axiom_bench.kinds import Name, whole
from axiom_bench.run.executors import Executor, Future, remote
from axiom_bench.run.executors.processes import THREADS, Processes

NO_DAEMONS = {"distributed.worker.daemon": False}  # which may start no process


@contextmanager
def dask(
    address: Name | None = None,
    workers: Annotated[int, whole(1, "a number of processes")] = 2,
    resources: dict[str, Any] | None = None,
) -> Iterator[Executor]:
    """address: of the scheduler, as tcp://HOST:8786. None: so many workers on this machine. resources: what a task
    takes of what workers were started with, as {GPU: 1}."""
    with configured(NO_DAEMONS), ExitStack() as stack:
        cluster: Any = address
        if address is None:
            cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None))
        yield _Dask(stack.enter_context(Client(cluster)), resources or {})


class _Dask:
    def __init__(self, client: Any, resources: dict[str, Any]) -> None:
        self.client, self.resources = client, resources

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """See `Executor`. Dask does a task again whose worker died, three times (`distributed.scheduler`)."""
        call = remote(function, arguments)
        future: Future = self.client.submit(_apart, call, pure=False, resources=self.resources or None)
        return future


def _apart(call: tuple[Any, ...]) -> Any:
    """A worker's task, in a process of its own: the worker's threads draw from the global random state, which a plug-in
    may not change, and need the interpreter while a task computes."""
    if multiprocessing.current_process().daemon:
        raise BenchError(
            "Dask's workers may start no process, as loading images does; start them with the environment variable "
            "DASK_DISTRIBUTED__WORKER__DAEMON=False."
        )
    return _process().done(call)


@cache
def _process() -> Processes:
    return Processes([(THREADS, os.environ.get(THREADS) or str(os.cpu_count() or 1))])
