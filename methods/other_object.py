"""Another object's map, a control for networks that find boxes or masks."""

from __future__ import annotations

from axiom_bench.cutting.objects import trace_other_object as other_object_trace
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.hires_cam import hires_cam
from axiom_bench.methods.shared.wrapping import wrapped_raw_map


def other_object(trace: Trace, wrapped: Method = hires_cam) -> Map:
    """Map of the most probable other object of the image -> (B, h, w).

    It explains the network and the image, but not this object; see
    `axiom_bench.cutting.objects.trace_other_object`. Costs one forward pass and one trace.

    Args:
        trace: The traced batch of a network with boxes or masks.
        wrapped: The method that explains the other object.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If the network has no objects.
    """
    return Map(wrapped_raw_map(wrapped, other_object_trace(trace)))
