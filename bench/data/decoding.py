"""From a file to an RGB image, whatever its mode; everything that can go wrong becomes a BadImage."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from axiom_bench.data.base import BadImage

SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"})


def open_rgb(source: Path | BytesIO, image_id: str) -> Image.Image:
    """The decoded image of a file, or of a file's bytes. Raises BadImage where it is missing, truncated, no image, or
    far too large.

    The EXIF orientation is not applied: boxes and masks of ImageNet and VOC are in pixels as stored, and torchvision's
    readers, which the weights were trained and measured with, don't turn images either.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                return as_rgb(image)
    except FileNotFoundError as error:
        raise BadImage(image_id, f"there is no file {source}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage(image_id, f"too many pixels to decode: {error}") from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:  # what Pillow's readers raise
        raise BadImage(image_id, f"can't be decoded: {error}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Any mode as RGB: grey is repeated, CMYK and palettes converted, 16 bits scaled to 8 (not clipped).

    Transparent images are laid over white: the colours of transparent pixels are arbitrary.
    """
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow alone would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), opaque).convert("RGB")
    return image.convert("RGB")


def sha256(*paths: Path | None) -> str:
    """SHA-256 over the bytes of the files in this order; a missing file counts as one."""
    return sha256_of(path.read_bytes() if path is not None and path.is_file() else None for path in paths)


def sha256_of(contents: Iterable[bytes | None]) -> str:
    """SHA-256 over the contents of files, None for a missing one."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(b"absent" if content is None else b"%d:" % len(content) + content)
    return digest.hexdigest()
