"""Tars of images, damaged as bytes and in their members: ImageNet's archives, and WebDataset's shards.

An archive of ImageNet is refused, or no image, label or box is lost or another one: a checksum covers all but the
content of an image in the tar, which may become a `bad_image` or other pixels.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hypothesis import note
from hypothesis import strategies as st
from scipy.io import savemat

from axiom_bench.data.layouts.imagenet import imagenet
from axiom_bench.data.layouts.tar_shards import TarShards
from tests.fuzzing.damage import damaged
from tests.fuzzing.loading import grey_jpegs, load, refuse
from tests.fuzzing.parquet import CLASSES, LABELS, check

IMAGES, BOXES, KIT = "ILSVRC2012_img_val.tar", "ILSVRC2012_bbox_val_v3.tgz", "ILSVRC2012_devkit_t12.tar.gz"
NAMES = tuple(f"ILSVRC2012_val_0000000{number}" for number in (1, 2, 3))
SYNSETS = ("n03", "n02", "n01")  # by the kit's number, from 1
TRUTH = (1, 3, 1)
CORNERS = {"xmin": 2, "ymin": 1, "xmax": 7, "ymax": 5}  # 0-based and inclusive, as the file has it
TYPES = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
STEMS = ("caf\udce9", "two\nlines", "x" * 300, "", "ILSVRC2012_val_00000000", "ILSVRC2012_val_-0000001", "v_99")
CHANGES = ("type", "climbing", "twice", "without", "renamed", "damaged inside", "nested")
NOTES = (
    b"{", b"[" * 50_000, b'{"label": NaN}', b'{"label": 1e400}', b'{"label": true, "boxes": {"box": 3}}', b"\xff\xfe",
    b'{"label": 1, "boxes": [[0, 0, Infinity, 3], [3, 3, 1, 1], [], null, "abcd", {"label": [1], "box": [1, 2]}]}',
    b'{"label": "b", "boxes": [{"label": "nobody", "box": [0, 0, 9, 9]}]}', b"null", b"7", b'"text"', b"",
)  # fmt: skip
Members = list[tuple[tarfile.TarInfo, bytes]]


def attempt_imagenet(draw: st.DrawFn, folder: Path) -> None:
    content, name = dict(_archives()), draw(st.sampled_from((IMAGES, IMAGES, BOXES, KIT)))
    how = draw(st.sampled_from(("bytes",) * 10 + CHANGES))
    note(f"{name}: {how}")
    if how == "bytes":
        content[name] = draw(damaged(content[name]))
    else:
        content[name] = _packed(draw(_changed(content[name], how)), compressed=name != IMAGES)
    for file, bytes_of_file in content.items():
        (folder / file).write_bytes(bytes_of_file)
    data = imagenet(folder)
    expected = {f"{stem}.JPEG": SYNSETS[number - 1] for stem, number in zip(NAMES, TRUTH, strict=True)}
    if how == "bytes" and not _is_cut_by_zeros(name, content[name]):
        renamed = name == IMAGES and set(data.ids) <= _names(content[name]) and len(data.ids) == len(expected)
        assert set(data.ids) == set(expected) or renamed, f"ids {data.ids}"
    assert data.ids, "no images"
    bad = load(data)
    for index, image_id in enumerate(data.ids):
        if image_id not in bad:
            sample = data.read(index)
            if how != "damaged inside":
                assert data.classes[sample.label or 0] == expected.get(image_id, "n03"), f"{image_id} is {sample.label}"
                assert sample.objects == ((sample.label, (2, 1, 8, 6)),) or sample.problems, f"boxes {sample.objects}"
            assert not (how == "bytes" and sample.problems and name != IMAGES), f"{sample.problems}"
    refuse(bad)


def attempt_shards(draw: st.DrawFn, folder: Path) -> None:
    """Two shards, one whole."""
    content, how = _shard(), draw(st.sampled_from(("bytes",) * 8 + (*CHANGES, "note")))
    (folder / "whole.tar").write_bytes(content)
    note(how)
    if how == "bytes":
        content = draw(damaged(content))
    elif how == "note":
        name = f"{draw(st.integers(0, 2))}.{draw(st.sampled_from(('json', 'cls')))}"
        others = [entry for entry in _members(content) if entry[0].name != name]
        content = _packed([*others, _member(name, draw(st.sampled_from(NOTES)))])
    else:
        content = _packed(draw(_changed(content, how)))
    (folder / "damaged.tar").write_bytes(content)
    check(TarShards(str(folder), list(CLASSES)), "whole")


def _names(content: bytes) -> set[str]:
    """Of the members as Python lists them: two bits that are flipped in a name may leave its header's checksum."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return set(archive.getnames())
    except tarfile.TarError:
        return set()


