"""Batches of rows to explain, decoded and preprocessed in worker processes.

The images stay in their order, and bad images are yielded in their place.

A run traces the batches that `batches` yields. An image that can't be read is reported in its rows,
and ends no run.
"""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import groupby
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset, get_worker_info

from axiom_bench.cutting.interventions import Part, Parts
from axiom_bench.data.base import (
    BAD_IMAGE,
    BadImage,
    DataSet,
    DerivedDataSet,
    Selected,
    check_unchanged,
)
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.notes import WARNINGS, DamagedFile, ImageNotRead, ImageProblem, Notes

TARGET_RULES = ("label", "predicted", "each_label")
# Images that travel together from a worker: shared memory holds a few chunks for each worker.
CHUNK = 16
# Seconds without a chunk, after which the loader looks for a process that died. torch itself looks
# every 5 s.
SECONDS_WITHOUT_CHUNK = 10.0
SECONDS_TO_END = 10  # a killed process may take seconds to end on a busy machine
SIGCHLD = getattr(signal, "SIGCHLD", None)  # Windows has none


@dataclass(frozen=True, eq=False)
class Decoded:
    """One image resized and cropped, before its values are scaled.

    Attributes:
        pixels: (3, H', W'), or (1, H', W'), uint8; for an array its numbers (C, *space).
        size: Height and width of the stored image, or an array's space.
        label: As in `Sample`.
        annotation: The annotation in the pixels' coordinates.
        problems: As in `Sample`.
        turned: As in `Sample`.
    """

    pixels: Tensor
    size: tuple[int, ...]
    label: int | None
    annotation: Annotation
    problems: tuple[str, ...]
    turned: bool | None = None


class DamagedEntry(Exception):
    """An entry of the cache that can't be used; it is written again."""


class Cache(Protocol):
    """Images that were decoded before, by their index in the data set.

    A cache is picklable, so that workers may be spawned.
    """

    def read(self, index: int) -> Decoded | None:
        """Return the image; None if the cache doesn't have it.

        Raises:
            DamagedEntry: If the entry can't be used.
        """

    def write(self, index: int, image: Decoded) -> None:
        """Keep the image.

        Raises:
            BenchError: If the image can't be written.
        """

    def path(self, index: int) -> Path | None:
        """Return the file of the image; None for an image that isn't kept."""


@dataclass(frozen=True)
class Prepared:
    """One image as a worker sends it.

    All that is small is numpy, since each tensor would cost a file descriptor.

    Attributes:
        image_id: The id of the image.
        targets: The classes to explain, one row each; (None,) for the predicted class.
        annotation: The annotation, with arrays in place of tensors.
        problems: As in `Sample`.
        turned: As in `Sample`.
        parts: The parts, with arrays in place of tensors, and pixels for images; None if nothing
            asks for them, or if the data set has none at all.
        other_image: The pixels of another image of the data set.
        damaged: The indices of images whose entries in the cache were damaged.
    """

    image_id: str
    targets: tuple[int | None, ...]
    annotation: Annotation
    problems: tuple[str, ...]
    turned: bool | None
    parts: Parts | None
    other_image: np.ndarray | None
    damaged: tuple[int, ...]


# The pixels of an image, (3, H', W') uint8, which are a quarter of the bytes that the network
# takes, or an array's numbers; and its targets and annotation.
Item = tuple[Tensor | None, Prepared | BadImage | BenchError]
# The images of CHUNK items, as one tensor for each size, and the items without their images.
Chunk = tuple[list[Tensor], list[Item]]
Converted = TypeVar("Converted", Annotation, Part)
# A row of a Batch: pixels, target, image id, annotation, interventions, other image.
Row = tuple[Tensor, int | None, str, Annotation, Parts | None, Tensor | None]


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
    stamps: Mapping[Path, str] | None = None,
    turned: dict[str, bool] | None = None,
    notes: Notes = WARNINGS,
) -> Iterator[Batch | BadImage]:
    """Load batches of `batch_size` rows (the last one may have fewer), and bad images in between.

    A batch holds images of one size. Rows don't depend on `workers`.

    Args:
        dataset: The data set.
        indices: The images to load, in this order.
        preprocessing: The preprocessing of the network.
        target_rule: "label": one row per image. "predicted": the same with `targets` None.
            "each_label": one row per image and class present after the crop, classes ascending; an
            image without any such class is a BadImage of status "no_annotation".
        batch_size: The number of rows.
        workers: The number of processes that decode; 0 for this process.
        extras: What is read in addition to the images: "interventions" and "other_images", see
            Batch.
        device: The device on which the images are normalised, and stay.
        cache: Images that were decoded before. Other images are decoded and added.
        stamps: The stamps of files that were hashed.
        turned: Gets {id: whether it is turned upright} of the images with an EXIF orientation.
        notes: Get the images that can't be read, the problems of others, and the damaged files of
            the cache.

    Returns:
        An iterator of batches, with each bad image in its place.

    Raises:
        BenchError: For wrong arguments; and while loading, for an image whose files have other
            stamps when it is decoded, or one that ends the process that reads it.
    """
    # Checked here, since a generator's own body would run only at the first batch.
    if target_rule not in TARGET_RULES:
        raise unknown_name("target rule", target_rule, TARGET_RULES)
    if batch_size < 1 or workers < 0:
        raise BenchError(
            f"data.batch_size={batch_size} must be at least 1, and data.workers={workers} at "
            "least 0."
        )
    images = _Images(
        dataset=dataset,
        indices=tuple(indices),
        preprocessing=preprocessing,
        rule=target_rule,
        extras=tuple(extras),
        cache=cache,
        stamps=stamps,
    )
    turned = {} if turned is None else turned
    return _batches(images, workers, batch_size, device, turned, notes)


