"""Prepare images in any form for a network: paths, PIL images, arrays, bytes and tensors, also
signals and volumes.

`run.notebook` calls it for what a user of Python passes as images. A form that could mean two
things, such as floats up to 255, is used with a warning or refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from axiom_bench.cutting.images import PixelsGiven, check_tensor, possible_dimensions
from axiom_bench.cutting.numerics import SPACES
from axiom_bench.data.formats.decoding import (
    HALF_STEP,
    NEARLY_BLACK,
    is_nearly_black,
    open_as_viewed,
)
from axiom_bench.data.preprocessing import Preprocessing, usual_normalisation
from axiom_bench.errors import BenchError, type_name
from axiom_bench.examination.examine import MAX_NORMALISED, MIN_BYTE_VALUE
from axiom_bench.explanation.overlay import Pixels, as_picture

Photograph = str | PathLike[str] | Image.Image | np.ndarray
# for a network whose preprocessing is unknown
RESIZE, CROP = 256, 224


def prepared(
    images: Any,  # of any type, since a user may pass anything; the code below narrows it
    model: nn.Module,
    preprocessing: Preprocessing | Callable[[Image.Image], Tensor] | None,
) -> tuple[Tensor, Pixels | None]:
    """Return the images as the network takes them, (B, C, H', W'), and as pictures, (B, H', W', 3),
    or None.

    Args:
        images: Images in any form. Tensors in floating point stay as they are, and have no known
            pictures.
        model: The network.
        preprocessing: The preprocessing of photographs; None if it is unknown: then a warning
            reports the one used.

    Raises:
        BenchError: If an image can't be read, or is no image.
    """
    parameters = (parameter for parameter in model.parameters() if parameter.is_floating_point())
    like = next(parameters, torch.zeros(()))
    ndim = possible_dimensions(model)[0] + 2  # the dimensions of a batch
    if ndim != 4:
        return _arrays(images, ndim, preprocessing, like), None
    is_float_array = isinstance(images, np.ndarray) and images.dtype.kind == "f"
    if is_float_array and images.ndim > 2 and images.shape[-3] == 3:
        images = torch.from_numpy(images).to(like)  # channels come first, as in the network's input
    is_one = isinstance(images, str | PathLike | Image.Image)
    if getattr(images, "ndim", ndim) < ndim:
        is_one = True
    is_sequence = isinstance(images, list | tuple | np.ndarray | Tensor)
    entries = [images] if is_one else images if is_sequence else []
    if is_sequence and not len(entries):
        raise BenchError("There is no image in images.")
    if not len(entries) or any(
        isinstance(entry, Tensor) and entry.dtype != torch.uint8 for entry in entries
    ):
        check_tensor(images)
        # then the trace compares its values with mean and std
        is_known = isinstance(preprocessing, Preprocessing)
        is_pixels = images.is_floating_point() and images.numel() and images.amax() > MIN_BYTE_VALUE
        if is_pixels and not is_known and images.amin() > -MAX_NORMALISED:
            warnings.warn(
                f"The images have values up to {images.amax():.0f}, like pixels of 0 to 255: "
                "normalise them as in training, or give bytes (a path, a PIL image, uint8), which "
                "are preprocessed here.",
                PixelsGiven,
                stacklevel=5,
            )
        return images[None] if images.ndim == ndim - 1 else images, None
    photographs = []
    for entry in entries:  # a comprehension is a frame in Python 3.11, which stacklevel would count
        photographs.append(photograph(entry))
    if any(map(is_nearly_black, photographs)):
        warnings.warn(
            f"An image {NEARLY_BLACK}: it is used as its type says. If its numbers have another "
            "range (12 bits in a file of 16, or 0 and 1), give them over the whole range.",
            stacklevel=5,
        )
    if preprocessing is None:
        mean, std, origin = usual_normalisation(model)
        preprocessing = Preprocessing(RESIZE, CROP, mean, std)
        warnings.warn(
            f"Nobody says how images are preprocessed for this {type(model).__name__}: they are "
            f"resized to {RESIZE} pixels, the centre of {CROP} is cropped, and they are "
            f"normalised: mean and deviation are {origin}. Say another way by "
            "preprocessing=weights.transforms(), or any function from a PIL image to a tensor "
            "(3, H, W).",
            stacklevel=5,
        )
    known = preprocessing if isinstance(preprocessing, Preprocessing) else None
    prepare: Callable[[Image.Image], object] = known.from_photograph if known else preprocessing
    answers = [prepare(image) for image in photographs]
    rows: list[Tensor] = []
    for answer in answers:
        if isinstance(answer, Tensor) and answer.ndim == 3 and answer.is_floating_point():
            rows.append(answer)
    if len(rows) < len(answers) or len({row.shape for row in rows}) > 1:
        forms = []
        for answer in answers[:3]:
            dtype = getattr(answer, "dtype", type_name(answer))
            forms.append(f"{dtype} {tuple(getattr(answer, 'shape', ()))}")
        raise BenchError(
            f"Preprocessing gives {', '.join(forms)}; let it give tensors (3, H', W') of one size "
            "in floating point, normalised as in training."
        )
    batch = torch.stack(rows)
    pictures = known.denormalise(batch) if known else None
    return batch.to(like), pictures


def _arrays(images: Any, ndim: int, preprocessing: object, like: Tensor) -> Tensor:
    """Return signals or volumes (B, C, *space) as the network takes them. Known preprocessing
    normalises integers.
    """
    if isinstance(images, str | PathLike | Image.Image):
        raise BenchError(
            f"This network takes arrays (C, {SPACES[ndim - 2]}), not photographs; give an array "
            "or a tensor of one."
        )
    if isinstance(images, np.ndarray):
        values = torch.from_numpy(images)
        images = values.to(like) if values.is_floating_point() else values
    check_tensor(images)
    images = images[None] if images.ndim == ndim - 1 else images
    # floats are taken as normalised already, as of images; integers are raw samples
    known = preprocessing if isinstance(preprocessing, Preprocessing) else None
    if known is not None and known.shape and not images.is_floating_point():
        if images.shape[1:2] != known.shape[:1]:
            raise BenchError(
                f"This network takes {known.shape[0]} channels, before the axes of space, "
                f"and these arrays are {tuple(images.shape)}; images.movedim(-1, 1) puts the last "
                "axis there."
            )
        images = known.normalised(images).to(like)
    batch: Tensor = images
    return batch


def photograph(image: object) -> Image.Image:
    """Return an image as an RGB photograph, turned upright. Raise BenchError if it can't be read as
    a photograph.
    """
    if isinstance(image, str | PathLike | Image.Image):
        return open_as_viewed(image)
    if isinstance(image, np.ndarray) and image.dtype.kind == "f" and image.size:
        low = float(image.min())
        high = float(image.max())
        # rounding may leave values half a step of a byte beyond the range, which changes no pixel
        are_shares = low >= -HALF_STEP and high <= 1 + HALF_STEP
        are_bytes = low >= -0.5 and high < 255.5
        if are_bytes and high <= MIN_BYTE_VALUE:  # dark bytes are whole, normalised values aren't
            are_bytes = bool((image == image.round()).all())
        if not are_shares and not are_bytes:
            raise BenchError(
                f"This array holds values from {low:.4g} to {high:.4g}, no photograph's: give 0 "
                "to 255, as image.round().clip(0, 255).astype('uint8'), or floats in [0, 1], as "
                "image.clip(0, 1); normalised images channels first, (3, H, W)."
            )
        if not are_shares:
            warnings.warn(
                "The image holds floats up to 255, which are read as pixels of 0 to 255.",
                stacklevel=6,
            )
            image = image / 255
        image = image.clip(0, 1)
    return Image.fromarray(as_picture(image))