def _is_cut_by_zeros(name: str, content: bytes) -> bool:
    """Whether the end of the tar of images became zeros: nothing tells such a file from a shorter whole one."""
    return name == IMAGES and len(content.rstrip(b"\0")) < len(_archives()[IMAGES].rstrip(b"\0"))


@functools.cache
def _archives() -> Mapping[str, bytes]:
    box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in CORNERS.items())
    xml = "<annotation><object><name>{}</name><bndbox>{}</bndbox></object></annotation>"
    synsets, table = [SYNSETS[number - 1] for number in TRUTH], io.BytesIO()
    entries = [(number, synset, synset) for number, synset in enumerate(SYNSETS, start=1)]
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    savemat(table, {"synsets": np.array(entries, dtype=kinds)[:, None]})
    kit = {
        "readme.txt": b"about",
        "data/meta.mat": table.getvalue(),
        "data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{number}\n" for number in TRUTH).encode(),
    }
    images = zip(NAMES, grey_jpegs(), strict=True)
    boxes = zip(NAMES, synsets, strict=True)
    return {
        IMAGES: _packed([_member(f"{name}.JPEG", picture) for name, picture in images]),
        BOXES: _packed([_member(f"val/{name}.xml", xml.format(each, box).encode()) for name, each in boxes], True),
        KIT: _packed([_member(f"ILSVRC2012_devkit_t12/{name}", text) for name, text in kit.items()], True),
    }


@functools.cache
def _shard() -> bytes:
    members: Members = []
    for number, (picture, label) in enumerate(zip(grey_jpegs(), LABELS, strict=True)):
        about = {"cls": str(label)} if number else {"json": json.dumps({"label": label, "boxes": [[0, 0, 5, 5]]})}
        members.append(_member(f"{number}.jpg", picture))
        members += [_member(f"{number}.{ending}", text.encode()) for ending, text in about.items()]
    return _packed(members)


def _member(name: str, content: bytes) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def _members(content: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def _packed(members: Members, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0) if compressed else buffer.getvalue()


@st.composite
def _changed(draw: st.DrawFn, content: bytes, how: str) -> Members:
    """The members of a tar, one of them changed as one of CHANGES says."""
    members = _members(content)
    place = draw(st.integers(0, len(members) - 1))
    member, inside = members[place]
    if how == "twice":
        return [*members, members[place]]
    if how == "without":
        return [*members[:place], *members[place + 1 :]]
    if how == "nested":
        return [_member("inside.tar", _packed(members))]
    if how == "type":
        member.type, member.size, inside = draw(st.sampled_from(TYPES)), 0, b""
        member.linkname = draw(st.sampled_from(("/etc/passwd", members[0][0].name, "gone")))
    elif how == "climbing":
        member.name = draw(st.sampled_from(("../../", "/", "a/../b/", "./"))) + member.name
    elif how == "renamed":
        member.name = f"{draw(st.sampled_from(STEMS))}.{member.name.rpartition('.')[2]}"
    else:
        inside = draw(damaged(inside))
        member.size = len(inside)
    return [*members[:place], (member, inside), *members[place + 1 :]]
