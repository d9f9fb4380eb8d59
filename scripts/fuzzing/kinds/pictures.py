"""Images made in code: what each file holds, and what must come of it."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..case import Case
from ..damage import DAMAGES, damaged

Pixels = NDArray[np.uint8]  # (h, w, 3)
ENDINGS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "WEBP": "webp", "PPM": "ppm"}
COMPRESSIONS = ("raw", "tiff_lzw", "tiff_deflate", "packbits")


@dataclass(frozen=True)
class Made:
    """name: of the file. pixels: as they must be read; None where nobody can say."""

    name: bytes
    what: str
    pixels: Pixels | None = None
    tolerance: int = 0
    may_be_bad: bool = True
    must_be_bad: bool = False


def random_pixels(random: Random, height: int | None = None, width: int | None = None) -> Pixels:
    """Colours of an image of any size up to 24 x 24."""
    size = (height or random.randint(1, 24), width or random.randint(1, 24), 3)
    return np.random.default_rng(random.getrandbits(32)).integers(0, 256, size, dtype=np.uint8)


def encoded(pixels: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a file of this format."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content: bytes) -> Pixels:
    """What Pillow alone makes of a file, of RGB or grey."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def _any_file(random: Random) -> tuple[str, bytes]:
    """(format, an intact file of random colours)."""
    kind = random.choice(sorted(ENDINGS))
    options: dict[str, Any] = {}
    if kind == "TIFF":
        options["compression"] = random.choice(COMPRESSIONS)
    if kind in ("WEBP",):
        options["lossless"] = random.random() < 0.5
    if kind == "JPEG":
        options = {"progressive": random.random() < 0.3, "subsampling": random.choice((0, 2))}
    return kind, encoded(random_pixels(random), kind, **options)


def _save(case: Case, kind: str, content: bytes) -> bytes:
    name = f"x.{ENDINGS[kind]}"
    (case.folder / "class" / name).write_bytes(content)
    return name.encode()


def damaged_file(case: Case) -> Made:
    kind, content = _any_file(case.random)
    what, content = damaged(content, case.random)
    return Made(_save(case, kind, content), f"{kind}, {what}")


def truncated(case: Case) -> Made:
    """Cut at any byte: refused, or nothing of the pixels was cut."""
    kind, content = _any_file(case.random)
    cut = DAMAGES["truncated"](content, case.random)
    what = f"{kind} of {len(content)} bytes, cut after {len(cut)}"
    return Made(_save(case, kind, cut), what, decoded(content))


def turned(case: Case) -> Made:
    """An EXIF orientation turns nothing, since boxes are in pixels as stored; that of a TIFF belongs to its format."""
    exif = Image.Exif()
    exif[0x0112] = orientation = case.random.choice((*range(10), 65535))
    kind = case.random.choice(("JPEG", "PNG", "WEBP", "TIFF"))
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = random_pixels(case.random, 8, 16)
    stored = decoded(encoded(pixels, kind, **options))
    read = np.asarray(ImageOps.exif_transpose(_with(stored, exif))) if kind == "TIFF" else stored
    name = _save(case, kind, encoded(pixels, kind, exif=exif, **options))
    return Made(name, f"{kind}, orientation {orientation}", read, may_be_bad=False)


def _with(pixels: Pixels, exif: Image.Exif) -> Image.Image:
    image = Image.fromarray(pixels)
    image.getexif().update(exif)
    return image


def extreme(case: Case) -> Made:
    height, width = case.random.choice(((1, 1), (1, 20_000), (20_000, 1), (3, 5000), (1, 2)))
    pixels = random_pixels(case.random, height, width)
    return Made(_save(case, "PNG", encoded(pixels, "PNG")), f"{height} x {width}", pixels, may_be_bad=False)


def animated(case: Case) -> Made:
    """The first image counts."""
    kind = case.random.choice(("GIF", "PNG", "WEBP", "TIFF"))
    frames = [Image.fromarray(random_pixels(case.random, 6, 7)) for _ in range(3)]
    if kind == "GIF":
        frames = [frame.quantize(16) for frame in frames]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    pixels = np.asarray(frames[0].convert("RGB"))
    return Made(_save(case, kind, content), f"animated {kind}", pixels, may_be_bad=False)


def with_odd_extras(case: Case) -> Made:
    """What stands beside the pixels may be damaged: colour profile and EXIF."""
    random, kind = case.random, case.random.choice(("JPEG", "PNG", "WEBP", "TIFF"))
    extras: dict[str, Any] = {"icc_profile": random.randbytes(random.randint(1, 500))}
    if random.random() < 0.5:
        extras["exif"] = b"Exif\0\0" + random.randbytes(random.randint(8, 200))
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = random_pixels(random)
    try:
        content = encoded(pixels, kind, **extras, **options)
    except Exception:  # noqa: BLE001 - Pillow won't write this noise
        content = encoded(pixels, kind, icc_profile=extras["icc_profile"], **options)
    what = f"{kind} with {', '.join(extras)} of noise"
    return Made(_save(case, kind, content), what, decoded(encoded(pixels, kind, **options)), may_be_bad=False)


def of_a_mode(case: Case) -> Made:
    what = case.random.choice(sorted(MODES))
    kind, content, pixels = MODES[what](random_pixels(case.random))
    bad = pixels is None
    return Made(_save(case, kind, content), what, pixels, tolerance=1, may_be_bad=bad, must_be_bad=bad)


