"""Another method's map of another image, a control."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import other_trace, raw_map_of
from axiom_bench.methods.xgrad_cam import xgrad_cam


def other_image(trace: Trace, wrapped: Method = xgrad_cam) -> Map:
    """The wrapped method's map of another image of the data set, for the class predicted there ->
    (B, h, w).

    It looks like an explanation, and has nothing to do with the image: `trace.other_images`, chosen
    by the image's id alone. Costs one forward pass and one trace. Raises BenchError where the trace
    has no other images.
    """
    return Map(raw_map_of(wrapped, other_trace(trace)))
