"""A heatmap over its image: the blend of `axiom_bench.overlay` and of the report, pictures and maps as a gallery has
them, and signals and volumes as pictures.

Imports no torch, since the report doesn't.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from axiom_bench.errors import BenchError, type_name, unknown

if TYPE_CHECKING:
    from torch import Tensor

# Perceptually uniform: equal steps of heat look equal, so the colours draw no edge that the map doesn't have.
COLOURS = "inferno"
OPACITY = 0.6
MAX_SIDE = 256  # of a picture of the gallery, in pixels; larger ones are shown smaller
QUALITY = 90  # of WebP: a map differs by 0.3 % of its range on average, 5 % at most
SLICES, GAP = 9, 2  # of a volume's sheet, and the pixels between two slices
SIGNAL, BAND = (96, 256), 24  # height and width of a signal's picture, which is higher where channels need it
DRAWN = 3  # times the size in which curves are drawn, so that their edges are smooth
Pixels = NDArray[np.uint8]
Heat = NDArray[np.floating[Any]]


def drawn_over(image: Pixels, heatmap: Tensor | NDArray[Any], colours: str, opacity: float) -> Image.Image:
    """As `axiom_bench.overlay`, of an image (H, W, 3). Raises BenchError unless the heatmap is one map of its size, in
    [0, 1]."""
    height, width = image.shape[:2]
    values = _array(heatmap, "A heatmap", "pass a tensor or an array (H, W), as ab.explain(...)[name][0]")
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2:
        raise BenchError(f"This heatmap has the shape {values.shape}; give that of one image, (H, W), as heatmap[0].")
    if values.shape != (height, width):
        raise BenchError(
            f"The heatmap is {values.shape[0]} x {values.shape[1]} pixels and the image {height} x {width}; "
            f"ab.heatmap(raw_map, ({height}, {width})) makes one of the image's size, and ab.explain(..., "
            "size=...). Of a photograph, maps.picture(0) is what the network saw."
        )
    heat: Heat = values.astype(np.float32)
    low, high = float(np.nan_to_num(heat).min()), float(np.nan_to_num(heat).max())
    if low < 0 or high > 1:
        raise BenchError(f"The heatmap has values from {low:.3g} to {high:.3g}; ab.heatmap scales any map to [0, 1].")
    if not 0 <= opacity <= 1:
        raise BenchError(f"opacity is {opacity}; give a number from 0, the image alone, to 1, the colours alone.")
    return Image.fromarray(blend(image, heat, colours, opacity))


def blend(image: Pixels, heatmap: Heat, colours: str = COLOURS, opacity: float = OPACITY) -> Pixels:
    """The map (H, W) in colour over the grey image (H, W, 3): (H, W, 3) uint8. NaN is shown as no heat.

    Raises BenchError, with the nearest names, for an unknown colour map.
    """
    grey = image.astype(np.float32).mean(-1, keepdims=True)
    heat = np.nan_to_num(heatmap.astype(np.float32)).clip(0, 1)
    return ((1 - opacity) * grey + opacity * colour_map(colours)(heat, bytes=True)[..., :3]).round().astype(np.uint8)


def picture_of(image: Tensor | Image.Image | NDArray[Any]) -> Pixels:
    """An image in any form that `overlay` takes, as (H, W, 3) uint8. Raises BenchError."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    expected = "pass a tensor (3, H, W), a PIL image, or an array (H, W, 3)"
    values = _array(image, "An image", expected)
    if values.ndim != 3 or values.shape[-1 if isinstance(image, np.ndarray) else 0] != 3 or not values.size:
        raise BenchError(f"This image has the shape {values.shape}; {expected}.")
    if not isinstance(image, np.ndarray):
        values = values.transpose(1, 2, 0)
    if values.dtype == np.uint8:
        return values
    if not np.issubdtype(values.dtype, np.floating):
        raise BenchError(f"This image holds {values.dtype}; give uint8 from 0 to 255, or floats in [0, 1].")
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    if not np.isfinite(high - low):
        raise BenchError("This image holds NaN or infinity; there is nothing to show.")
    if low < 0 or high > 1:
        values = (values - low) / max(high - low, np.finfo(float).tiny)
    return (255 * values).round().astype(np.uint8)


def _array(values: Any, what: str, expected: str) -> NDArray[Any]:
    """An array or a tensor as an array. Raises BenchError for anything else."""
    if hasattr(values, "detach"):  # a tensor, told without importing torch; numpy has no bfloat16
        values = values.detach().cpu()
        return np.asarray(values.float() if values.is_floating_point() else values)
    if not isinstance(values, np.ndarray):
        raise BenchError(f"{what} can't be {type_name(values)}; {expected}.")
    return values


def colour_map(name: str) -> Any:
    """matplotlib's. Raises BenchError, with the nearest names, for an unknown one."""
    from matplotlib import colormaps  # here: `import axiom_bench` and a trace don't need it

    if name not in colormaps:
        raise unknown("colour map", name, colormaps)
    return colormaps[name]


def webp(picture: NDArray[Any]) -> bytes:
    """A picture (H, W, 3), or a grey one (H, W), with values from 0 to 255."""
    image = Image.fromarray(picture.astype(np.uint8))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2)  # 4, the default, takes twice as long for the same bytes
    return buffer.getvalue()


