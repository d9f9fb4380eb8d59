"""Read the maps of what a CAM implementation returns: tensors or arrays, in lists or not, with or
without an axis for images or channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from axiom_bench.cutting.output import described
from axiom_bench.errors import BenchError, plural

COLOURS = (3, 4)  # channels of a picture


def as_maps(answer: object, images: Tensor, name: str) -> Tensor:
    """Return the maps (B, h, w) that an implementation returned for these images.

    A list holds one map per image, or the maps first and something else after them. Contributions
    of channels (B, K, h, w) are summed.

    Args:
        answer: The implementation's answer.
        images: The images, (B, 3, H', W').
        name: The implementation's name, for messages.

    Returns:
        The maps, not detached. Integers become float32.

    Raises:
        BenchError: If the answer holds no maps, or pictures in colour.
    """
    num_images = len(images)
    maps = _tensor(answer, num_images)
    if maps is not None:
        _check_colour(maps, images, name)
        maps = _without_further_axes(maps, num_images)
    if maps is None or maps.is_complex():
        raise BenchError(
            f"{name} returned {_described(answer)} for {plural(num_images, 'image')}; return maps "
            "(B, h, w), a tensor or an array."
        )
    return maps if maps.is_floating_point() else maps.float()


def _tensor(answer: Any, num_images: int) -> Tensor | None:
    """Return the tensor in an answer; None if there is none."""
    if isinstance(answer, Tensor):
        return answer
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if not isinstance(answer, list | tuple):
        return _from_array(answer)
    arrays = [value for value in answer if isinstance(value, Tensor | np.ndarray)]
    tensors = [value if isinstance(value, Tensor) else _from_array(value) for value in arrays]
    found = [tensor for tensor in tensors if tensor is not None]
    return _of_list(found, num_images) if found else _from_array(answer)


def _of_list(tensors: list[Tensor], num_images: int) -> Tensor:
    """Return one tensor of a list of maps, one for each image; otherwise the tensor with the most
    axes, because others may be scores or classes.
    """
    first = tensors[0]
    is_one_map = first.ndim == 2 or (first.ndim > 2 and len(first) == 1)
    has_equal_shapes = all(tensor.shape == first.shape for tensor in tensors)
    if len(tensors) == num_images > 1 and is_one_map and has_equal_shapes:
        return torch.stack(tensors)
    return max(tensors, key=lambda tensor: tensor.ndim)


def _from_array(answer: Any) -> Tensor | None:
    """Return an array, a picture of PIL or numbers as a tensor; None for anything else."""
    if answer is None or isinstance(answer, str | bytes):
        return None
    try:
        return torch.from_numpy(np.array(answer))
    except (TypeError, ValueError):
        return None


def _check_colour(maps: Tensor, images: Tensor, name: str) -> None:
    """Raise BenchError for pictures in colour, (B, H', W', 3) or one (H', W', 3)."""
    is_picture = maps.ndim == 4 or (maps.ndim == 3 and len(images) == 1)
    if is_picture and maps.shape[-1] in COLOURS and maps.shape[-3:-1] == images.shape[-2:]:
        raise BenchError(
            f"{name} returned pictures {tuple(maps.shape)}; return the maps (B, h, w) before they "
            "are coloured."
        )


def _without_further_axes(maps: Tensor, num_images: int) -> Tensor | None:
    """Return maps (B, h, w) without an axis of channels; None for another shape."""
    if maps.ndim == 2 and num_images == 1 and len(maps) > 1:  # (1, C) are scores
        maps = maps[None]
    elif maps.ndim == 3 and num_images == 1 and len(maps) != 1:
        maps = maps[None, ..., 0] if maps.shape[-1] == 1 else maps[None].sum(1)
    elif maps.ndim == 4:
        is_last = maps.shape[-1] == 1 and maps.shape[1] != 1
        maps = maps[..., 0] if is_last else maps.sum(1)
    has_maps = maps.ndim == 3 and len(maps) == num_images and maps.numel() > 0
    return maps if has_maps else None


def _described(answer: object) -> str:
    array = _from_array(answer) if isinstance(answer, np.ndarray) else answer
    return described(array)
