"""Annotations: VOC's XML and COCO's JSON, damaged as bytes and in their structure, each beside an intact one.

An image keeps its row or has a status, boxes lie in the image, and VOC's intact image has its object as it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import note
from hypothesis import strategies as st
from PIL import Image

from axiom_bench.data.base import BACKGROUND, NO_VERDICT, DataSet, Sample
from axiom_bench.data.layouts.coco import Coco
from axiom_bench.data.layouts.voc import Voc
from axiom_bench.errors import BenchError
from tests.fuzzing.damage import changed, damaged
from tests.fuzzing.loading import encoded, load

WIDTH, HEIGHT = 12, 8
NUMBERS: dict[str, object] = {"xmin": 2, "ymin": 2, "xmax": 6, "ymax": 7, "width": WIDTH, "height": HEIGHT}
LAUGHS = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(1, 12))
ENTITIES = (
    f'<!DOCTYPE x [<!ENTITY a1 "lol">{LAUGHS}]>',
    '<!DOCTYPE x [<!ENTITY a12 SYSTEM "file:///etc/hostname">]>',
)
HEADS = (
    '<?xml version="1.0" encoding="no-such"?>',
    '<?xml version="1.0" encoding="utf-7"?>',
    '<?xml version="1.0" encoding="utf-16"?>',
    '<?xml version="9"?>',
    "<!-- -->",
    "\ufeff",
)
TEXTS = (
    "inf", "-inf", "nan", "", "1e400", "1" * 5000, "0x10", "1_0", "\u0661", "word", "-7", "99999", "&a12;", "&#0;",
    "5.5",
)  # fmt: skip
CORNERS = ((6, 2, 2, 7), (2, 7, 6, 2), (6, 7, 2, 2), (2, 2, 1, 7))  # swapped
LABELS = ("", "no such", "\x01", "\ud800", "x" * 100_000, "car\n", "Car", "<b/>")
PARTS = ("size", "object", "name", "bndbox", "xmin", "ymax", "width", "difficult")
LIST_LINES = (b"../1", b"/etc/hosts", b"caf\xe9", b"2", b"\0", b" ", b"x" * 300, b"*")
SIZE = {"size": [HEIGHT, WIDTH]}
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 7, 10**400, 1e308, float("nan"), float("inf"), "", "1", "\ud800", [], [[]], {}, [1, 2], [[1, 2]],
    [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[0, 0, 1e9, 0, 1e9, 1e9]], [[0, 0, float("nan"), 0, 3, 3]], [5, 1, -3, 4],
    {"counts": [96], **SIZE}, {"counts": [10, -3, 89], **SIZE}, {"counts": [2**40], **SIZE},
    {"counts": "o" * 50, **SIZE}, {"counts": "PPP0", "size": [10**6, 10**6]}, {"counts": "\u2603", **SIZE},
    "../../etc/passwd", "/etc/passwd", "a\0b.png", "1.png", "2.png", "*",
)  # fmt: skip


def attempt(draw: st.DrawFn, folder: Path) -> None:
    draw(st.sampled_from((_voc, _coco)))(draw, folder)


def _voc(draw: st.DrawFn, folder: Path) -> None:
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    _images(folder / "JPEGImages", "jpg")
    for name in "12":
        (folder / f"Annotations/{name}.xml").write_text(_xml())
    lines = [b"1", b"2"]
    what = draw(st.sampled_from(("bytes", "structure", "structure", "mask", "list")))
    if what == "bytes":
        (folder / "Annotations/1.xml").write_bytes(draw(damaged(_xml().encode())))
    elif what == "structure":
        (folder / "Annotations/1.xml").write_bytes(draw(_odd_xml()).encode("utf-8", "surrogatepass"))
    elif what == "mask":
        _write_mask(draw, folder / "SegmentationClass/1.png")
    else:
        lines.append(draw(st.sampled_from(LIST_LINES)))
    (folder / "ImageSets/Main/val.txt").write_bytes(b"\n".join(lines) + b"\n")
    data = Voc(folder)
    samples = _read(data)
    if what != "list":
        assert data.ids == ("1", "2")
        assert samples["2"].objects == ((6, (1, 1, 6, 7)),), f"the intact image has {samples['2'].objects}"
        assert not samples["2"].problems
    if "1" in samples and samples["1"].problems:
        raise BenchError(samples["1"].problems[0])


def _coco(draw: st.DrawFn, folder: Path) -> None:
    for name in ("val2017", "annotations"):
        (folder / name).mkdir()
    _images(folder / "val2017", "png")
    how = draw(st.sampled_from(("bytes",) * 4 + ("nested",) + ("changed",) * 5))
    if how == "bytes":
        text = draw(damaged(json.dumps(_json()).encode()))
    elif how == "changed":
        text = json.dumps(draw(changed(_json(), VALUES))).encode()
    else:
        text = draw(_nested())
    (folder / "annotations/instances_val2017.json").write_bytes(text)
    data = Coco(folder)
    assert len(data) == len(json.loads(text)["images"]), data.ids
    for sample in _read(data).values():
        if sample.problems:
            raise BenchError(sample.problems[0])


def _images(folder: Path, ending: str) -> None:
    for name in "12":
        (folder / f"{name}.{ending}").write_bytes(encoded(np.full((HEIGHT, WIDTH, 3), 99, np.uint8), "PNG"))


def _read(data: DataSet) -> dict[str, Sample]:
    """The samples that can be read, their objects inside the image and of classes that there are."""
    bad = load(data, "each_label")
    samples = {name: data.read(index) for index, name in enumerate(data.ids) if name not in bad}
    for sample in samples.values():
        for label, (x0, y0, x1, y1) in (*sample.objects, *sample.crowd):
            assert 0 <= label < len(data.classes)
            assert 0 <= x0 < x1 <= WIDTH, f"a box from x = {x0} to {x1}"
            assert 0 <= y0 < y1 <= HEIGHT, f"a box from y = {y0} to {y1}"
        if sample.mask is not None:
            assert sample.mask.shape == (HEIGHT, WIDTH)
            assert set(np.unique(sample.mask)) <= {BACKGROUND, NO_VERDICT, *range(len(data.classes))}
        assert all(problem.isprintable() and len(problem) < 1000 for problem in sample.problems), sample.problems
    return samples


def _xml(label: str = "car", **numbers: object) -> str:
    tags = {name: f"<{name}>{value}</{name}>" for name, value in {**NUMBERS, **numbers}.items()}
    *corners, width, height = tags.values()
    return (
        f"<annotation><size>{width}{height}<depth>3</depth></size><object><name>{label}</name>"
        f"<difficult>0</difficult><bndbox>{''.join(corners)}</bndbox></object></annotation>"
    )


@st.composite
def _odd_xml(draw: st.DrawFn) -> str:
    """Another number, class or head, swapped corners, a part less, or depth."""
    what = draw(st.sampled_from(("number", "number", "corners", "head", "entity", "without", "deep", "class")))
    note(what)
    if what == "number":
        text = draw(st.sampled_from(TEXTS))
        head = draw(st.sampled_from(ENTITIES)) if text == "&a12;" else ""
        return head + _xml(**{draw(st.sampled_from(sorted(NUMBERS))): text})
    if what == "corners":
        return _xml(**dict(zip(NUMBERS, draw(st.sampled_from(CORNERS)), strict=False)))
    if what == "head":
        return draw(st.sampled_from(HEADS)) + _xml()
    if what == "entity":
        return draw(st.sampled_from(ENTITIES)) + _xml("&a12;")
    if what == "without":
        before, _, rest = _xml().partition(f"<{(part := draw(st.sampled_from(PARTS)))}>")
        return before + rest.partition(f"</{part}>")[2]
    if what == "deep":
        depth = draw(st.sampled_from((500, 5000, 20_000)))
        return "<annotation>" + "<part>" * depth + "</part>" * depth + "</annotation>"
    return _xml(draw(st.sampled_from(LABELS)))


def _write_mask(draw: st.DrawFn, path: Path) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[1:7, 1:6] = draw(st.sampled_from((7, 7, 21, 255, 254)))
    Image.fromarray(values.reshape(draw(st.sampled_from(((HEIGHT, WIDTH), (WIDTH, HEIGHT)))))).save(path)
    if draw(st.booleans()):
        path.write_bytes(draw(damaged(path.read_bytes())))


def _json() -> dict[str, Any]:
    images = [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in (1, 2)]
    inside = {"bbox": [1, 1, 5, 6], "segmentation": [[1, 1, 6, 1, 6, 7, 1, 7]], "iscrowd": 0}
    crowd = {"bbox": [10, 0, 2, 8], "segmentation": {"counts": [80, 16], **SIZE}, "iscrowd": 1}
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 3, **inside},
        {"id": 2, "image_id": 1, "category_id": 8, **crowd},
        {"id": 3, "image_id": 2, "category_id": 8, **inside},
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": n, "name": f"c{n}"} for n in (3, 8)]}


@st.composite
def _nested(draw: st.DrawFn) -> bytes:
    """Lists in lists, around the depths at which parsers give up."""
    depth, content = draw(st.sampled_from((50, 800, 900, 950, 2000, 100_000))), _json()
    content["annotations"][0][draw(st.sampled_from(("segmentation", "bbox", "category_id", "other", "id")))] = "DEEP"
    return json.dumps(content).replace('"DEEP"', "[" * depth + "]" * depth).encode()
