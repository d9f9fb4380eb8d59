"""Maps of several layers in one: Jiang et al., LayerCAM, IEEE TIP 2021, and others.

LayerCAM: doi:10.1109/TIP.2021.3089943. RefineCAM: `axiom_bench.methods.refine_cam`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter, invalid_choice
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.layer_cam import layer_cam
from axiom_bench.methods.shared.wrapping import wrapped_heatmap

FUSIONS: dict[str, Callable[..., Tensor]] = {
    "mean": torch.mean,
    "maximum": torch.amax,
    "product": torch.prod,
}


def fused(
    trace: Trace, layers: Sequence[str], wrapped: Method = layer_cam, fusion: str = "mean"
) -> Map:
    """Mean over layers of the wrapped method's heatmaps, each with maximum 1 -> (B, H', W').

    Heatmaps have the image's size. Costs one trace per further layer.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        layers: Dotted names of layers, in addition to the trace's own layer. Each counts once.
        wrapped: The method whose heatmaps are fused.
        fusion: "mean"; "maximum", the largest value at each pixel, as in LayerCAM (without its
            tanh scaling of shallow layers); or "product", as in RefineCAM.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If `layers` is empty, or if a layer or the fusion is unknown.
    """
    if isinstance(layers, str) or not layers:
        raise InvalidParameter(
            "The method `fused` needs a list of layers; set its params.layers=[LAYER,LAYER]."
        )
    if fusion not in FUSIONS:
        raise invalid_choice("fusion", fusion, FUSIONS)
    # In a fixed order, so that no bit depends on the order in which layers are given.
    further_layers = sorted({trace.cut_model.at(layer).layer for layer in layers} - {trace.layer})
    heatmaps = [wrapped_heatmap(wrapped, trace)]
    for layer in further_layers:
        heatmaps.append(wrapped_heatmap(wrapped, trace.at(layer)))
    return Map(FUSIONS[fusion](torch.stack(heatmaps), 0))
