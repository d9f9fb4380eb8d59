"""captum: Kokhlikyan et al., Captum, 2020, arXiv:2009.07896."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.isolation.sandbox import sandbox
from axiom_bench.methods.peers.installation import missing

try:
    from captum import attr as library
except ImportError as error:
    raise missing("captum", error) from error


def captum(trace: Trace, extractor: str, options: Mapping[str, object] | None = None) -> Map:
    """Attributions by captum, summed over channels, signed or of the pixels -> (B, h, w).

    Args:
        trace: The traced batch.
        extractor: "LayerGradCam" or "LayerGradientXActivation", signed and at the layer's size, or
            "GuidedGradCam", whose absolute values over RGB are summed.
        options: More keyword arguments of captum's `attribute`.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If the library fails on the network, or if the layer has tokens.
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
    options: Mapping[str, object] | None = None,
) -> Tensor:
    """Call captum as its documentation does, and sum over channels.

    Args:
        model: The network.
        layers: The one target layer.
        images: The images, (B, 3, H', W').
        targets: The classes, (B,).
        extractor: The name of the library's class.
        options: More keyword arguments of its `attribute`.

    Returns:
        The maps, (B, h, w).
    """
    (layer,) = layers
    explainer = getattr(library, extractor)(model, layer)
    attributions = explainer.attribute(images, target=targets, **(options or {}))
    if extractor == "GuidedGradCam":
        attributions = attributions.abs()
    summed: Tensor = attributions.sum(1)
    return summed
