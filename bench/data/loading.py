"""Batches of rows to explain: decoded and preprocessed in worker processes, in order, bad images among them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from axiom_bench.cutting.interventions import Part, Parts
from axiom_bench.data.base import BAD_IMAGE, BadImage, DataSet
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.data.preprocessing import Preprocessing, transforms
from axiom_bench.data.workers import DEADLY, Readable, chunks
from axiom_bench.errors import BenchError, unknown


@dataclass(frozen=True, eq=False)
class Decoded:
    """pixels: (3, H', W'), or (1, H', W'), uint8. size: height and width of the stored image. annotation: in the
    pixels' coordinates. label, problems: as in `Sample`.
    """

    pixels: Tensor
    size: tuple[int, int]
    label: int | None
    annotation: Annotation
    problems: tuple[str, ...]


class DamagedEntry(Exception):
    """A cache's entry that can't be used; it is written anew."""


class Cache(Protocol):
    """Images that were decoded before, by their place in the data set; picklable, so that workers may be spawned."""

    def read(self, index: int) -> Decoded | None:
        """The image; None where it isn't there. Raises DamagedEntry."""

    def write(self, index: int, image: Decoded) -> None:
        """Keeps the image. Raises BenchError."""

    def tell_damaged(self, index: int) -> None:
        """Tells that this image's entry was damaged, in the process that asked for the images."""


def decoded(dataset: DataSet, index: int, preprocessing: Preprocessing) -> Decoded:
    """The image at this place of the data set. Raises BadImage where it can't be read, or would become too large."""
    sample = preprocessing.read(dataset, index)
    return Decoded(
        preprocessing.pixels(sample), sample.size, sample.label, preprocessing.annotation(sample), sample.problems
    )


Arrays = tuple[tuple[str, int | None, NDArray[np.bool_], NDArray[np.uint8]], ...]  # of Parts


@dataclass(frozen=True)
class Extras:
    """Of one image, as a worker sends it: in numpy, since each tensor would cost a file descriptor.

    parts: its interventions; () where the data set has none for this image. Both are None where nothing asks for
    them, and where the data set has none at all. Images are pixels, which are normalised where they arrive.
    """

    parts: Arrays | None = None
    other_image: NDArray[np.uint8] | None = None

    @staticmethod
    def read(
        dataset: DataSet,
        index: int,
        size: tuple[int, int],
        preprocessing: Preprocessing,
        names: Collection[str],
        decode: Callable[[int], Decoded],
    ) -> Extras:
        """size: of the image as stored, (height, width). names: which of "interventions" and "other_images". decode:
        the image at a place of the data set."""
        parts = other = None
        if "interventions" in names:
            stored = dataset.interventions(index)
            listed = preprocessing.parts(dataset.ids[index], size, stored) if stored else ()
            arrays = tuple((part.name, part.label, part.region.numpy(), part.images.numpy()) for part in listed)
            parts = None if stored is None else arrays
        if "other_images" in names:
            other = _other_image(dataset, index, decode)
        return Extras(parts, None if other is None else other.numpy())

    def tensors(self, preprocessing: Preprocessing, size: tuple[int, int]) -> tuple[Parts | None, Tensor | None]:
        """(the parts, the other image (3, H', W') in the size (H', W') of the image itself), normalised."""

        def image(pixels: NDArray[np.uint8]) -> Tensor:
            return preprocessing.normalised(torch.from_numpy(pixels))

        parts = None if self.parts is None else tuple(
            Part(name, label, torch.from_numpy(region), image(images)) for name, label, region, images in self.parts
        )  # fmt: skip
        other = None if self.other_image is None else image(self.other_image)
        if other is not None and other.shape[-2:] != size:
            other = transforms().resize(other, list(size), antialias=True)
        return parts, other


def others(dataset: DataSet, index: int) -> Iterator[int]:
    """The places in `ids` that may give the other image of this one: first one by the hash of the image's id, after it
    in order, each once and never the image itself."""
    count = len(dataset) - 1
    start = int.from_bytes(hashlib.sha256(dataset.ids[index].encode()).digest()[:8], "big")
    for step in range(count):
        place = (start + step) % count
        yield place + (place >= index)


def _other_image(dataset: DataSet, index: int, decode: Callable[[int], Decoded]) -> Tensor | None:
    """The pixels of the first other image that can be read; None where there is none."""
    for place in others(dataset, index):
        try:
            return decode(place).pixels
        except BadImage:
            continue
    return None