@dataclass(frozen=True)
class View:
    """A sample of any number of axes as pictures of one size: of itself, of perturbed ones, of maps and of boxes.

    A signal is a curve, a band below the other for each channel, with the heat behind it. A volume or a video is a
    sheet of nine slices along the first axis of space, evenly spread, one of them the hottest. An image is itself;
    without three channels, their mean.

    space: sides of the sample. slices: places along the first axis. low, high: values that are black and white.
    """

    space: tuple[int, ...]
    slices: tuple[int, ...]
    low: Heat
    high: Heat

    @staticmethod
    def of(sample: Heat, heat: Heat) -> View:
        """sample: (C, *space). heat: (*space), which says where it is hottest."""
        depth = heat.shape[0] if heat.ndim == 3 else 1
        chosen = np.linspace(0, depth - 1, min(SLICES, depth)).round().astype(int)
        hottest = np.nan_to_num(heat).reshape(depth, -1).sum(1).argmax()
        chosen[np.abs(chosen - hottest).argmin()] = hottest
        together = tuple(range(int(heat.ndim == 1), sample.ndim))  # bands have ranges of their own
        limits = sample.min(together, keepdims=True), sample.max(together, keepdims=True)
        return View(heat.shape, tuple(chosen.tolist()), *limits)

    def picture(self, sample: Heat) -> Pixels:
        """(H, W, 3), of a sample (C, *space)."""
        shares = (sample - self.low) / np.maximum(self.high - self.low, np.finfo(np.float32).tiny)
        shares = np.nan_to_num(shares.clip(0, 1))
        if len(self.space) == 1:
            pixels = _curves(shares, self._signal)
        else:
            pixels = self._sheet(shares if len(shares) == 3 else shares.mean(0, keepdims=True), fill=1.0)
        return np.broadcast_to((255 * pixels).round().astype(np.uint8), (3, *pixels.shape[1:])).transpose(1, 2, 0)

    def map(self, heat: Heat) -> Heat:
        """(H, W), of a map (*space), or of a mask."""
        if len(self.space) > 1:
            return self._sheet(heat[None], fill=0.0)[0]
        height, width = self._signal
        places = (np.arange(width) + 0.5) * self.space[0] / width - 0.5
        return np.tile(np.interp(places, np.arange(self.space[0]), heat), (height, 1))

    def boxes(self, boxes: Sequence[Sequence[float]]) -> list[list[float]]:
        """x0 y0 x1 y1 in the picture's pixels; those of a volume in every slice that they reach."""
        if len(self.space) == 1:
            height, width = self._signal
            return [[x0 * width / self.space[0], 0, x1 * width / self.space[0], height] for x0, x1 in boxes]
        if len(self.space) == 2:
            return [list(box) for box in boxes]
        return [
            [self._times * (left + x0), self._times * (top + y0), self._times * (left + x1), self._times * (top + y1)]
            for depth, (top, left) in zip(self.slices, self._corners, strict=True)
            for x0, y0, z0, x1, y1, z1 in boxes
            if z0 < depth + 1 and z1 > depth
        ]

    @property
    def _signal(self) -> tuple[int, int]:
        """Height and width of a signal's picture."""
        return max(SIGNAL[0], BAND * self.low.shape[0]), SIGNAL[1]

    @property
    def _corners(self) -> list[tuple[int, int]]:
        """(top, left) of each slice in a sheet of pixels as large as the volume's."""
        columns = math.ceil(math.sqrt(len(self.slices)))
        height, width = (side + GAP for side in self.space[-2:])
        return [(place // columns * height, place % columns * width) for place in range(len(self.slices))]

    @property
    def _times(self) -> int:
        """How many pixels of a sheet one of the volume's takes along a side."""
        return max(1, MAX_SIDE // (self._corners[-1][0] + self.space[-2])) if len(self.space) == 3 else 1

    def _sheet(self, values: Heat, fill: float) -> Heat:
        """(C, H, W), of values (C, *space). fill: between slices."""
        height, width = self.space[-2:]
        corners = self._corners
        bottom, right = (max(places) for places in zip(*corners, strict=True))
        sheet = np.full((len(values), bottom + height, right + width), fill, np.float32)
        of_slices = values.reshape(len(values), -1, height, width)
        for depth, (top, left) in zip(self.slices, corners, strict=True):
            sheet[:, top : top + height, left : left + width] = of_slices[:, depth]
        return sheet.repeat(self._times, 1).repeat(self._times, 2)


def _curves(shares: Heat, size: tuple[int, int]) -> Heat:
    """(1, H, W), black on white: a band for each channel of a signal (C, L) in [0, 1], the first on top."""
    height, width = (DRAWN * side for side in size)
    picture, band = Image.new("L", (width, height), 255), height / len(shares)
    across = (np.arange(shares.shape[1]) + 0.5) * width / shares.shape[1]
    for channel, values in enumerate(shares):
        down = (channel + 0.95 - 0.9 * values) * band
        ImageDraw.Draw(picture).line(list(zip(across.tolist(), down.tolist(), strict=True)), fill=0, width=DRAWN + 1)
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BOX), np.float32)[None] / 255


def disagreement(heatmaps: Sequence[NDArray[np.float64]]) -> float:
    """The mean of 1 - Pearson's correlation over the pairs of heatmaps (H, W). Maps that are the same everywhere, or
    not finite, have no correlation and don't count; NaN where fewer than two are left."""
    flat = [heatmap.ravel() for heatmap in heatmaps if np.isfinite(heatmap).all() and np.ptp(heatmap) > 0]
    if len(flat) < 2:
        return float("nan")
    return float(np.mean(1 - np.atleast_2d(np.corrcoef(flat))[np.triu_indices(len(flat), 1)]))
