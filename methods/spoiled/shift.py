"""The true map, moved aside."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import checked, true_map


def shift(trace: Trace, degree: float, distance: float = 1 / 3) -> Map:
    """The true map moved to the right by degree * distance * its width; what leaves comes in at the
    left -> (B, h, w).

    A part of a position is linear between two whole ones. At the default distance an object of the
    embedded scenes has left its place at degree 1. Raises BenchError where the truth isn't known,
    for a degree outside of [0, 1], and a distance outside of (0, 1/2].
    """
    checked(degree)
    if not 0 < distance <= 0.5:
        raise BenchError(
            f"Invalid distance={distance}; give a share of the map's width, above 0 and up to 0.5."
        )
    truth = true_map(trace)
    steps = round(degree * distance * truth.shape[-1], 6)  # a third of 96 positions is 32 of them
    places, part = int(steps), steps % 1
    return Map((1 - part) * truth.roll(places, -1) + part * truth.roll(places + 1, -1))
