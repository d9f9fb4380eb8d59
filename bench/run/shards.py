"""Shards: slices of a data set's images, the unit of work that is either done or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from axiom_bench.errors import BenchError


@dataclass(frozen=True)
class Shard:
    """Some images of a data set, in order. number: its place; indices: positions in the data set."""

    number: int
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)


def shards(indices: Sequence[int], size: int) -> tuple[Shard, ...]:
    """The indices cut, in order, into shards of `size` images, the last may be smaller.

    Raises BenchError for size < 1.
    """
    if size < 1:
        raise BenchError(f"shard_size is {size}; it counts images, so give 1 or more.")
    starts = range(0, len(indices), size)
    return tuple(Shard(number, tuple(indices[start : start + size])) for number, start in enumerate(starts))