@dataclass(eq=False)
class _Images(Dataset[Item]):
    """Each image with its targets, annotation and extras, or the BadImage that it is.

    It is picklable, so that workers may be forked or spawned.

    Attributes:
        reading: For each worker the position of the image that it reads.
    """

    dataset: DataSet
    indices: Sequence[int]
    preprocessing: Preprocessing
    rule: str
    extras: Collection[str] = ()
    cache: Cache | None = None
    stamps: Mapping[Path, str] | None = None
    reading: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, position: int) -> str:
        """Return the id of the image at this position of `indices`."""
        return self.dataset.ids[self.indices[position]]

    def __getitem__(self, position: int) -> Item:
        if (worker := get_worker_info()) is not None:
            self.reading[worker.id] = position
        index = self.indices[position]
        name = self.name(position)
        damaged: list[int] = []
        decode = partial(self._decoded, damaged)
        try:
            image = decode(index)
            targets = _targets(self.rule, name, image)
            parts = self._parts(index, image.size) if "interventions" in self.extras else None
            other_image = None
            if "other_images" in self.extras:
                other_image = self._other_image(index, decode)
        except (BadImage, BenchError) as error:  # raised from a worker it would carry a traceback
            return None, error
        prepared = Prepared(
            image_id=name,
            targets=targets,
            annotation=_converted(image.annotation, Tensor.numpy),
            problems=image.problems,
            turned=image.turned,
            parts=parts,
            other_image=other_image,
            damaged=tuple(damaged),
        )
        return image.pixels, prepared

    def _decoded(self, damaged: list[int], index: int) -> Decoded:
        """Return the image from the cache, or decode and keep it; list a damaged entry."""
        image = None
        if self.cache is not None:
            try:
                image = self.cache.read(index)
            except DamagedEntry:
                damaged.append(index)
        if image is None:
            image = decode_image(self.dataset, index, self.preprocessing)
            check_unchanged(self.dataset.ids[index], self.dataset.files(index), self.stamps or {})
            if self.cache is not None:
                self.cache.write(index, image)
        return image

    def _parts(self, index: int, size: tuple[int, ...]) -> Parts | None:
        """Return the parts for `Prepared`; () if the data set has none for this image.

        `size` is (height, width) as stored.
        """
        stored = self.dataset.interventions(index)
        if stored is None:
            return None
        parts = self.preprocessing.parts(self.dataset.ids[index], size, stored) if stored else ()
        return tuple(_converted(part, Tensor.numpy) for part in parts)

    def _other_image(self, index: int, decode: Callable[[int], Decoded]) -> np.ndarray | None:
        """Return the pixels of the first other image that can be read; None if there is none."""
        for other_index in other_image_indices(self.dataset, index):
            try:
                return decode(other_index).pixels.numpy()
            except BadImage:
                continue
        return None


def decode_image(dataset: DataSet, index: int, preprocessing: Preprocessing) -> Decoded:
    """Decode and preprocess the image at this index of the data set.

    Raises:
        BadImage: If it can't be read, or would become too large.
    """
    sample = preprocessing.read(dataset, index)
    return Decoded(
        pixels=preprocessing.pixels(sample),
        size=sample.size,
        label=sample.label,
        annotation=preprocessing.annotation(sample),
        problems=sample.problems,
        turned=sample.turned,
    )


