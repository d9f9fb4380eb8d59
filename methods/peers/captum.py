"""captum: Kokhlikyan et al., Captum, 2020, arXiv:2009.07896."""

from __future__ import annotations

from torch import Tensor, nn

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.heatmap import Map
from axiom_bench.methods.peers.sandbox import missing, sandbox

try:
    from captum import attr as library
except ImportError as error:
    raise missing("captum", error) from error


def captum(trace: Trace, extractor: str) -> Map:
    """captum's attributions, summed over channels: signed and at the layer's size, or of the pixels -> (B, h, w).

    extractor: LayerGradCam, LayerGradientXActivation, or GuidedGradCam, whose absolute values over RGB are summed.
    Raises BenchError where the library fails on the network, and for tokens, of which it can't be told to make maps.
    """
    with sandbox(trace, f"captum's {extractor}") as loan:
        if loan.reshape is not None:
            raise BenchError(f"captum's {extractor} can't see tokens as maps: leave it out at {trace.layer!r}.")
        maps = extract(loan.model, loan.layer, loan.images, trace.targets, extractor)
    return Map(maps.detach().to(trace.activations))


def extract(model: nn.Module, layer: nn.Module, images: Tensor, targets: Tensor, extractor: str) -> Tensor:
    """What the library's documentation says to call, summed over the first dimension after the images'."""
    attributions = getattr(library, extractor)(model, layer).attribute(images, target=targets)
    return (attributions.abs() if extractor == "GuidedGradCam" else attributions).sum(1)