TARGET_RULES = ("label", "predicted", "each_label")

log = logging.getLogger(__name__)
bad_images = logging.getLogger("axiom_bench.bad_images")


@dataclass(frozen=True)
class Prepared:
    """One image as a worker sends it: all that is small as numpy, since each tensor would cost a file descriptor.

    targets: the classes to explain, one row each; (None,) for the predicted class. damaged: the places of images whose
    entries in the cache were damaged.
    """

    image_id: str
    targets: tuple[int | None, ...]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    mask: NDArray[np.int64] | None
    classes: tuple[int, ...] | None
    stored_pixel: tuple[float, float]
    cells: bool
    problems: tuple[str, ...]
    extras: Extras
    damaged: tuple[int, ...]

    @staticmethod
    def of(
        image_id: str,
        targets: tuple[int | None, ...],
        annotation: Annotation,
        problems: tuple[str, ...],
        extras: Extras,
        damaged: tuple[int, ...],
    ) -> Prepared:
        """The same annotation in numpy."""
        mask = None if annotation.mask is None else annotation.mask.numpy()
        arrays = (annotation.labels.numpy(), annotation.boxes.numpy(), mask)
        sizes = (annotation.classes, annotation.stored_pixel, annotation.cells)
        return Prepared(image_id, targets, *arrays, *sizes, problems, extras, damaged)

    def annotation(self) -> Annotation:
        """The annotation as tensors."""
        mask = None if self.mask is None else torch.from_numpy(self.mask)
        arrays = (torch.from_numpy(self.labels), torch.from_numpy(self.boxes), mask)
        return Annotation(*arrays, self.classes, self.stored_pixel, self.cells)


# The pixels of an image, (3, H', W') uint8: a quarter of the bytes that the network takes. Its targets and annotation.
Item = tuple[Tensor | None, "Prepared | BadImage | BenchError"]
Row = tuple[Tensor, int | None, str, Annotation, Parts | None, Tensor | None]
# of a Batch: pixels, target, image id, annotation, interventions, other image


def batches(
    dataset: DataSet,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    target_rule: str = "label",
    batch_size: int = 32,
    workers: int = 0,
    extras: Collection[str] = (),
    device: torch.device | str = "cpu",
    cache: Cache | None = None,
) -> Iterator[Batch | BadImage]:
    """Batches of `batch_size` rows (the last one may have fewer), and each bad image in its place.

    target_rule: "label", one row an image; "predicted", the same with `targets` None; "each_label", one row per image
    and class present after the crop, classes ascending. An image without any such class is yielded as a BadImage of
    status "no_annotation", one that kills the process that reads it as one of status "bad_image". Rows don't depend on
    `workers` (0: this process, which nothing protects). A batch holds images of one size.
    extras: what is read beside the images, "interventions" and "other_images"; see Batch. device: where the images are
    normalised, and stay. cache: what isn't in it is decoded, and kept there.
    """
    if target_rule not in TARGET_RULES:
        raise unknown("target rule", target_rule, TARGET_RULES)
    if batch_size < 1 or workers < 0:
        raise BenchError(f"data.batch_size={batch_size} must be at least 1, and data.workers={workers} at least 0.")
    return _batches(_Images(dataset, indices, preprocessing, target_rule, extras, cache), workers, batch_size, device)


class _Images(Readable):
    """Each image with its targets, annotation and extras, or the BadImage that it is."""

    def __init__(
        self,
        dataset: DataSet,
        indices: Sequence[int],
        preprocessing: Preprocessing,
        rule: str,
        extras: Collection[str] = (),
        cache: Cache | None = None,
    ) -> None:
        self.dataset, self.indices, self.preprocessing, self.rule = dataset, tuple(indices), preprocessing, rule
        self.extras, self.cache, self.deadly = frozenset(extras), cache, {}

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, place: int) -> str:
        """The image's id."""
        return self.dataset.ids[self.indices[place]]

    def __getitem__(self, place: int) -> Item:
        if place in self.deadly:
            return None, BadImage(self.name(place), self.deadly[place])
        index, name, damaged = self.indices[place], self.name(place), list[int]()
        decode = partial(self._decoded, damaged)
        try:
            image = decode(index)
            targets = _targets(self.rule, name, image.label, image.annotation.labels.tolist())
            extras = Extras.read(self.dataset, index, image.size, self.preprocessing, self.extras, decode)
        except (BadImage, BenchError) as error:  # raised from a worker it would carry a traceback
            return None, error
        return image.pixels, Prepared.of(name, targets, image.annotation, image.problems, extras, tuple(damaged))

    def _decoded(self, damaged: list[int], index: int) -> Decoded:
        """From the cache, or decoded and kept there. An image whose entry was damaged is added to `damaged`."""
        image = None
        if self.cache is not None:
            try:
                image = self.cache.read(index)
            except DamagedEntry:
                damaged.append(index)
        if image is None:
            image = decoded(self.dataset, index, self.preprocessing)
            if self.cache is not None:
                self.cache.write(index, image)
        return image


