"""A batch's rows divided among torch's threads, on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Set torch's number of threads to 1, and restore it afterwards.

    For many operations of microseconds each: on two busy cores, waking a second thread took five times as long. It also
    makes sums the same bit by bit on any machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(function: Callable[..., Result], *parts: Iterable[Any]) -> list[Result]:
    """function(*part) of each part, in their order; parts: an iterable for each parameter, all of one length.

    For functions of torch or compiled by numba, beside which other threads of Python run. Each has one thread of
    torch's.
    """
    calls = list(zip(*parts, strict=True))
    threads = min(len(calls), torch.get_num_threads())
    with one_thread():
        if threads <= 1:
            return [function(*call) for call in calls]
        # A new thread has its own number, which LAPACK doesn't ask torch for.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, *zip(*calls, strict=True)))
