"""What a data set offers of an image beside it: its parts, with versions of the image without each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from axiom_bench.cutting.interventions import Part, Parts
from axiom_bench.errors import BenchError


@dataclass(frozen=True, eq=False)
class StoredPart:
    """A part of an image as it is stored, decoded.

    name: of this part, once per image. label: the class index of an object; None for the ground and for marks.
    mask: (h, w) bool, its pixels. images: RGB, the image without it and with everything else the same, of the same
    size; one for an object, several other grounds for the ground.
    The parts of an image have disjoint masks that cover it together: objects first, then marks, the ground last.
    """

    name: str
    label: int | None
    mask: NDArray[np.bool_]
    images: tuple[Image.Image, ...]


def preprocessed(
    image_id: str,
    size: tuple[int, int],
    stored: Sequence[StoredPart],
    image: Callable[[Image.Image], Tensor],
    region: Callable[[NDArray[np.int64]], Tensor],
) -> Parts:
    """The parts in the pixels of the preprocessed image.

    size: height and width of the stored image. image(picture): its pixels, (3, H', W') uint8.
    region(numbers (h, w)): numbers (H', W') of the nearest stored pixels, negative where the crop goes beyond the
    image: those pixels belong to the last part. Parts that the crop cuts away are left out, but for the last.
    Raises BenchError for parts that don't have what StoredPart says.
    """
    for part in stored:
        _check(image_id, size, part)
    number = np.sum([np.where(part.mask, place, 0) for place, part in enumerate(stored)], axis=0)
    if (np.sum([part.mask for part in stored], axis=0) != 1).any():
        raise BenchError(
            f"The parts of the image {image_id!r} overlap, or leave out pixels; give each pixel to one part, "
            "and what is no object to the last, the ground."
        )
    numbers = region(number.astype(np.int64))
    last = len(stored) - 1
    numbers = torch.where(numbers < 0, last, numbers)
    return tuple(
        Part(part.name, part.label, numbers == place, torch.stack([image(picture) for picture in part.images]))
        for place, part in enumerate(stored)
        if place == last or (numbers == place).any()
    )


def _check(image_id: str, size: tuple[int, int], part: StoredPart) -> None:
    sizes = [(picture.height, picture.width) for picture in part.images]
    if not sizes or {*sizes, part.mask.shape} != {size} or part.mask.dtype != bool:
        raise BenchError(
            f"The part {part.name!r} of the image {image_id!r} needs a mask of type bool and one or more images, each "
            f"of {size[0]} x {size[1]} pixels as the image itself."
        )
