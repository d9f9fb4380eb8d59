"""The base of every data set.

A data set has samples by index, ids in ascending order, and a fingerprint of each image.

The loader, a run's keys and all kinds of data set rely on these three. The fingerprint decides
whether a value that was computed earlier is still valid.
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

from axiom_bench.data.formats.files import comparable_name, nfc
from axiom_bench.errors import BenchError, plural, unknown_name
from axiom_bench.kinds import whole_number

BACKGROUND = -1  # in a mask: a pixel of none of the data set's classes
NO_VERDICT = -2  # in a mask: the data set doesn't say whether an object covers this pixel
# The prefix of the hash of files that exist and can't be read. Such a hash isn't cached.
UNREADABLE = "unreadable-"
# Seconds. A file that was changed more recently may change again within one tick of its clock.
SETTLED_SECONDS = 2.0
Files = tuple[Path, ...]


class FileHashes:
    """The hashes of files' contents, so that unchanged files are read only once.

    Attributes:
        cached: {stamp of the files: hash}, from an earlier run.
        current: The entries that were looked up since.
        stamps: The stamp of each file when it was looked up first.
    """

    def __init__(self, cached: Mapping[str, str] | None = None) -> None:
        self.cached: Mapping[str, str] = cached or {}
        self.current: dict[str, str] = {}
        self.stamps: dict[Path, str] = {}

    def hash_of(self, paths: Iterable[Path], compute: Callable[[], str], part: str = "") -> str:
        """Return the hash of these files' content, computed unless it is cached.

        Args:
            paths: The files.
            compute: Computes the hash.
            part: Names what is hashed in the files, if it isn't all of them.
        """
        stamps = [(path, *_stamp(path)) for path in paths]
        for path, stamp, _ in stamps:
            self.stamps.setdefault(path, stamp)
        stamp = "|".join(stamp for _, stamp, _ in stamps) + part
        last_change = max((modified for *_, modified in stamps), default=0) / 1e9
        is_settled = time.time() - last_change > SETTLED_SECONDS
        digest = self.current.get(stamp) or self.cached.get(stamp) or compute()
        if is_settled and not digest.startswith(UNREADABLE):
            self.current[stamp] = digest
        return digest

    def stamps_of(self, data: DataSet, indices: Iterable[int]) -> dict[Path, str]:
        """Return {file: stamp} of the files of these images that were looked up.

        The loader refuses an image whose file has another stamp when it is decoded.
        """
        stamps = {}
        for index in indices:
            for path in data.files(index):
                if path in self.stamps:
                    stamps[path] = self.stamps[path]
        return stamps


def check_unchanged(name: str, paths: Files, stamps: Mapping[Path, str]) -> None:
    """Check that the files of the named image haven't changed since they were hashed.

    Raises:
        BenchError: If a file has another size or time of modification than its stamp.
    """
    if any(path in stamps and _stamp(path)[0] != stamps[path] for path in paths):
        raise BenchError(
            f"The image {name!r}, or its annotation, was changed after its content was hashed; "
            "run the same command again, and let nothing change the images of a run."
        )


def _stamp(path: Path) -> tuple[str, int]:
    """Return the stamp of a file and its time of modification in ns.

    The stamp has the absolute path, the size, the time of modification, and whether the file may
    not be read.
    """
    try:
        state = os.stat(path)
    except OSError:
        return f"{os.path.abspath(path)}|-1|0", 0
    denied = "" if os.access(path, os.R_OK) else "|denied"
    return f"{os.path.abspath(path)}|{state.st_size}|{state.st_mtime_ns}{denied}", state.st_mtime_ns


T = TypeVar("T")
# Starts, then ends, which are exclusive; the last axis first: x0, y0, x1, y1 in images.
Box = tuple[float, ...]
Objects = tuple[tuple[int, Box], ...]
MAX_DRAWN = 1_000_000  # numbers of six digits, so that ids ascend
Drawn = Annotated[int, whole_number(1, "a number of images, which are drawn", MAX_DRAWN)]
Seed = Annotated[int, whole_number(0)]
# From the height and width of a stored image to the smallest height and width that are needed.
Least = Callable[[int, int], tuple[int, int]]
OTHER_CLASS = "is left out: its class isn't one of data.classes"  # how sentences on one box end
NO_AREA = "is left out: it has no area; give x0, y0, x1, y1, not width and height"
OUTSIDE = "is left out: it lies outside the image"
BEYOND = "is cut off at the image's edge, more than a pixel beyond which it reaches"
SHARES = "is left out: it is in shares of the image; give pixels"
BAD_IMAGE = "bad_image"  # the status of an image that can't be read
THREADS = 16
AT_ONCE = 256  # images that are given to the threads at a time


class BadImage(Exception):
    """An image that can't be explained.

    The code that reads an image raises it, and the loader yields it, so that no image is dropped.
    """

    def __init__(self, image_id: str, message: str, status: str = BAD_IMAGE) -> None:
        super().__init__(image_id, message, status)
        self.image_id = image_id
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.image_id}: {self.message}"


@dataclass(frozen=True)
class Sample:
    """One image as it is stored, decoded.

    Attributes:
        image: An RGB PIL image; or an array (C, *space) of numbers, which the network takes as it
            is.
        image_id: The id of the image.
        label: The class index of the image, or None.
        objects: (class index, box) of each object. A box is x0, y0, x1, y1 in stored pixels, x1
            and y1 exclusive. A box in an array has starts and ends, the last axis first: x0, x1,
            or x0, y0, z0, x1, y1, z1.
        mask: The class index per pixel, or BACKGROUND or NO_VERDICT: the image's space (h, w),
            int64.
        problems: Sentences about annotations that are missing or malformed. The image counts
            nevertheless.
        crowd: (class index, box) of regions that hold many objects in one box. They are no
            objects, and the mask has no verdict there.
        cells: True if the objects are the cells of a mosaic.
        stored: (height, width) of the file's picture, if `image` may have been decoded at a part
            of that size. Objects and mask are in the file's pixels.
        turned: True if the EXIF orientation is applied, None if the file has none.
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
        """Height and width of the stored image, or the space of an array."""
        return self.stored or size_of(self.image)


