"""The decoding of a file into an RGB image, whatever its mode.

Everything that can go wrong becomes a BadImage.

A BadImage becomes the status of the image's rows. So one broken file among a million ends no run.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from axiom_bench.data.base import UNREADABLE, BadImage, Least
from axiom_bench.data.formats.files import NotRegular, as_text, open_regular, reason_of
from axiom_bench.errors import BenchError
from axiom_bench.kinds import home_expanded

# Pillow's other readers aren't asked: PostScript, for one, would be run by another program.
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "GIF", "PPM", "BMP", "WEBP", "TIFF", "JPEG2000")
if find_spec("PIL.AvifImagePlugin"):  # from Pillow 11.3 on
    FORMATS += ("AVIF",)
# Tags of a TIFF, and the value of the second.
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
TURNS: Mapping[object, Image.Transpose] = {  # by the EXIF orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_ITS_SIDE = 5  # from this orientation on width and height change places
ABSENT = b"absent"  # in a hash, for a file that doesn't exist
HALF_STEP = 0.5 / 255  # how far floats may lie beyond 0 to 1, which changes no pixel
DARK = 15  # of 255: what 12 bits in a file of 16 reach, or values that are only 0 and 1
NEARLY_BLACK = f"has no value above {DARK} of 255"
PIECE = 2**20  # bytes that are hashed at once: a file may be larger than the memory


@cache
def image_suffixes() -> frozenset[str]:
    """Return the endings of names that Pillow has for FORMATS, in lower case.

    Asking Pillow imports all of its readers. An MPO, which some cameras write, is a JPEG with more
    after it.
    """
    kinds = (*FORMATS, "MPO")
    return frozenset(
        ending for ending, kind in Image.registered_extensions().items() if kind in kinds
    )


def open_rgb(source: Path | BytesIO, image_id: str) -> Image.Image:
    """Return the decoded image of a file, or of a file's bytes: the first of several.

    Raises:
        BadImage: As `open_image`.
    """
    return open_scaled(source, image_id, None)[0]


def open_scaled(
    source: Path | BytesIO, image_id: str, least: Least | None, upright: bool = False
) -> tuple[Image.Image, tuple[int, int], bool | None]:
    """Return the decoded image of a file, possibly at a part of its size.

    Args:
        source: The file, or its bytes.
        image_id: The id of the image, for errors.
        least: Returns the least height and width. A JPEG is decoded at a half, a quarter or an
            eighth of its size if both sides are no smaller than these.
        upright: True to apply the EXIF orientation, as viewers do. A TIFF's orientation belongs to
            its format: Pillow applies it.

    Returns:
        The image, its size (width, height) before it was scaled, and whether it was turned: None
        if it has no EXIF orientation to turn it by.

    Raises:
        BadImage: As `open_image`.
    """
    with open_image(source, image_id) as image:
        width, height = image.size
        if least is not None and isinstance(image, JpegImageFile):
            if upright and orientation(image) >= ON_ITS_SIDE:
                image.draft(None, least(width, height))
            else:
                image.draft(None, least(height, width)[::-1])
        picture = as_rgb(image)
        # Read only after the decoding: by now Pillow has turned a TIFF.
        turn = orientation(image)
        if turn not in TURNS or not upright:
            return picture, (width, height), False if turn in TURNS else None
        size = (height, width) if turn >= ON_ITS_SIDE else (width, height)
        return picture.transpose(TURNS[turn]), size, True


def open_upright(path: Path) -> tuple[Image.Image, bool]:
    """Return the RGB image as people look at it, and whether its EXIF orientation turned it.

    Raises:
        BenchError: If the file can't be read as an image.
    """
    try:
        image, _, turned = open_scaled(path, as_text(path), None, upright=True)
    except BadImage as error:
        raise BenchError(f"The image {error}.") from error
    return image, bool(turned)


def open_as_viewed(image: str | PathLike[str] | Image.Image) -> Image.Image:
    """Return a photograph in RGB, as people look at it.

    Raises:
        BenchError: If it is empty or can't be read.
    """
    if not isinstance(image, Image.Image):
        return open_upright(home_expanded(image))[0]
    if 0 in image.size:
        raise BenchError(
            f"The image is {image.width} x {image.height} pixels; give one that isn't empty."
        )
    try:
        return as_rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError) as error:  # Pillow reads a file only now
        raise BenchError(f"The image can't be decoded: {reason_of(error)}.") from error


def orientation(image: Image.Image) -> int:
    """Return an image's EXIF orientation, 1 to 8.

    It is 1, which leaves the pixels as they are, if there is none or it can't be read.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - what Pillow raises for damaged EXIF is not documented
        return 1
    return value if value in TURNS else 1


