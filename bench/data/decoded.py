"""One image decoded, resized and cropped, with its annotation, before its values are scaled."""

from __future__ import annotations

from dataclasses import dataclass

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


def decoded(dataset: DataSet, index: int, preprocessing: Preprocessing) -> Decoded:
    """The image at this place of the data set. Raises BadImage where it can't be read, or would become too large."""
    sample = preprocessing.read(dataset, index)
    return Decoded(
        preprocessing.pixels(sample), sample.size, sample.label, preprocessing.annotation(sample), sample.problems
    )
