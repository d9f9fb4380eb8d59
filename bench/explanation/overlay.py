"""Draws a heatmap over its image, for `axiom_bench.overlay`, the report and its gallery.

Signals and volumes are drawn as pictures. The module doesn't import torch, since the report
doesn't.
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

from axiom_bench.errors import BenchError, type_name, unknown_name

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Perceptually uniform: equal steps of heat look equal, so the colours draw no edge that the map
# doesn't have.
COLOURS = "inferno"
OPACITY = 0.6
# the longest side of a picture of the gallery in pixels; larger pictures are reduced
MAX_SIDE = 256
# the quality of WebP: a map differs by 0.3 % of its range on average, and by 5 % at most
QUALITY = 90
SLICES = 9  # the most slices in a volume's sheet
GAP = 2  # the pixels between two slices
# the height and width of a signal's picture; the height is larger if the channels need it
SIGNAL = (96, 256)
BAND = 24  # the least height of a channel in a signal's picture
# curves are drawn in this multiple of their size and then reduced, so that their edges are smooth
DRAWN = 3
Pixels = NDArray[np.uint8]
Heat = NDArray[np.floating]


def drawn_over(image: Pixels, heatmap: object, colours: str, opacity: float) -> Image.Image:
    """Return the picture of `axiom_bench.overlay` for an image (H, W, 3).

    Raises:
        BenchError: unless the heatmap is one map of the image's size in [0, 1].
    """
    height, width = image.shape[:2]
    expected = "pass a tensor or an array (H, W), as ab.explain(...)[name][0]"
    values = _array(heatmap, "A heatmap", expected)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2:
        raise BenchError(
            f"This heatmap has the shape {values.shape}; give that of one image, (H, W), as "
            "heatmap[0]."
        )
    if values.shape != (height, width):
        raise BenchError(
            f"The heatmap is {values.shape[0]} x {values.shape[1]} pixels and the image {height} "
            f"x {width}; ab.heatmap(raw_map, ({height}, {width})) makes one of the image's size, "
            "and ab.explain(..., size=...). Of a photograph, maps.picture(0) is what the network "
            "saw."
        )
    heat: Heat = values.astype(np.float32)
    low = float(np.nan_to_num(heat).min())
    high = float(np.nan_to_num(heat).max())
    # a raw map would look plausible in wrong colours, so it isn't scaled here
    if low < 0 or high > 1:
        raise BenchError(
            f"The heatmap has values from {low:.3g} to {high:.3g}; ab.heatmap scales any map to "
            "[0, 1]."
        )
    if not 0 <= opacity <= 1:
        raise BenchError(
            f"opacity is {opacity}; give a number from 0 (only the image) to 1 (only the colours)."
        )
    return Image.fromarray(blend(image, heat, colours, opacity))


def blend(image: Pixels, heatmap: Heat, colours: str = COLOURS, opacity: float = OPACITY) -> Pixels:
    """Return the map (H, W) in colour over the grey image (H, W, 3), as (H, W, 3) uint8.

    NaN is shown as no heat.

    Raises:
        BenchError: with the nearest names, if the colour map is unknown.
    """
    grey = image.astype(np.float32).mean(-1, keepdims=True)
    heat = np.nan_to_num(heatmap.astype(np.float32)).clip(0, 1)
    coloured = colour_map(colours)(heat, bytes=True)[..., :3]
    blended: NDArray[np.uint8] = (
        ((1 - opacity) * grey + opacity * coloured).round().astype(np.uint8)
    )
    return blended


def as_picture(image: object) -> Pixels:
    """Return an image in any form that `overlay` takes as (H, W, 3) uint8.

    Raises:
        BenchError: if it has no such form.
    """
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    expected = "pass a tensor (3, H, W), a PIL image, or an array (H, W, 3)"
    values = _array(image, "An image", expected)
    channel_axis = -1 if isinstance(image, np.ndarray) else 0
    if values.ndim != 3 or values.shape[channel_axis] != 3 or not values.size:
        raise BenchError(f"This image has the shape {values.shape}; {expected}.")
    if not isinstance(image, np.ndarray):
        values = values.transpose(1, 2, 0)
    if values.dtype == np.uint8:
        return values
    if not np.issubdtype(values.dtype, np.floating):
        raise BenchError(
            f"This image holds {values.dtype}; give uint8 from 0 to 255, or floats in [0, 1]."
        )
    # a preprocessed image has values beyond [0, 1], and its own range shows it
    values = values.astype(np.float64)
    low = values.min()
    high = values.max()
    if not np.isfinite(high - low):
        raise BenchError("This image holds NaN or infinity; there is nothing to show.")
    if low < 0 or high > 1:
        values = (values - low) / max(high - low, np.finfo(float).tiny)
    return (255 * values).round().astype(np.uint8)


def _array(values: Any, subject: str, expected: str) -> np.ndarray:
    """Return an array, or a tensor as an array. Raise BenchError for anything else."""
    # a tensor, recognised without importing torch; numpy has no bfloat16
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return np.asarray(values.float() if values.is_floating_point() else values)
    if not isinstance(values, np.ndarray):
        raise BenchError(f"{subject} can't be {type_name(values)}; {expected}.")
    return values


def colour_map(name: str) -> Colormap:
    """Return a colour map of matplotlib.

    Raises:
        BenchError: with the nearest names, if the colour map is unknown.
    """
    from matplotlib import colormaps  # here: `import axiom_bench` and a trace don't need it

    if name not in colormaps:
        raise unknown_name("colour map", name, colormaps)
    return colormaps[name]


def webp(picture: np.ndarray) -> bytes:
    """Return the WebP file of a picture (H, W, 3), or of a grey one (H, W).

    Values are from 0 to 255.
    """
    image = Image.fromarray(picture.astype(np.uint8))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    # 4, the default, takes twice as long for the same bytes
    image.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()


@dataclass(frozen=True)
class View:
    """A view of a sample with one, two or three spatial axes, for pictures of one size.

    It draws the sample, its perturbed copies, maps and boxes.

    A signal is drawn as curves, one below the other for each channel, with the heat behind them. A
    volume or a video is drawn as a sheet of nine slices along the first spatial axis. The slices
    are evenly spread, and one of them is the hottest. An image is drawn as it is, or as the mean of
    its channels if it hasn't three.
    """

    space: tuple[int, ...]
    """The sides of the sample."""
    slices: tuple[int, ...]
    """The positions of the slices along the first axis."""
    low: Heat
    """The values that are black."""
    high: Heat
    """The values that are white."""

    @staticmethod
    def of(sample: Heat, heat: Heat) -> View:
        """Return the view of a sample (C, *space).

        Its heat (*space) decides which slice is the hottest.
        """
        depth = heat.shape[0] if heat.ndim == 3 else 1
        chosen = np.linspace(0, depth - 1, min(SLICES, depth)).round().astype(int)
        hottest = np.nan_to_num(heat).reshape(depth, -1).sum(1).argmax()
        chosen[np.abs(chosen - hottest).argmin()] = hottest
        # each channel of a signal has its own range
        shared_axes = tuple(range(int(heat.ndim == 1), sample.ndim))
        return View(
            space=heat.shape,
            slices=tuple(chosen.tolist()),
            low=sample.min(shared_axes, keepdims=True),
            high=sample.max(shared_axes, keepdims=True),
        )

    def picture(self, sample: Heat) -> Pixels:
        """Return the picture (H, W, 3) of a sample (C, *space)."""
        shares = (sample - self.low) / np.maximum(self.high - self.low, np.finfo(np.float32).tiny)
        shares = np.nan_to_num(shares.clip(0, 1))
        if len(self.space) == 1:
            pixels = _curves(shares, self._signal_size)
        elif len(shares) == 3:
            pixels = self._sheet(shares, fill=1.0)
        else:
            pixels = self._sheet(shares.mean(0, keepdims=True), fill=1.0)
        rounded = (255 * pixels).round().astype(np.uint8)
        return np.broadcast_to(rounded, (3, *pixels.shape[1:])).transpose(1, 2, 0)

    def map(self, heat: Heat) -> Heat:
        """Return the picture (H, W) of a map (*space), or of a mask."""
        if len(self.space) > 1:
            sheet: Heat = self._sheet(heat[None], fill=0.0)[0]
            return sheet
        height, width = self._signal_size
        positions = (np.arange(width) + 0.5) * self.space[0] / width - 0.5
        return np.tile(np.interp(positions, np.arange(self.space[0]), heat), (height, 1))

    def boxes(self, boxes: Sequence[Sequence[float]]) -> list[list[float]]:
        """Return boxes x0 y0 x1 y1 in the picture's pixels.

        A volume's box is in every slice that it reaches.
        """
        drawn_boxes: list[list[float]] = []
        if len(self.space) == 1:
            # a box of a signal has only a start and an end, and is as high as the picture
            height, width = self._signal_size
            for x0, x1 in boxes:
                start = x0 * width / self.space[0]
                end = x1 * width / self.space[0]
                drawn_boxes.append([start, 0, end, height])
            return drawn_boxes
        if len(self.space) == 2:
            return [list(box) for box in boxes]
        factor = self._enlargement
        for depth, (top, left) in zip(self.slices, self._corners, strict=True):
            for x0, y0, z0, x1, y1, z1 in boxes:
                if z0 < depth + 1 and z1 > depth:
                    drawn_boxes.append(
                        [
                            factor * (left + x0),
                            factor * (top + y0),
                            factor * (left + x1),
                            factor * (top + y1),
                        ]
                    )
        return drawn_boxes

    @property
    def _signal_size(self) -> tuple[int, int]:
        """The height and width of a signal's picture."""
        return max(SIGNAL[0], BAND * self.low.shape[0]), SIGNAL[1]

    @property
    def _corners(self) -> list[tuple[int, int]]:
        """The (top, left) of each slice in a sheet whose pixels are as large as the volume's."""
        columns = math.ceil(math.sqrt(len(self.slices)))
        height, width = (side + GAP for side in self.space[-2:])
        return [
            (index // columns * height, index % columns * width)
            for index in range(len(self.slices))
        ]

    @property
    def _enlargement(self) -> int:
        """The number of a sheet's pixels along each side of one of the volume's pixels."""
        if len(self.space) != 3:
            return 1
        sheet_height = self._corners[-1][0] + self.space[-2]
        return max(1, MAX_SIDE // sheet_height)

    def _sheet(self, values: Heat, fill: float) -> Heat:
        """Return the sheet (C, H, W) of values (C, *space). `fill` is the value between slices."""
        height, width = self.space[-2:]
        corners = self._corners
        last_top = max(top for top, _ in corners)
        last_left = max(left for _, left in corners)
        sheet = np.full((len(values), last_top + height, last_left + width), fill, np.float32)
        all_slices = values.reshape(len(values), -1, height, width)
        for depth, (top, left) in zip(self.slices, corners, strict=True):
            sheet[:, top : top + height, left : left + width] = all_slices[:, depth]
        return sheet.repeat(self._enlargement, 1).repeat(self._enlargement, 2)


def _curves(shares: Heat, size: tuple[int, int]) -> Heat:
    """Return a picture (1, H, W) of a signal (C, L) in [0, 1], black on white.

    It has a curve for each channel, in order.
    """
    height, width = (DRAWN * side for side in size)
    picture = Image.new("L", (width, height), 255)
    band = height / len(shares)
    x = (np.arange(shares.shape[1]) + 0.5) * width / shares.shape[1]
    for channel, values in enumerate(shares):
        y = (channel + 0.95 - 0.9 * values) * band
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        ImageDraw.Draw(picture).line(points, fill=0, width=DRAWN + 1)
    reduced = picture.resize(size[::-1], Image.Resampling.BOX)
    return np.asarray(reduced, np.float32)[None] / 255


def disagreement(heatmaps: Sequence[NDArray[np.float64]]) -> float:
    """Return the mean of 1 - Pearson's correlation over the pairs of heatmaps (H, W).

    Maps that are the same everywhere, or not finite, have no correlation and don't count. The
    result is NaN if fewer than two maps are left.
    """
    flat = [
        heatmap.ravel()
        for heatmap in heatmaps
        if np.isfinite(heatmap).all() and np.ptp(heatmap) > 0
    ]
    if len(flat) < 2:
        return float("nan")
    correlations = np.atleast_2d(np.corrcoef(flat))
    pairs = np.triu_indices(len(flat), 1)
    return float(np.mean(1 - correlations[pairs]))