def other_image_indices(dataset: DataSet, index: int) -> Iterator[int]:
    """Yield the indices of images that may be the other image of this one.

    The hash of the image's id decides the first one. The others follow in order, each once and
    never the image itself.
    """
    count = len(dataset) - 1
    start = int.from_bytes(hashlib.sha256(dataset.ids[index].encode()).digest()[:8], "big")
    for step in range(count):
        other_index = (start + step) % count
        yield other_index + (other_index >= index)


def _targets(rule: str, image_id: str, image: Decoded) -> tuple[int | None, ...]:
    """Return the classes to explain. Raise BadImage if there are none."""
    if rule == "predicted":
        return (None,)
    classes = set() if image.label is None else {image.label}
    if rule != "label":
        classes.update(image.annotation.labels.tolist())
    if not classes:
        why = f"; {image.problems[0]}" if image.problems else ""
        raise BadImage(
            image_id, f"has no class to explain with target={rule}{why}", status="no_annotation"
        )
    return tuple(sorted(classes))


def _converted(value: Converted, convert: Callable[[Any], Any]) -> Converted:
    """Return the value with arrays for its tensors, or tensors for its arrays."""
    changes = {}
    for entry in fields(value):
        content = getattr(value, entry.name)
        if isinstance(content, Tensor | np.ndarray):
            changes[entry.name] = convert(content)
    return replace(value, **changes)


def _chunks(images: _Images, workers: int) -> Iterator[Chunk]:
    """Yield `_pack` of CHUNK images after another.

    Raises:
        BenchError: If a process ends, with the image that it read.
    """
    # Shared with the workers: each writes which image it reads, so that an error can say which
    # image ended the process.
    images.reading = torch.zeros(max(workers, 1), dtype=torch.int64).share_memory_()
    loader = DataLoader(images, CHUNK, num_workers=min(workers, len(images)), collate_fn=_pack)
    outside = SIGCHLD and signal.getsignal(SIGCHLD)
    iterator = iter(loader)
    if SIGCHLD is not None and threading.current_thread() is threading.main_thread():
        # torch's own handler would raise for a dead worker in whatever code runs then
        signal.signal(SIGCHLD, signal.SIG_DFL if outside is None else outside)
    processes = getattr(iterator, "_workers", ())
    try:
        for _ in range(len(loader)):
            try:
                chunk = _next(iterator, processes) if processes else next(iterator)
            except (RuntimeError, ConnectionError, EOFError) as error:
                # torch raises these for a worker that is gone.
                if processes:  # a broken connection is seen before its process has ended
                    is_broken = isinstance(error, (ConnectionError, EOFError))
                    seconds = SECONDS_TO_END if is_broken else 1
                    wait([process.sentinel for process in processes], timeout=seconds)
                dead = [
                    number
                    for number, process in enumerate(processes)
                    if process.exitcode is not None
                ]
                if not dead:
                    raise
                codes = [processes[number].exitcode for number in dead]
                raise _error_of_dead_workers(images, dead, codes) from error
            yield chunk
    finally:
        if processes:
            # Otherwise the workers end only when the last frame that holds the iterator goes.
            iterator._shutdown_workers()  # type: ignore[attr-defined]


def _next(iterator: Iterator[Chunk], processes: Sequence[BaseProcess]) -> Chunk:
    """Return the next chunk.

    It is read in a thread, since torch never stops waiting for the rest of a message.

    Raises:
        ConnectionError: If a process was killed while it wrote a message.
    """
    answers: SimpleQueue[Chunk | BaseException] = SimpleQueue()

    def read() -> None:
        try:
            answers.put(next(iterator))
        except BaseException as error:  # noqa: BLE001 - raised where the chunk is asked for
            answers.put(error)

    # A thread that waits for a dead worker for ever must not keep the process from ending.
    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            answer = answers.get(timeout=SECONDS_WITHOUT_CHUNK)
        except Empty:
            if all(process.exitcode is None for process in processes):
                continue
            raise ConnectionError("a process was killed while it wrote") from None
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _error_of_dead_workers(
    images: _Images, workers: Sequence[int], codes: Sequence[int]
) -> BenchError:
    """Return the error for workers that ended with these exit codes."""
    names = [images.name(int(images.reading[worker])) for worker in workers]
    signals = {-number.value: number.name for number in signal.Signals}
    ends = [signals.get(code, f"exit code {code}") for code in codes]
    setting = f"data.leave_out={names}"
    if isinstance(images.dataset, DerivedDataSet) and not isinstance(images.dataset, Selected):
        setting = "data.of.leave_out, by the id of one in it"
    return BenchError(
        f"The process that read {' or '.join(map(repr, names))} ended by "
        f"{' and '.join(dict.fromkeys(ends))}. If a decoder can't bear the image, leave it out by "
        f"{setting}; if memory is short (SIGKILL, or SIGBUS for that of /dev/shm), lower "
        "data.workers."
    )


