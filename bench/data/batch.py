"""Batches: preprocessed images with labels, boxes and masks in their pixels.

The loader yields them. A trace is made of the images, and metrics compare heatmaps with the boxes
and masks.
"""

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
        boxes: One row per label: (n, 4), x0 y0 x1 y1, x1 and y1 exclusive. For arrays
            (n, 2 * axes), see Sample.
        mask: (H', W') class index per pixel, BACKGROUND or NO_VERDICT; None if the data set has no
            mask.
        classes: Every class that the image is labelled with, also those whose objects the crop
            cuts away; None if these are the classes of `labels`.
        stored_pixel: Width and height of a pixel of the stored image, in pixels of the preprocessed
            image; 1 for arrays.
        cells: True if the objects are the cells of a mosaic.
        explained: The index of the one object that is explained; None if all objects of a class
            are explained.
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
        """Return an annotation without objects."""
        return Annotation(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))

    def boxes_of(self, target: int) -> Tensor:
        """Return the boxes of one class, (n, 4), or of the one object that is explained, (1, 4)."""
        if self.explained is None:
            return self.boxes[self.labels == target]
        return self.boxes[[self.explained]]

    def same_class(self, target: int) -> Tensor:
        """Return the boxes of the other objects of the explained object's class: (n, 4).

        The metric leakage_to_class measures the share of a map that lies in them.
        """
        explained = -1 if self.explained is None else self.explained
        is_other = torch.arange(len(self.labels)) != explained
        return self.boxes[(self.labels == target) & is_other]

    def is_of(self, space: Sequence[int]) -> bool:
        """Return whether the annotation can belong to an image with these sides, (H', W').

        Each box has a label, and the mask, if any, has class indices and the size of the image.
        `evaluate` refuses a user's batch with other annotations before it computes anything.
        """
        is_labelled = isinstance(self.labels, Tensor) and self.labels.shape == self.boxes.shape[:1]
        if self.mask is None:
            return is_labelled
        has_classes = self.mask.dtype != torch.bool
        return is_labelled and has_classes and tuple(self.mask.shape) == tuple(space)

    def lacks(self, target: int) -> bool:
        """Return whether the image shows objects of other classes and none of this one.

        It is False if the image is labelled with this class.

        Box metrics have no value for such a row, since no box is that of the explained class.
        """
        if target in (*self.labels.tolist(), *(self.classes or ())):
            return False
        has_objects = len(self.labels) > 0
        if self.mask is None:
            return has_objects
        if bool((self.mask == target).any()):
            return False
        return has_objects or bool((self.mask >= 0).any())

    def without(self, target: int) -> Annotation:
        """Return the objects of all other classes."""
        return self._selected(lambda labels: labels != target)

    def swapped(self, first: int, second: int) -> Annotation:
        """Return the same objects, in which two class indices have changed places."""

        def swap(labels: Tensor) -> Tensor:
            changed = torch.where(labels == first, second, labels)
            return torch.where(labels == second, first, changed)

        mask = None if self.mask is None else swap(self.mask)
        classes = self.classes
        if classes is not None:
            classes = tuple(swap(torch.tensor(classes, dtype=torch.long)).tolist())
        return replace(self, labels=swap(self.labels), mask=mask, classes=classes)

    def of_model(self, classes: int) -> Annotation:
        """Return the objects of the classes of a model with so many: 0 to classes - 1."""
        return self._selected(lambda labels: (labels >= 0) & (labels < classes))

    def _selected(self, is_selected: Callable[[Tensor], Tensor]) -> Annotation:
        """Return the objects of the selected classes; other classes become background."""
        rows = is_selected(self.labels)
        mask = self.mask
        if mask is not None:
            mask = mask.masked_fill(~is_selected(mask) & (mask != NO_VERDICT), BACKGROUND)
        return replace(
            self,
            labels=self.labels[rows],
            boxes=self.boxes[rows],
            mask=mask,
            explained=None,
        )


