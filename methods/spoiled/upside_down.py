"""The true map mixed with itself upside down."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import check_degree, true_map


def upside_down(trace: Trace, degree: float) -> Map:
    """(1 - degree) T + degree U, T the true map, U its mirror image -> (B, h, w).

    U has top and bottom swapped.

    Args:
        trace: The traced batch of a network or images whose true map is known.
        degree: The degree of spoiling, from 0 to 1.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If the truth isn't known, or if the degree is outside [0, 1].
    """
    check_degree(degree)
    truth = true_map(trace)
    return Map((1 - degree) * truth + degree * truth.flip(-2))
