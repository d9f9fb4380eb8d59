"""Ray: tasks on a cluster, or on processes that it starts here; a GPU is a resource."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import ray as engine

from axiom_bench.kinds import Name, whole
from axiom_bench.run.executors import Executor, Future, call, remote


@contextmanager
def ray(
    address: Name | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    max_retries: Annotated[int, whole(0, "a number of retries")] = 3,
) -> Iterator[Executor]:
    """address: HOST:6379; None: RAY_ADDRESS, else the cluster that this machine is in, else a new one here. num_cpus,
    num_gpus: of a task. max_retries: of a task whose process died."""
    engine.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    options: dict[str, Any] = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": max_retries, "max_calls": 0}
    try:
        yield _Ray(engine.remote(**options)(call))
    finally:
        engine.shutdown()


class _Ray:
    def __init__(self, task: Any) -> None:
        self.task = task

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """See `Executor`."""
        future: Future = self.task.remote(*remote(function, arguments)[1:]).future()
        return future