def _pack(items: Sequence[Item]) -> Chunk:
    """Return images of one size after another as one tensor, and the items without images.

    A tensor is one piece of shared memory, instead of one for each image.
    """
    images = [image for image, _ in items if image is not None]
    runs = [torch.stack(list(run)) for _, run in groupby(images, key=_form)]
    return runs, [(None, prepared) for _, prepared in items]


def _form(image: Tensor) -> tuple[torch.Size, torch.dtype]:
    """Return what images of one tensor have in common."""
    return image.shape, image.dtype


def _extras(
    prepared: Prepared, preprocessing: Preprocessing, size: torch.Size
) -> tuple[Parts | None, Tensor | None]:
    """Return the parts and the other image, normalised.

    The other image gets the size (H', W') of the image itself: (3, H', W').
    """

    def image(pixels: Any) -> Any:
        return None if pixels is None else preprocessing.normalised(torch.from_numpy(pixels))

    parts = None
    if prepared.parts is not None:
        tensor_parts = []
        for part in prepared.parts:
            region = torch.from_numpy(part.region)
            tensor_part = replace(
                part, region=region, images=image(part.images), bare=image(part.bare)
            )
            tensor_parts.append(tensor_part)
        parts = tuple(tensor_parts)
    other_image = image(prepared.other_image)
    if other_image is not None and other_image.shape[1:] != size:
        mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
        is_antialiased = len(size) == 2  # torch has it for two axes only
        other_image = interpolate(
            other_image[None], tuple(size), mode=mode, antialias=is_antialiased
        )[0]
    return parts, other_image


def _batches(
    source: _Images,
    workers: int,
    batch_size: int,
    device: torch.device | str,
    turned: dict[str, bool],
    notes: Notes,
) -> Iterator[Batch | BadImage]:
    """Yield the batches and bad images, and report what the workers found to `notes`."""
    preprocessing = source.preprocessing
    batch_device = torch.device(device)
    rows: list[Row] = []
    for stacks, items in _chunks(source, workers):
        images = (image for stack in stacks for image in stack)
        for _, prepared in items:
            if isinstance(prepared, BenchError):
                raise prepared
            if isinstance(prepared, BadImage):
                kind = ImageNotRead if prepared.status == BAD_IMAGE else ImageProblem
                notes.add(kind(str(prepared)))
                yield prepared
                continue
            if source.cache is not None:
                for index in prepared.damaged:
                    notes.add(DamagedFile(str(source.cache.path(index))))
            for problem in prepared.problems:
                notes.add(ImageProblem(f"{prepared.image_id}: {problem}"))
            if prepared.turned is not None:
                turned[prepared.image_id] = prepared.turned
            image = next(images)
            annotation = _converted(prepared.annotation, torch.from_numpy)
            parts, other_image = _extras(prepared, preprocessing, image.shape[1:])
            for target in prepared.targets:
                # A batch ends when it is full, or before an image of another size.
                if rows and (len(rows) == batch_size or _form(rows[-1][0]) != _form(image)):
                    yield _batch(rows, preprocessing, batch_device)
                    rows = []
                rows.append((image, target, prepared.image_id, annotation, parts, other_image))
    if rows:
        yield _batch(rows, preprocessing, batch_device)


def _batch(rows: Sequence[Row], preprocessing: Preprocessing, device: torch.device) -> Batch:
    """Normalise the rows on the device."""
    images, targets, image_ids, annotations, parts, other_images = zip(*rows, strict=True)
    target_tensor = None
    if None not in targets:
        target_tensor = torch.tensor(targets, dtype=torch.long)
        target_tensor = target_tensor.to(device, non_blocking=device.type == "cuda")
    interventions = None
    if set(parts) != {None}:
        interventions = tuple(row_parts or () for row_parts in parts)
    return Batch(
        images=preprocessing.normalised(_stacked_on(device, images)),
        image_ids=image_ids,
        targets=target_tensor,
        annotations=annotations,
        interventions=interventions,
        other_images=None if other_images[0] is None else torch.stack(other_images),
    )


def _stacked_on(device: torch.device, images: tuple[Tensor, ...]) -> Tensor:
    """Return (B, C, *space) on the device.

    The copy to a GPU is from pinned memory, so that this process continues meanwhile.
    """
    if device.type != "cuda":
        return torch.stack(images).to(device)
    pinned = torch.empty((len(images), *images[0].shape), dtype=images[0].dtype, pin_memory=True)
    return torch.stack(images, out=pinned).to(device, non_blocking=True)
