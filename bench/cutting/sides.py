"""Values that cross the cut beside the activations, as a skip connection's: each belongs to its image."""

from __future__ import annotations

from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class SideKind(Enum):
    """How a side value depends on the batch."""

    PER_IMAGE = "per image"  # a tensor with a batch as its first dimension
    SHARED = "shared"  # the same whatever the batch
    BATCH_SIZE = "batch size"  # a number that counts images


def kinds_of(sides: Any, doubled_sides: Any) -> list[SideKind] | None:
    """From the sides of an image and of a batch that holds it twice; None where a value follows no pattern."""
    kinds = []
    for value, doubled in zip(pytree.tree_leaves(sides), pytree.tree_leaves(doubled_sides), strict=True):
        if isinstance(value, Tensor):
            if value.shape == doubled.shape:
                kinds.append(SideKind.SHARED)
            elif value.shape[1:] == doubled.shape[1:] and doubled.shape[0] == 2 * value.shape[0]:
                kinds.append(SideKind.PER_IMAGE)
            else:
                return None
        elif value == doubled:
            kinds.append(SideKind.SHARED)
        elif isinstance(value, int) and doubled == 2 * value:
            kinds.append(SideKind.BATCH_SIZE)
        else:
            return None
    return kinds


def select(sides: Any, kinds: list[SideKind], rows: Tensor, batch: int) -> Any:
    """The sides of a batch made of the given rows. rows: (R,) image indices into a batch of `batch` images."""
    values, structure = pytree.tree_flatten(sides)
    chosen = [_select_value(value, kind, rows, batch) for value, kind in zip(values, kinds, strict=True)]
    return pytree.tree_unflatten(chosen, structure)


def _select_value(value: Any, kind: SideKind, rows: Tensor, batch: int) -> Any:
    if kind is SideKind.PER_IMAGE:
        per_image = value.unflatten(0, (batch, -1))
        return per_image.index_select(0, rows.to(value.device)).flatten(0, 1)
    if kind is SideKind.BATCH_SIZE:
        return value // batch * len(rows)
    return value


def cast(sides: Any, dtype: torch.dtype) -> Any:
    """The same sides with their floating tensors in another precision."""
    return pytree.tree_map(
        lambda value: value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value, sides
    )
