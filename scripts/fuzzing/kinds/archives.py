"""ImageNet's tar, its boxes' tgz and its devkit, damaged as bytes and in their members.

Either the data set is refused, or no image, label or box is lost or another one: a checksum covers all but the content
of an image in the tar, which may become a `bad_image` or other pixels.
"""

from __future__ import annotations

import functools
import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import numpy as np
from scipy.io import savemat

from axiom_bench.data.base import BadImage
from axiom_bench.data.layouts.imagenet import imagenet
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError

from ..case import Case, Kind
from ..damage import damaged
from .pictures import encoded

IMAGES, BOXES, KIT = "ILSVRC2012_img_val.tar", "ILSVRC2012_bbox_val_v3.tgz", "ILSVRC2012_devkit_t12.tar.gz"
NAMES = tuple(f"ILSVRC2012_val_0000000{number}" for number in (1, 2, 3))
SYNSETS = ("n03", "n02", "n01")  # by the kit's number, from 1
TRUTH = (1, 3, 1)
OBJECT = (2, 1, 7, 5)  # 0-based and inclusive, as the file has it
PREPROCESSING = Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)
Members = list[tuple[tarfile.TarInfo, bytes]]


def attempt(case: Case) -> None:
    random = case.random
    name = random.choice((IMAGES, IMAGES, BOXES, KIT))
    content = {IMAGES: _images(), BOXES: _boxes(), KIT: _kit()}
    by_bytes = random.random() < 0.6
    if by_bytes:
        what, content[name] = damaged(content[name], random)
    else:
        what, members = random.choice(CHANGES)(members_of(content[name]), random)
        content[name] = packed(members, name != IMAGES)
    case.say(f"{name}: {what}")
    for file, bytes_of_file in content.items():
        (case.folder / file).write_bytes(bytes_of_file)
    data = imagenet(case.folder)
    expected = {f"{stem}.JPEG": SYNSETS[number - 1] for stem, number in zip(NAMES, TRUTH, strict=True)}
    if by_bytes and not _is_cut_by_zeros(name, content[name]):
        assert set(data.ids) == set(expected), f"ids {data.ids}"
    assert data.ids, "no images"
    bad = {item.image_id for item in batches(data, range(len(data)), PREPROCESSING) if isinstance(item, BadImage)}
    for index, image_id in enumerate(data.ids):
        assert data.fingerprint(index) == data.fingerprint(index)
        if image_id not in bad:
            sample = data.read(index)
            if "inside" not in what:
                assert data.classes[sample.label or 0] == expected.get(image_id, "n03"), f"{image_id} is {sample.label}"
                assert sample.objects == ((sample.label, (2, 1, 8, 6)),) or sample.problems, f"boxes {sample.objects}"
            assert not (by_bytes and sample.problems and name != IMAGES), f"{sample.problems}"
    if bad:
        raise BenchError(f"bad images: {', '.join(sorted(bad))}.")


def _is_cut_by_zeros(name: str, content: bytes) -> bool:
    """Whether the end of the tar of images became zeros: nothing tells such a file from a shorter whole one."""
    return name == IMAGES and len(content.rstrip(b"\0")) < len(_images().rstrip(b"\0"))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@contextmanager
def _tar(compressed: bool) -> Iterator[tuple[tarfile.TarFile, io.BytesIO]]:
    buffer, plain = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        yield tar, buffer
    buffer.write(gzip.compress(plain.getvalue(), mtime=0) if compressed else plain.getvalue())


@functools.cache
def _images() -> bytes:
    with _tar(compressed=False) as (tar, buffer):
        for number, name in enumerate(NAMES):
            _add(tar, f"{name}.JPEG", encoded(np.full((12, 16, 3), 80 * number, np.uint8), "JPEG"))
    return buffer.getvalue()


@functools.cache
def _boxes() -> bytes:
    with _tar(compressed=True) as (tar, buffer):
        for name, number in zip(NAMES, TRUTH, strict=True):
            corners = zip(("xmin", "ymin", "xmax", "ymax"), OBJECT, strict=True)
            box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners)
            label = f"<name>{SYNSETS[number - 1]}</name>"
            text = f"<annotation><object>{label}<bndbox>{box}</bndbox></object></annotation>"
            _add(tar, f"val/{name}.xml", text.encode())
    return buffer.getvalue()


@functools.cache
def _kit() -> bytes:
    table = io.BytesIO()
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    entries = [(number, synset, synset) for number, synset in enumerate(SYNSETS, start=1)]
    savemat(table, {"synsets": np.array(entries, dtype=kinds)[:, None]})
    numbers = "".join(f"{number}\n" for number in TRUTH)
    with _tar(compressed=True) as (tar, buffer):
        _add(tar, "ILSVRC2012_devkit_t12/readme.txt", b"about")
        _add(tar, "ILSVRC2012_devkit_t12/data/meta.mat", table.getvalue())
        _add(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", numbers.encode())
    return buffer.getvalue()


def members_of(content: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def packed(members: Members, compressed: bool) -> bytes:
    with _tar(compressed) as (tar, buffer):
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


Change = Callable[[Members, Random], tuple[str, Members]]


def _of_another_type(members: Members, random: Random) -> tuple[str, Members]:
    kind = random.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE))
    member, _ = random.choice(members)
    member.type, member.size, member.linkname = kind, 0, random.choice(("/etc/passwd", members[0][0].name, "gone"))
    return f"{member.name} is of type {kind!r}", [(entry, content[: entry.size]) for entry, content in members]


def _climbing(members: Members, random: Random) -> tuple[str, Members]:
    member, _ = random.choice(members)
    member.name = random.choice(("../../", "/", "a/../b/", "./")) + member.name
    return f"is called {member.name}", members


def _twice(members: Members, random: Random) -> tuple[str, Members]:
    return "a member twice", [*members, random.choice(members)]


def _without(members: Members, random: Random) -> tuple[str, Members]:
    gone = random.randrange(len(members))
    return f"without {members[gone][0].name}", [*members[:gone], *members[gone + 1 :]]


def _renamed(members: Members, random: Random) -> tuple[str, Members]:
    member, _ = random.choice(members)
    ending = member.name.rpartition(".")[2]
    stems = ("caf\udce9", "two\nlines", "x" * 300, "", "ILSVRC2012_val_00000000", "ILSVRC2012_val_-0000001", "v_99")
    member.name = f"{random.choice(stems)}.{ending}"
    return f"is called {member.name[:40]!r}", members


def _with_damaged_content(members: Members, random: Random) -> tuple[str, Members]:
    place = random.randrange(len(members))
    member, content = members[place]
    what, content = damaged(content, random)
    member.size = len(content)
    members[place] = (member, content)
    return f"{member.name} inside, {what}", members


def _nested(members: Members, random: Random) -> tuple[str, Members]:
    inside = tarfile.TarInfo("inside.tar")
    content = packed(members, compressed=False)
    inside.size = len(content)
    return "a tar in the tar", [(inside, content)]


CHANGES: tuple[Change, ...] = (
    _of_another_type, _climbing, _twice, _without, _renamed, _with_damaged_content, _nested,
)  # fmt: skip
KIND = Kind(attempt, share=60)
