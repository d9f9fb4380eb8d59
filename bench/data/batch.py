"""Batches: preprocessed images with labels, boxes and masks in their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Annotation:
    """The objects of one image, of every class. Coordinates are pixels of the preprocessed image.

    labels: (n,) class indices. boxes: (n, 4), x0 y0 x1 y1, x1 and y1 exclusive; one row per label.
    mask: (H', W') class index per pixel, -1 for background or border; None where the data set has no mask.
    """

    labels: Tensor
    boxes: Tensor
    mask: Tensor | None = None

    @staticmethod
    def none() -> Annotation:
        """No objects."""
        return Annotation(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))

    def boxes_of(self, target: int) -> Tensor:
        """The boxes of one class: (n, 4)."""
        return self.boxes[self.labels == target]

    def without(self, target: int) -> Annotation:
        """The objects of all other classes."""
        return self._where(lambda labels: labels != target)

    def of_model(self, classes: int) -> Annotation:
        """The objects of the classes that a model of so many has, 0 to classes - 1."""
        return self._where(lambda labels: (labels >= 0) & (labels < classes))

    def _where(self, belongs: Callable[[Tensor], Tensor]) -> Annotation:
        rows = belongs(self.labels)
        mask = None if self.mask is None else self.mask.masked_fill(~belongs(self.mask), -1)
        return Annotation(self.labels[rows], self.boxes[rows], mask)


@dataclass(frozen=True)
class Batch:
    """Rows to explain: one row per image and explained class.

    images: (B, 3, H', W'), normalised as the weights expect. image_ids: B names.
    targets: (B,) class indices, or None for "the predicted class". annotations: B, or empty for a data set without.
    """

    images: Tensor
    image_ids: tuple[str, ...]
    targets: Tensor | None = None
    annotations: tuple[Annotation, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        kind = f"{str(self.images.dtype).removeprefix('torch.')}, {self.images.device}"
        return f"Batch(images {tuple(self.images.shape)}, {kind}, {len(self.annotations)} annotations)"

    def to(self, device: torch.device | str) -> Batch:
        """The same rows with images and targets on another device; annotations stay on the CPU."""
        targets = None if self.targets is None else self.targets.to(device, non_blocking=True)
        return replace(self, images=self.images.to(device, non_blocking=True), targets=targets)

    def boxes(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Per row the boxes of its explained class, (n, 4) each; None where the data set has no boxes."""
        if not self.annotations:
            return None
        return tuple(annotation.boxes_of(int(target)) for annotation, target in self._explained(targets))

    def masks(self, targets: Tensor) -> Tensor | None:
        """(B, H', W') bool: the pixels of the explained class; all False where a row has no mask."""
        if not any(annotation.mask is not None for annotation in self.annotations):
            return None
        empty = torch.full(self.images.shape[-2:], -1)
        return torch.stack([(annotation.mask if annotation.mask is not None else empty) == target
                            for annotation, target in self._explained(targets)])  # fmt: skip

    def others(self, targets: Tensor, classes: int) -> tuple[Annotation, ...] | None:
        """Per row the objects of the classes that aren't explained, of those that a model of so many classes has; None
        where the data set has no annotations."""
        if not self.annotations:
            return None
        rows = self._explained(targets)
        return tuple(annotation.of_model(classes).without(target) for annotation, target in rows)

    def _explained(self, targets: Tensor) -> Iterator[tuple[Annotation, int]]:
        return zip(self.annotations, targets.tolist(), strict=True)
