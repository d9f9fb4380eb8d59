"""One image decoded, resized and cropped, with its annotation, before its values are scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from axiom_bench.data.base import DataSet
from axiom_bench.data.batch import Annotation
from axiom_bench.data.preprocessing import Preprocessing


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