@dataclass(frozen=True)
class Batch:
    """Rows to explain: one row per image and explained class.

    Attributes:
        images: (B, 3, H', W'), normalised as the weights expect. `evaluate` also takes several
            inputs for it.
        image_ids: B names.
        targets: (B,) class indices, or None for the predicted class.
        annotations: B annotations, or empty if the data set has none.
        interventions: For each row the image's parts with versions of it without each, or no parts
            if it has none; None if nothing asks for them.
        other_images: (B, 3, H', W'), for each row another image of the data set; None if nothing
            asks for them.
        other_inputs: What the network takes in addition to the images, (B, ...) each. `evaluate`
            takes them out of `images`.
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
        """Return the same rows with images and targets on another device.

        Annotations stay on the CPU, and so do interventions until a trace is made of the batch.
        """
        targets = None if self.targets is None else self.targets.to(device)
        return replace(self, images=self.images.to(device), targets=targets)

    def __getitem__(self, rows: slice) -> Batch:
        return self._at(torch.arange(len(self))[rows])

    def repeated(self, size: int) -> Batch:
        """Return the batch with its last row repeated up to `size` rows.

        A run fills its last batch up, since rounding may depend on the number of rows in a pass.
        """
        return self._at(torch.arange(max(size, len(self))).clamp(max=len(self) - 1))

    def _at(self, index: Tensor) -> Batch:
        """Return the rows of these numbers."""

        def rows(values: Any) -> Any:
            if isinstance(values, Tensor):
                return values[index.to(values.device, non_blocking=True)]
            return tuple(values[row] for row in index.tolist()) if values else values

        # Each of the other inputs has rows of its own.
        names = [entry.name for entry in fields(self) if entry.name != "other_inputs"]
        other_inputs = tuple(map(rows, self.other_inputs))
        values = {name: rows(getattr(self, name)) for name in names}
        return Batch(**values, other_inputs=other_inputs)

    @staticmethod
    def joined(parts: Sequence[Batch]) -> Batch:
        """Return the rows of batches of one data set and one size of images, one after another."""

        def rows(values: Sequence[Any]) -> Any:
            if isinstance(values[0], Tensor):
                return torch.cat(list(values))
            return None if values[0] is None else tuple(chain.from_iterable(values))

        names = [entry.name for entry in fields(Batch) if entry.name != "other_inputs"]
        inputs_by_position = zip(*(part.other_inputs for part in parts), strict=True)
        other_inputs = tuple(map(rows, inputs_by_position))
        values = {name: rows([getattr(part, name) for part in parts]) for name in names}
        return Batch(**values, other_inputs=other_inputs)

    def annotations_of(self, targets: Tensor, classes: int) -> dict[str, Any]:
        """Return what the annotations say of the explained classes, as an Explanation's fields.

        Args:
            targets: (B,) the explained classes.
            classes: The number of classes of the model.

        Returns:
            The fields by name; `stored_pixels` has per row the width and height of a stored
            image's pixel. All are None without annotations.
        """
        stored_pixels = tuple(annotation.stored_pixel for annotation in self.annotations)
        return {
            "boxes": self.boxes(targets),
            "cells": self.cells(targets),
            "masks": self.masks(targets),
            "ignored": self.ignored(),
            "stored_pixels": stored_pixels or None,
            "wrong_class": self.wrong_class(targets),
            "others": self.others(targets, classes),
            "same_class": self.same_class(targets),
        }

    def boxes(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Return per row the boxes of its explained class, (n, 4) each; None without boxes."""
        rows = self._explained(targets)
        return tuple(annotation.boxes_of(target) for annotation, target in rows) or None

    def cells(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Return per row the cells of a mosaic that show the explained class, (n, 4) boxes.

        It is None if no row is a mosaic.
        """
        if not any(annotation.cells for annotation in self.annotations):
            return None
        return tuple(
            annotation.boxes_of(target) if annotation.cells else torch.zeros(0, 4)
            for annotation, target in self._explained(targets)
        )

    def masks(self, targets: Tensor) -> Tensor | None:
        """Return the pixels of the explained class, (B, H', W') bool.

        If one object is explained, only the pixels in its box count. All are False in a row
        without a mask. It is None if no row has a mask.
        """
        if not any(annotation.mask is not None for annotation in self.annotations):
            return None
        masks = self._masks()
        target_per_row = targets.cpu().view(-1, *(1,) * (masks.ndim - 1))
        is_target = masks == target_per_row
        for row, annotation in zip(is_target, self.annotations, strict=True):
            if annotation.explained is not None:
                box = annotation.boxes[annotation.explained].round().long().clamp(min=0)
                starts, ends = box.chunk(2)
                # A box begins with the last axis, and a mask is indexed from the first.
                region = tuple(map(slice, starts.flip(0).tolist(), ends.flip(0).tolist()))
                is_inside = torch.zeros_like(row)
                is_inside[region] = True
                row &= is_inside
        return is_target

    def ignored(self) -> Tensor | None:
        """Return the pixels without a verdict, (B, H', W') bool; None if there are none.

        Metrics leave these pixels out.
        """
        ignored = self._masks() == NO_VERDICT
        return ignored if ignored.any() else None

    def wrong_class(self, targets: Tensor) -> Tensor | None:
        """Return the rows whose image shows only other classes than the explained one, (B,) bool.

        It is None without annotations.

        Their status in the records is `wrong_class`.
        """
        lacks = [annotation.lacks(target) for annotation, target in self._explained(targets)]
        return torch.tensor(lacks) if lacks else None

    def others(self, targets: Tensor, classes: int) -> tuple[Annotation, ...] | None:
        """Return per row the objects of the model's classes that aren't explained.

        Args:
            targets: (B,) the explained classes.
            classes: The number of classes of the model.

        Returns:
            One annotation per row; None if the data set has no annotations.
        """
        rows = self._explained(targets)
        other_objects = [
            annotation.of_model(classes).without(target) for annotation, target in rows
        ]
        return tuple(other_objects) or None

    def same_class(self, targets: Tensor) -> tuple[Tensor, ...] | None:
        """Return per row the boxes of the other objects of the explained object's class.

        It is None if no row explains one object.
        """
        if all(annotation.explained is None for annotation in self.annotations):
            return None
        return tuple(
            annotation.same_class(target) for annotation, target in self._explained(targets)
        )

    def _masks(self) -> Tensor:
        """Return (B, H', W'), background in rows without a mask; (0,) without annotations."""
        empty = torch.full(self.images.shape[2:], BACKGROUND)
        masks = [
            empty if annotation.mask is None else annotation.mask for annotation in self.annotations
        ]
        return torch.stack(masks) if masks else torch.zeros(0)

    def _explained(self, targets: Tensor) -> list[tuple[Annotation, int]]:
        """Return (annotation, target) of each row; empty without annotations."""
        if not self.annotations:
            return []
        return list(zip(self.annotations, targets.tolist(), strict=True))
