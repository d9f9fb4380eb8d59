"""The base of every data set: samples by index, ids in ascending order, and a fingerprint of each
image.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from axiom_bench.data.formats.files import comparable, one_form
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import whole

BACKGROUND = -1  # of a mask: a pixel of none of the data set's classes
NO_VERDICT = -2  # of a mask: a pixel of which the data set doesn't say whether an object is there
UNREADABLE = (
    "unreadable-"  # begins the hash of files that are there and can't be read; it isn't kept
)
SETTLED = (
    2.0  # seconds: a file that was changed more recently may change again within its clock's tick
)
Files = tuple[Path, ...]


class FileHashes:
    """cached: {stamp of the files: hash}, from an earlier run. current: the entries that were
    looked up since. stamps: of each file when it was looked up first.
    """

    def __init__(self, cached: Mapping[str, str] | None = None) -> None:
        self.cached: Mapping[str, str] = cached or {}
        self.current: dict[str, str] = {}
        self.stamps: dict[Path, str] = {}

    def of(self, paths: Iterable[Path], compute: Callable[[], str], part: str = "") -> str:
        """The hash of these files' content, computed unless it is cached. part: names what is
        hashed in the files.
        """
        stamps = [(path, *_stamp(path)) for path in paths]
        for path, stamp, _ in stamps:
            self.stamps.setdefault(path, stamp)
        stamp = "|".join(stamp for _, stamp, _ in stamps) + part
        settled = (
            time.time() - max((modified for *_, modified in stamps), default=0) / 1e9 > SETTLED
        )
        digest = self.current.get(stamp) or self.cached.get(stamp) or compute()
        if settled and not digest.startswith(UNREADABLE):
            self.current[stamp] = digest
        return digest

    def stamps_of(self, data: DataSet, indices: Iterable[int]) -> dict[Path, str]:
        """Of the files of these images."""
        paths = (path for index in indices for path in data.files(index) if path in self.stamps)
        return {path: self.stamps[path] for path in paths}


def check_unchanged(name: str, paths: Files, stamps: Mapping[Path, str]) -> None:
    """Raises BenchError where a file of the image of this name isn't the one that was hashed: with
    another size or time than its stamp has.
    """
    if any(path in stamps and _stamp(path)[0] != stamps[path] for path in paths):
        raise BenchError(
            f"The image {name!r}, or its annotation, was changed after its content was hashed; "
            "run the same command again, and let nothing change the images of a run."
        )


def _stamp(path: Path) -> tuple[str, int]:
    """(absolute path, size and time of modification of a file, and whether it may not be read; that
    time in ns).
    """
    try:
        state = os.stat(path)
    except OSError:
        return f"{os.path.abspath(path)}|-1|0", 0
    denied = "" if os.access(path, os.R_OK) else "|denied"
    return f"{os.path.abspath(path)}|{state.st_size}|{state.st_mtime_ns}{denied}", state.st_mtime_ns


T = TypeVar("T")
Box = tuple[
    float, ...
]  # starts, then ends, which are exclusive; the last axis first: x0, y0, x1, y1 of images
Objects = tuple[tuple[int, Box], ...]
MAX_DRAWN = 1_000_000  # numbers of six digits, so that ids ascend
Drawn = Annotated[int, whole(1, "a number of images, which are drawn", MAX_DRAWN)]
Seed = Annotated[int, whole(0)]
Least = Callable[
    [int, int], tuple[int, int]
]  # of a stored image's height and width: those that it needs at least
OTHER_CLASS = "is left out: its class isn't one of data.classes"  # how sentences on one box end
NO_AREA = "is left out: it has no area; give x0, y0, x1, y1, not width and height"
OUTSIDE = "is left out: it lies outside the image"
BEYOND = "is cut off at the image's edge, more than a pixel beyond which it reaches"
SHARES = "is left out: it is in shares of the image; give pixels"
BAD_IMAGE = "bad_image"  # the status of an image that can't be read
THREADS = 16
AT_ONCE = 256  # images that wait for a thread


class BadImage(Exception):
    """An image that can't be explained: raised where it is read, and yielded by the loader, so that
    none is dropped.
    """

    def __init__(self, image_id: str, message: str, status: str = BAD_IMAGE) -> None:
        super().__init__(image_id, message, status)
        self.image_id, self.message, self.status = image_id, message, status

    def __str__(self) -> str:
        return f"{self.image_id}: {self.message}"


@dataclass(frozen=True)
class Sample:
    """One image as it is stored, decoded.

    image: RGB, a PIL image; or an array (C, *space) of numbers, which the network takes as it is.
    label: the class index of the image, or None. objects: (class index, box), box = x0, y0, x1, y1
    in stored pixels, x1 and y1 exclusive. Of an array it has starts and ends, the last axis first:
    x0, x1, or x0, y0, z0, x1, y1, z1. mask: the image's space (h, w), int64, class index per pixel,
    or BACKGROUND or NO_VERDICT. problems: sentences about annotations that are missing or
    malformed; the image counts all the same. crowd: (class index, box) of regions that hold many
    objects in one box; they are no objects, and the mask has no verdict there. cells: whether the
    objects are the cells of a mosaic. stored: (height, width) of the file's picture, where `image`
    may have been decoded at a part of it; objects and mask are in the file's pixels. turned:
    whether the EXIF orientation is applied; None where there is none.
    """

    image: Any
    image_id: str
    label: int | None = None
    objects: Objects = ()
    mask: NDArray[np.int64] | None = None
    problems: tuple[str, ...] = ()
    crowd: Objects = ()
    cells: bool = False
    stored: tuple[int, ...] | None = None
    turned: bool | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """(height, width) of the stored image; the space of an array."""
        return self.stored or size_of(self.image)


@dataclass(frozen=True, eq=False)
class StoredPart:
    """A part of an image as it is stored, decoded.

    name: of this part, once per image. label: the class index of an object; None for the ground and
    for marks. mask: (h, w) bool, its pixels. images: as a Sample has them, without it and with
    everything else the same, of one size; one for an object, several other grounds for the ground.
    bare: of the ground, the same other grounds without any other part, which Shapley values need;
    () where there are none. The parts of an image have disjoint masks that cover it together:
    objects first, then marks, the ground last.
    """

    name: str
    label: int | None
    mask: NDArray[np.bool_]
    images: tuple[Any, ...]
    bare: tuple[Any, ...] = ()


class DataSet(ABC):
    """name: as it stands in the records. classes: by class index. ids: ascending, one per image,
    each once.

    drawn: whether data.size is the number of images that are drawn, instead of the number to
    choose. threads_may_read: whether several threads may ask for fingerprints at once, after the
    first one. unlabelled: why no image has a label; "" where some may. notes: sentences that a
    reader of the results needs. orientation: a sentence on whether photographs are turned as their
    EXIF says; "" where none has any. shape: (C, *space) of the samples, where they are arrays; None
    for pictures.
    """

    drawn = False
    threads_may_read = False
    unlabelled = orientation = ""
    notes: tuple[str, ...] = ()
    name: str
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    shape: tuple[int, ...] | None = None
    _class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Readable names of the classes, by class index; `classes` themselves where there are no
        others.
        """
        return self._class_names or self.classes

    @property
    def sources(self) -> tuple[DataSet, ...]:
        """The data sets whose code decides what this one gives: itself, and those that it reads."""
        return (self,)

    @property
    def module(self) -> str:
        """The module whose code, with what it imports, decides what this data set gives."""
        return type(self).__module__

    @abstractmethod
    def read(self, index: int) -> Sample:
        """The sample at this place of `ids`. Raises BadImage where the image is missing or can't be
        decoded.
        """

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        """As `read`; where a decoder can give a part of the image's size that isn't below `least`,
        it may have that.
        """
        return self.read(index)

    @abstractmethod
    def labels(self, index: int) -> tuple[int, ...]:
        """All classes that the image is labelled with, ascending, without decoding it."""

    @abstractmethod
    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        """SHA-256 over the image's and its annotation's bytes, and over what decides its
        interventions, in hexadecimal. hashes: of files that were read before, which aren't read
        again.
        """

    def files(self, index: int) -> Files:
        """The files that the image and its annotation are read from, those of its fingerprint; ()
        for one that is drawn.
        """
        return ()

    def interventions(self, index: int) -> tuple[StoredPart, ...] | None:
        """The parts of the image at this place of `ids`, and versions of it without each; () where
        this image has none, None where the data set has none at all. Called where the run needs
        them. Raises BadImage as `read`.
        """
        return None


