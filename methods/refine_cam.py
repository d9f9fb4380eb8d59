"""RefineCAM: Domeniconi et al., How to Evaluate and Refine your CAM, 2026, arXiv:2605.14641."""

from __future__ import annotations

from collections.abc import Sequence

from axiom_bench.cutting.finer_layers import finer_layers
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.fused import fused
from axiom_bench.methods.grad_cam_pp import grad_cam_pp

MAX_FINER_LAYERS = 3


def refine_cam(
    trace: Trace, layers: Sequence[str] | None = None, wrapped: Method = grad_cam_pp
) -> Map:
    """Product over layers of the wrapped method's heatmaps, each with maximum 1 -> (B, H', W').

    Heatmaps have the image's size. The authors scale each map from its minimum to its maximum;
    here it is divided by its maximum. Costs one trace per further layer.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        layers: Dotted names of layers, in addition to the trace's own layer. None: the authors'
            choice, `finer_layers`, such as `layer1` to `layer3` for a ResNet's `layer4`. If there
            are none, the map is the wrapped method's.
        wrapped: The method whose heatmaps are multiplied.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If a layer is unknown, or if `layers` is None and the layer's output isn't maps.
    """
    if not layers and trace.cut_model.reshape is not None:
        raise BenchError(
            "RefineCAM can't choose layers of a transformer; set the layers of refine_cam."
        )
    chosen_layers = layers or finer_layers(trace, MAX_FINER_LAYERS) or [trace.layer]
    return Map(fused(trace, chosen_layers, wrapped, fusion="product").raw)
