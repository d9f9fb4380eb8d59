"""Another object's map, a control of networks of boxes and of masks."""

from __future__ import annotations

from axiom_bench.cutting.objects import other_object as trace_of_other
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.hires_cam import hires_cam
from axiom_bench.methods.shared.wrapping import raw_map_of


def other_object(trace: Trace, wrapped: Method = hires_cam) -> Map:
    """The wrapped method's map of the most probable other object of the image -> (B, h, w).

    It explains the network and the image, but not this object; see
    `axiom_bench.cutting.objects.other_object`. Costs one forward pass and one trace. Raises
    BenchError for a network without objects.
    """
    return Map(raw_map_of(wrapped, trace_of_other(trace)))
