"""Divide a batch's rows among torch's threads, on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Set torch's number of threads to 1, and restore it afterwards.

    This is for many operations of microseconds each: on two busy cores, waking a second thread took
    five times as long. It also makes sums the same bit by bit on any machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(function: Callable[..., Result], *parts: Iterable[object]) -> list[Result]:
    """Call a function on each part, and return the results in the parts' order.

    There is one iterable per parameter of the function, all of one length. Use this for functions
    of torch or compiled by numba, since other Python threads can run at the same time. Each thread
    has one thread of torch's.
    """
    calls = list(zip(*parts, strict=True))
    threads = min(len(calls), torch.get_num_threads())
    with one_thread():
        if threads <= 1:
            return [function(*call) for call in calls]
        # A new thread has its own number, which LAPACK doesn't ask torch for.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, *zip(*calls, strict=True)))
