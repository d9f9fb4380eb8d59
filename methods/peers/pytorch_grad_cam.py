"""The package pytorch_grad_cam, grad-cam on PyPI: Gildenblat and contributors.

https://github.com/jacobgil/pytorch-grad-cam
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

import axiom_bench.data.torchvision_import  # noqa: F401 - the library imports torchvision, which a CPU-only torch needs
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.isolation.sandbox import sandbox
from axiom_bench.methods.peers.installation import missing

try:
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
except ImportError as error:
    raise missing("grad-cam", error) from error


def pytorch_grad_cam(
    trace: Trace,
    extractor: str,
    options: Mapping[str, object] | None = None,
    layers: Sequence[str] = (),
) -> Map:
    """Map by grad-cam, after its own ReLU, min-max scaling and resizing -> (B, H', W').

    Args:
        trace: The traced batch.
        extractor: The name of the library's class.
        options: More keyword arguments of that class.
        layers: Names of target layers in addition to the trace's, for RefineCAM.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the library fails on the network.
    """
    with sandbox(trace, f"grad-cam's {extractor}") as box:
        maps = extract(
            box.model,
            box.with_layers(layers),
            box.images,
            trace.targets,
            extractor,
            box.options | dict(options or {}),
        )
    return Map(torch.from_numpy(maps).to(trace.activations))


def extract(
    model: nn.Module,
    layers: list[nn.Module],
    images: Tensor,
    targets: Tensor,
    extractor: str,
    options: Mapping[str, object] | None = None,
) -> np.ndarray:
    """Call grad-cam as its documentation does. The call leaves hooks on the model.

    Args:
        model: The network.
        layers: The target layers.
        images: The images, (B, 3, H', W').
        targets: The classes, (B,).
        extractor: The name of the library's class.
        options: More keyword arguments of that class.

    Returns:
        The maps, (B, H', W'), float32.
    """
    # Not a context manager: on exit the library swallows an IndexError, and ShapleyCAM fails
    # behind a flattening head.
    cam = getattr(library, extractor)(model, layers, **(options or {}))
    if extractor == "FinerCAM":  # takes one class per batch
        pairs = zip(images.split(1), targets.tolist(), strict=True)
        return np.concatenate([cam(image, target_idx=target) for image, target in pairs])
    maps: np.ndarray = cam(images, [ClassifierOutputTarget(target) for target in targets.tolist()])
    return maps
