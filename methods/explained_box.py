"""The explained box or region itself, a ceiling for metrics that know this place.

It isn't an explanation: its value shows what such a metric gives to the place itself.
"""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.objects import explained_object


def explained_box(trace: Trace) -> Map:
    """1 in the explained box or region, 0 elsewhere -> (B, H', W') or (B, h, w).

    Args:
        trace: The traced batch of a network with boxes or masks.

    Returns:
        The map, (B, H', W') of a box, or (B, h, w) of a region in the network's maps.

    Raises:
        BenchError: If the network has no objects.
    """
    return Map(explained_object(trace))
