"""Read maps from files of numbers and from pictures: a colour map that drew a picture is inverted.

The number behind a colour is known up to half a step of the colour map, so maps of pictures are
approximate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import BadImage
from axiom_bench.data.formats.decoding import as_rgb, open_image
from axiom_bench.data.formats.files import as_text, open_regular, reason_of
from axiom_bench.errors import BenchError

Numbers = NDArray[np.floating]
Pixels = NDArray[np.uint8]

PICTURES = (".png", ".tif", ".tiff")
SUFFIXES = (".npy", *PICTURES)
LARGEST_MAP = 2**26  # numbers in a map: 8192 x 8192
STEPS = 256  # colours of a colour map
# The largest error of a number that is read from a colour: half a step, and as much again for each
# of the roundings by the program that drew and by the one that wrote the file.
ERROR = 2.5 / STEPS
LEVELS_OFF = 2  # levels of 255 by which a drawn colour may differ from the colour map's
OUTLIERS = 0.01  # share of pixels that may differ by more, such as a mark over the map
OPENCV_JET = "OpenCV's JET"
# The colour maps that are tried first, since others may have the same colours.
COMMON_COLOURS = (
    OPENCV_JET,
    "jet",
    "viridis",
    "turbo",
    "inferno",
    "magma",
    "plasma",
    "hot",
)


@dataclass(frozen=True, eq=False)
class MapFile:
    """A map that was read from a file.

    Attributes:
        values: The map, (h, w).
        error: The largest rounding error of a value: 0 for files of numbers.
        colours: The colour map that was inverted, "" if the file has numbers or is grey.
    """

    values: Numbers
    error: float = 0.0
    colours: str = ""

    @property
    def is_drawn(self) -> bool:
        """True if the values are those of a picture, so that they are approximate."""
        return self.error > 0

    @property
    def source(self) -> str:
        """Words for how the map was read."""
        if not self.is_drawn:
            return "numbers"
        return f"a picture in {self.colours}" if self.colours else "a grey picture"


def read_map(path: Path) -> MapFile:
    """Read a map from a .npy, .png or .tiff file.

    Args:
        path: The file.

    Raises:
        BenchError: If the file can't be read, isn't one map, has NaN, or has unknown colours.
    """
    if path.suffix.lower() == ".npy":
        array = _read_npy(path)
        is_picture = array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] in (3, 4)
        if is_picture:
            read = invert(array[..., :3].astype(np.uint8), path)
        else:
            read = MapFile(_as_map(array, path))
    else:
        read = _read_picture(path)
    missing = read.values.size - int(np.isfinite(read.values).sum())
    if missing:
        raise BenchError(
            f"{as_text(path)} has {missing} NaN or infinite values of {read.values.size}; "
            "save a map of finite numbers."
        )
    return read


def _read_npy(path: Path) -> NDArray[np.generic]:
    """Return the array of a .npy file, whose header is compared with the file's size first."""
    try:
        open_regular(path).close()
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # what NumPy raises for a damaged header is not documented
        reason = reason_of(error)
        if "pickle" in reason or "object" in reason:
            reason = "it holds Python objects, which are never loaded"
        raise BenchError(
            f"{as_text(path)} can't be read: {reason}; save the map by np.save(file, numbers)."
        ) from error
    if array.size > LARGEST_MAP:
        raise BenchError(
            f"{as_text(path)} has {array.size:,} numbers, more than {LARGEST_MAP:,}; save a map of "
            "the layer's or the image's size."
        )
    return array


def _as_map(array: NDArray[np.generic], path: Path) -> Numbers:
    """Return an array as a map (h, w) without axes of length 1 around it."""
    if array.dtype.kind not in "fiub" or not array.size:
        raise BenchError(f"{as_text(path)} holds {array.dtype}; save a map of real numbers.")
    shape = array.shape
    if array.ndim > 2:
        # A batch of one and a channel of one are left out, at either end.
        outer = [side for side in shape if side != 1]
        shape = tuple(outer) if len(outer) == 2 else shape
    if len(shape) != 2:
        raise BenchError(
            f"{as_text(path)} has the shape {array.shape}; save one map (h, w) per file."
        )
    # The number of digits decides which differences are rounding.
    has_digits = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    dtype = array.dtype.newbyteorder("=") if has_digits else np.float64
    return np.array(array, dtype).reshape(shape)


