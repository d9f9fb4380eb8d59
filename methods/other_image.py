"""Another method's map of another image, a control."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import trace_of_other_images, wrapped_raw_map
from axiom_bench.methods.xgrad_cam import xgrad_cam


def other_image(trace: Trace, wrapped: Method = xgrad_cam) -> Map:
    """Map of another image of the data set, for the class predicted there -> (B, h, w).

    It looks like an explanation, and has nothing to do with the image. The other images are
    `trace.other_images`, chosen only by the image's id. Costs one forward pass and one trace.

    Args:
        trace: The traced batch, with other images.
        wrapped: The method that explains the other image.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If the trace has no other images.
    """
    return Map(wrapped_raw_map(wrapped, trace_of_other_images(trace)))
