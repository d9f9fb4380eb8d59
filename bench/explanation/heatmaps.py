"""The result of explaining images: heatmaps by method, and their picture.

It also has classes, axiom errors and notes.

The module imports torch and matplotlib only when something is drawn.
"""

from __future__ import annotations

import base64
import io
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from axiom_bench.columns import FLOAT32_ROUNDING, OK
from axiom_bench.errors import BenchError, first_names
from axiom_bench.explanation.overlay import COLOURS, Heat, Pixels, View, as_picture, blend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from torch import Tensor

ERROR_COLUMNS = ("row", "method", "metric", "value", "status")
MAX_IMAGES = 4  # the most images that a notebook shows
MAX_METHODS = 24  # the most methods that it shows of each image
MAX_NAMED = 6  # the most methods and classes in a line
MAX_NAME = 40  # the most characters of a class in a bar
COLUMNS = 6  # the most maps next to each other in a picture
MAP_INCHES = 1.9
CAPTION_INCHES = 0.55  # for the title of a map and its errors
HEADING_INCHES = 0.3
CLASS_INCHES = 0.17  # the height of a line with one of the top classes
LOW = 0.5  # a picture of at most this height per width, such as a signal, is drawn twice as wide
DPI = 150
SIDE = 180  # pixels of the longer side of a notebook's picture
TEXT_COLUMNS = 40  # the widest line of a text above the bars of its words
BOX = "white"  # the edge of an object's box, on heat
BAR = "#bcdff5"  # light, since the names are written on it
FIGURE = (
    '<figure style="margin:0;width:{side}px">{picture}<figcaption>{caption}</figcaption></figure>'
)
ROW = '<div style="display:flex;flex-wrap:wrap;gap:10px;margin:6px 0 16px">{figures}</div>'
STYLE = "font:13px/1.35 system-ui,sans-serif;overflow-wrap:anywhere"


@dataclass(frozen=True)
class ClassScore:
    """A class with its softmax probability.

    If the model's output has no probabilities, the class has its score.
    """

    index: int
    name: str
    value: float
    is_probability: bool = True
    box: tuple[float, ...] | None = None
    """The box x0 y0 x1 y1 in pixels, if the class is that of one object."""

    @property
    def text(self) -> str:
        """The value as people read it, such as "93 %" or "score 4.20".

        Only none and all are 0 % and 100 %.
        """
        if not self.is_probability:
            return f"score {self.value:#.3g}"
        percent = 100 * self.value
        if 0 < percent < 1:
            return "<1 %"
        if 99 < percent < 100:
            return ">99 %"
        return f"{percent:.0f} %"


