"""A heatmap over its image: the blend of `axiom_bench.overlay` and of the report, what a notebook shows and
`maps.save` draws, pictures and maps as a gallery has them, and signals and volumes as pictures.

Imports no torch, since the report doesn't.
"""

from __future__ import annotations

import base64
import io
import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from axiom_bench.errors import BenchError, first_names, type_name, unknown

if TYPE_CHECKING:
    from torch import Tensor

# Perceptually uniform: equal steps of heat look equal, so the colours draw no edge that the map doesn't have.
COLOURS = "inferno"
OPACITY = 0.6
MAX_SIDE = 256  # of a picture of the gallery, in pixels; larger ones are shown smaller
QUALITY = 90  # of WebP: a map differs by 0.3 % of its range on average, 5 % at most
MAX_IMAGES = 4  # that a notebook shows
MAX_METHODS = 24
MAX_NAMED = 6  # methods and classes in a line
COLUMNS = 6  # of a drawn picture
INCHES, CAPTION, DPI = 1.9, 0.45, 150  # a drawn map's side, and the height of its title
SIDE = 180  # pixels of a picture's longer side
SLICES, GAP = 9, 2  # of a volume's sheet, and the pixels between two slices
SIGNAL, BAND = (96, 256), 24  # height and width of a signal's picture, which is higher where channels need it
DRAWN = 3  # times the size in which curves are drawn, so that their edges are smooth
FIGURE = '<figure style="margin:0;width:{side}px">{picture}<figcaption>{caption}</figcaption></figure>'
ROW = '<div style="display:flex;flex-wrap:wrap;gap:10px;margin:6px 0 16px">{figures}</div>'
STYLE = "font:13px/1.35 system-ui,sans-serif;overflow-wrap:anywhere"
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