def _read_picture(path: Path) -> MapFile:
    """Return the map of a picture. A TIFF of floats holds numbers."""
    try:
        with open_image(path, as_text(path)) as picture:
            picture.load()
            if picture.mode == "F":
                return MapFile(np.array(picture, np.float32))
            if picture.mode.startswith("I"):
                return _grey(picture, 2**16 - 1, path)
            if picture.mode in ("1", "L", "LA"):
                return _grey(picture.convert("L"), 2**8 - 1, path)
            pixels = np.asarray(as_rgb(picture))
    except BadImage as error:
        raise BenchError(f"The map {error}.") from error
    return invert(pixels, path)


def _grey(picture: Image.Image, white: int, path: Path) -> MapFile:
    """Return the map of a grey picture, whose largest possible number is `white`."""
    levels = np.asarray(picture).astype(np.float64)
    if levels.max() > white or levels.min() < 0:
        raise BenchError(f"{as_text(path)} has numbers beyond 16 bits; save them by np.save.")
    # Some programs round to a level, others leave out the fraction.
    return MapFile(levels / white, error=1 / white)


def invert(pixels: Pixels, path: Path) -> MapFile:
    """Return the map that a picture draws.

    Args:
        pixels: The picture, (h, w, 3).
        path: Its file, for messages.

    Raises:
        BenchError: If no colour map has the picture's colours.
    """
    spread = int(np.ptp(pixels.astype(np.int16), axis=2).max())
    if spread == 0:
        return MapFile(pixels[..., 0] / 255, error=1 / 255)
    read = _nearest(pixels, colour_names())
    if read is None:
        raise BenchError(
            f"{as_text(path)} has colours of no colour map of matplotlib, nor of OpenCV's JET; "
            "save the numbers by np.save, or the map without the image behind it."
        )
    return read


def _nearest(pixels: Pixels, names: tuple[str, ...]) -> MapFile | None:
    """Return the map by the colour map whose colours are nearest, or None if none is near."""
    best: MapFile | None = None
    least = float(LEVELS_OFF)
    for name in names:
        values, distances = _positions(pixels, name)
        distance = float(np.quantile(distances, 1 - OUTLIERS, method="higher"))
        if distance <= least and (best is None or distance < least):
            best = MapFile(values, error=ERROR, colours=name)
            least = distance
    return best


def _positions(pixels: Pixels, name: str) -> tuple[Numbers, Numbers]:
    """Return the position of each pixel's colour in a colour map, from 0 to 1, and the distance
    from that colour in levels, the largest of the three channels.
    """
    from scipy.spatial import KDTree  # here: the import takes long, and few commands need it

    table = colour_table(name)
    colours, inverse = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    distances, entries = KDTree(table).query(colours.astype(np.float64), p=np.inf)
    positions = _middle_positions(name)[entries]
    shape = pixels.shape[:2]
    return positions[inverse].reshape(shape), distances[inverse].reshape(shape)


@cache
def _middle_positions(name: str) -> Numbers:
    """Return the position of each entry of a colour map: the middle of equal entries' steps."""
    table = colour_table(name)
    _, inverse = np.unique(table, axis=0, return_inverse=True)
    steps = (np.arange(STEPS) + 0.5) / STEPS
    sums = np.bincount(inverse, weights=steps)
    middle: Numbers = (sums / np.bincount(inverse))[inverse]
    return middle


@cache
def colour_names() -> tuple[str, ...]:
    """Return the colour maps that are tried: OpenCV's JET, and matplotlib's of 256 colours.

    A reversed colour map has the same colours, so pictures can't tell it from the other.
    """
    from matplotlib import colormaps  # here: only pictures in colour need it

    names = [OPENCV_JET]
    for name in colormaps:
        is_grey = np.ptp(colour_table(name), axis=1).max() == 0
        if colormaps[name].N == STEPS and not name.endswith("_r") and not is_grey:
            names.append(name)
    return tuple(sorted(names, key=lambda name: (name not in COMMON_COLOURS, name)))


@cache
def colour_table(name: str) -> Numbers:
    """Return the colours of a colour map, (256, 3) from 0 to 255, from its low end to its high."""
    position = np.arange(STEPS) / (STEPS - 1)
    if name == OPENCV_JET:
        # Straight lines, as in OpenCV's table: red is full at 3/4, green at 1/2, blue at 1/4.
        peaks = np.array([3, 2, 1])
        share = np.clip(1.5 - np.abs(4 * position[:, None] - peaks), 0, 1)
        rounded: Numbers = np.round(255 * share)
        return rounded
    from matplotlib import colormaps

    colours = colormaps[name](np.arange(STEPS), bytes=True)[:, :3]
    return colours.astype(np.float64)
