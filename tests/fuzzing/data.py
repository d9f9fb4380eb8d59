"""Data sets that a stranger made: images, annotations (VOC's XML, COCO's JSON) and shards (tar,
Parquet).

One file is damaged next to an intact one. The possible problems of each format are listed in
tests/data. Every image has a row or a status, reading takes little memory, and intact images are
read unchanged.
"""

from __future__ import annotations

import io
import json
import re
import resource
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import note
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from axiom_bench.data.base import BACKGROUND, NO_VERDICT, BadImage, DataSet
from axiom_bench.data.formats.decoding import open_rgb
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError
from tests.fuzzing.damage import changed, damaged

PREPROCESSING = Preprocessing((8, 8), None, (0.5,) * 3, (0.5,) * 3)
MAX_GROWTH = 400 * 2**10  # kB of the process: a bomb would take gigabytes
ENDINGS = {
    "JPEG": "jpg",
    "PNG": "png",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tif",
    "WEBP": "webp",
    "PPM": "ppm",
}
WIDTH, HEIGHT = 12, 8
CLASSES = ("a", "b", "c", "d")
LABELS = (2, 0, 3)  # of shards


def attempt(draw: st.DrawFn, folder: Path) -> None:
    of_kind = draw(st.sampled_from((_images, _images, _voc, _coco, _shards)))
    note(of_kind.__name__)
    of_kind(draw, folder)


