"""Batches of rows to explain: decoded and preprocessed in worker processes, in order, bad images
among them.
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
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset, get_worker_info

from axiom_bench.cutting.interventions import Part, Parts
from axiom_bench.data.base import BAD_IMAGE, BadImage, DataSet, MadeOf, Selected, check_unchanged
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError, unknown
from axiom_bench.notes import WARNINGS, DamagedFile, ImageNotRead, ImageProblem, Notes

TARGET_RULES = ("label", "predicted", "each_label")
# images that travel together from a worker: shared memory holds a few chunks for each worker
CHUNK = 16
# seconds without a chunk, after which a dead process is taken for the reason: torch itself looks
# every 5
SILENCE = 10.0
SIGCHLD = getattr(signal, "SIGCHLD", None)  # Windows has none


@dataclass(frozen=True, eq=False)
class Decoded:
    """One image resized and cropped, before its values are scaled.

    pixels: (3, H', W'), or (1, H', W'), uint8; an array's numbers (C, *space). size: height and
    width of the stored image, or an array's space. annotation: in the pixels' coordinates. label,
    problems, turned: as in `Sample`.
    """

    pixels: Tensor
    size: tuple[int, ...]
    label: int | None
    annotation: Annotation
    problems: tuple[str, ...]
    turned: bool | None = None


class DamagedEntry(Exception):
    """A cache's entry that can't be used; it is written anew."""


class Cache(Protocol):
    """Images that were decoded before, by their place in the data set; picklable, so that workers
    may be spawned.
    """

    def read(self, index: int) -> Decoded | None:
        """The image; None where it isn't there. Raises DamagedEntry."""

    def write(self, index: int, image: Decoded) -> None:
        """Keeps the image. Raises BenchError."""

    def path(self, index: int) -> Path | None:
        """The file of the image; None for one that isn't kept."""


@dataclass(frozen=True)
class Prepared:
    """One image as a worker sends it: all that is small as numpy, since each tensor would cost a
    file descriptor.

    targets: the classes to explain, one row each; (None,) for the predicted class. annotation,
    parts: with arrays in place of tensors, and pixels for images; parts are None where nothing asks
    for them or the data set has none at all. turned: as in `Sample`. other_image: pixels. damaged:
    the places of images whose entries in the cache were damaged.
    """

    image_id: str
    targets: tuple[int | None, ...]
    annotation: Annotation
    problems: tuple[str, ...]
    turned: bool | None
    parts: Parts | None
    other_image: NDArray[Any] | None
    damaged: tuple[int, ...]


# The pixels of an image, (3, H', W') uint8: a quarter of the bytes that the network takes; or an
# array's numbers. Its targets and annotation.
Item = tuple[Tensor | None, Prepared | BadImage | BenchError]
Converted = TypeVar("Converted", Annotation, Part)
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
    stamps: Mapping[Path, str] | None = None,
    turned: dict[str, bool] | None = None,
    notes: Notes = WARNINGS,
) -> Iterator[Batch | BadImage]:
    """Batches of `batch_size` rows (the last one may have fewer), and each bad image in its place.

    target_rule: "label", one row an image; "predicted", the same with `targets` None; "each_label",
    one row per image and class present after the crop, classes ascending. An image without any such
    class is yielded as a BadImage of status "no_annotation". Rows don't depend on `workers` (0:
    this process). A batch holds images of one size. extras: what is read beside the images,
    "interventions" and "other_images"; see Batch. device: where the images are normalised, and
    stay. cache: what isn't in it is decoded, and kept there. stamps: of files that were hashed.
    turned: gets {id: whether it is turned upright} of the images with an EXIF orientation. notes:
    get the images that can't be read, the problems of others, and the damaged files of the cache.
    Raises BenchError, as it goes on, for an image whose files have other stamps when it is decoded,
    and for one that ends the process that reads it.
    """
    if target_rule not in TARGET_RULES:
        raise unknown("target rule", target_rule, TARGET_RULES)
    if batch_size < 1 or workers < 0:
        raise BenchError(
            f"data.batch_size={batch_size} must be at least 1, and data.workers={workers} at "
            "least 0."
        )
    images = _Images(
        dataset, tuple(indices), preprocessing, target_rule, tuple(extras), cache, stamps
    )
    return _batches(images, workers, batch_size, device, {} if turned is None else turned, notes)


