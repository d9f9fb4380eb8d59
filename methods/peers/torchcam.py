"""torchcam: Fernandez and contributors, https://github.com/frgfm/torch-cam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.isolation.sandbox import sandbox
from axiom_bench.methods.peers.installation import missing

try:
    from torchcam import methods as library
except ImportError as error:
    raise missing("torchcam", error) from error


READS_TOKENS = ("LeGrad",)  # take a transformer's blocks without a reshape


def torchcam(
    trace: Trace,
    extractor: str,
    options: Mapping[str, object] | None = None,
    layers: Sequence[str] = (),
) -> Map:
    """Map by torchcam, after its own ReLU and min-max scaling, at the layer's size -> (B, H, W).

    Args:
        trace: The traced batch.
        extractor: The name of the library's class.
        options: More keyword arguments of that class.
        layers: Names of target layers in addition to the trace's, for RefineCAM and LeGrad. The map
            then has the size of the largest.

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If the library fails on the network.
    """
    with sandbox(trace, f"torchcam's {extractor}") as box:
        # LeGrad reads tokens itself, and its class takes no reshape.
        reshape_options = {} if extractor in READS_TOKENS else box.options
        maps = extract(
            box.model,
            box.with_layers(layers),
            box.images,
            trace.targets,
            extractor,
            reshape_options | dict(options or {}),
        )
    return Map(maps.detach().to(trace.activations))


def extract(
    model: nn.Module,
    layers: list[nn.Module],
    images: Tensor,
    targets: Tensor,
    extractor: str,
    options: Mapping[str, object] | None = None,
    normalized: bool = True,
) -> Tensor:
    """Call torchcam as its documentation does.

    Args:
        model: The network.
        layers: The target layers.
        images: The images, (B, 3, H', W').
        targets: The classes, (B,).
        extractor: The name of the library's class.
        options: More keyword arguments of that class.
        normalized: Scale the maps by min-max.

    Returns:
        The maps, (B, H, W).
    """
    with getattr(library, extractor)(model, layers, **(options or {})) as cam:
        cams: Tensor = cam(targets.tolist(), model(images), normalized=normalized)[0]
        return cams
