"""Passes that run out of memory are halved and tried again, down to one image, and then inside of it."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch

from axiom_bench.errors import BenchError, is_out_of_memory

LEAST_MEMORY = 2**20  # bytes: with fewer, every extra pass has one row already
MAX_REASON = 160  # characters: torch goes on with advice for its developers
log = logging.getLogger("axiom_bench.machine")


@dataclass
class Limits:
    """What one pass may hold, shared by all cuts of a model. Once halved, a limit stays so for the process.

    memory: bytes that ablations and extra passes, as of perturbed images, may take beside the trace. rows: of a batch;
    None: as many as a batch has.
    """

    memory: int
    rows: int | None = None

    def of(self, rows: int) -> int:
        """The rows of a pass over a batch of so many."""
        return rows if self.rows is None else min(rows, self.rows)

    def halve(self, rows: int) -> str | None:
        """Half of the rows, of which so many were too many; of one row a quarter of the memory that its extra passes
        take. A sentence about it; None where nothing is left to take away."""
        if rows > 1:
            self.rows = rows // 2
            return f"out of memory with {rows} rows in a batch: going on with {self.rows}"
        if self.memory > LEAST_MEMORY:
            self.memory = max(LEAST_MEMORY, self.memory // 4)
            return f"out of memory with one row: its extra passes go on with {self.memory / 2**20:.3g} MiB"
        return None


class Sliceable(Protocol):
    """Rows, such as a Batch."""

    def __len__(self) -> int:
        """The number of rows."""

    def __getitem__(self, rows: slice, /) -> Self:
        """Some of the rows."""


Rows = TypeVar("Rows", bound=Sliceable)
Answer = TypeVar("Answer")


def by_halves(batch: Rows, size: int, limits: Limits, compute: Callable[[Rows, int], Answer]) -> Iterator[Answer]:
    """compute(the batch, size), or compute(part, a smaller size) of its parts in order where that doesn't fit into
    memory.

    size: the rows that a pass has, with the padded ones. compute: must have no effect where it raises.
    Raises BenchError where one row alone doesn't fit.
    """
    start = 0
    while start < len(batch):
        rows = limits.of(size)
        part = batch if not start and len(batch) <= rows else batch[start : start + rows]
        try:
            answer = compute(part, rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = (str(error).strip().split("\n")[0] or type(error).__name__)[:MAX_REASON]
        else:
            yield answer
            start += len(part)
            continue
        free()  # out of the handler, which holds the tensors of the failed pass
        sentence = limits.halve(rows)
        if sentence is None:
            raise BenchError(
                f"One image alone doesn't fit into the memory ({reason}); free some memory, choose a machine with "
                "more, a smaller model.resize, or fewer methods and metrics. What was computed is kept."
            )
        log.warning("%s (%s)", sentence, reason)


def free() -> None:
    """Gives up what nothing refers to any more, also the blocks that torch keeps of a GPU's memory."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
