"""Folders of images: check that a folder exists, and list the images below it.

All layouts of single files use these two, so that they treat hidden files and missing folders in
the same way.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from posixpath import splitext

from axiom_bench.data.formats.decoding import image_suffixes
from axiom_bench.data.formats.files import as_name, as_text, files_below
from axiom_bench.errors import BenchError

# Endings of files next to images that are none.
# fmt: off
LISTS = (
    ".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".names", ".labels", ".data",
    ".cache",
)
# fmt: on


def image_files(folder: Path, endings: Collection[str] | None = None) -> tuple[list[str], str]:
    """List the images below a folder.

    Each file with an image's ending is an image, and so is such a folder: what can't be read
    becomes a BadImage. Hidden files and lists don't count.

    Args:
        folder: The folder.
        endings: The endings of samples; None for those of pictures.

    Returns:
        The ids of the images, and a sentence on files of other kinds ("" if there are none). The
        ids are paths relative to the folder, with slashes, as text, ascending.

    Raises:
        BenchError: If a folder can't be listed.
    """
    images: list[str] = []
    kinds = defaultdict[str, list[str]](list)
    for path in sorted(map(as_text, files_below(folder))):
        # A file of another kind may be a photograph that the user misses: a sentence counts them.
        ending = splitext(path)[1].lower()
        is_image = path.lower().endswith(tuple(endings)) if endings else ending in image_suffixes()
        if is_image:
            images.append(path)
        elif ending not in LISTS and os.path.isfile(folder / as_name(path)):
            kinds[ending or "without an ending"].append(path)
    if not kinds:
        return images, ""
    advice = "arrays as .npy" if endings else "photographs as JPEG or PNG"
    counts = ", ".join(f"{len(files)} {kind} ({files[0]})" for kind, files in sorted(kinds.items()))
    return images, f"not read: {counts}; save {advice}"


def existing_folder(folder: Path, layout: str) -> Path:
    """Return the folder.

    Raises:
        BenchError: If it doesn't exist, with the expected layout.
    """
    if os.path.isfile(folder):
        raise BenchError(
            f"{as_text(folder)} is a file; set data.root to its folder, {as_text(folder.parent)}."
        )
    if not os.path.isdir(folder):
        raise BenchError(
            f"There is no folder {as_text(folder)}; expected {layout}. "
            "Set data.root, or AXIOM_BENCH_REAL for real_root."
        )
    return folder
