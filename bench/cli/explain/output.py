"""Where explanations are written, and in which format: what a file's name says, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from axiom_bench.errors import BenchError
from axiom_bench.records import files

PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".pdf": "pdf", ".svg": "svg"}
PAGES = (".html", ".htm")
INDEX = "index.html"  # of a folder


@dataclass(frozen=True)
class Output:
    """path: a picture of one image (`format` as matplotlib names it), a page ("html") or a folder (None)."""

    path: Path
    format: str | None

    @staticmethod
    def of(path: Path | None, images: Collection[Path]) -> Output:
        """What to write for these images; without a path a picture of one image, a page of several.

        Raises BenchError for a format that can't be written, for a picture of several images, and where something
        else than an earlier output would be replaced.
        """
        path = Path("explanation.png" if len(images) == 1 else "explanation.html") if path is None else path
        if path.is_dir():
            if path.suffix.lower() in (*PICTURES, *PAGES):
                raise BenchError(f"{path} is a folder, which isn't replaced; give another --output.")
            return Output(path, None)
        files.check_output(path)
        if os.path.realpath(path) in set(map(os.path.realpath, images)):
            raise BenchError(f"--output {path} would replace an image that is to be explained; give another name.")
        kind = _format(path)
        if kind not in (None, "html") and len(images) > 1:
            raise BenchError(
                f"{path} can show one image, and there are {len(images)}; give a page, such as explanation.html, or a "
                "folder, which gets a picture of each."
            )
        return Output(path, kind)

    def picture_in(self, name: str, images: Collection[Path]) -> Path:
        """The picture of an image's name in a folder. Raises BenchError where it would replace an image or a folder."""
        path = self.path / f"{name}.png"
        if os.path.realpath(path) in set(map(os.path.realpath, images)):
            raise BenchError(f"{path} is an image that is to be explained; give --output another folder.")
        files.check_output(path, self.path / INDEX)
        return path


def _format(path: Path) -> str | None:
    """The format that a name says; None for a folder. Raises BenchError for one that can't be written."""
    suffix = path.suffix.lower()
    if suffix in PAGES:
        return "html"
    if suffix in PICTURES:
        return PICTURES[suffix]
    if suffix or path.is_file():
        endings = ", ".join(PICTURES)
        raise BenchError(f"Can't write {path}: give a name that ends in {endings} or .html, or a folder.")
    return None
