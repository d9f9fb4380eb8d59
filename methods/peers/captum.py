"""captum: Kokhlikyan et al., Captum, 2020, arXiv:2009.07896."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.peers.sandbox import missing, sandbox

try:
    from captum import attr as library
except ImportError as error:
    raise missing("captum", error) from error


def captum(trace: Trace, extractor: str, options: Mapping[str, Any] | None = None) -> Map:
    """captum's attributions, summed over channels: signed and at the layer's size, or of the pixels
    -> (B, h, w).

    extractor: LayerGradCam, LayerGradientXActivation, or GuidedGradCam, whose absolute values over
    RGB are summed. options: more keyword arguments of its `attribute`. Raises BenchError where the
    library fails on the network, and for a layer of tokens.
    """
    with sandbox(trace, f"captum's {extractor}") as box:
        if box.reshape is not None:
            raise BenchError(
                f"captum's {extractor} can't see tokens as maps: leave it out at {trace.layer!r}."
            )
        maps = extract(box.model, [box.layer], box.images, trace.targets, extractor, options)
    return Map(maps.detach().to(trace.activations))


def extract(
    model: nn.Module,
    layers: list[nn.Module],
    images: Tensor,
    targets: Tensor,
    extractor: str,
    options: Mapping[str, Any] | None = None,
) -> Tensor:
    """The call of the library's documentation at the one layer, summed over channels: (B, h, w)."""
    (layer,) = layers
    attributions = getattr(library, extractor)(model, layer).attribute(
        images, target=targets, **(options or {})
    )
    return (attributions.abs() if extractor == "GuidedGradCam" else attributions).sum(1)
