"""Annotations: VOC's XML and COCO's JSON, damaged as bytes and in their structure, each beside an intact one.

An image keeps its row or has a status, boxes lie in the image, and the intact image's objects are as they were.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from axiom_bench.data.base import BadImage, DataSet, Sample
from axiom_bench.data.batch import BACKGROUND, NO_VERDICT
from axiom_bench.data.layouts.coco import Coco
from axiom_bench.data.layouts.voc import Voc
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError

from ..case import Case, Kind
from ..damage import damaged

WIDTH, HEIGHT = 12, 8
PREPROCESSING = Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)
CORNERS = ("xmin", "ymin", "xmax", "ymax")
LAUGHS = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(1, 12))
HEADS = (
    f'<!DOCTYPE x [<!ENTITY a1 "lol">{LAUGHS}]>',
    '<!DOCTYPE x [<!ENTITY a12 SYSTEM "file:///etc/hostname">]>',
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
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 7, 10**400, 1e308, float("nan"), float("inf"), "", "1", "\ud800", [], [[]], {}, [1, 2], [[1, 2]],
    [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[0, 0, 1e9, 0, 1e9, 1e9]], [[0, 0, float("nan"), 0, 3, 3]], [5, 1, -3, 4],
    {"counts": [96], "size": [HEIGHT, WIDTH]}, {"counts": [10, -3, 89], "size": [HEIGHT, WIDTH]},
    {"counts": [2**40], "size": [HEIGHT, WIDTH]}, {"counts": "o" * 50, "size": [HEIGHT, WIDTH]},
    {"counts": "PPP0", "size": [10**6, 10**6]}, {"counts": "\u2603", "size": [HEIGHT, WIDTH]},
    "../../etc/passwd", "/etc/passwd", "a\0b.png", "1.png", "2.png", "*",
)  # fmt: skip


def attempt(case: Case) -> None:
    case.random.choice((_voc, _coco))(case)


def _voc(case: Case) -> None:
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main"):
        (case.folder / folder).mkdir(parents=True)
    (case.folder / "ImageSets/Main/val.txt").write_text("1\n2\n")
    for name in "12":
        (case.folder / f"JPEGImages/{name}.jpg").write_bytes(_picture())
        (case.folder / f"Annotations/{name}.xml").write_text(_xml())
    change = case.random.choice((_xml_bytes, _xml_structure, _xml_structure, _mask_file, _list_file))
    change(case)
    data = Voc(case.folder)
    samples = _read(data)
    if change is not _list_file:
        assert data.ids == ("1", "2")
        _check_intact(samples["2"], 6, (1, 1, 6, 7))
    if samples.get("1") and samples["1"].problems:
        raise BenchError(samples["1"].problems[0])


def _coco(case: Case) -> None:
    for folder in ("val2017", "annotations"):
        (case.folder / folder).mkdir()
    for name in "12":
        (case.folder / f"val2017/{name}.png").write_bytes(_picture())
    content = _json()
    if case.random.random() < 0.4:
        what, damage = damaged(json.dumps(content).encode(), case.random)
        case.say(f"JSON, {what}")
    elif case.random.random() < 0.1:
        damage = _nested(content, case)
    else:
        what = _changed(content, case.random)
        case.say(what)
        damage = json.dumps(content).encode()
    (case.folder / "annotations/instances_val2017.json").write_bytes(damage)
    data = Coco(case.folder)
    names = [entry["file_name"] for entry in json.loads(damage)["images"]]
    assert len(data) == len(names), f"{data.ids} of {names}"
    samples = _read(data)
    problems = [problem for sample in samples.values() for problem in sample.problems]
    if problems:
        raise BenchError(problems[0])


def _read(data: DataSet) -> dict[str, Sample]:
    """The samples that can be read, after every image was found to have a row or a status, and boxes inside it."""
    samples: dict[str, Sample] = {}
    bad = set()
    for index, image_id in enumerate(data.ids):
        assert data.fingerprint(index) == data.fingerprint(index)
        assert all(0 <= label < len(data.classes) for label in data.labels(index))
        try:
            samples[image_id] = data.read(index)
        except BadImage:
            bad.add(image_id)
            continue
        _check(samples[image_id], len(data.classes))
    seen = set()
    for item in batches(data, range(len(data)), PREPROCESSING, "each_label", 4):
        seen |= {item.image_id} if isinstance(item, BadImage) else set(item.image_ids)
    assert seen == set(data.ids) >= bad, "an image has no row and no status"
    return samples


def _check(sample: Sample, classes: int) -> None:
    for label, (x0, y0, x1, y1) in (*sample.objects, *sample.crowd):
        assert 0 <= label < classes
        assert 0 <= x0 < x1 <= WIDTH, f"a box from x = {x0} to {x1}"
        assert 0 <= y0 < y1 <= HEIGHT, f"a box from y = {y0} to {y1}"
    if sample.mask is not None:
        assert sample.mask.shape == (HEIGHT, WIDTH)
        assert set(np.unique(sample.mask)) <= {BACKGROUND, NO_VERDICT, *range(classes)}
    assert all(problem.isprintable() and len(problem) < 1000 for problem in sample.problems), sample.problems


def _check_intact(sample: Sample, label: int, box: tuple[float, ...]) -> None:
    assert sample.objects == ((label, box),), f"the intact image has {sample.objects}"
    assert not sample.problems


@functools.cache
def _picture() -> bytes:
    from .pictures import encoded

    return encoded(np.full((HEIGHT, WIDTH, 3), 99, np.uint8), "PNG")


def _xml(label: str = "car", box: tuple[object, ...] = (2, 2, 6, 7), size: tuple[object, ...] = (WIDTH, HEIGHT)) -> str:
    corners = "".join(f"<{name}>{value}</{name}>" for name, value in zip(CORNERS, box, strict=True))
    return (
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
        f"<object><name>{label}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object></annotation>"
    )


def _xml_bytes(case: Case) -> None:
    what, content = damaged(_xml().encode(), case.random)
    case.say(f"XML, {what}")
    (case.folder / "Annotations/1.xml").write_bytes(content)


def _xml_structure(case: Case) -> None:
    what, content = case.random.choice(STRUCTURES)(case.random)
    case.say(what)
    path = case.folder / "Annotations/1.xml"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))


def _a_number(random: Random) -> tuple[str, str]:
    place, text = random.randrange(6), random.choice(TEXTS)
    numbers: list[object] = [2, 2, 6, 7, WIDTH, HEIGHT]
    numbers[place] = text
    head = random.choice(HEADS[:2]) if text == "&a12;" else ""
    return f"number {place} is {text[:20]!r}", head + _xml("car", tuple(numbers[:4]), tuple(numbers[4:]))


def _swapped(random: Random) -> tuple[str, str]:
    box = random.choice(((6, 2, 2, 7), (2, 7, 6, 2), (6, 7, 2, 2), (2, 2, 1, 7)))
    return f"swapped corners {box}", _xml("car", box)


def _a_head(random: Random) -> tuple[str, str]:
    head = random.choice(HEADS)
    return f"begins with {head[:50]!r}", head + _xml("&a12;" if "a12" in head or "a1 " in head else "car")


def _without(random: Random) -> tuple[str, str]:
    name = random.choice(("size", "object", "name", "bndbox", "xmin", "ymax", "width", "difficult"))
    text = _xml()
    start, end = text.index(f"<{name}>"), text.index(f"</{name}>") + len(name) + 3
    return f"without {name}", text[:start] + text[end:]


def _deep(random: Random) -> tuple[str, str]:
    depth = random.choice((500, 5000, 20_000))
    return f"{depth} deep", "<annotation>" + "<part>" * depth + "</part>" * depth + "</annotation>"


def _class_name(random: Random) -> tuple[str, str]:
    label = random.choice(("", "no such", "\x01", "\ud800", "x" * 100_000, "car\n", "Car", "<b/>"))
    return f"class {label[:20]!r}", _xml(label)


STRUCTURES: tuple[Callable[[Random], tuple[str, str]], ...] = (
    _a_number, _a_number, _swapped, _a_head, _without, _deep, _class_name,
)  # fmt: skip


def _mask_file(case: Case) -> None:
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[1:7, 1:6] = case.random.choice((7, 7, 21, 255, 254))
    shape = case.random.choice(((HEIGHT, WIDTH), (HEIGHT, WIDTH), (WIDTH, HEIGHT)))
    path = case.folder / "SegmentationClass/1.png"
    Image.fromarray(values.reshape(shape)).save(path)
    if case.random.random() < 0.5:
        what, content = damaged(path.read_bytes(), case.random)
        path.write_bytes(content)
        case.say(f"mask, {what}")


def _list_file(case: Case) -> None:
    lines = [b"1", b"2", case.random.choice((b"../1", b"/etc/hosts", b"caf\xe9", b"2", b"\0", b" ", b"x" * 300, b"*"))]
    case.say(f"a list with {lines[2][:20]!r}")
    (case.folder / "ImageSets/Main/val.txt").write_bytes(b"\n".join(lines) + b"\n")


def _json() -> dict[str, Any]:
    images = [{"id": n, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n in (1, 2)]
    polygon = [[1, 1, 6, 1, 6, 7, 1, 7]]
    crowd = {"counts": [80, 16], "size": [HEIGHT, WIDTH]}
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 6], "segmentation": polygon, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 8, "bbox": [10, 0, 2, 8], "segmentation": crowd, "iscrowd": 1},
        {"id": 3, "image_id": 2, "category_id": 8, "bbox": [1, 1, 5, 6], "segmentation": polygon, "iscrowd": 0},
    ]
    return {"images": images, "annotations": annotations, "categories": [{"id": n, "name": f"c{n}"} for n in (3, 8)]}


def _changed(content: Any, random: Random) -> str:
    """A value anywhere in it replaced or removed, or an entry doubled."""
    path: list[str] = []
    while True:
        keys = sorted(content) if isinstance(content, dict) else range(len(content))
        key = random.choice(list(keys))
        path.append(str(key))
        if not isinstance(content[key], dict | list) or not content[key] or random.random() < 0.2:
            break
        content = content[key]
    where, what = "/".join(path), random.choice(("replaced", "replaced", "replaced", "removed", "doubled"))
    if what == "removed":
        del content[key]
    elif what == "doubled" and isinstance(content, list):
        content.append(content[key])
    else:
        content[key] = value = random.choice(VALUES)
        what = f"is {str(value)[:40]!r}"
    return f"{where} {what}"


def _nested(content: dict[str, Any], case: Case) -> bytes:
    depth = case.random.choice((50, 800, 900, 950, 2000, 100_000))
    place = case.random.choice(("segmentation", "bbox", "category_id", "other", "id"))
    case.say(f"{place} is {depth} deep")
    content["annotations"][0][place] = "DEEP"
    return json.dumps(content).replace('"DEEP"', "[" * depth + "]" * depth).encode()


KIND = Kind(attempt, share=140)