class Heatmaps(dict[str, "Tensor"]):
    """Heatmaps (B, H', W') in [0, 1] by method, one row per explained class of an image.

    A notebook shows each row with every method's map over its image. Pictures are made when they
    are shown.

    Attributes:
        images: The explained images (B, C, H, W), or signals or volumes, as the network takes them.
        explained: The index of the class that each row explains, (B,).
        probabilities: (B, C), or None if the model's output has none.
        layer: The name of the target layer.
        classes: The names of all classes, or None if they aren't known.
        pictures: The images before they were normalised, (B, H, W, 3), or None if they aren't
            known.
        scores: The explained class of each row, with its probability or score.
        top: The most probable classes, or the objects that were found, of each row's image.
        errors: A frame with the columns row, method, metric, value and status: one line per map and
            metric.
        notes: The warnings: about methods that don't apply to the model, zero maps, scores that
            aren't finite, and errors that weren't computed.
        titles: Titles of methods and metrics by name. A name without a title is its own title.
        names: The name of each row's image. The rows of one image follow one another.
        texts: The text about each row's image, if its words are explained.
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
        scores: Sequence[ClassScore] = (),
        top: Sequence[Sequence[ClassScore]] = (),
        errors: pd.DataFrame | None = None,
        notes: Sequence[Warning] = (),
        titles: Mapping[str, str | None] | None = None,
        names: Sequence[str] = (),
        texts: Sequence[str] = (),
    ) -> None:
        super().__init__(maps)
        self.images = images
        self.explained = explained
        self.probabilities = probabilities
        self.layer = layer
        self.classes = classes
        self.pictures = pictures
        self.scores = scores
        self.top = top
        self.errors = pd.DataFrame(columns=list(ERROR_COLUMNS)) if errors is None else errors
        self.notes = list(notes)
        self.titles = dict(titles or {})
        self.names = list(names) or [f"image {row}" for row in range(len(images))]
        self.texts = list(texts)

    def __repr__(self) -> str:
        classes = [score.name for score in self.scores]
        size = " x ".join(map(str, self.images.shape[2:]))
        methods = first_names(list(self), MAX_NAMED)
        explained = first_names(classes, MAX_NAMED)
        return (
            f"Heatmaps({methods}; {len(self.images)} of {size}, layer {self.layer!r}, explained: "
            f"{explained})"
        )

    def picture(self, row: int) -> Image.Image:
        """Return an image as the network saw it, for `axiom_bench.overlay`.

        Raises:
            BenchError: for signals and volumes.
        """
        if self.images.ndim != 4:
            space = tuple(self.images.shape[2:])
            raise BenchError(
                f"These are of {space}, no images: maps.save('maps.png') and maps.show() draw them."
            )
        return Image.fromarray(as_picture(self._pixels(row)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Draw all images with every method's map over them into a file.

        The file is a .png, .jpg, .webp, .pdf or .svg.

        A file of that name is replaced.

        Raises:
            BenchError: if the file can't be written.
        """
        path = os.path.expanduser(path)
        ending = os.path.splitext(path)[1].lower().removeprefix(".")
        self._draw(path, ending or "no ending")

    def show(self) -> None:
        """Show the maps, in a notebook below the cell.

        Elsewhere they open in the machine's viewer of pictures.
        """
        from rich import get_console

        if get_console().is_jupyter:
            from IPython.display import display

            display(self)
            return
        buffer = io.BytesIO()
        self._draw(buffer, "png")
        Image.open(buffer).show()

    def _draw(self, file: str | os.PathLike[str] | io.BytesIO, kind: str) -> None:
        """Draw the file by matplotlib's default settings.

        It doesn't depend on the user's matplotlibrc.
        """
        from matplotlib import style  # here, and below: a trace doesn't need it

        with style.context("default"):
            figure = self.figure()
            try:
                figure.savefig(file, format=kind, dpi=DPI)
            except (OSError, ValueError) as error:
                raise BenchError(f"Can't write {file}: {error}.") from error

    def figure(self, names: Sequence[str] | None = None, colours: str = COLOURS) -> Figure:
        """Return matplotlib's figure: each image with its top classes.

        Below an image are the maps of each explained class.

        Args:
            names: The names of the images; None: those of the rows. An image that has one name and
                several rows is drawn once.
            colours: A colour map of matplotlib.
        """
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        if names is None:
            names = self.names
        pictures = [self._picture_and_maps(row, list(self)) for row in range(len(self.images))]
        # height per width: a signal is low, and needs more width to be read
        shape = max(min(1, image.shape[0] / image.shape[1]) for image, _ in pictures)
        map_width = MAP_INCHES if shape > LOW else 2 * MAP_INCHES
        columns, rows = _grid(len(self), COLUMNS if shape > LOW else COLUMNS // 2)
        # matplotlib's subfigures have heights in proportion, so that those of all rows come first
        side = map_width * shape
        heights: list[float] = []
        for row in range(len(pictures)):
            if self._begins_image(row, names):
                classes = CLASS_INCHES * len(self.top[row]) + CAPTION_INCHES
                heights.append(max(side, classes) + HEADING_INCHES)
            heights.append(rows * (side + CAPTION_INCHES) + HEADING_INCHES)
        figure = Figure((columns * map_width + HEADING_INCHES, sum(heights)), layout="constrained")
        parts = iter(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
        for row, (image, maps) in enumerate(pictures):
            if self._begins_image(row, names):
                self._draw_heading(next(parts), row, image, names[row], columns)
            part = next(parts)
            score = self.scores[row]
            part.suptitle(f"Explained: {score.name} ({score.text})", fontsize=10, parse_math=False)
            for position, (method, heat) in enumerate(maps.items(), start=1):
                axes = part.add_subplot(rows, columns, position)
                # a map of zeros is white, since a dark image would look like an explanation
                pixels = blend(image, heat, colours) if heat.any() else np.full_like(image, 255)
                title = self.titles.get(method) or method
                note = "\n".join(self.lines(row, method))
                panel(axes, pixels, title, note)
                if score.box is not None:
                    x0, y0, x1, y1 = score.box
                    axes.add_patch(
                        Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec=BOX, lw=1)
                    )
        return figure

    @staticmethod
    def _begins_image(row: int, names: Sequence[str]) -> bool:
        """Return True if a row is the first of its image."""
        return row == 0 or names[row] != names[row - 1]

    def _draw_heading(
        self, part: SubFigure, row: int, image: Pixels, name: str, columns: int
    ) -> None:
        """Draw the image and a bar for each of its top classes."""
        left, right = part.subplots(1, 2, width_ratios=[1, columns - 1])
        panel(left, image, "")
        heading = f"{name}: layer {self.layer}" if self.layer else name
        part.suptitle(heading, fontsize=10, parse_math=False)
        top = self.top[row]
        shares = [score.value if score.is_probability else 0 for score in top]
        right.barh(range(len(shares)), shares, color=BAR, height=0.72)
        for position, score in enumerate(top):
            label = f" {_shortened(score.name)}  {score.text}"
            right.text(0.0, position, label, va="center", fontsize=8, parse_math=False)
        right.set(xlim=(0, 1), ylim=(len(top) - 0.4, -0.6), yticks=[])
        has_boxes = any(score.box is not None for score in top)
        title = "Objects" if has_boxes else "Top classes"
        if self.texts:
            title = textwrap.fill(self.texts[row], TEXT_COLUMNS)
        right.set_title(title, loc="left", fontsize=8, fontweight="normal", parse_math=False)
        right.grid(False)
        right.tick_params(labelsize=7)
        for edge in ("left", "right", "top"):
            right.spines[edge].set_visible(False)

    def is_zero(self, row: int, method: str) -> bool:
        """Return True if a map is zero everywhere, so that there is nothing to see."""
        return not bool(self[method][row].any())

    def lines(self, row: int, method: str) -> list[str]:
        """Return a map's axiom errors as text; one line if none has a value, for one reason."""
        lines = ["Zero everywhere"] if self.is_zero(row, method) else []
        errors = self.errors[(self.errors["row"] == row) & (self.errors["method"] == method)]
        statuses = [str(status).replace("_", " ") for status in errors["status"]]
        if len(set(statuses)) == 1 and OK not in statuses:
            return [*lines, f"No axiom errors: {statuses[0]}"]
        for metric, value, status in zip(errors["metric"], errors["value"], statuses, strict=True):
            if status != OK:
                text = f"\N{EN DASH} ({status})"
            elif 0 < abs(value) < FLOAT32_ROUNDING:
                text = "<1e-6"
            else:
                text = f"{value:#.3g}"
            lines.append(f"{self.titles.get(metric) or metric}: {text}")
        return lines

    def _repr_html_(self) -> str:
        names = list(self)[:MAX_METHODS]
        rows = "".join(
            self._html_row(row, names) for row in range(min(len(self.images), MAX_IMAGES))
        )
        hidden_counts = {"image": len(self.images) - MAX_IMAGES, "method": len(self) - MAX_METHODS}
        hidden = []
        for noun, count in hidden_counts.items():
            if count > 0:
                hidden.append(f"{count} more {noun}{'s' if count > 1 else ''}")
        note = f"<p>{' and '.join(hidden)}, not shown.</p>" if hidden else ""
        return f'<div style="{STYLE}">{rows}{note}</div>'

    def _html_row(self, row: int, names: Sequence[str]) -> str:
        """Return the HTML of an image, followed by the maps of these methods over it."""
        image, maps = self._picture_and_maps(row, names, SIDE)
        figures = [_html_figure(image, self._caption(row))]
        for name in names:
            figures.append(_html_figure(blend(image, maps[name]), name))
        return ROW.format(figures="".join(figures))

    def _picture_and_maps(
        self, row: int, names: Sequence[str], side: int | None = None
    ) -> tuple[Pixels, dict[str, Heat]]:
        """Return the picture (H, W, 3) of a row and its maps (H, W).

        Args:
            row: The row of the batch.
            names: The methods.
            side: The longest side of an image's picture in pixels; None keeps the image's size.
        """
        maps = {name: self[name][row][None].detach().float() for name in names}
        if self.images.ndim == 4:
            pixels = self._pixels(row)
            factor = min(1, (side or math.inf) / max(pixels.shape[1:]))
            size = [max(1, round(length * factor)) for length in pixels.shape[1:]]
            image = as_picture(_resized(pixels, size))
            return image, {
                name: _resized(heat, image.shape[:2])[0].cpu().numpy()
                for name, heat in maps.items()
            }
        sample = self.images[row].detach().float().cpu().numpy()
        space = self.images.shape[2:]
        heats = {name: _resized(heat, space)[0].cpu().numpy() for name, heat in maps.items()}
        view = View.of(sample, np.mean(list(heats.values()), 0) if heats else np.zeros(space))
        return view.picture(sample), {name: view.map(heat) for name, heat in heats.items()}

    def _pixels(self, row: int) -> Tensor:
        """Return an image (3, H, W).

        If it hasn't three channels, all three are the mean of its channels.
        """
        if self.pictures is not None:
            return self.explained.new_tensor(self.pictures[row]).movedim(-1, 0) / 255
        pixels = self.images[row].detach().float()
        return pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)

    def _caption(self, row: int) -> str:
        """Return a title such as "image 0: top cat (91 %)".

        It also has the explained class, if that is another one.
        """
        explained = self.scores[row]
        if not explained.is_probability:
            return f"{self.names[row]}: {explained.name} explained"
        if self.texts:
            return f"{self.names[row]}: {explained.name} ({explained.text})"
        top = self.top[row][0]
        other = ""
        if top.index != explained.index:
            other = f"; explained: {explained.name} ({explained.text})"
        return f"{self.names[row]}: top {top.name} ({top.text}){other}"