@dataclass(frozen=True, eq=False)
class StoredPart:
    """A part of an image as it is stored, decoded.

    The parts of an image have disjoint masks that cover it together: objects first, then marks,
    the ground last.

    Attributes:
        name: The name of this part, which no other part of the image has.
        label: The class index of an object; None for the ground and for marks.
        mask: The pixels of the part, (h, w) bool.
        images: Images of one size, as a Sample has them, without this part and with everything
            else the same: one for an object, several other grounds for the ground.
        bare: For the ground: the same other grounds without any other part, which Shapley values
            need; () if there are none.
    """

    name: str
    label: int | None
    mask: NDArray[np.bool_]
    images: tuple[Any, ...]
    bare: tuple[Any, ...] = ()


class DataSet(ABC):
    """A data set: samples by index, with ids, labels and fingerprints.

    Attributes:
        name: The name of the data set in the records.
        classes: The classes, by class index.
        ids: The ids of the images, ascending, each once.
        drawn: True if data.size is the number of images that are drawn, and not the number of
            images to choose.
        threads_may_read: True if several threads may ask for fingerprints at once, after the first
            one.
        unlabelled: The reason why no image has a label; "" if some may have one.
        notes: Sentences that a reader of the results needs.
        orientation: A sentence on whether photographs are turned as their EXIF says; "" if none
            has an orientation.
        shape: (C, *space) of the samples if they are arrays; None for pictures.
    """

    drawn = False
    threads_may_read = False
    unlabelled = ""
    orientation = ""
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
        """The readable names of the classes, by class index: `classes` if there are no others."""
        return self._class_names or self.classes

    @property
    def sources(self) -> tuple[DataSet, ...]:
        """The data sets whose code decides what this data set gives: itself, and those it reads.

        The code of their modules is part of the key of every value, so that a change of a reader
        makes values invalid.
        """
        return (self,)

    @property
    def module(self) -> str:
        """The module whose code, with what it imports, decides what this data set gives."""
        return type(self).__module__

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Return the sample at this index of `ids`.

        Raises:
            BadImage: If the image is missing or can't be decoded.
        """

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        """Return the same sample as `read`, possibly decoded at a part of the image's size.

        Its height and width are then not below those that `least` asks for.

        JPEG files decode several times faster at a half, a quarter or an eighth of their size.
        """
        return self.read(index)

    @abstractmethod
    def labels(self, index: int) -> tuple[int, ...]:
        """Return all classes that the image is labelled with, ascending, without decoding it.

        A run chooses images by their classes, and would otherwise decode all of them.
        """

    @abstractmethod
    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        """Return the SHA-256 of the image and its annotation, in hexadecimal.

        It also covers what decides the image's interventions.

        It is part of the key of every value of the image.

        Args:
            index: The index of the image.
            hashes: Hashes of files that were read before, which aren't read again.
        """

    def files(self, index: int) -> Files:
        """Return the files that the image and its annotation are read from.

        They are the files of its fingerprint; () for an image that is drawn.
        """
        return ()

    def interventions(self, index: int) -> tuple[StoredPart, ...] | None:
        """Return the parts of the image at this index of `ids`, and versions of it without each.

        It is called only if the run needs the parts.

        Returns:
            The parts: () if this image has none, None if the data set has none at all.

        Raises:
            BadImage: As `read`.
        """
        return None


def label_of_largest(objects: Objects) -> int | None:
    """Return the class of the object with the largest box, which labels an image of several.

    The first of equally large boxes counts; None if there are no objects.
    """
    areas = [prod(end - start for start, end in spans(box)) for _, box in objects]
    return objects[areas.index(max(areas))][0] if objects else None


def classes_of(label: int | None, objects: Objects) -> tuple[int, ...]:
    """Return all classes that an image is labelled with, ascending."""
    classes = {index for index, _ in objects}
    if label is not None:
        classes.add(label)
    return tuple(sorted(classes))


def size_of(image: Any) -> tuple[int, ...]:
    """Return (height, width) of a picture, or the space of an array (C, *space)."""
    return image.shape[1:] if isinstance(image, np.ndarray) else (image.height, image.width)


def spans(box: Box) -> Iterator[tuple[float, float]]:
    """Return (start, end) along each axis, the last axis first."""
    return zip(box, box[len(box) // 2 :], strict=False)


def clip_box(box: Box, size: tuple[float, ...]) -> Box:
    """Return the part of a box inside an image of this size, (width, height): last axis first."""
    half = len(size)
    return (*(max(start, 0.0) for start in box[:half]), *map(min, box[half:], size))


def clip_to_image(box: Box, size: tuple[float, ...]) -> tuple[Box | None, str]:
    """Return the part of a box inside an image of this size, and what is wrong with the box.

    The part is None if the box can't be used. The problem is one of the sentences above, or "".

    The problem becomes a note, so that no box is left out in silence.
    """
    part = clip_box(box, size)
    if is_empty(box):
        return None, NO_AREA
    if is_empty(part):
        return None, OUTSIDE
    if max(box) <= 1 and any(value % 1 for value in box):
        return None, SHARES
    reach = max(abs(value - cut) for value, cut in zip(box, part, strict=True))
    return part, BEYOND if reach > 1 else ""


def is_empty(box: Box) -> bool:
    """Return whether a box holds no pixel."""
    return any(start >= end for start, end in spans(box))


def subset(
    dataset: DataSet,
    size: int | None,
    seed: int,
    only_classes: Sequence[str | int] | None = None,
    leave_out: Sequence[str] | None = None,
) -> tuple[int, ...]:
    """Choose `size` indices by seed, without replacement.

    Args:
        dataset: The data set.
        size: The number of images; None for all.
        seed: Decides which images are chosen.
        only_classes: An image must be labelled with one of these (a class, its name or its
            index); None for any. If the data set draws its images, all such images are chosen,
            whatever the size.
        leave_out: Ids of chosen images that are left out.

    Returns:
        The indices, ascending.

    Raises:
        BenchError: If the data set has fewer such images, or no such class or id, or if no image
            is left.
    """
    chosen = list(range(len(dataset)))
    description = f"{plural(len(dataset), 'image')} in {dataset.name!r}"
    if only_classes is not None:
        classes = {class_index(dataset, name) for name in only_classes}
        chosen = [index for index in chosen if classes.intersection(dataset.labels(index))]
        description = f"{plural(len(chosen), 'image')} of data.only_classes in {dataset.name!r}"
    if not chosen and only_classes is None:
        raise BenchError(f"There are no images in {dataset.name!r}.")
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
        positions = np.random.default_rng(seed).permutation(len(chosen))[:size]
        chosen = sorted(chosen[position] for position in positions)
    if not leave_out:
        return tuple(chosen)
    # Users may write an id with backslashes, or in another Unicode form.
    left_out = {comparable_name(image): image for image in leave_out}
    ids = {*map(comparable_name, dataset.ids)}
    if unknown_ids := [image for name, image in left_out.items() if name not in ids]:
        raise BenchError(
            f"data.leave_out names {min(unknown_ids)!r}, which is no image of {dataset.name!r}."
        )
    kept = tuple(index for index in chosen if comparable_name(dataset.ids[index]) not in left_out)
    if not kept:
        raise BenchError(
            f"data.leave_out leaves none of the {len(chosen)} images of {dataset.name!r}."
        )
    return kept


def class_index(dataset: DataSet, name: str | int) -> int:
    """Return the class index of a class, given by itself, its name or its index.

    Raises:
        BenchError: If there is no such class, with the nearest one.
    """
    if isinstance(name, int) and 0 <= name < len(dataset.classes):
        return name
    for names in (dataset.classes, dataset.class_names):
        forms = [nfc(name) for name in names]
        if nfc(str(name)) in forms:
            return forms.index(nfc(str(name)))
    raise unknown_name(
        f"class of {dataset.name!r}", str(name), {*dataset.classes, *dataset.class_names}
    )


def check_labels(dataset: DataSet, indices: Sequence[int], number_of_classes: int) -> None:
    """Check that the model has every class that the images are labelled with; decode nothing.

    Raises:
        BenchError: For the first image with a label outside the model's classes.
    """
    for index in indices:
        outside = [label for label in dataset.labels(index) if not 0 <= label < number_of_classes]
        if outside:
            raise BenchError(
                f"{dataset.name!r} labels {dataset.ids[index]!r} with class {outside[0]}, but the "
                f"model has only the classes 0 to {number_of_classes - 1}; set data.classes to "
                "the model's own classes, in its order."
            )


class DerivedDataSet(DataSet):
    """Images that are made of those of another data set, with its classes and notes.

    Attributes:
        of: The other data set.
    """

    def __init__(self, of: DataSet, name: str) -> None:
        self.of = of
        self.name = name
        self.classes = of.classes
        self._class_names = of.class_names
        self.notes = of.notes

    @property
    def sources(self) -> tuple[DataSet, ...]:
        return (self, *self.of.sources)

    @abstractmethod
    def used(self, index: int) -> tuple[int, ...]:
        """Return the indices in `of` of the images that this image and its versions are made of.

        Their files and fingerprints are those of this image.
        """

    def files(self, index: int) -> Files:
        return tuple(path for used_index in self.used(index) for path in self.of.files(used_index))

    def part(self, index: int, read: Callable[[int], T], place: int) -> T:
        """Return what `read` gives for the image at this index of `of`.

        Raises:
            BadImage: That of `read`, as one of the image that is made of it.
        """
        try:
            return read(place)
        except BadImage as bad:
            raise BadImage(self.ids[index], str(bad), bad.status) from bad


class Selected(DerivedDataSet):
    """The images of another data set at these indices, ascending, with its name and classes.

    A data set that is made of another one (`data.of`) gets this, so that it sees only the images
    that the settings of the other one choose.
    """

    threads_may_read = True  # if the other data set's threads may, see `sources`

    def __init__(self, of: DataSet, indices: Sequence[int]) -> None:
        super().__init__(of, of.name)
        self.indices = tuple(indices)
        self.unlabelled = of.unlabelled
        self.shape = of.shape
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
    """The images of another data set for a network with one more output, the background.

    Attributes:
        place: The position of the background among the network's classes.
    """

    def __init__(self, of: DataSet, place: int) -> None:
        """Insert the background into the classes at `place`; -1 is the last place.

        Raises:
            BenchError: For a place that no output has.
        """
        super().__init__(of, range(len(of)))
        count = len(of.classes)
        if place > count:
            raise BenchError(
                f"model.background={place} is no output: {of.name!r} has {count} classes; give 0 "
                f"to {count}."
            )
        self.place = place % (count + 1)
        self.drawn = of.drawn
        self.orientation = of.orientation
        self.classes = self._with_background(of.classes)
        self._class_names = self._with_background(of.class_names)

    def _with_background(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return (*names[: self.place], "background", *names[self.place :])

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        sample = self.of.read_scaled(index, least)
        label = None if sample.label is None else self._output(sample.label)
        mask = None if sample.mask is None else sample.mask + (sample.mask >= self.place)
        return replace(
            sample,
            label=label,
            objects=self._outputs(sample.objects),
            crowd=self._outputs(sample.crowd),
            mask=mask,
        )

    def labels(self, index: int) -> tuple[int, ...]:
        return tuple(map(self._output, self.of.labels(index)))

    def interventions(self, index: int) -> tuple[StoredPart, ...] | None:
        parts = self.of.interventions(index)
        if not parts:
            return parts
        return tuple(
            replace(part, label=None if part.label is None else self._output(part.label))
            for part in parts
        )

    def _output(self, label: int) -> int:
        """Return the network's output for a class of the data."""
        return label + (label >= self.place)

    def _outputs(self, objects: Objects) -> Objects:
        return tuple((self._output(label), box) for label, box in objects)


def fingerprints(data: DataSet, indices: Sequence[int], hashes: FileHashes) -> Iterator[str]:
    """Yield `data.fingerprint` of the images, in their order.

    Several threads read if the data set allows it. With hashes of an earlier run there are no
    threads: a known hash is found sooner than a thread starts.
    """
    fingerprint = partial(data.fingerprint, hashes=hashes)
    yield from map(fingerprint, indices[:1])  # what all images share is read once
    if hashes.cached or not all(source.threads_may_read for source in data.sources):
        yield from map(fingerprint, indices[1:])
        return
    with ThreadPoolExecutor(THREADS, "axiom-bench hashes") as threads:
        for start in range(1, len(indices), AT_ONCE):
            yield from threads.map(fingerprint, indices[start : start + AT_ONCE])