def bomb(case: Case) -> Made:
    what = case.random.choice(sorted(BOMBS))
    kind, content = BOMBS[what]
    return Made(_save(case, kind, content), what, must_be_bad=True)


Mode = Callable[[Pixels], tuple[str, bytes, Pixels | None]]  # format, file, pixels; None where they can't be known


def _grey(values: NDArray[Any]) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2).astype(np.uint8)


def _sixteen_bits(kind: str) -> Mode:
    def make(pixels: Pixels) -> tuple[str, bytes, Pixels]:
        deep = pixels[..., 0].astype(np.uint16) * 256 + pixels[..., 1]
        return kind, encoded(deep, kind), _grey(deep >> 8)

    return make


def _over_white(kind: str) -> Mode:
    def make(pixels: Pixels) -> tuple[str, bytes, Pixels]:
        alpha = pixels[::-1, :, :1]
        share = alpha / 255
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        content = encoded(np.concatenate([pixels, alpha], axis=2), kind, **options)
        return kind, content, np.round(pixels * share + 255 * (1 - share)).astype(np.uint8)

    return make


def _palette(pixels: Pixels) -> tuple[str, bytes, Pixels]:
    numbers = pixels[..., 0] % 4
    image = Image.fromarray(numbers)
    colours = np.array([[10, 20, 30], [40, 50, 60], [200, 100, 0], [7, 7, 7]], np.uint8)
    image.putpalette(colours.ravel().tolist())
    image.info["transparency"] = 3
    shown = colours.copy()
    shown[3] = 255
    return "PNG", encoded(image, "PNG", transparency=3), shown[numbers]


def _cmyk(pixels: Pixels) -> tuple[str, bytes, Pixels]:
    image = Image.fromarray(pixels).convert("CMYK")
    return "TIFF", encoded(image, "TIFF"), np.asarray(image.convert("RGB"))


def _one_bit(pixels: Pixels) -> tuple[str, bytes, Pixels]:
    inside = pixels[..., 0] > 100
    return "PNG", encoded(Image.fromarray(inside), "PNG"), _grey(inside * 255)


def _grey_with_alpha(pixels: Pixels) -> tuple[str, bytes, Pixels]:
    share = pixels[..., 1] / 255
    image = Image.merge("LA", [Image.fromarray(np.ascontiguousarray(pixels[..., place])) for place in (0, 1)])
    return "PNG", encoded(image, "PNG"), _grey(np.round(pixels[..., 0] * share + 255 * (1 - share)))


def _floats(scale: float, offset: float = 0.0) -> Mode:
    def make(pixels: Pixels) -> tuple[str, bytes, Pixels | None]:
        values = (pixels[..., 0] / 255 * scale + offset).astype(np.float32)
        values.flat[0] = offset or scale
        read = _grey(np.round(values * 255)) if scale == 1 and not offset else None
        return "TIFF", encoded(values, "TIFF"), read

    return make


def _whole_numbers(pixels: Pixels) -> tuple[str, bytes, None]:
    return "TIFF", encoded(pixels[..., 0].astype(np.int32), "TIFF"), None


MODES: dict[str, Mode] = {
    "grey": lambda pixels: ("PNG", encoded(pixels[..., 0], "PNG"), _grey(pixels[..., 0])),
    "RGB": lambda pixels: ("BMP", encoded(pixels, "BMP"), pixels),
    "16 bits PNG": _sixteen_bits("PNG"),
    "16 bits TIFF": _sixteen_bits("TIFF"),
    "16 bits PPM": _sixteen_bits("PPM"),
    "RGBA PNG": _over_white("PNG"),
    "RGBA TIFF": _over_white("TIFF"),
    "RGBA WEBP": _over_white("WEBP"),
    "palette with transparency": _palette,
    "CMYK": _cmyk,
    "one bit": _one_bit,
    "grey with alpha": _grey_with_alpha,
    "floats 0 to 1": _floats(1.0),
    "floats 0 to 255": _floats(255.0),
    "floats below 0": _floats(1.0, -0.5),
    "floats with NaN": _floats(float("nan")),
    "whole numbers of 32 bits": _whole_numbers,
}


def _png(width: int, height: int) -> bytes:
    """A PNG whose header names these sides, with a few bytes of zeros for pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


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


BOMBS: dict[str, tuple[str, bytes]] = {
    "PNG of 100,000 x 100,000": ("PNG", _png(100_000, 100_000)),
    "PNG of 2**31 - 1": ("PNG", _png(2**31 - 1, 2**31 - 1)),
    "JPEG of 65,500 x 65,500": ("JPEG", _patched("JPEG", b"\xff\xc0", 5, struct.pack(">HH", 65_500, 65_500))),
    "GIF of 65,535 x 65,535": ("GIF", _patched("GIF", b"GIF8", 6, struct.pack("<HH", 65_535, 65_535))),
    "a GIF's frame of 65,535 x 65,535": ("GIF", _patched("GIF", b"\x2c", 5, struct.pack("<HH", 65_535, 65_535))),
    "BMP of 100,000 x 100,000": ("BMP", _patched("BMP", b"BM", 18, struct.pack("<ii", 100_000, 100_000))),
    "PPM of 100,000 x 100,000": ("PPM", b"P6\n100000 100000\n255\n" + bytes(99)),
    "TIFF of 100,000 x 100,000": ("TIFF", _tiff(100_000)),
}
