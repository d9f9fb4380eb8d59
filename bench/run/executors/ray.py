"""Ray: run tasks on a cluster, or in processes that Ray starts on this machine. A GPU is a
resource.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import ray as engine

from axiom_bench.kinds import Name, whole_number
from axiom_bench.run.executors import Executor, Future, call, remote


@contextmanager
def ray(
    address: Name | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    max_retries: Annotated[int, whole_number(0, "a number of retries")] = 3,
) -> Iterator[Executor]:
    """Connect to a cluster of Ray, or start one on this machine.

    Args:
        address: The address of the cluster, HOST:6379; None: RAY_ADDRESS if it is set, otherwise
            the cluster that this machine belongs to, otherwise a new one on this machine.
        num_cpus: The number of CPUs that a task takes.
        num_gpus: The number of GPUs that a task takes.
        max_retries: The number of times that a task is run again if its process died.
    """
    engine.init(
        address=address, log_to_driver=False, include_dashboard=False if address is None else None
    )
    options: dict[str, float] = {
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "max_retries": max_retries,
        "max_calls": 0,
    }
    try:
        yield _Ray(engine.remote(**options)(call))
    finally:
        engine.shutdown()


class _Ray:
    """The executor of one remote function of Ray, which runs `call`."""

    def __init__(self, task: Any) -> None:
        self.task = task

    def submit(self, function: Callable[..., object], /, *arguments: object) -> Future:
        """See `Executor`."""
        _, *call_arguments = remote(function, arguments)
        future: Future = self.task.remote(*call_arguments).future()
        return future