def _targets(rule: str, image_id: str, label: int | None, present: Iterable[int]) -> tuple[int | None, ...]:
    if rule == "predicted":
        return (None,)
    labels = [] if label is None else [label]
    targets = tuple(labels) if rule == "label" else tuple(sorted({*labels, *present}))
    if not targets:
        raise BadImage(image_id, f"has no class to explain with target={rule}", status="no_annotation")
    return targets


def _loader(images: _Images, workers: int) -> Iterable[tuple[Sequence[Tensor], Sequence[Item]]]:
    """Chunks in order; torch sets each worker to one thread."""
    transforms()  # imported here, not in each worker anew
    return chunks(images, workers, _pack)


def _pack(items: Sequence[Item]) -> tuple[list[Tensor], list[Item]]:
    """Images of one size after another as one tensor: one piece of shared memory instead of one for each image."""
    runs: list[list[Tensor]] = []
    for image, _ in items:
        if image is not None:
            if not runs or runs[-1][-1].shape != image.shape:
                runs.append([])
            runs[-1].append(image)
    return [torch.stack(run) for run in runs], [(None, prepared) for _, prepared in items]


def _batches(source: _Images, workers: int, batch_size: int, device: torch.device | str) -> Iterator[Batch | BadImage]:
    preprocessing, place = source.preprocessing, torch.device(device)
    rows: list[Row] = []
    for stacks, items in _loader(source, workers):
        images = (image for stack in stacks for image in stack)
        for _, prepared in items:
            if isinstance(prepared, BenchError):
                raise prepared
            if isinstance(prepared, BadImage):
                if prepared.status == BAD_IMAGE and not prepared.message.startswith(DEADLY):  # which is told there
                    bad_images.warning("%s", prepared)
                yield prepared
                continue
            if source.cache is not None:
                for index in prepared.damaged:
                    source.cache.tell_damaged(index)
            for problem in prepared.problems:
                log.warning("%s: %s", prepared.image_id, problem)
            image, annotation = next(images), prepared.annotation()
            parts, other_image = prepared.extras.tensors(preprocessing, (image.shape[-2], image.shape[-1]))
            for target in prepared.targets:
                if rows and (len(rows) == batch_size or rows[-1][0].shape != image.shape):
                    yield _batch(rows, preprocessing, place)
                    rows = []
                rows.append((image, target, prepared.image_id, annotation, parts, other_image))
    if rows:
        yield _batch(rows, preprocessing, place)


def _batch(rows: Sequence[Row], preprocessing: Preprocessing, device: torch.device) -> Batch:
    images, targets, image_ids, annotations, parts, others = zip(*rows, strict=True)
    targets_or_none = None if None in targets else torch.tensor(targets, dtype=torch.long)
    return Batch(
        preprocessing.normalised(_stacked_on(device, images)),
        image_ids,
        None if targets_or_none is None else targets_or_none.to(device, non_blocking=device.type == "cuda"),
        annotations,
        interventions=None if set(parts) == {None} else tuple(of_row or () for of_row in parts),
        other_images=None if others[0] is None else torch.stack(others),
    )


def _stacked_on(device: torch.device, images: tuple[Tensor, ...]) -> Tensor:
    """(B, 3, H', W') on the device; to a GPU from pinned memory, so that the copy goes on beside this process."""
    if device.type != "cuda":
        return torch.stack(images).to(device)
    pinned = torch.empty((len(images), *images[0].shape), dtype=images[0].dtype, pin_memory=True)
    return torch.stack(images, out=pinned).to(device, non_blocking=True)
