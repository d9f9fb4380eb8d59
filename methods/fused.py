"""Maps of several layers in one: Jiang et al., LayerCAM, IEEE TIP 2021, doi:10.1109/TIP.2021.3089943, and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown
from axiom_bench.explanation.explanation import Method
from axiom_bench.explanation.heatmap import Map
from axiom_bench.methods.shared.wrapping import heatmap_of

FUSIONS: dict[str, Callable[..., Tensor]] = {"mean": torch.mean, "maximum": torch.amax, "product": torch.prod}


def fused(trace: Trace, layers: Sequence[str], wrapped: str | Method = "layer_cam", fusion: str = "mean") -> Map:
    """The mean over layers of the wrapped method's heatmaps, each at the image's size with maximum 1 -> (B, H', W').

    layers: dotted names; the trace's own layer is always one of the fused, and each counts once. fusion: "maximum"
    takes the largest at each pixel, as LayerCAM does (without its tanh scaling of shallow layers); "product" is
    RefineCAM (Domeniconi et al., 2026, arXiv:2605.14641) as pytorch-grad-cam has it, there of Grad-CAM++; that project
    otherwise takes the mean. Costs a trace for each further layer.
    Raises BenchError where no layer or another fusion is named, and for a layer that isn't there.
    """
    if isinstance(layers, str) or not layers:
        raise BenchError(
            "Fusing needs a list of layers: set params.layers=[LAYER,LAYER] of the method that is `fused`."
        )
    if fusion not in FUSIONS:
        raise unknown("fusion", fusion, FUSIONS)
    others = sorted(set(layers) - {trace.layer})
    heatmaps = [heatmap_of(wrapped, trace), *(heatmap_of(wrapped, trace.at(layer)) for layer in others)]
    return Map(FUSIONS[fusion](torch.stack(heatmaps), 0))