@dataclass(eq=False)
class _Images(Dataset[Item]):
    """Each image with its targets, annotation and extras, or the BadImage that it is; picklable, so
    that workers may be forked or spawned. reading: the place that each worker reads.
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

    def name(self, place: int) -> str:
        """The image's id."""
        return self.dataset.ids[self.indices[place]]

    def __getitem__(self, place: int) -> Item:
        if (worker := get_worker_info()) is not None:
            self.reading[worker.id] = place
        index, name, damaged = self.indices[place], self.name(place), list[int]()
        decode = partial(self._decoded, damaged)
        try:
            image = decode(index)
            targets = _targets(self.rule, name, image)
            parts = self._parts(index, image.size) if "interventions" in self.extras else None
            other = self._other_image(index, decode) if "other_images" in self.extras else None
        except (BadImage, BenchError) as error:  # raised from a worker it would carry a traceback
            return None, error
        annotation = _converted(image.annotation, Tensor.numpy)
        about = name, targets, annotation, image.problems, image.turned
        return image.pixels, Prepared(*about, parts, other, tuple(damaged))

    def _decoded(self, damaged: list[int], index: int) -> Decoded:
        """From the cache, or decoded and kept there. An image whose entry was damaged is added to
        `damaged`.
        """
        image = None
        if self.cache is not None:
            try:
                image = self.cache.read(index)
            except DamagedEntry:
                damaged.append(index)
        if image is None:
            image = decoded(self.dataset, index, self.preprocessing)
            check_unchanged(self.dataset.ids[index], self.dataset.files(index), self.stamps or {})
            if self.cache is not None:
                self.cache.write(index, image)
        return image

    def _parts(self, index: int, size: tuple[int, ...]) -> Parts | None:
        """As `Prepared` has them; () where the data set has none for this image. size: (height,
        width) as stored.
        """
        stored = self.dataset.interventions(index)
        if stored is None:
            return None
        parts = self.preprocessing.parts(self.dataset.ids[index], size, stored) if stored else ()
        return tuple(_converted(part, Tensor.numpy) for part in parts)

    def _other_image(self, index: int, decode: Callable[[int], Decoded]) -> NDArray[Any] | None:
        """The pixels of the first other image that can be read; None where there is none."""
        for place in others(self.dataset, index):
            try:
                return decode(place).pixels.numpy()
            except BadImage:
                continue
        return None


def decoded(dataset: DataSet, index: int, preprocessing: Preprocessing) -> Decoded:
    """The image at this place of the data set. Raises BadImage where it can't be read, or would
    become too large.
    """
    sample = preprocessing.read(dataset, index)
    pixels, annotation = preprocessing.pixels(sample), preprocessing.annotation(sample)
    return Decoded(pixels, sample.size, sample.label, annotation, sample.problems, sample.turned)


def others(dataset: DataSet, index: int) -> Iterator[int]:
    """The places in `ids` that may give the other image of this one: first one by the hash of the
    image's id, after it in order, each once and never the image itself.
    """
    count = len(dataset) - 1
    start = int.from_bytes(hashlib.sha256(dataset.ids[index].encode()).digest()[:8], "big")
    for step in range(count):
        place = (start + step) % count
        yield place + (place >= index)


def _targets(rule: str, image_id: str, image: Decoded) -> tuple[int | None, ...]:
    if rule == "predicted":
        return (None,)
    labels = [] if image.label is None else [image.label]
    targets = (
        tuple(labels)
        if rule == "label"
        else tuple(sorted({*labels, *image.annotation.labels.tolist()}))
    )
    if not targets:
        why = "".join(f"; {problem}" for problem in image.problems[:1])
        raise BadImage(
            image_id, f"has no class to explain with target={rule}{why}", status="no_annotation"
        )
    return targets


def _converted(value: Converted, convert: Callable[[Any], Any]) -> Converted:
    """With arrays for its tensors, or tensors for its arrays."""
    values = {entry.name: getattr(value, entry.name) for entry in fields(value)}
    kinds = Tensor, np.ndarray
    return replace(
        value, **{name: convert(each) for name, each in values.items() if isinstance(each, kinds)}
    )


def _chunks(images: _Images, workers: int) -> Iterator[tuple[list[Tensor], list[Item]]]:
    """`_pack` of CHUNK images after another. Raises BenchError for processes that end, with the
    images they read.
    """
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
            except (
                RuntimeError,
                ConnectionError,
                EOFError,
            ) as error:  # what torch raises for a worker that is gone
                if processes:  # a broken connection is seen before its process has ended
                    wait([process.sentinel for process in processes], timeout=1)
                dead = [
                    number
                    for number, process in enumerate(processes)
                    if process.exitcode is not None
                ]
                if not dead:
                    raise
                raise _died(
                    images, dead, [processes[number].exitcode for number in dead]
                ) from error
            yield chunk
    finally:
        if processes:
            iterator._shutdown_workers()  # type: ignore[attr-defined] # else when the last frame that holds it goes


