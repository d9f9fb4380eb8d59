"""The annotations that an explanation reads, as protocols: data.batch's Annotation and Batch satisfy them."""

from __future__ import annotations

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
