"""The maximum, at each of many places, of numbers that hold for ranges of places: a sparse table. Compiled by numba."""

from __future__ import annotations

import numpy as np

from axiom_bench.metrics.shared.compiled import compiled


@compiled
def nothing_raised(count: int) -> np.ndarray:
    """A table for `count` places, all at 0: row i, column j is for the 2^i places from j on."""
    rows = 1
    while 1 << rows <= count:
        rows += 1
    return np.zeros((rows, count))


@compiled
def raise_range(table: np.ndarray, first: int, last: int, value: float) -> None:
    """Raise the places from first to last, both included, to at least a value: two powers of two cover them."""
    row = 0
    while 2 << row <= last - first + 1:
        row += 1
    for place in (first, last + 1 - (1 << row)):
        table[row, place] = max(table[row, place], value)


@compiled
def raised_values(table: np.ndarray) -> np.ndarray:
    """(count,) what each place was raised to; overwrites the table."""
    for row in range(len(table) - 1, 0, -1):
        half = 1 << (row - 1)
        for first in range(table.shape[1] + 1 - 2 * half):
            for place in (first, first + half):
                table[row - 1, place] = max(table[row - 1, place], table[row, first])
    return table[0]