def load(data: DataSet, rule: str = "label") -> dict[str, BadImage]:
    """The bad images by id, after every image was found to have a row or a status, and the same
    fingerprint twice.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    items = list(batches(data, range(len(data)), PREPROCESSING, rule, 4))
    bad = {item.image_id: item for item in items if isinstance(item, BadImage)}
    good = [item for item in items if not isinstance(item, BadImage)]
    assert all(item.images.isfinite().all() for item in good), "values that aren't finite"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH, (
        "it took memory"
    )
    ids = [name for item in good for name in item.image_ids]
    with_rows = sorted(set(ids)) if rule == "each_label" else sorted(ids)
    assert sorted([*with_rows, *bad]) == sorted(data.ids), (
        "an image has no row and no status, or two"
    )
    for index in range(len(data)):
        assert data.fingerprint(index) == data.fingerprint(index)
        assert all(0 <= label < len(data.classes) for label in data.labels(index)), data.labels(
            index
        )
    return bad


def encoded(pixels: NDArray[Any], kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(
        buffer, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})
    )
    return buffer.getvalue()


def _read(kind: str, **settings: Any) -> DataSet:
    """The data set of a kind. Paths are given as texts."""
    texts = {
        key: str(value) if isinstance(value, Path) else value for key, value in settings.items()
    }
    return load_dataset({"kind": kind, **texts})


def _refuse(bad: dict[str, BadImage]) -> None:
    """Raise a BenchError, so that these sentences are checked as those of refusals."""
    if bad:
        raise BenchError(" ".join(map(str, bad.values()))[:500])


def _images(draw: st.DrawFn, folder: Path) -> None:
    """Check images that are intact, cut, or too large.

    An intact image is read as Pillow reads it. An image that is cut at any byte is read so too, or
    refused. A header of far too many pixels is refused.
    """
    kind = draw(st.sampled_from(sorted(ENDINGS)))
    seed = draw(st.integers(0, 2**32))
    size = (draw(st.integers(1, 24)), draw(st.integers(1, 24)), 3)
    intact = encoded(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8), kind)
    how = draw(st.sampled_from(("intact", "cut", "damaged", "damaged", "bomb")))
    note(f"{kind}, {how}")
    if how == "bomb":
        kind, content = draw(st.sampled_from(BOMBS))
    else:
        cut = draw(st.integers(0, len(intact) - 1))
        content = {"intact": intact, "cut": intact[:cut], "damaged": draw(damaged(intact))}[how]
    path = folder / "class" / f"x.{ENDINGS[kind]}"
    path.parent.mkdir()
    path.write_bytes(content)
    path.with_name("good.png").write_bytes(encoded(np.full((4, 4, 3), 7, np.uint8), "PNG"))
    data = _read("folder", root=folder)
    assert data.ids == ("class/good.png", f"class/{path.name}"), data.ids
    bad = load(data)
    assert set(bad) <= {f"class/{path.name}"}, "the good image beside it is lost"
    assert bad if how == "bomb" else not (bad and how == "intact"), bad
    _refuse(bad)
    if how != "damaged":
        expected = np.asarray(Image.open(io.BytesIO(intact)).convert("RGB")).astype(int)
        pixels = np.asarray(open_rgb(path, "again"))
        assert pixels.shape == expected.shape, f"{pixels.shape} pixels, not {expected.shape}"
        assert abs(pixels - expected).max() <= 1, "other pixels"


def _patched(kind: str, place: bytes, shift: int, sides: bytes) -> tuple[str, bytes]:
    """A file of 8 x 8 pixels with other sides in its header, `shift` bytes behind `place`."""
    content = encoded(np.zeros((8, 8, 3), np.uint8), kind)
    start = content.index(place) + shift
    return kind, content[:start] + sides + content[start + len(sides) :]


BOMBS = (
    _patched("JPEG", b"\xff\xc0", 5, struct.pack(">HH", 65_500, 65_500)),
    _patched("GIF", b"GIF8", 6, struct.pack("<HH", 65_535, 65_535)),
    _patched("GIF", b"\x2c", 5, struct.pack("<HH", 65_535, 65_535)),  # of one frame
    _patched("BMP", b"BM", 18, struct.pack("<ii", 100_000, 100_000)),
    ("PPM", b"P6\n100000 100000\n255\n" + bytes(99)),
)


def _voc(draw: st.DrawFn, folder: Path) -> None:
    """Damage the bytes of a VOC annotation, or replace a number, a name or a tag."""
    xml = (
        f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        "<object><name>car</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>2</ymin>"
        "<xmax>6</xmax><ymax>7</ymax></bndbox></object></annotation>"
    )
    parts = re.findall(r"[^<>]+", xml)
    texts = (
        st.text(max_size=20) | st.integers().map(str) | st.floats().map(str) | st.just("9" * 5000)
    )
    other = st.builds(
        lambda part, text: xml.replace(part, text, 1).encode(), st.sampled_from(parts), texts
    )
    mask = encoded(
        np.full((HEIGHT, WIDTH), draw(st.sampled_from((0, 7, 255, 254))), np.uint8), "PNG"
    )
    _write(folder, "JPEGImages/1.jpg", "JPEGImages/2.jpg")
    _write(folder, "Annotations/2.xml", content=xml.encode())
    _write(folder, "Annotations/1.xml", content=draw(other | damaged(xml.encode())))
    _write(folder, "SegmentationClass/1.png", content=draw(st.just(mask) | damaged(mask)))
    _write(folder, "ImageSets/Main/val.txt", content=b"1\n2\n")
    problems = _annotated(data := _read("voc", root=folder))
    intact = data.read(1)
    assert data.ids == ("1", "2")
    assert intact.objects == ((6, (1, 1, 6, 7)),), f"the intact image has {intact.objects}"
    assert not problems.get("2")
    if problems.get("1"):
        raise BenchError(problems["1"][0])


def _coco(draw: st.DrawFn, folder: Path) -> None:
    """Damage the bytes of a COCO annotation, or replace its entries."""
    inside = {"bbox": [1, 1, 5, 6], "segmentation": [[1, 1, 6, 1, 6, 7, 1, 7]], "iscrowd": 0}
    lengths = {"counts": [80, 16], "size": [HEIGHT, WIDTH]}
    crowd = {"bbox": [10, 0, 2, 8], "segmentation": lengths, "iscrowd": 1}
    images = []
    for number in (1, 2):
        size = {"width": WIDTH, "height": HEIGHT}
        images.append({"id": number, "file_name": f"{number}.png", **size})
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 3, **inside},
        {"id": 2, "image_id": 1, "category_id": 8, **crowd},
        {"id": 3, "image_id": 2, "category_id": 8, **inside},
    ]
    content = {
        "images": images,
        "categories": [{"id": 3, "name": "c3"}, {"id": 8, "name": "c8"}],
        "annotations": annotations,
    }
    _write(folder, "val2017/1.png", "val2017/2.png")
    text = draw(
        changed(content).map(lambda content: json.dumps(content).encode())
        | damaged(json.dumps(content).encode())
    )
    _write(folder, "annotations/instances_val2017.json", content=text)
    data = _read("coco", root=folder)
    assert len(data) == len(json.loads(text)["images"]), data.ids
    for problems in _annotated(data).values():
        if problems:
            raise BenchError(problems[0])


def _annotated(data: DataSet) -> dict[str, tuple[str, ...]]:
    """The problems of images that can be read; their objects lie in the image and are of classes
    that there are.
    """
    bad = load(data, "each_label")
    problems = {}
    for index, name in enumerate(data.ids):
        if name in bad:
            continue
        sample = data.read(index)
        for label, (x0, y0, x1, y1) in (*sample.objects, *sample.crowd):
            assert 0 <= label < len(data.classes)
            assert 0 <= x0 < x1 <= WIDTH, f"a box from x = {x0} to {x1}"
            assert 0 <= y0 < y1 <= HEIGHT, f"a box from y = {y0} to {y1}"
        if sample.mask is not None:
            assert sample.mask.shape == (HEIGHT, WIDTH)
            assert set(np.unique(sample.mask)) <= {
                BACKGROUND,
                NO_VERDICT,
                *range(len(data.classes)),
            }
        assert all(problem.isprintable() and len(problem) < 1000 for problem in sample.problems), (
            sample.problems
        )
        problems[name] = tuple(sample.problems)
    return problems


def _write(folder: Path, *names: str, content: bytes | None = None) -> None:
    """Write a file. Without a content, it is an image of one grey."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(
            content or encoded(np.full((HEIGHT, WIDTH, 3), 99, np.uint8), "PNG")
        )