@contextmanager
def open_image(source: Path | BytesIO, image_id: str) -> Iterator[Image.Image]:
    """Open an image with Pillow, to be decoded inside the `with` block.

    Raises:
        BadImage: If the image is missing, can't be read, is no image, is damaged, or is far too
            large. Its header has the size, before memory is taken. Also for errors in the block.
    """
    try:
        with (
            warnings.catch_warnings(),
            source if isinstance(source, BytesIO) else open_regular(source) as file,
        ):
            warnings.simplefilter("ignore", UserWarning)  # about metadata next to the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                yield image
    except FileNotFoundError as error:
        raise BadImage(image_id, f"there is no file {as_text(str(source))}") from error
    except NotRegular as error:
        raise BadImage(image_id, str(error)) from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadImage(image_id, "too many pixels to decode; make it smaller") from error
    except Image.UnidentifiedImageError as error:
        is_empty = isinstance(source, Path) and not source.stat().st_size
        reason = "it is no image, or one of a kind that isn't read; save it as JPEG or PNG"
        if is_empty:
            reason = "the file is empty"
        raise BadImage(image_id, f"can't be decoded: {reason}") from error
    except Exception as error:  # what Pillow's readers raise for damaged files is not documented
        raise BadImage(image_id, f"can't be decoded: {reason_of(error)}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as RGB.

    Grey is repeated, CMYK and palettes are converted, 16 bits are scaled to 8 (not clipped), and
    floats from 0 to 1 are scaled to 8 bits. Transparent images are laid over white: the colours of
    transparent pixels are arbitrary.

    Raises:
        ValueError: For numbers whose range isn't known: floats outside 0 to 1 by more than
            rounding, and whole numbers of 32 bits or with a sign.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        # Grey of more than 8 bits, which Pillow itself would clip at 255.
        grey = _eight_bits(image)
        # Pillow leaves it to its caller that a TIFF's 0 may be white.
        is_negative = (
            isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        )
        image = Image.fromarray(255 - grey if is_negative else grey)
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), opaque).convert("RGB")
    if image.mode == "RGB":
        image.load()
        return image  # `convert` would copy it
    return image.convert("RGB")


def is_nearly_black(image: Image.Image) -> bool:
    """Return whether an RGB image has only the lowest values, but some above 0.

    Its numbers may have another range.

    A note then says so, since the network would see a black image.
    """
    return 0 < int(np.max(image.getextrema())) <= DARK


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Scale floats from 0 to 1, or take the upper eight bits of 16, or of a TIFF's 12."""
    values = np.asarray(image)
    bits = 16
    if image.mode == "F":
        low = float(values.min())
        high = float(values.max())
        if not (low >= -HALF_STEP and high <= 1 + HALF_STEP):  # also where one is NaN
            raise ValueError(
                f"its floats go from {low:.4g} to {high:.4g}, not within 0 to 1; save it with 8 "
                "or 16 bits"
            )
        return (values.clip(0, 1) * 255).round().astype(np.uint8)
    if isinstance(image, TiffImageFile):
        if image.mode == "I":
            raise ValueError(
                "the range of whole numbers with a sign or 32 bits isn't known; save it with 8 or "
                "16 bits"
            )
        (bits,) = image.tag_v2[BITS_PER_SAMPLE]
    return (values.astype(np.int64) >> (bits - 8)).clip(0, 255).astype(np.uint8)


def sha256(*paths: Path) -> str:
    """Return the SHA-256 of the bytes of the files in this order; a missing file counts as one.

    If a file exists and can't be read, the hash begins with UNREADABLE. Such a hash stands for no
    content, and isn't kept.
    """
    digest = hashlib.sha256()
    is_readable = True
    for path in paths:
        if not os.path.isfile(path):
            digest.update(ABSENT)
            continue
        try:
            with open_regular(path) as file:
                digest.update(b"%d:" % os.fstat(file.fileno()).st_size)
                while piece := file.read(PIECE):
                    digest.update(piece)
        except OSError:
            digest.update(b"unreadable")
            is_readable = False
    return f"{'' if is_readable else UNREADABLE}{digest.hexdigest()}"


def sha256_of(contents: Iterable[bytes | None]) -> str:
    """Return the SHA-256 of the contents of files, None for a missing file."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(ABSENT if content is None else b"%d:" % len(content) + content)
    return digest.hexdigest()
