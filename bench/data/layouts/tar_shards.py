"""WebDataset's shards: tar files with the members <key>.jpg, <key>.cls and <key>.json of an image.

A key is a member's path up to the first dot of its name, as in WebDataset. Images are read from
their places in the tar; nothing is unpacked.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from axiom_bench.data.formats.archive import Archive
from axiom_bench.data.formats.decoding import image_suffixes
from axiom_bench.data.formats.files import Paths, files_named, open_regular, reason_of
from axiom_bench.data.layouts.classes import Classes, ClassIndex, class_list, index_of_classes
from axiom_bench.data.layouts.packed import Entry, note_of, packed_table
from axiom_bench.data.layouts.table import Note, Table
from axiom_bench.kinds import Name

SUFFIX = ".tar"
LABEL, NOTE = ".cls", ".json"
MAX_NOTE = 2**24  # bytes of a .cls or .json
LAYOUT = (
    "WebDataset's layout, <key>.jpg (or .jpeg, .png, ...) with <key>.cls or <key>.json in "
    "uncompressed .tar files"
)


def webdataset(
    path: Paths,
    classes: Classes | None = None,
    label: Name = "label",
    boxes: Name = "boxes",
    name: Name = "webdataset",
) -> Table:
    """Return the images of tar shards.

    Ids are "<shard>/<member>", "val-000003/n01440764/000123.jpg". A damaged shard keeps the images
    before the damage, and is itself a bad image with the shard's name. A key with a .cls or .json
    and no image is a bad image, too.

    Args:
        path: The shards, see `files_named`.
        classes: The classes in the order of the numbers (a list or a file); None for the numbers.
        label: The key of the label in a .json, see `note_of`. A .cls counts before it.
        boxes: The key of the boxes in a .json, see `note_of`.
        name: The name of the data set.

    Raises:
        BenchError: If nothing can be read.
    """
    names = {} if classes is None else class_list(classes)
    index = index_of_classes(names)
    shards: dict[Path, Archive] = {}
    entries: dict[str, Entry] = {}
    for shard, file in files_named(path, SUFFIX).items():
        # A shard that was cut short keeps its first images, and counts as one bad image.
        shards[file], error = Archive.readable(file)
        entries |= _entries(shard, shards[file], (label, boxes), index)
        if error is not None:
            missing = (
                f"the shard is damaged or cut short ({reason_of(error)}); make or download it again"
            )
            entries[shard] = Entry(file, None, missing=missing)
    return packed_table(
        __name__, name, names, entries, partial(_content, shards), LAYOUT, "no member is an image"
    )


def _content(shards: Mapping[Path, Archive], entry: Entry) -> bytes:
    """Return the bytes of an image."""
    return shards[entry.file].read(entry.place)


def _entries(
    shard: str, archive: Archive, keys: tuple[str, str], index: ClassIndex
) -> Iterator[tuple[str, Entry]]:
    """Yield the image id and entry of each key of a shard that has an image, or a note of one."""
    members_by_key = defaultdict[str, list[tuple[str, str]]](list)
    for member in archive.members:
        # "a/b.seg.png" has the key "a/b" and the ending ".seg.png".
        folder, slash, name = member.rpartition("/")
        stem, dot, ending = name.partition(".")
        members_by_key[f"{folder}{slash}{stem}"].append((f"{dot}{ending}".lower(), member))
    if not members_by_key:
        return
    with open_regular(archive.path) as file:
        for key, members in members_by_key.items():
            images = [member for ending, member in members if ending in image_suffixes()]
            if not images and not {LABEL, NOTE} & {ending for ending, _ in members}:
                continue  # a README, or what belongs to no image
            note = _note(archive, file, dict(members), keys, index)
            if len(images) == 1:
                yield f"{shard}/{images[0]}", Entry(archive.path, images[0], note)
            else:
                number = len(images) or "no"
                names = ", ".join(member for _, member in members)
                missing = f"there are {number} images among {names}"
                yield f"{shard}/{key}", Entry(archive.path, None, note, missing)


def _note(
    archive: Archive,
    file: BinaryIO,
    members: Mapping[str, str],
    keys: tuple[str, str],
    index: ClassIndex,
) -> Note:
    """Return the note of a key's .cls and .json; a file that can't be read is a problem."""
    label = None
    boxes = None
    problems: list[str] = []
    if NOTE in members:
        try:
            content = json.loads(archive.read_from(file, members[NOTE], MAX_NOTE))
            label, boxes = (content.get(key) for key in keys)
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            problems.append(f"a .json that can't be read: {reason_of(error)}")
    if LABEL in members:
        try:
            label = archive.read_from(file, members[LABEL], MAX_NOTE).decode()
        except (OSError, ValueError) as error:
            problems.append(f"a .cls that can't be read: {reason_of(error)}")
    note = note_of(label, boxes, index)
    return replace(note, problems=(*problems, *note.problems))