def _shards(draw: st.DrawFn, folder: Path) -> None:
    """The images of the intact shard are all there. Of the other one each is as it was, or bad, or
    (where nothing in the file could tell) of other content.
    """
    kind = draw(st.sampled_from(("tar", "parquet")))
    pictures = [encoded(np.full((12, 16, 3), 80 * number, np.uint8), "JPEG") for number in range(3)]
    intact = (
        _tar(pictures)
        if kind == "tar"
        else _parquet(pictures, draw(st.sampled_from(("none", "snappy", "zstd"))))
    )
    (folder / f"intact.{kind}").write_bytes(intact)
    (folder / f"other.{kind}").write_bytes(draw(damaged(intact)))
    classes = list(CLASSES)
    data = _read("webdataset" if kind == "tar" else kind, path=folder, classes=classes)
    bad = load(data, "predicted")
    places = [index for index, image_id in enumerate(data.ids) if image_id.startswith("intact/")]
    assert [data.labels(index) for index in places] == [(label,) for label in LABELS], (
        "labels of the intact file"
    )
    for number, index in enumerate(places):
        assert data.ids[index] not in bad, f"refused: {bad[data.ids[index]]}"
        assert abs(np.asarray(data.read(index).image).astype(int) - 80 * number).max() <= 1, (
            "other pixels"
        )
    _refuse(bad)


def _tar(pictures: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, (picture, label) in enumerate(zip(pictures, LABELS, strict=True)):
            for ending, content in (("jpg", picture), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _parquet(pictures: list[bytes], compression: str) -> bytes:
    """Return a parquet file with page checksums, which tell damage from content."""
    images = pa.array(
        [{"bytes": picture, "path": f"{place}.jpg"} for place, picture in enumerate(pictures)]
    )
    table = pa.table({"image": images, "label": pa.array(LABELS, pa.int64())})
    buffer = io.BytesIO()
    pq.write_table(
        table, buffer, compression=compression, row_group_size=2, write_page_checksum=True
    )
    return buffer.getvalue()
