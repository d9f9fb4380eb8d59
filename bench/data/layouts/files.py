"""The base of data sets of image files: finding them, decoding them, and their annotation files."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from posixpath import splitext

from PIL import Image

from axiom_bench.data.base import DataSet, Least, Sample
from axiom_bench.data.file_hashes import FileHashes
from axiom_bench.data.formats.decoding import SUFFIXES, open_scaled, sha256
from axiom_bench.data.formats.file_names import as_text
from axiom_bench.data.formats.reading import files_below
from axiom_bench.errors import BenchError


class ImageFiles(DataSet):
    """Images that are files: a subclass gives each one's path and annotation."""

    threads_may_read = True

    def read(self, index: int) -> Sample:
        return self.read_scaled(index, None)

    def read_scaled(self, index: int, least: Least | None) -> Sample:
        image, size = open_scaled(self.path(index), self.ids[index], least)
        return replace(self.annotate(index, image, size), stored=size[::-1])

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        paths = (self.path(index), *self.annotation_paths(index))
        return sha256(*paths) if hashes is None else hashes.of(paths, lambda: sha256(*paths))

    @abstractmethod
    def path(self, index: int) -> Path:
        """The image's file, which may be missing."""

    @abstractmethod
    def annotate(self, index: int, image: Image.Image, size: tuple[int, int]) -> Sample:
        """The decoded image with its label, objects and mask. size: (width, height) of the stored image."""

    def annotation_paths(self, index: int) -> tuple[Path | None, ...]:
        """The files that the annotation comes from, which may be missing."""
        return ()


def image_files(folder: Path) -> Iterator[str]:
    """The ids of the images below a folder: their paths relative to it, with slashes, as text; ascending.

    Everything that is called as an image is one, also a folder: what can't be read becomes a BadImage. Raises
    BenchError where a folder can't be listed.
    """
    return iter(sorted(as_text(path) for path in files_below(folder) if splitext(path)[1].lower() in SUFFIXES))


def images_in_folders(folder: Path, names: Collection[str]) -> tuple[str, ...]:
    """The ids of the images below those folders in a folder that have one of these names; see `image_files`."""
    paths = (path.partition("/") for path in image_files(folder))
    return tuple("".join(path) for path in paths if path[1] and path[0] in names)


def existing(folder: Path, layout: str) -> Path:
    """The folder itself. Raises BenchError, with the expected layout, where it doesn't exist."""
    if not os.path.isdir(folder):
        raise BenchError(
            f"There is no folder {as_text(folder)}; expected {layout}. "
            "Set data.root, or AXIOM_BENCH_REAL for real_root."
        )
    return folder
