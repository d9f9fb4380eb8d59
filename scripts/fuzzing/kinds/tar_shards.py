"""WebDataset's shards: one whole, one damaged as bytes or in its members."""

from __future__ import annotations

import json
import tarfile
from random import Random

from axiom_bench.data.layouts.tar_shards import TarShards

from ..case import Case, Kind
from ..damage import damaged
from .archives import CHANGES, Members, members_of, packed
from .packed import CLASSES, LABELS, check, pictures


def attempt(case: Case) -> None:
    random, content = case.random, _shard()
    (case.folder / "whole.tar").write_bytes(content)
    if random.random() < 0.5:
        what, content = damaged(content, random)
    else:
        what, members = random.choice((*CHANGES, _odd_note))(members_of(content), random)
        content = packed(members, compressed=False)
    case.say(what)
    (case.folder / "damaged.tar").write_bytes(content)
    check(TarShards(str(case.folder), list(CLASSES)), "whole")


def _shard() -> bytes:
    members: Members = []
    for number, (picture, label) in enumerate(zip(pictures(), LABELS, strict=True)):
        note = json.dumps({"label": label, "boxes": [[0, 0, 5, 5]]})
        parts = {"jpg": picture, "cls": str(label).encode()} if number else {"jpg": picture, "json": note.encode()}
        members += [_member(f"{number}.{ending}", content) for ending, content in parts.items()]
    return packed(members, compressed=False)


def _member(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


ODD_NOTES = (
    b"{", b"[" * 50_000, b'{"label": NaN}', b'{"label": 1e400}', b'{"label": true, "boxes": {"box": 3}}', b"\xff\xfe",
    b'{"label": 1, "boxes": [[0, 0, Infinity, 3], [3, 3, 1, 1], [], null, "abcd", {"label": [1], "box": [1, 2]}]}',
    b'{"label": "b", "boxes": [{"label": "nobody", "box": [0, 0, 9, 9]}]}', b"null", b"7", b'"text"', b"",
)  # fmt: skip


def _odd_note(members: Members, random: Random) -> tuple[str, Members]:
    content, ending = random.choice(ODD_NOTES), random.choice(("json", "cls"))
    name = f"{random.randrange(3)}.{ending}"
    return f"{name} is {content[:40]!r}", [entry for entry in members if entry[0].name != name] + [
        _member(name, content)
    ]


KIND = Kind(attempt, share=40)