class Heatmaps(dict[str, "Tensor"]):
    """{method: heatmap (B, H', W')}, of one batch; in a notebook, each image with every method's map over it.

    images: (B, 3, H, W), as they were explained. explained: (B,), the class that each row explains. probabilities:
    (B, C), None where the model's output has none. layer: where they were explained. classes: their names, where these
    are known. pictures: (B, H, W, 3), the images before they were normalised. Pictures are made when they are shown, of
    the first images and methods alone.
    """

    def __init__(
        self,
        maps: dict[str, Tensor],
        images: Tensor,
        explained: Tensor,
        probabilities: Tensor | None,
        layer: str = "",
        classes: Sequence[str] | None = None,
        pictures: Pixels | None = None,
    ) -> None:
        super().__init__(maps)
        self.images, self.explained, self.probabilities = images, explained, probabilities
        self.layer, self.classes, self.pictures = layer, classes, pictures

    def __repr__(self) -> str:
        classes = [self._name(int(index)) for index in self.explained]
        of = f"{len(self.images)} of {' x '.join(map(str, self.images.shape[2:]))}, layer {self.layer!r}"
        return f"Heatmaps({first_names(list(self), MAX_NAMED)}; {of}, explained: {first_names(classes, MAX_NAMED)})"

    def picture(self, row: int) -> Image.Image:
        """An image as the network saw it, for `axiom_bench.overlay`. Raises BenchError for signals and volumes."""
        if self.images.ndim != 4:
            space = tuple(self.images.shape[2:])
            raise BenchError(f"These are of {space}, no images: maps.save('maps.png') and maps.show() draw them.")
        return Image.fromarray(picture_of(self._pixels(row)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draws all images with every method's map over them into a .png, .jpg, .webp, .pdf or .svg file; one that is
        there is replaced. Raises BenchError where it can't be written."""
        path = os.path.expanduser(path)
        self._draw(path, os.path.splitext(path)[1].lower().removeprefix(".") or "no ending")

    def show(self) -> None:
        """Shows the maps: in a notebook below the cell, else by the machine's viewer of pictures."""
        from rich import get_console

        if get_console().is_jupyter:
            from IPython.display import display

            display(self)
            return
        self._draw(buffer := io.BytesIO(), "png")
        Image.open(buffer).show()

    def _draw(self, file: str | os.PathLike[str] | io.BytesIO, kind: str) -> None:
        """Draw the file by matplotlib's default settings, so that it doesn't depend on the user's matplotlibrc."""
        from matplotlib import style  # here, and below: `import axiom_bench` and a trace don't need it

        with style.context("default"):
            figure = self._canvas()
            try:
                figure.savefig(file, format=kind, dpi=DPI)
            except (OSError, ValueError) as error:
                raise BenchError(f"Can't write {file}: {error}.") from error

    def _canvas(self) -> Any:
        """Return matplotlib's figure of all images with their maps."""
        from matplotlib.figure import Figure

        columns = min(1 + len(self), COLUMNS)
        rows = math.ceil((1 + len(self)) / columns)
        shown = [self._shown(row, list(self)) for row in range(len(self.images))]
        side = INCHES * max(min(1, image.shape[0] / image.shape[1]) for image, _ in shown)
        height = len(shown) * rows * (side + CAPTION) + CAPTION
        figure = Figure((columns * INCHES + CAPTION, height), layout="constrained")
        axes = figure.subplots(len(shown) * rows, columns, squeeze=False).reshape(len(shown), -1)
        for row, (of_image, (image, maps)) in enumerate(zip(axes, shown, strict=True)):
            panel(of_image[0], image, self._caption(row))
            for axis, (name, heat) in zip(of_image[1:], maps.items(), strict=False):
                panel(axis, blend(image, heat), name)
            for axis in of_image[1 + len(self) :]:
                axis.set_axis_off()
        figure.suptitle(f"Layer {self.layer}" if self.layer else "", fontsize=9, parse_math=False)
        return figure

    def _repr_html_(self) -> str:
        names = list(self)[:MAX_METHODS]
        rows = "".join(self._row(row, names) for row in range(min(len(self.images), MAX_IMAGES)))
        left = {"image": len(self.images) - MAX_IMAGES, "method": len(self) - MAX_METHODS}
        more = [f"{count} more {noun}{'s' if count > 1 else ''}" for noun, count in left.items() if count > 0]
        note = f"<p>{' and '.join(more)}, not shown.</p>" if more else ""
        return f'<div style="{STYLE}">{rows}{note}</div>'

    def _row(self, row: int, names: Sequence[str]) -> str:
        image, maps = self._shown(row, names, SIDE)
        figures = [_figure(image, self._caption(row)), *(_figure(blend(image, maps[name]), name) for name in names)]
        return ROW.format(figures="".join(figures))

    def _shown(self, row: int, names: Sequence[str], side: int | None = None) -> tuple[Pixels, dict[str, Heat]]:
        """The picture (H, W, 3) of a row, and its maps (H, W). side: of images, the longest."""
        maps = {name: self[name][row][None].detach().float() for name in names}
        if self.images.ndim == 4:
            pixels = self._pixels(row)
            factor = min(1, (side or math.inf) / max(pixels.shape[1:]))
            image = picture_of(_resized(pixels, [max(1, round(side * factor)) for side in pixels.shape[1:]]))
            return image, {name: _resized(heat, image.shape[:2])[0].cpu().numpy() for name, heat in maps.items()}
        sample, space = self.images[row].detach().float().cpu().numpy(), self.images.shape[2:]
        heats = {name: _resized(heat, space)[0].cpu().numpy() for name, heat in maps.items()}
        view = View.of(sample, np.mean(list(heats.values()), 0) if heats else np.zeros(space))
        return view.picture(sample), {name: view.map(heat) for name, heat in heats.items()}

    def _pixels(self, row: int) -> Tensor:
        """(3, H, W): of an image of any other number of channels their mean."""
        if self.pictures is not None:
            return self.explained.new_tensor(self.pictures[row]).movedim(-1, 0) / 255
        pixels = self.images[row].detach().float()
        return pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)

    def _name(self, index: int) -> str:
        return self.classes[index] if self.classes else f"class {index}"

    def _caption(self, row: int) -> str:
        """ "top class 3 (0.91)", and the class that is explained where it is another."""
        explained = int(self.explained[row])
        if self.probabilities is None:
            return f"image {row}: {self._name(explained)} explained"
        probabilities = self.probabilities[row]
        top = int(probabilities.argmax())
        text = {index: _rounded(float(probabilities[index])) for index in (top, explained)}
        other = "" if top == explained else f"; explained: {self._name(explained)} ({text[explained]})"
        return f"image {row}: top {self._name(top)} ({text[top]}){other}"


def panel(axis: Any, pixels: Pixels, title: str, note: str = "") -> None:
    """A picture on matplotlib's axes, without ticks and frame, between its title and a note."""
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.imshow(pixels)
    axis.set_title(textwrap.fill(title, 32), loc="center", fontsize=8, fontweight="normal", parse_math=False)
    axis.set_xlabel(note, fontsize=6.5)


def _rounded(probability: float) -> str:
    """Two decimals; 0 and 1 stand for themselves alone."""
    text = f"{probability:.2f}"
    return {"0.00": "<0.01", "1.00": ">0.99"}.get(text, text) if 0 < probability < 1 else text


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """(C, *space) at another size; where an image's is smaller, each pixel is an average."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    from torch.nn.functional import interpolate

    mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
    return interpolate(image[None], tuple(size), mode=mode, antialias=len(size) == 2)[0]


def _figure(pixels: Pixels, caption: str) -> str:
    buffer, text = io.BytesIO(), escape(caption)
    Image.fromarray(pixels).save(buffer, "WEBP", quality=85)
    source = base64.b64encode(buffer.getvalue()).decode()
    picture = f'<img src="data:image/webp;base64,{source}" alt="{text}" style="width:100%;display:block">'
    return FIGURE.format(side=SIDE, picture=picture, caption=text)
