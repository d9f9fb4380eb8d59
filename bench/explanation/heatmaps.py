"""Heatmaps of several methods: a dict of tensors that a notebook shows as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape

import torch
from PIL import Image
from torch import Tensor

from axiom_bench.explanation.overlay import Pixels, blend, picture_of

MAX_IMAGES = 4  # that a notebook shows
MAX_METHODS = 24
SIDE = 180  # pixels of a picture's longer side
FIGURE = '<figure style="margin:0;width:{side}px">{picture}<figcaption>{caption}</figcaption></figure>'
ROW = '<div style="display:flex;flex-wrap:wrap;gap:10px;margin:6px 0 16px">{figures}</div>'
STYLE = "font:13px/1.35 system-ui,sans-serif;overflow-wrap:anywhere"


class Heatmaps(dict[str, Tensor]):
    """{method: heatmap (B, H', W')}, of one batch; in a notebook, each image with every method's map over it.

    images: (B, 3, H, W), as they were explained. explained: (B,), the class that each row explains. logits: (B, C).
    Pictures are made when they are shown, of the first images and methods alone.
    """

    def __init__(self, maps: dict[str, Tensor], images: Tensor, explained: Tensor, logits: Tensor) -> None:
        super().__init__(maps)
        self.images, self.explained, self.logits = images, explained, logits

    def _repr_html_(self) -> str:
        names = list(self)[:MAX_METHODS]
        count = min(len(self.images), MAX_IMAGES)
        rows = "".join(self._row(row, names) for row in range(count))
        more = [
            f"{total - shown} more {noun}{'s' if total - shown > 1 else ''}"
            for total, shown, noun in ((len(self.images), count, "image"), (len(self), len(names), "method"))
            if total > shown
        ]
        note = f"<p>{' and '.join(more)}, not shown.</p>" if more else ""
        return f'<div style="{STYLE}">{rows}{note}</div>'

    def _row(self, row: int, names: Sequence[str]) -> str:
        image = picture_of(_smaller(_three_channels(self.images[row].detach().float())))
        captions = [escape(text) for text in (self._caption(row), *names)]
        figures = "".join(
            FIGURE.format(side=SIDE, picture=_img(picture, caption), caption=caption)
            for picture, caption in zip(self._pictures(image, row, names), captions, strict=True)
        )
        return ROW.format(figures=figures)

    def _pictures(self, image: Pixels, row: int, names: Sequence[str]) -> Iterator[Pixels]:
        yield image
        for name in names:
            yield blend(image, _resized(self[name][row][None].detach().float(), image.shape[:2])[0].cpu().numpy())

    def _caption(self, row: int) -> str:
        """ "top class 3 (0.91)", and the class that is explained where it is another."""
        probabilities = self.logits[row].detach().softmax(0)
        top, explained = int(probabilities.argmax()), int(self.explained[row])
        text = {index: _rounded(float(probabilities[index])) for index in (top, explained)}
        other = "" if top == explained else f"; explained: class {explained} ({text[explained]})"
        return f"image {row}: top class {top} ({text[top]}){other}"


def _rounded(probability: float) -> str:
    """Two decimals; 0 and 1 stand for themselves alone."""
    text = f"{probability:.2f}"
    return {"0.00": "<0.01", "1.00": ">0.99"}.get(text, text) if 0 < probability < 1 else text


def _three_channels(image: Tensor) -> Tensor:
    """(3, H, W) of an image with any number of channels: their mean, unless they are three."""
    return image if len(image) == 3 else image.mean(0, keepdim=True).expand(3, -1, -1)


def _smaller(image: Tensor) -> Tensor:
    """(3, H, W) with its longer side at most SIDE."""
    factor = SIDE / max(image.shape[1:])
    return image if factor >= 1 else _resized(image, [max(1, round(side * factor)) for side in image.shape[1:]])


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """(C, H, W) at another size; where that is smaller, each pixel is an average."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    return torch.nn.functional.interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0]


def _img(pixels: Pixels, text: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=85)
    source = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/webp;base64,{source}" alt="{text}" style="width:100%;display:block">'
