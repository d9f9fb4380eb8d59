"""The true map mixed with the explanation of another image."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import checked, mixed, true_map
from axiom_bench.methods.shared.wrapping import heatmap_of, other_trace
from axiom_bench.methods.xgrad_cam import xgrad_cam


def other_image(trace: Trace, degree: float) -> Map:
    """(1 - degree) T + degree O, T the true map, O another image's with T's norm -> (B, h, w).

    O is the other image's true map where the network tells its contributions, and otherwise
    XGrad-CAM's heatmap of it, each for the class that the network predicts there. The true map of a
    scene would need the other scene's parts. Costs one forward pass and one trace. Raises
    BenchError where the truth isn't known, without other images, and for a degree outside of [0,
    1].
    """
    checked(degree)
    truth = true_map(trace)
    return Map(mixed(truth, trace.once("other_map", lambda: _other_map(trace)), degree))


def _other_map(trace: Trace) -> Tensor:
    other = other_trace(trace)
    return heatmap_of(xgrad_cam, other) if other.true_contributions is None else true_map(other)