def _shortened(name: str) -> str:
    """Return at most MAX_NAME characters of a name, with an ellipsis if it is longer."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"


def _grid(count: int, most: int) -> tuple[int, int]:
    """Return columns and rows for `count` maps, in rows of about the same length.

    A row has at most `most` maps.
    """
    rows = math.ceil(count / most) or 1
    return max(2, math.ceil(count / rows)), rows


def panel(axis: Axes, pixels: Pixels, title: str, note: str = "") -> None:
    """Draw a picture on matplotlib's axes, between its title and a note.

    The axes get no ticks and no frame.
    """
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.imshow(pixels)
    axis.set_title(
        textwrap.fill(title, 32), loc="center", fontsize=8, fontweight="normal", parse_math=False
    )
    axis.set_xlabel(note, fontsize=6.5)


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """Return an image (C, *space) at another size.

    If an image gets smaller, each pixel is an average.
    """
    if tuple(image.shape[1:]) == tuple(size):
        return image
    from torch.nn.functional import interpolate

    mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
    return interpolate(image[None], tuple(size), mode=mode, antialias=len(size) == 2)[0]


def _html_figure(pixels: Pixels, caption: str) -> str:
    """Return the HTML of a picture with its caption."""
    buffer = io.BytesIO()
    text = escape(caption)
    Image.fromarray(pixels).save(buffer, "WEBP", quality=85)
    source = base64.b64encode(buffer.getvalue()).decode()
    picture = (
        f'<img src="data:image/webp;base64,{source}" alt="{text}" style="width:100%;display:block">'
    )
    return FIGURE.format(side=SIDE, picture=picture, caption=text)
