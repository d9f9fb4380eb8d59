"""Folders of images: whether one is there, and which images are below it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from posixpath import splitext

from axiom_bench.data.formats.decoding import suffixes
from axiom_bench.data.formats.files import as_name, as_text, files_below
from axiom_bench.errors import BenchError

LISTS = (
    ".txt",
    ".csv",
    ".tsv",
    ".json",
    ".xml",
)  # endings of what stands beside images and is none


def image_files(folder: Path, endings: Collection[str] | None = None) -> tuple[list[str], str]:
    """(the ids of the images below a folder: their paths relative to it, with slashes, as text,
    ascending; a sentence on files of other kinds, "" for none). Hidden files and lists don't count.
    endings: None for those of pictures.

    Everything that is called as an image is one, also a folder: what can't be read becomes a
    BadImage. Raises BenchError where a folder can't be listed.
    """
    images, kinds = list[str](), defaultdict[str, list[str]](list)
    for path in sorted(map(as_text, files_below(folder))):
        ending = splitext(path)[1].lower()
        if path.lower().endswith(tuple(endings)) if endings else ending in suffixes():
            images.append(path)
        elif ending not in LISTS and os.path.isfile(folder / as_name(path)):
            kinds[ending or "without an ending"].append(path)
    wanted = "arrays as .npy" if endings else "photographs as JPEG or PNG"
    counts = ", ".join(f"{len(files)} {kind} ({files[0]})" for kind, files in sorted(kinds.items()))
    return images, f"not read: {counts}; save {wanted}" if kinds else ""


def existing(folder: Path, layout: str) -> Path:
    """The folder itself. Raises BenchError, with the expected layout, where it doesn't exist."""
    if not os.path.isdir(folder):
        raise BenchError(
            f"There is no folder {as_text(folder)}; expected {layout}. "
            "Set data.root, or AXIOM_BENCH_REAL for real_root."
        )
    return folder
