"""Batches: preprocessed images with labels, boxes and masks in their pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from axiom_bench.cutting.interventions import Parts
from axiom_bench.data.base import BACKGROUND, NO_VERDICT


@dataclass(frozen=True)
class Annotation:
    """The objects of one image, of every class. Coordinates are pixels of the preprocessed image.

    Attributes:
        labels: (n,) class indices.
        boxes: (n, 4), x0 y0 x1 y1, x1 and y1 exclusive; of arrays (n, 2 * axes), see Sample. One
            row per label.
        mask: (H', W') class index per pixel, BACKGROUND or NO_VERDICT; None where the data set has
            no mask.
        classes: every class that the image is labelled with, also those whose objects the crop cuts
            away; None: labels.
        stored_pixel: width and height of a pixel of the stored image, in pixels of the preprocessed
            image; 1 of arrays.
        cells: whether the objects are the cells of a mosaic.
        explained: the place of the object that is explained alone; None where all of a class are.
    """

    labels: Tensor
    boxes: Tensor
    mask: Tensor | None = None
    classes: tuple[int, ...] | None = None
    stored_pixel: tuple[float, ...] = (1.0, 1.0)
    cells: bool = False
    explained: int | None = None

    @staticmethod
    def none() -> Annotation:
        """No objects."""
        return Annotation(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))

    def boxes_of(self, target: int) -> Tensor:
        """The boxes of one class: (n, 4); of the one object that is explained: (1, 4)."""
        return self.boxes[self.labels == target if self.explained is None else [self.explained]]

    def same_class(self, target: int) -> Tensor:
        """The boxes of the other objects of the explained one's class: (n, 4)."""
        others = torch.arange(len(self.labels)) != (
            -1 if self.explained is None else self.explained
        )
        return self.boxes[(self.labels == target) & others]

    def is_of(self, space: Sequence[int]) -> bool:
        """Whether each box has a label, and the mask, if any, has class indices for an image with
        these sides.
        """
        labelled = isinstance(self.labels, Tensor) and self.labels.shape == self.boxes.shape[:1]
        if self.mask is None:
            return labelled
        return labelled and self.mask.dtype != torch.bool and tuple(self.mask.shape) == tuple(space)

    def lacks(self, target: int) -> bool:
        """Whether the image shows objects of other classes and none of this one, and isn't labelled
        with it.
        """
        if target in (*self.labels.tolist(), *(self.classes or ())):
            return False
        if self.mask is None:
            return len(self.labels) > 0
        return not bool((self.mask == target).any()) and (
            len(self.labels) > 0 or bool((self.mask >= 0).any())
        )

    def without(self, target: int) -> Annotation:
        """The objects of all other classes."""
        return self._where(lambda labels: labels != target)

    def of_model(self, classes: int) -> Annotation:
        """The objects of the classes that a model of so many has, 0 to classes - 1."""
        return self._where(lambda labels: (labels >= 0) & (labels < classes))

    def _where(self, belongs: Callable[[Tensor], Tensor]) -> Annotation:
        rows, mask = belongs(self.labels), self.mask
        if mask is not None:
            mask = mask.masked_fill(~belongs(mask) & (mask != NO_VERDICT), BACKGROUND)
        return replace(
            self, labels=self.labels[rows], boxes=self.boxes[rows], mask=mask, explained=None
        )


