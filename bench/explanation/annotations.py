"""The annotations that an explanation reads, of protocols that data.batch's Annotation and Batch satisfy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Objects(Protocol):
    """Objects of one image, of several classes; coordinates are pixels of the preprocessed image."""

    @property
    def labels(self) -> Tensor:
        """(n,) class indices."""

    @property
    def boxes(self) -> Tensor:
        """(n, 4), x0 y0 x1 y1, x1 and y1 exclusive; one row per label."""

    @property
    def mask(self) -> Tensor | None:
        """(H', W') class index per pixel, negative for none; None where there is no mask."""

    def boxes_of(self, target: int) -> Tensor:
        """The boxes of one class: (n, 4)."""


class AnnotatedRows(Protocol):
    """Annotations of the rows of a trace."""

    def boxes(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Per row the boxes of its explained class, (n, 4) each; None where nothing has boxes."""

    def cells(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Per row the cells of a mosaic that show the explained class, (n, 4) each; None where nothing is a mosaic."""

    def masks(self, targets: Tensor) -> Tensor | None:
        """(B, H', W') bool: the pixels of the explained class; None where nothing has a mask."""

    def ignored(self) -> Tensor | None:
        """(B, H', W') bool: pixels that are neither object nor background; None where there are none."""

    def stored_pixels(self) -> tuple[tuple[float, float], ...] | None:
        """Per row the width and height of a stored image's pixel, in pixels of the preprocessed image."""

    def wrong_class(self, targets: Tensor) -> Tensor | None:
        """(B,) bool: where the image shows other classes than the explained one; None where nothing is annotated."""

    def others(self, targets: Tensor, classes: int) -> tuple[Objects, ...] | None:
        """Per row the objects of the model's other classes; None where nothing is annotated."""


@dataclass(frozen=True)
class AnnotationsOfTargets:
    """What the annotations of a trace's rows say of the explained classes, as the fields of an Explanation; a batch's
    methods share them."""

    boxes: tuple[Tensor, ...] | None = None
    cells: tuple[Tensor, ...] | None = None
    masks: Tensor | None = None
    ignored: Tensor | None = None
    stored_pixels: tuple[tuple[float, float], ...] | None = None
    wrong_class: Tensor | None = None
    others: tuple[Objects, ...] | None = None

    @staticmethod
    def of(rows: AnnotatedRows, targets: Tensor, classes: int) -> AnnotationsOfTargets:
        """targets: (B,), the explained classes. classes: how many the model has."""
        return AnnotationsOfTargets(
            boxes=rows.boxes(targets),
            cells=rows.cells(targets),
            masks=rows.masks(targets),
            ignored=rows.ignored(),
            stored_pixels=rows.stored_pixels(),
            wrong_class=rows.wrong_class(targets),
            others=rows.others(targets, classes),
        )
