"""What a player sees of an image: the part with the highest heat. The rest is transparent."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DISPLAY_SIDE = 320  # small images are enlarged to about this many pixels
QUALITY = 80  # of WebP
BLOB_WIDTH = 0.25  # standard deviation of the centred blob, as a share of each side

Heat = NDArray[np.floating]
Mask = NDArray[np.bool_]


def visible(heat: Heat, share: float) -> Mask:
    """The `share` of the pixels with the highest heat: (H, W) -> (H, W).

    Heat is rounded to 1e-6 first, and of equals the first pixel wins. A pixel without heat stays hidden, so a map
    that is zero, or not finite, shows less or nothing.
    """
    rounded = np.nan_to_num(heat, nan=0.0, posinf=0.0, neginf=0.0).round(6).ravel()
    highest = np.argsort(-rounded, kind="stable")[: round(share * rounded.size)]
    mask = np.zeros(rounded.size, dtype=bool)
    mask[highest] = rounded[highest] > 0
    return mask.reshape(heat.shape)


def centred_blob(height: int, width: int) -> Heat:
    """The heat of the floor: a bell curve in the middle, (height, width)."""
    y, x = (np.linspace(-0.5, 0.5, size) / BLOB_WIDTH for size in (height, width))
    heat: Heat = np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)
    return heat


def data_uri(pixels: NDArray[np.uint8], mask: Mask | None = None) -> str:
    """A picture (H, W, 3) as WebP, with what the mask hides transparent; small ones are enlarged."""
    picture = Image.fromarray(pixels)
    factor = max(1, round(DISPLAY_SIDE / max(picture.size)))
    size = (factor * picture.width, factor * picture.height)
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    if mask is not None:
        smooth = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
        picture.putalpha(smooth.point(lambda value: 255 if value >= 128 else 0))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
