"""torchcam: Fernandez and contributors, https://github.com/frgfm/torch-cam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.peers.sandbox import missing, sandbox

try:
    from torchcam import methods as library
except ImportError as error:
    raise missing("torchcam", error) from error


READS_TOKENS = ("LeGrad",)  # takes a transformer's blocks as they are, and no reshape


def torchcam(
    trace: Trace,
    extractor: str,
    options: Mapping[str, Any] | None = None,
    layers: Sequence[str] = (),
) -> Map:
    """torchcam's map: after its own ReLU and min-max scaling, at the layer's size -> (B, H, W).

    extractor: the name of its class. options: more keyword arguments of that class. layers: names
    of target layers beside the trace's, for RefineCAM and LeGrad; the map then has the size of the
    largest. Raises BenchError where the library fails on the network.
    """
    with sandbox(trace, f"torchcam's {extractor}") as box:
        more = {**({} if extractor in READS_TOKENS else box.options), **(options or {})}
        maps = extract(
            box.model, box.with_layers(layers), box.images, trace.targets, extractor, more
        )
    return Map(maps.detach().to(trace.activations))


def extract(
    model: nn.Module,
    layers: list[nn.Module],
    images: Tensor,
    targets: Tensor,
    extractor: str,
    options: Mapping[str, Any] | None = None,
    normalized: bool = True,
) -> Tensor:
    """The call of the library's documentation: (B, H, W). normalized=False: before min-max
    scaling.
    """
    with getattr(library, extractor)(model, layers, **(options or {})) as cam:
        return cam(targets.tolist(), model(images), normalized=normalized)[0]
