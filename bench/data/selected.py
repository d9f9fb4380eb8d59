"""Some images of a data set, as a data set."""

from __future__ import annotations

from collections.abc import Sequence

from axiom_bench.data.base import DataSet, Least, Sample
from axiom_bench.data.file_hashes import FileHashes


class Selected(DataSet):
    """The images of `dataset` at these places, ascending, with its name and classes."""

    threads_may_read = True  # where the data set's threads may, see `sources`

    def __init__(self, dataset: DataSet, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, tuple(indices)
        self.name, self.classes = dataset.name, dataset.classes
        self.ids = tuple(dataset.ids[index] for index in indices)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.dataset.class_names

    @property
    def sources(self) -> tuple[DataSet, ...]:
        return (self, *self.dataset.sources)

    def read(self, index: int) -> Sample:
        return self.dataset.read(self.indices[index])

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        return self.dataset.read_scaled(self.indices[index], least)

    def labels(self, index: int) -> tuple[int, ...]:
        return self.dataset.labels(self.indices[index])

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        return self.dataset.fingerprint(self.indices[index], hashes)
