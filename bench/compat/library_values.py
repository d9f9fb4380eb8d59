"""Arithmetic of pytorch-grad-cam 1.5.7, for `reading="grad-cam"`.

It scales and resizes maps, and projects them on a principal component.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor
from torch.nn.functional import interpolate

from axiom_bench.cutting.model_copy import hooked, private_state
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError

Array = NDArray[Any]


def scaled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Scale each map to [0, 1] by its minimum and maximum plus 1e-7, and then resize it.

    Args:
        maps: The maps, (B, *space).
        size: The size of the images.

    Returns:
        The maps, (B, *size), float32.
    """
    flat = maps.flatten(1)
    shifted = flat - flat.amin(1, keepdim=True)
    unit = (shifted / (1e-7 + shifted.amax(1, keepdim=True))).view(maps.shape).float()
    if unit.shape[1:] == torch.Size(size):
        return unit
    if len(size) == 2:
        return interpolate(unit[:, None], tuple(size), mode="bilinear")[:, 0]
    factors = [new / old for old, new in zip(unit.shape[1:], size, strict=True)]
    return torch.stack([torch.from_numpy(zoom(one.cpu().numpy(), factors)) for one in unit])


def projected(maps: Tensor) -> Tensor:
    """Project each image's centred maps on their first principal component.

    The sign is the one that LAPACK returns.

    Args:
        maps: The maps, (B, K, *space).

    Returns:
        The projections, (B, *space), on the maps' device.
    """
    projections = []
    for values in maps.nan_to_num(0.0).flatten(2).mT.cpu().numpy():  # (H W, K) each
        centred = values - values.mean(axis=0)
        _, _, directions = np.linalg.svd(centred, full_matrices=True)
        projections.append(centred @ directions[0])
    return torch.from_numpy(np.stack(projections)).to(maps).view(len(maps), *maps.shape[2:])


def check_no_in_place_operation(trace: Trace) -> None:
    """Raise BenchError if an operation in place follows the layer.

    On a CPU pytorch-grad-cam reads the layer's values after it.
    """
    outputs: list[tuple[Tensor, int]] = []
    model = trace.cut_model.model

    def keep(_: object, __: object, output: Tensor) -> None:
        outputs.append((output, output._version))

    with (
        torch.inference_mode(False),  # inference tensors count no versions
        torch.no_grad(),
        private_state(model),
        hooked(model, trace.layer, keep),
    ):
        model(trace.images[:1].clone())
    if any(output._version != version for output, version in outputs):
        raise BenchError(
            f"An operation in place follows the layer {trace.layer!r}, and pytorch-grad-cam reads "
            "the layer after it; choose a layer after that operation, or leave out "
            'reading="grad-cam".'
        )
