"""Work on the rows of a batch, divided among torch's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from axiom_bench.metrics.shared.one_thread import one_thread

Result = TypeVar("Result")


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
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, *zip(*calls, strict=True)))
