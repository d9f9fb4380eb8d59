"""The objects that a network finds in another data set, each as an image of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from axiom_bench.columns import OBJECT
from axiom_bench.data.base import DataSet, Least, Sample, Selected, StoredPart


class ObjectImages(Selected):
    """The images of another data set, once for each object that is explained.

    Ids such as "000123.jpg//001" are an image's id, OBJECT, and the object's number in the image.
    The label is the object's class. Everything else is the image's, also its annotation, since the
    network's second input decides which object is explained.
    """

    threads_may_read = False

    def __init__(
        self, of: DataSet, objects: Sequence[tuple[int, int, int]], notes: Sequence[str]
    ) -> None:
        """Choose the objects.

        Args:
            of: The other data set.
            objects: (index of the image, number, class) of each object, ascending.
            notes: Notes in addition to the data set's.
        """
        super().__init__(of, [index for index, _, _ in objects])
        self.ids = tuple(f"{of.ids[index]}{OBJECT}{number:03d}" for index, number, _ in objects)
        self.notes = (*of.notes, *notes)
        self.orientation = of.orientation
        self._labels = tuple(label for _, _, label in objects)

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        sample = super().read_scaled(index, least)
        return replace(sample, image_id=self.ids[index], label=self._labels[index])

    def labels(self, index: int) -> tuple[int, ...]:
        return (self._labels[index],)

    def interventions(self, index: int) -> tuple[StoredPart, ...] | None:
        return self.of.interventions(self.indices[index])
