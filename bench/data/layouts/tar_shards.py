"""WebDataset's shards: tar files whose members of one key are one image's, <key>.jpg, <key>.cls and <key>.json.

A key is a member's path up to the first dot of its name, as WebDataset has it. Images are read from their places in the
tar; nothing is unpacked.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from axiom_bench.data.formats.archive import Archive
from axiom_bench.data.formats.decoding import suffixes
from axiom_bench.data.formats.files import Paths, files_named, open_regular, why
from axiom_bench.data.layouts.bases import Entry, Note, NotedImages
from axiom_bench.data.layouts.classes import Classes
from axiom_bench.kinds import Name

SUFFIX = ".tar"
LABEL, NOTE = ".cls", ".json"
MAX_NOTE = 2**24  # bytes of a .cls or .json
LAYOUT = "WebDataset's layout, <key>.jpg (or .jpeg, .png, ...) with <key>.cls or <key>.json in uncompressed .tar files"


class TarShards(NotedImages):
    """ids: "<shard>/<member>", "val-000003/n01440764/000123.jpg".

    path: see `files_named`. label, boxes: the keys of a .json that hold them, see `Note.of`; a .cls counts before the
    .json's label. classes: in the order of the numbers (a list or a file); None: the numbers. A shard that is damaged
    keeps the images before the damage, and is a bad image by its name; so is a key with a .cls or .json and no image.
    Raises BenchError where nothing can be read.
    """

    threads_may_read = True

    def __init__(
        self,
        path: Paths,
        classes: Classes | None = None,
        label: Name = "label",
        boxes: Name = "boxes",
        name: Name = "webdataset",
    ) -> None:
        self.name, self.keys, self.paths = name, (label, boxes), files_named(path, SUFFIX)
        self._name_classes(classes)
        self._shards: dict[str, Archive] = {}
        entries: dict[str, Entry] = {}
        for shard, file in self.paths.items():
            self._shards[shard], error = Archive.readable(file)
            entries |= self._entries(shard)
            if error is not None:
                missing = f"the shard is damaged or cut short ({why(error)}); make or download it again"
                entries[shard] = Entry(shard, None, missing=missing)
        self._take(entries, "no member is an image", LAYOUT)

    def at(self, entry: Entry) -> bytes:
        return self._shards[entry.file].read(entry.place)

    def _entries(self, shard: str) -> Iterator[tuple[str, Entry]]:
        """(image id, entry) of each key of a shard that has an image, or a note of one."""
        archive, keys = self._shards[shard], defaultdict[str, list[tuple[str, str]]](list)
        for member in archive.members:
            folder, slash, name = member.rpartition("/")
            stem, dot, ending = name.partition(".")  # "a/b.seg.png" is of the key "a/b", and ends in ".seg.png"
            keys[f"{folder}{slash}{stem}"].append((f"{dot}{ending}".lower(), member))
        if not keys:
            return
        with open_regular(archive.path) as file:
            for key, members in keys.items():
                images = [member for ending, member in members if ending in suffixes()]
                if not images and not {LABEL, NOTE} & {ending for ending, _ in members}:
                    continue  # a README, or what belongs to no image
                note = self._note(archive, file, dict(members))
                if len(images) == 1:
                    yield f"{shard}/{images[0]}", Entry(shard, images[0], note)
                else:
                    number, names = len(images) or "no", ", ".join(member for _, member in members)
                    yield f"{shard}/{key}", Entry(shard, None, note, f"there are {number} images among {names}")

    def _note(self, archive: Archive, file: BinaryIO, members: Mapping[str, str]) -> Note:
        """Of the .cls and the .json of a key; what can't be read is a problem."""
        label, boxes, problems = None, None, list[str]()
        if NOTE in members:
            try:
                content = json.loads(archive.read_from(file, members[NOTE], MAX_NOTE))
                label, boxes = (content.get(key) for key in self.keys)
            except (OSError, ValueError, AttributeError, RecursionError) as error:
                problems.append(f"a .json that can't be read: {why(error)}")
        if LABEL in members:
            try:
                label = archive.read_from(file, members[LABEL], MAX_NOTE).decode()
            except (OSError, ValueError) as error:
                problems.append(f"a .cls that can't be read: {why(error)}")
        note = Note.of(label, boxes, self._index)
        return Note(note.label, note.objects, (*problems, *note.problems))
