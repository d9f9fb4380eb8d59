"""The true map mixed with the explanation of another image."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import check_degree, mix_with_truth, true_map
from axiom_bench.methods.shared.wrapping import trace_of_other_images, wrapped_heatmap
from axiom_bench.methods.xgrad_cam import xgrad_cam


def other_image(trace: Trace, degree: float) -> Map:
    """(1 - degree) T + degree O, T the true map, O another image's with T's norm -> (B, h, w).

    O is the other image's true map if the network reports its contributions, and otherwise
    XGrad-CAM's heatmap of it, each for the class that the network predicts there. (The true map of
    a scene would need the other scene's parts.) Costs one forward pass and one trace.

    Args:
        trace: The traced batch of a network or images whose true map is known, with other images.
        degree: The degree of spoiling, from 0 to 1.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If the truth isn't known, if there are no other images, or if the degree is
            outside [0, 1].
    """
    check_degree(degree)
    truth = true_map(trace)
    other_map = trace.once("other_map", lambda: _other_map(trace))
    return Map(mix_with_truth(truth, other_map, degree))


def _other_map(trace: Trace) -> Tensor:
    other = trace_of_other_images(trace)
    return (
        wrapped_heatmap(xgrad_cam, other) if other.true_contributions is None else true_map(other)
    )
