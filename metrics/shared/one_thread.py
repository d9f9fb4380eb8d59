"""Small tensors on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Many operations of microseconds each: on two busy cores, waking a second thread took five times as long as doing
    without. A sum, too, is then the same bit by bit on any machine. The process's setting is as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