@dataclass(frozen=True)
class Batch:
    """Rows to explain: one row per image and explained class.

    Attributes:
        images: (B, 3, H', W'), normalised as the weights expect; `evaluate` takes several inputs
            for it too.
        image_ids: B names.
        targets: (B,) class indices, or None for "the predicted class".
        annotations: B, or empty for a data set without.
        interventions: per row the image's parts with versions of it without each, no parts where it
            has none; None where nothing asks for them.
        other_images: (B, 3, H', W'), for each row another image of the data set; None as above.
        other_inputs: what the network takes beside the images, (B, ...) each: `evaluate` takes them
            out of `images`.
    """

    images: Tensor
    image_ids: tuple[str, ...]
    targets: Tensor | None = None
    annotations: tuple[Annotation, ...] = ()
    interventions: tuple[Parts, ...] | None = None
    other_images: Tensor | None = None
    other_inputs: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        kind = f"{str(self.images.dtype).removeprefix('torch.')}, {self.images.device}"
        return (
            f"Batch(images {tuple(self.images.shape)}, {kind}, {len(self.annotations)} annotations)"
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the batch in notebooks and hypothesis as `repr` does, not field by field."""
        printer.text(repr(self))

    def to(self, device: torch.device | str) -> Batch:
        """The same rows with images and targets on another device; annotations stay on the CPU, and
        interventions do until a trace is made of the batch.
        """
        targets = None if self.targets is None else self.targets.to(device)
        return replace(self, images=self.images.to(device), targets=targets)

    def __getitem__(self, rows: slice) -> Batch:
        return self._at(torch.arange(len(self))[rows])

    def repeated(self, size: int) -> Batch:
        """The batch with its last row repeated up to `size` rows."""
        return self._at(torch.arange(max(size, len(self))).clamp(max=len(self) - 1))

    def _at(self, index: Tensor) -> Batch:
        """The rows of these numbers."""

        def rows(values: Any) -> Any:
            if isinstance(values, Tensor):
                return values[index.to(values.device, non_blocking=True)]
            return tuple(values[row] for row in index.tolist()) if values else values

        names = [entry.name for entry in fields(self) if entry.name != "other_inputs"]
        others = tuple(map(rows, self.other_inputs))
        return Batch(**{name: rows(getattr(self, name)) for name in names}, other_inputs=others)

    @staticmethod
    def joined(parts: Sequence[Batch]) -> Batch:
        """The rows of batches of one data set and one size of images, after each other."""

        def rows(values: Sequence[Any]) -> Any:
            if isinstance(values[0], Tensor):
                return torch.cat(list(values))
            return None if values[0] is None else tuple(chain.from_iterable(values))

        names = [entry.name for entry in fields(Batch) if entry.name != "other_inputs"]
        others = tuple(map(rows, zip(*(part.other_inputs for part in parts), strict=True)))
        return Batch(
            **{name: rows([getattr(part, name) for part in parts]) for name in names},
            other_inputs=others,
        )

    def annotations_of(self, targets: Tensor, classes: int) -> dict[str, Any]:
        """What the annotations say of the explained classes (B,) of a model of so many, as an
        Explanation's fields.

        stored_pixels: per row the width and height of a stored image's pixel. All are None without
        annotations.
        """
        return {
            "boxes": self.boxes(targets),
            "cells": self.cells(targets),
            "masks": self.masks(targets),
            "ignored": self.ignored(),
            "stored_pixels": tuple(annotation.stored_pixel for annotation in self.annotations)
            or None,
            "wrong_class": self.wrong_class(targets),
            "others": self.others(targets, classes),
            "same_class": self.same_class(targets),
        }

    def boxes(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Per row the boxes of its explained class, (n, 4) each; None where the data set has no
        boxes.
        """
        return (
            tuple(annotation.boxes_of(target) for annotation, target in self._explained(targets))
            or None
        )

    def cells(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Per row the cells of a mosaic that show the explained class, (n, 4) boxes; None where no
        row is a mosaic.
        """
        if not any(annotation.cells for annotation in self.annotations):
            return None
        return tuple(
            annotation.boxes_of(target) if annotation.cells else torch.zeros(0, 4)
            for annotation, target in self._explained(targets)
        )

    def masks(self, targets: Tensor) -> Tensor | None:
        """(B, H', W') bool: the pixels of the explained class, of one object those in its box; all
        False where a row has no mask.
        """
        if not any(annotation.mask is not None for annotation in self.annotations):
            return None
        masks = self._masks()
        of_class = masks == targets.cpu().view(-1, *(1,) * (masks.ndim - 1))
        for row, annotation in zip(of_class, self.annotations, strict=True):
            if annotation.explained is not None:
                starts, ends = (
                    annotation.boxes[annotation.explained].round().long().clamp(min=0).chunk(2)
                )
                inside = torch.zeros_like(row)
                inside[tuple(map(slice, starts.flip(0).tolist(), ends.flip(0).tolist()))] = True
                row &= inside
        return of_class

    def ignored(self) -> Tensor | None:
        """(B, H', W') bool: the pixels without a verdict; None where there are none."""
        ignored = self._masks() == NO_VERDICT
        return ignored if ignored.any() else None

    def wrong_class(self, targets: Tensor) -> Tensor | None:
        """(B,) bool: where the image shows other classes than the explained one; None without
        annotations.
        """
        lacks = [annotation.lacks(target) for annotation, target in self._explained(targets)]
        return torch.tensor(lacks) if lacks else None

    def others(self, targets: Tensor, classes: int) -> tuple[Annotation, ...] | None:
        """Per row the objects of the classes that aren't explained, of those that a model of so
        many classes has; None where the data set has no annotations.
        """
        rows = self._explained(targets)
        return (
            tuple(annotation.of_model(classes).without(target) for annotation, target in rows)
            or None
        )

    def same_class(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Per row the boxes of the other objects of the explained one's class; None where no row is
        of one object.
        """
        if all(annotation.explained is None for annotation in self.annotations):
            return None
        return tuple(
            annotation.same_class(target) for annotation, target in self._explained(targets)
        )

    def _masks(self) -> Tensor:
        """(B, H', W'), background where a row has no mask; (0,) without annotations."""
        empty = torch.full(self.images.shape[2:], BACKGROUND)
        masks = [
            empty if annotation.mask is None else annotation.mask for annotation in self.annotations
        ]
        return torch.stack(masks) if masks else torch.zeros(0)

    def _explained(self, targets: Tensor) -> list[tuple[Annotation, int]]:
        return (
            list(zip(self.annotations, targets.tolist(), strict=True)) if self.annotations else []
        )
