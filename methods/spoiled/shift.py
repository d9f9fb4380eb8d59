"""The true map, moved aside."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import check_degree, true_map


def shift(trace: Trace, degree: float, distance: float = 1 / 3) -> Map:
    """T(x - degree * distance * width, y), T the true map, moved to the right -> (B, h, w).

    What leaves on the right comes in on the left. A shift by a part of a position is linear between
    two whole ones. At the default distance an object of the embedded scenes has left its place at
    degree 1.

    Args:
        trace: The traced batch of a network or images whose true map is known.
        degree: The degree of spoiling, from 0 to 1.
        distance: The largest shift, as a share of the map's width, in (0, 1/2].

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If the truth isn't known, or if degree or distance is outside its range.
    """
    check_degree(degree)
    if not 0 < distance <= 0.5:
        raise InvalidParameter(
            f"Invalid distance={distance}; give a share of the map's width, above 0 and up to 0.5."
        )
    truth = true_map(trace)
    steps = round(degree * distance * truth.shape[-1], 6)  # a third of 96 positions is 32 of them
    whole = int(steps)
    part = steps % 1
    return Map((1 - part) * truth.roll(whole, -1) + part * truth.roll(whole + 1, -1))
