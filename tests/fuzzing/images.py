"""Images in a folder of one class: of every mode and format, damaged, and far too large.

Every file has a row or the status `bad_image`; the pixels of what is intact are those of a literal replica.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from hypothesis import note
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from axiom_bench.data.formats.decoding import open_rgb
from axiom_bench.data.layouts.folder import Folder
from tests.fuzzing.damage import damaged
from tests.fuzzing.loading import encoded, load, refuse

Pixels = NDArray[np.uint8]  # (h, w, 3)
ENDINGS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm"}
READ, BAD, EITHER = "read", "bad", "either"
ROUNDING = 1  # of a value over white, and of floats


@dataclass(frozen=True)
class Made:
    """A file. pixels: as they must be read; None where nobody can say. expected: READ | BAD | EITHER."""

    kind: str
    content: bytes
    pixels: Pixels | None = None
    expected: str = EITHER


def attempt(draw: st.DrawFn, folder: Path) -> None:
    inside = folder / "class"
    inside.mkdir()
    Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(inside / "good.png")
    made = draw(st.one_of(*(make() for make in MAKERS)))
    path = inside / f"x.{ENDINGS[made.kind]}"
    path.write_bytes(made.content)
    data, image_id = Folder(folder), f"class/{path.name}"
    assert data.ids == ("class/good.png", image_id), data.ids
    bad = load(data)
    assert set(bad) <= {image_id}, "the good image beside it is lost"
    if bad:
        assert made.expected != READ, f"refused: {bad[image_id]}"
        refuse(bad)
    assert made.expected != BAD, "read, and it should not have been"
    pixels = np.asarray(open_rgb(path, "again"))
    if made.pixels is not None:
        assert pixels.shape == made.pixels.shape, f"{pixels.shape} pixels, not {made.pixels.shape}"
        assert abs(pixels.astype(int) - made.pixels.astype(int)).max() <= ROUNDING, "other pixels"


@st.composite
def _pixels(draw: st.DrawFn, height: int | None = None, width: int | None = None) -> Pixels:
    """Colours of an image of any size up to 24 x 24."""
    size = (height or draw(st.integers(1, 24)), width or draw(st.integers(1, 24)), 3)
    return np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 256, size, dtype=np.uint8)


@st.composite
def _intact(draw: st.DrawFn) -> tuple[str, bytes]:
    """(format, a file of random colours)."""
    kind = draw(st.sampled_from(sorted(ENDINGS)))
    options = {
        "TIFF": {"compression": st.sampled_from(("raw", "tiff_lzw", "tiff_deflate", "packbits"))},
        "WEBP": {"lossless": st.booleans()},
        "JPEG": {"progressive": st.booleans(), "subsampling": st.sampled_from((0, 2))},
    }
    note(kind)
    return kind, encoded(draw(_pixels()), kind, **draw(st.fixed_dictionaries(options.get(kind, {}))))


def _decoded(content: bytes) -> Pixels:
    """What Pillow alone makes of a file, of RGB or grey."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@st.composite
def _damaged(draw: st.DrawFn) -> Made:
    kind, content = draw(_intact())
    return Made(kind, draw(damaged(content)))


@st.composite
def _truncated(draw: st.DrawFn) -> Made:
    """Cut at any byte: refused, or nothing of the pixels was cut."""
    kind, content = draw(_intact())
    return Made(kind, content[: draw(st.integers(0, len(content) - 1))], _decoded(content))


@st.composite
def _turned(draw: st.DrawFn) -> Made:
    """An EXIF orientation turns nothing, since boxes are in pixels as stored; that of a TIFF belongs to its format."""
    exif = Image.Exif()
    exif[0x0112] = draw(st.sampled_from((*range(10), 65535)))
    kind, pixels = draw(st.sampled_from(("JPEG", "PNG", "WEBP", "TIFF"))), draw(_pixels(8, 16))
    stored = Image.fromarray(_decoded(encoded(pixels, kind)))
    stored.getexif().update(exif)
    read = np.asarray(ImageOps.exif_transpose(stored) if kind == "TIFF" else stored)
    return Made(kind, encoded(pixels, kind, exif=exif), read, READ)


@st.composite
def _extreme(draw: st.DrawFn) -> Made:
    pixels = draw(_pixels(*draw(st.sampled_from(((1, 1), (1, 20_000), (20_000, 1), (3, 5000), (1, 2))))))
    return Made("PNG", encoded(pixels, "PNG"), pixels, READ)


