"""Methods that coincide, by theory or to rounding: no method is better than another by float32's rounding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from axiom_bench.statistics.bootstrap import Floats
from axiom_bench.statistics.differences import are_equal

FEW = 100


def coinciding(values: Floats, methods: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of methods whose values are equal in every row but for rounding, each method in one, in the given order.

    values: (rows, methods), NaN where a method has no value. Methods that have values in different rows differ.
    """
    groups: list[list[int]] = []
    for place in range(len(methods)):
        for group in groups:
            if any(_are_same(values[:, place], values[:, other]) for other in group):
                group.append(place)
                break
        else:
            groups.append([place])
    return tuple(tuple(methods[place] for place in group) for group in groups)


def _are_same(first: Floats, second: Floats) -> bool:
    if len(first) > FEW and not _are_same(first[:FEW], second[:FEW]):
        return False  # nearly always so, and quick
    missing = np.isnan(first) & np.isnan(second)
    return bool((are_equal(first, second) | missing).all())