def largest(objects: Objects) -> int | None:
    """The class of the object with the largest box, the first of equals: the label of an image of
    several objects.
    """
    areas = [prod(end - start for start, end in sides(box)) for _, box in objects]
    return objects[areas.index(max(areas))][0] if objects else None


def classes_of(label: int | None, objects: Objects) -> tuple[int, ...]:
    """All classes that an image is labelled with, ascending."""
    return tuple(sorted({*(() if label is None else (label,)), *(index for index, _ in objects)}))


def size_of(image: Any) -> tuple[int, ...]:
    """(height, width) of a picture; the space of an array (C, *space)."""
    return image.shape[1:] if isinstance(image, np.ndarray) else (image.height, image.width)


def sides(box: Box) -> Iterator[tuple[float, float]]:
    """(start, end) along each axis, the last axis first."""
    return zip(box, box[len(box) // 2 :], strict=False)


def clipped(box: Box, size: tuple[float, ...]) -> Box:
    """The part of a box inside an image of this size, the last axis first: (width, height)."""
    half = len(size)
    return (*(max(start, 0.0) for start in box[:half]), *map(min, box[half:], size))


def inside(box: Box, size: tuple[float, ...]) -> tuple[Box | None, str]:
    """Return the part of a box inside an image of this size, None if the box can't be used, and
    what is wrong with it: one of the sentences above, or "".
    """
    part = clipped(box, size)
    if is_empty(box):
        return None, NO_AREA
    if is_empty(part):
        return None, OUTSIDE
    if max(box) <= 1 and any(value % 1 for value in box):
        return None, SHARES
    reach = max(abs(value - cut) for value, cut in zip(box, part, strict=True))
    return part, BEYOND if reach > 1 else ""


def is_empty(box: Box) -> bool:
    """Whether a box holds no pixel."""
    return any(start >= end for start, end in sides(box))


def subset(
    dataset: DataSet,
    size: int | None,
    seed: int,
    only_classes: Sequence[str | int] | None = None,
    leave_out: Sequence[str] | None = None,
) -> tuple[int, ...]:
    """`size` indices chosen by seed without replacement, ascending; all where size is None.

    only_classes: an image must be labelled with one of these (a class, its name or its index);
    None: any. Of a data set that draws its images, all such are chosen, whatever the size.
    leave_out: ids that are left out of those chosen. Raises BenchError where the data set has fewer
    such images, no such class or id, or none is left.
    """
    chosen = list(range(len(dataset)))
    description = f"{len(dataset)} images in {dataset.name!r}"
    if only_classes is not None:
        classes = {class_index(dataset, name) for name in only_classes}
        chosen = [index for index in chosen if classes.intersection(dataset.labels(index))]
        description = f"{len(chosen)} images of data.only_classes in {dataset.name!r}"
    if not chosen:
        raise BenchError(
            f"There are no images of data.only_classes={list(only_classes or ())} in "
            f"{dataset.name!r}."
        )
    if size is not None and not (dataset.drawn and only_classes is not None):
        if not 1 <= size <= len(chosen):
            raise BenchError(
                f"data.size={size} of {description}: give 1 to {len(chosen)}, or null for all."
            )
        places = np.random.default_rng(seed).permutation(len(chosen))[:size]
        chosen = sorted(chosen[place] for place in places)
    if not leave_out:
        return tuple(chosen)
    left_out = {comparable(image): image for image in leave_out}
    ids = {*map(comparable, dataset.ids)}
    if strangers := [image for name, image in left_out.items() if name not in ids]:
        raise BenchError(
            f"data.leave_out names {min(strangers)!r}, which is no image of {dataset.name!r}."
        )
    kept = tuple(index for index in chosen if comparable(dataset.ids[index]) not in left_out)
    if not kept:
        raise BenchError(
            f"data.leave_out leaves none of the {len(chosen)} images of {dataset.name!r}."
        )
    return kept


def class_index(dataset: DataSet, name: str | int) -> int:
    """The class index of a class, of its name, or of itself. Raises BenchError, with the nearest,
    for no such class.
    """
    if isinstance(name, int) and 0 <= name < len(dataset.classes):
        return name
    for names in (dataset.classes, dataset.class_names):
        forms = [one_form(name) for name in names]
        if one_form(str(name)) in forms:
            return forms.index(one_form(str(name)))
    raise unknown(f"class of {dataset.name!r}", str(name), {*dataset.classes, *dataset.class_names})


def check_labels(dataset: DataSet, indices: Sequence[int], number_of_classes: int) -> None:
    """Raises BenchError where an image is labelled with a class that the model doesn't have;
    decodes nothing.
    """
    for index in indices:
        outside = [label for label in dataset.labels(index) if not 0 <= label < number_of_classes]
        if outside:
            raise BenchError(
                f"{dataset.name!r} labels {dataset.ids[index]!r} with class {outside[0]}, but the "
                f"model has only the classes 0 to {number_of_classes - 1}; set data.classes to "
                "the model's own classes, in its order."
            )


class MadeOf(DataSet):
    """Images that are made of those of another data set, `of`, whose classes and notes they
    have.
    """

    def __init__(self, of: DataSet, name: str) -> None:
        self.of, self.name = of, name
        self.classes, self._class_names, self.notes = of.classes, of.class_names, of.notes

    @property
    def sources(self) -> tuple[DataSet, ...]:
        return (self, *self.of.sources)

    @abstractmethod
    def used(self, index: int) -> tuple[int, ...]:
        """The places of the images that this one, and versions of it, are made of."""

    def files(self, index: int) -> Files:
        return tuple(path for place in self.used(index) for path in self.of.files(place))

    def part(self, index: int, read: Callable[[int], T], place: int) -> T:
        """What `read` gives of the image at this place. Raises its BadImage as one of the image
        that is made of it.
        """
        try:
            return read(place)
        except BadImage as bad:
            raise BadImage(self.ids[index], str(bad), bad.status) from bad


class Selected(MadeOf):
    """The images of another data set at these places, ascending, with its name and classes."""

    threads_may_read = True  # where the data set's threads may, see `sources`

    def __init__(self, of: DataSet, indices: Sequence[int]) -> None:
        super().__init__(of, of.name)
        self.indices, self.unlabelled, self.shape = tuple(indices), of.unlabelled, of.shape
        self.ids = tuple(of.ids[index] for index in indices)

    def used(self, index: int) -> tuple[int, ...]:
        return (self.indices[index],)

    def read(self, index: int) -> Sample:
        return self.read_scaled(index, None)

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        return self.of.read_scaled(self.indices[index], least)

    def labels(self, index: int) -> tuple[int, ...]:
        return self.of.labels(self.indices[index])

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        return self.of.fingerprint(self.indices[index], hashes)


class WithBackground(Selected):
    """The images of another data set for a network with one output more, the background, at this
    place of its classes; -1: the last. Raises BenchError for a place that no output has.
    """

    def __init__(self, of: DataSet, place: int) -> None:
        super().__init__(of, range(len(of)))
        count = len(of.classes)
        if place > count:
            raise BenchError(
                f"model.background={place} is no output: {of.name!r} has {count} classes; give 0 "
                f"to {count}."
            )
        self.place, self.drawn, self.orientation = place % (count + 1), of.drawn, of.orientation
        self.classes, self._class_names = (
            (*of_data[: self.place], "background", *of_data[self.place :])
            for of_data in (of.classes, of.class_names)
        )

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        sample = self.of.read_scaled(index, least)
        label = None if sample.label is None else self._output(sample.label)
        mask = None if sample.mask is None else sample.mask + (sample.mask >= self.place)
        objects, crowd = (
            tuple((self._output(label), box) for label, box in of)
            for of in (sample.objects, sample.crowd)
        )
        return replace(sample, label=label, objects=objects, crowd=crowd, mask=mask)

    def labels(self, index: int) -> tuple[int, ...]:
        return tuple(map(self._output, self.of.labels(index)))

    def interventions(self, index: int) -> tuple[StoredPart, ...] | None:
        parts = self.of.interventions(index)
        return parts and tuple(
            replace(p, label=None if p.label is None else self._output(p.label)) for p in parts
        )

    def _output(self, label: int) -> int:
        return label + (label >= self.place)


def fingerprints(data: DataSet, indices: Sequence[int], hashes: FileHashes) -> Iterator[str]:
    """`data.fingerprint` of the images, in their order: by threads where the data set lets several
    read at once. A hash that is known from an earlier run is found sooner than a thread starts.
    """
    of = partial(data.fingerprint, hashes=hashes)
    yield from map(of, indices[:1])  # what all images share is read once
    if hashes.cached or not all(source.threads_may_read for source in data.sources):
        yield from map(of, indices[1:])
        return
    with ThreadPoolExecutor(THREADS, "axiom-bench hashes") as threads:
        for start in range(1, len(indices), AT_ONCE):
            yield from threads.map(of, indices[start : start + AT_ONCE])
