"""The explained box or region itself: no explanation, but what a metric of places gives to the
place that it knows.
"""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.objects import explained_object


def explained_box(trace: Trace) -> Map:
    """1 in the explained box, or in the region, 0 elsewhere -> (B, H', W'), or (B, h, w) of the
    network's maps.

    Raises BenchError for a network without objects.
    """
    return Map(explained_object(trace))
