"""The base of data sets of image files: finding them, decoding them, and their annotation files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from axiom_bench.data.base import DataSet, Sample
from axiom_bench.data.decoding import SUFFIXES, open_rgb, sha256
from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.errors import BenchError


class ImageFiles(DataSet):
    """Images that are files: a subclass gives each one's path and annotation."""

    def read(self, index: int) -> Sample:
        image = open_rgb(self.path(index), self.ids[index])
        return self.annotate(index, image)

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        paths = (self.path(index), *self.annotation_paths(index))
        return sha256(*paths) if hashes is None else hashes.of(paths, lambda: sha256(*paths))

    @abstractmethod
    def path(self, index: int) -> Path:
        """The image's file, which may be missing."""

    @abstractmethod
    def annotate(self, index: int, image: Image.Image) -> Sample:
        """The decoded image with its label, objects and mask."""

    def annotation_paths(self, index: int) -> tuple[Path | None, ...]:
        """The files that the annotation comes from, which may be missing."""
        return ()


def image_files(folder: Path) -> Iterator[str]:
    """The images below a folder, by their path relative to it, with slashes; ascending."""
    return iter(sorted(path.relative_to(folder).as_posix()
                       for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES))  # fmt: skip


def existing(folder: Path, layout: str) -> Path:
    """The folder itself. Raises BenchError, with the expected layout, where it doesn't exist."""
    if not folder.is_dir():
        raise BenchError(
            f"There is no folder {folder}; expected {layout}. Set data.root, or AXIOM_BENCH_REAL for real_root."
        )
    return folder
