"""The true map mixed with itself upside down."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import checked, true_map


def upside_down(trace: Trace, degree: float) -> Map:
    """(1 - degree) T + degree U, T the true map, U the same with top and bottom swapped -> (B, h,
    w).

    Raises BenchError where the truth isn't known, and for a degree outside of [0, 1].
    """
    checked(degree)
    truth = true_map(trace)
    return Map((1 - degree) * truth + degree * truth.flip(-2))