def _next(iterator: Iterator[Any], processes: Sequence[BaseProcess]) -> Any:
    """Return the next chunk. It is read in a thread, since torch never stops waiting for the rest
    of a message.

    Raises:
        ConnectionError: if a process was killed while it wrote a message.
    """
    answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def read() -> None:
        try:
            answers.put((next(iterator), None))
        except BaseException as error:  # noqa: BLE001 - raised where the chunk is asked for
            answers.put((None, error))

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            chunk, error = answers.get(timeout=SILENCE)
        except Empty:
            if all(process.exitcode is None for process in processes):
                continue
            raise ConnectionError("a process was killed while it wrote") from None
        if error is not None:
            raise error
        return chunk


def _died(images: _Images, workers: Sequence[int], codes: Sequence[int]) -> BenchError:
    names = [images.name(int(images.reading[worker])) for worker in workers]
    signals = {-each.value: each.name for each in signal.Signals}
    ends = [signals.get(code, f"exit code {code}") for code in codes]
    is_made_of_others = isinstance(images.dataset, MadeOf) and not isinstance(
        images.dataset, Selected
    )
    setting = (
        "data.of.leave_out, by the id of one in it"
        if is_made_of_others
        else f"data.leave_out={names}"
    )
    return BenchError(
        f"The process that read {' or '.join(map(repr, names))} ended by "
        f"{' and '.join(dict.fromkeys(ends))}. If a decoder can't bear the image, leave it out by "
        f"{setting}; if memory is short (SIGKILL, or SIGBUS for that of /dev/shm), lower "
        "data.workers."
    )


def _pack(items: Sequence[Item]) -> tuple[list[Tensor], list[Item]]:
    """Images of one size after another as one tensor: one piece of shared memory instead of one for
    each image.
    """
    images = [image for image, _ in items if image is not None]
    runs = [torch.stack(list(run)) for _, run in groupby(images, key=_form)]
    return runs, [(None, prepared) for _, prepared in items]


def _form(image: Tensor) -> tuple[torch.Size, torch.dtype]:
    return image.shape, image.dtype


def _extras(
    prepared: Prepared, preprocessing: Preprocessing, size: torch.Size
) -> tuple[Parts | None, Tensor | None]:
    """(the parts, the other image (3, H', W') in the size (H', W') of the image itself),
    normalised.
    """

    def image(pixels: Any) -> Any:
        return None if pixels is None else preprocessing.normalised(torch.from_numpy(pixels))

    parts = None if prepared.parts is None else tuple(
        replace(part, region=torch.from_numpy(part.region), images=image(part.images), bare=image(part.bare))
        for part in prepared.parts
    )  # fmt: skip
    other = image(prepared.other_image)
    if other is not None and other.shape[1:] != size:
        mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
        other = interpolate(other[None], tuple(size), mode=mode, antialias=len(size) == 2)[0]
    return parts, other


def _batches(
    source: _Images,
    workers: int,
    batch_size: int,
    device: torch.device | str,
    turned: dict[str, bool],
    notes: Notes,
) -> Iterator[Batch | BadImage]:
    preprocessing = source.preprocessing
    place = torch.device(device)
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
            image, annotation = next(images), _converted(prepared.annotation, torch.from_numpy)
            parts, other_image = _extras(prepared, preprocessing, image.shape[1:])
            for target in prepared.targets:
                if rows and (len(rows) == batch_size or _form(rows[-1][0]) != _form(image)):
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
        None
        if targets_or_none is None
        else targets_or_none.to(device, non_blocking=device.type == "cuda"),
        annotations,
        interventions=None if set(parts) == {None} else tuple(of_row or () for of_row in parts),
        other_images=None if others[0] is None else torch.stack(others),
    )


def _stacked_on(device: torch.device, images: tuple[Tensor, ...]) -> Tensor:
    """(B, C, *space) on the device; to a GPU from pinned memory, so that the copy goes on beside
    this process.
    """
    if device.type != "cuda":
        return torch.stack(images).to(device)
    pinned = torch.empty((len(images), *images[0].shape), dtype=images[0].dtype, pin_memory=True)
    return torch.stack(images, out=pinned).to(device, non_blocking=True)
