"""Maps of several layers in one: Jiang et al., LayerCAM, IEEE TIP 2021,
doi:10.1109/TIP.2021.3089943, and others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.layer_cam import layer_cam
from axiom_bench.methods.shared.wrapping import heatmap_of

FUSIONS: dict[str, Callable[..., Tensor]] = {
    "mean": torch.mean,
    "maximum": torch.amax,
    "product": torch.prod,
}


def fused(
    trace: Trace, layers: Sequence[str], wrapped: Method = layer_cam, fusion: str = "mean"
) -> Map:
    """Mean over layers of the wrapped method's heatmaps, each at the image's size with maximum 1 ->
    (B, H', W').

    layers: dotted names, beside the trace's own layer; each counts once. fusion: "mean"; "maximum",
    the largest value at each pixel, as in LayerCAM (without its tanh scaling of shallow layers); or
    "product", as in RefineCAM. Costs one trace per further layer. Raises BenchError for no layers,
    an unknown layer and an unknown fusion.
    """
    if isinstance(layers, str) or not layers:
        raise BenchError(
            "The method `fused` needs a list of layers; set its params.layers=[LAYER,LAYER]."
        )
    if fusion not in FUSIONS:
        raise unknown("fusion", fusion, FUSIONS)
    others = sorted({trace.cut_model.at(layer).layer for layer in layers} - {trace.layer})
    heatmaps = [
        heatmap_of(wrapped, trace),
        *(heatmap_of(wrapped, trace.at(layer)) for layer in others),
    ]
    return Map(FUSIONS[fusion](torch.stack(heatmaps), 0))
