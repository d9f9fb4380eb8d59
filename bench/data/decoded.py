"""One image decoded, resized and cropped, with its annotation, before its values are scaled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from axiom_bench.cutting.interventions import Part, Parts
from axiom_bench.data.base import BadImage, DataSet
from axiom_bench.data.batch import Annotation
from axiom_bench.data.preprocessing import Preprocessing, transforms


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
