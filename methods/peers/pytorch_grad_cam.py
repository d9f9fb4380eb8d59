"""grad-cam (package pytorch_grad_cam): Gildenblat and contributors,
https://github.com/jacobgil/pytorch-grad-cam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import axiom_bench.data.torchvision_import  # noqa: F401 - the library imports torchvision, which a CPU-only torch needs
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.peers.sandbox import missing, sandbox

try:
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
except ImportError as error:
    raise missing("grad-cam", error) from error


def pytorch_grad_cam(
    trace: Trace,
    extractor: str,
    options: Mapping[str, Any] | None = None,
    layers: Sequence[str] = (),
) -> Map:
    """grad-cam's map: after its own ReLU, min-max scaling and resizing -> (B, H', W').

    extractor: the name of its class. options: more keyword arguments of that class. layers: names
    of target layers beside the trace's, for RefineCAM. Raises BenchError where the library fails on
    the network.
    """
    with sandbox(trace, f"grad-cam's {extractor}") as box:
        more = {**box.options, **(options or {})}
        targets = box.with_layers(layers)
        maps = torch.from_numpy(
            extract(box.model, targets, box.images, trace.targets, extractor, more)
        )
    return Map(maps.to(trace.activations))


def extract(
    model: nn.Module,
    layers: list[nn.Module],
    images: Tensor,
    targets: Tensor,
    extractor: str,
    options: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """The call of the library's documentation: float32 maps (B, H', W'). It leaves hooks on the
    model.

    FinerCAM takes one class per batch, so it is called image by image. Not used as a context
    manager: on exit the library swallows an IndexError, and ShapleyCAM fails behind a flattening
    head.
    """
    cam = getattr(library, extractor)(model, layers, **(options or {}))
    if extractor == "FinerCAM":
        pairs = zip(images.split(1), targets.tolist(), strict=True)
        return np.concatenate([cam(image, target_idx=target) for image, target in pairs])
    return cam(images, [ClassifierOutputTarget(target) for target in targets.tolist()])
