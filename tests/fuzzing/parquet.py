"""Parquet with image bytes: one file whole, one damaged as bytes or made with odd columns, rows or sizes.

The images of the whole file are all there with their pixels and labels. Of the other one each image is either as it
was, or bad, or (where nothing in the file could tell) of other content.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import note
from hypothesis import strategies as st

from axiom_bench.data.base import DataSet
from axiom_bench.data.layouts.parquet_images import ParquetImages
from tests.fuzzing.damage import damaged
from tests.fuzzing.loading import grey_jpegs, load, refuse

CLASSES, LABELS = ("a", "b", "c", "d"), (2, 0, 3)
CORNERS = pa.list_(pa.list_(pa.float64()))
IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
INFINITE, NAN = float("inf"), float("nan")
FOOTERS = ("{", "[]", "[" * 50_000, '{"info": {"features": {"label": {"_type": "ClassLabel", "names": 7}}}}')
JPEG = grey_jpegs()[0]
COLUMNS: dict[str, list[pa.Array]] = {
    "image": [
        pa.array([None] * 3, IMAGE),
        pa.array(["a"] * 3),
        pa.array([b"", b"", JPEG]),
        pa.array([JPEG, JPEG[:50], b"GIF89a"]),
        pa.array([{"path": "a"}] * 3),
        pa.DictionaryArray.from_arrays(pa.array([0] * 3, pa.int32()), pa.array([bytes(10**6)])),
    ],
    "label": [
        pa.array(["b", "nobody", None]),
        pa.array([2**63, 2**64 - 1, 0], pa.uint64()),
        pa.array([-1, -7, -(2**63)], pa.int64()),
        pa.array([1.0, NAN, 2.0]),
        pa.array([4, 0, 1]),  # beyond the classes
        pa.array(["x" * 10**6] * 3).dictionary_encode(),
    ],
    "boxes": [
        pa.array([[[0.0, 0.0, INFINITE, 1.0]], [[NAN] * 4], [[1.0]]], CORNERS),
        pa.array([[[5.0, 5.0, 1.0, 1.0]], [[None] * 4], [None]], CORNERS),
        pa.array([[[0.0, 0.0, 9.0, 9.0]] * 5000, [], []], CORNERS),
        pa.array([["a"], [], []]),
        pa.array([[{"label": 1, "box": [0.0, 0.0, 3.0, 3.0]}], [{"label": None, "box": None}], []]),
    ],
}


def attempt(draw: st.DrawFn, folder: Path) -> None:
    whole = _written(draw, _table())
    (folder / "whole.parquet").write_bytes(whole)
    content = draw(damaged(whole)) if draw(st.integers(0, 4)) < 3 else _written(draw, draw(_odd_table()))
    (folder / "damaged.parquet").write_bytes(content)
    check(ParquetImages(str(folder), boxes=draw(st.sampled_from((None, "boxes"))), classes=list(CLASSES)), "whole")


def check(data: DataSet, whole: str) -> None:
    """Asserts that every image has a row or a status, and that those of the file of this name are as they were.

    Raises BenchError where there are bad images.
    """
    bad = load(data, "predicted")
    intact = [index for index, image_id in enumerate(data.ids) if image_id.startswith(f"{whole}/")]
    assert [data.labels(index) for index in intact] == [(label,) for label in LABELS], "labels of the whole file"
    for number, index in enumerate(intact):
        assert data.ids[index] not in bad, f"refused: {bad[data.ids[index]]}"
        assert abs(np.asarray(data.read(index).image).astype(int) - 80 * number).max() <= 1, "other pixels"
    refuse(bad)


def _table() -> pa.Table:
    images = pa.array([{"bytes": picture, "path": f"{place}.jpg"} for place, picture in enumerate(grey_jpegs())])
    boxes = pa.array([[[0.0, 0.0, 5.0, 5.0]], [], None], CORNERS)
    return pa.table({"image": images, "label": pa.array(LABELS, pa.int64()), "boxes": boxes})


def _written(draw: st.DrawFn, table: pa.Table) -> bytes:
    """With page checksums, so that damage is told from content."""
    buffer = io.BytesIO()
    packing, rows = draw(st.sampled_from(("none", "snappy", "zstd", "gzip"))), draw(st.sampled_from((1, 2, 100)))
    pq.write_table(table, buffer, compression=packing, row_group_size=rows, write_page_checksum=True)
    return buffer.getvalue()


@st.composite
def _odd_table(draw: st.DrawFn) -> pa.Table:
    """Other images, labels or boxes, a column less or of another name, no rows, or a footer that isn't what it says."""
    table, how = _table(), draw(st.sampled_from((*COLUMNS, "without", "renamed", "no rows", "footer")))
    name = draw(st.sampled_from(table.schema.names))
    note(f"{how}, {name}")
    if how in COLUMNS:
        return table.set_column(table.schema.names.index(how), how, draw(st.sampled_from(COLUMNS[how])))
    if how == "without":
        return table.drop_columns([name])
    if how == "renamed":
        return table.rename_columns(["caf\u00e9\n" * 50 if each == name else each for each in table.schema.names])
    if how == "no rows":
        return table.slice(0, 0)
    return table.replace_schema_metadata({"huggingface": draw(st.sampled_from(FOOTERS))})