@st.composite
def _with_noise_beside(draw: st.DrawFn) -> Made:
    """What stands beside the pixels may be damaged: colour profile and EXIF."""
    kind, noise = draw(st.sampled_from(("JPEG", "PNG", "WEBP", "TIFF"))), Random(draw(st.integers(0, 2**32)))
    pixels, profile = draw(_pixels()), noise.randbytes(noise.randint(1, 500))
    exif = {"exif": b"Exif\0\0" + noise.randbytes(noise.randint(8, 200))} if draw(st.booleans()) else {}
    try:
        content = encoded(pixels, kind, icc_profile=profile, **exif)
    except Exception:  # noqa: BLE001 - Pillow won't write this noise
        content = encoded(pixels, kind, icc_profile=profile)
    return Made(kind, content, _decoded(encoded(pixels, kind)), READ)


def _grey(values: NDArray[Any]) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


def _over_white(values: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    return np.round(values * (alpha / 255) + 255 * (1 - alpha / 255)).astype(np.uint8)


@st.composite
def _of_a_mode(draw: st.DrawFn) -> Made:
    """Of any mode that Pillow has: read as defined, or refused where values can't be known."""
    pixels = draw(_pixels())
    red, green, alpha = pixels[..., 0], pixels[..., 1], pixels[::-1, :, :1]
    deep, share = red.astype(np.uint16) * 256 + green, (red / 255).astype(np.float32)
    palette, cmyk = Image.fromarray(red % 4), Image.fromarray(pixels).convert("CMYK")
    colours = np.array([[10, 20, 30], [40, 50, 60], [200, 100, 0], [255, 255, 255]], np.uint8)
    palette.putpalette([*colours[:3].ravel().tolist(), 7, 7, 7])
    palette.info["transparency"] = 3
    share.flat[0] = 1
    with_alpha = Image.merge("LA", [Image.fromarray(np.ascontiguousarray(plane)) for plane in (red, green)])
    modes: dict[str, tuple[tuple[str, ...], Any, Any]] = {
        "grey": (("PNG",), red, _grey(red)),
        "RGB": (("BMP",), pixels, pixels),
        "16 bits": (("PNG", "TIFF", "PPM"), deep, _grey(deep >> 8)),
        "RGBA": (("PNG", "TIFF", "WEBP"), np.dstack([pixels, alpha]), _over_white(pixels, alpha)),
        "palette with transparency": (("PNG",), palette, colours[red % 4]),
        "CMYK": (("TIFF",), cmyk, np.asarray(cmyk.convert("RGB"))),
        "one bit": (("PNG",), red > 100, _grey((red > 100) * 255)),
        "grey with alpha": (("PNG",), with_alpha, _grey(_over_white(red, green))),
        "floats from 0 to 1": (("TIFF",), share, _grey(np.round(share * 255))),
        "floats from 0 to 255": (("TIFF",), share * 255, None),
        "floats below 0": (("TIFF",), share - 1.5, None),
        "floats that aren't numbers": (("TIFF",), share * np.float32("nan"), None),
        "whole numbers of 32 bits": (("TIFF",), red.astype(np.int32), None),
    }
    name = draw(st.sampled_from(sorted(modes)))
    kinds, image, read = modes[name]
    kind = draw(st.sampled_from(kinds))
    note(f"{name}, {kind}")
    return Made(kind, encoded(image, kind), read, BAD if read is None else READ)


@st.composite
def _bomb(draw: st.DrawFn) -> Made:
    """A header that names far more pixels than there are."""
    kind, content = draw(st.sampled_from(BOMBS))
    return Made(kind, content, expected=BAD)


def _png(side: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header, pixels = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), zlib.compress(bytes(99))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _patched(kind: str, place: bytes, shift: int, sides: bytes) -> bytes:
    """A file of 8 x 8 pixels with other sides in its header, `shift` bytes behind `place`."""
    content = encoded(np.zeros((8, 8, 3), np.uint8), kind)
    start = content.index(place) + shift
    return content[:start] + sides + content[start + len(sides) :]


def _tiff(side: int) -> bytes:
    content = encoded(np.zeros((8, 8, 3), np.uint8), "TIFF")
    for tag in (256, 257):
        at = content.index(struct.pack("<H", tag), 8)
        content = content[: at + 2] + struct.pack("<HII", 4, 1, side) + content[at + 12 :]
    return content


BOMBS = (
    ("PNG", _png(100_000)),
    ("PNG", _png(2**31 - 1)),
    ("JPEG", _patched("JPEG", b"\xff\xc0", 5, struct.pack(">HH", 65_500, 65_500))),
    ("GIF", _patched("GIF", b"GIF8", 6, struct.pack("<HH", 65_535, 65_535))),
    ("GIF", _patched("GIF", b"\x2c", 5, struct.pack("<HH", 65_535, 65_535))),  # of one frame
    ("BMP", _patched("BMP", b"BM", 18, struct.pack("<ii", 100_000, 100_000))),
    ("PPM", b"P6\n100000 100000\n255\n" + bytes(99)),
    ("TIFF", _tiff(100_000)),
)


MAKERS = (_of_a_mode, _damaged, _truncated, _bomb, _turned, _extreme, _with_noise_beside)
