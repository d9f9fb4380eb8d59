"""Parquet with image bytes: one file whole, one damaged as bytes or made with odd columns, rows or sizes."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from axiom_bench.data.layouts.parquet_images import ParquetImages

from ..case import Case, Kind
from ..damage import damaged
from .packed import CLASSES, LABELS, check, pictures

BOXES = pa.array([[[0.0, 0.0, 5.0, 5.0]], [], None], pa.list_(pa.list_(pa.float64())))


def attempt(case: Case) -> None:
    random = case.random
    whole = _written(_table(), random)
    (case.folder / "whole.parquet").write_bytes(whole)
    if random.random() < 0.6:
        what, content = damaged(whole, random)
    else:
        what, table = random.choice(CHANGES)(_table(), random)
        content = _written(table, random)
    case.say(what)
    (case.folder / "damaged.parquet").write_bytes(content)
    check(ParquetImages(str(case.folder), boxes=random.choice((None, "boxes")), classes=list(CLASSES)), "whole")


def _table() -> pa.Table:
    images = pa.array([{"bytes": picture, "path": f"{place}.jpg"} for place, picture in enumerate(pictures())])
    return pa.table({"image": images, "label": pa.array(LABELS, pa.int64()), "boxes": BOXES})


def _written(table: pa.Table, random: Random) -> bytes:
    """With page checksums, so that damage is told from content."""
    buffer = io.BytesIO()
    packing = random.choice(("none", "snappy", "zstd", "gzip"))
    rows = random.choice((1, 2, 100))
    pq.write_table(table, buffer, compression=packing, row_group_size=rows, write_page_checksum=True)
    return buffer.getvalue()


def _with(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.schema.names.index(name), name, values)


def _other_images(table: pa.Table, random: Random) -> tuple[str, pa.Table]:
    one = pictures()[0]
    choices = {
        "none": pa.array([None] * 3, table.schema.field("image").type),
        "texts": pa.array(["a"] * 3),
        "empty bytes": pa.array([b"", b"", one]),
        "bytes": pa.array([one, one[:50], b"GIF89a"]),
        "a struct without bytes": pa.array([{"path": "a"}] * 3),
        "one value for all": pa.DictionaryArray.from_arrays(pa.array([0] * 3, pa.int32()), pa.array([bytes(10**6)])),
    }
    name = random.choice(sorted(choices))
    return f"images are {name}", _with(table, "image", choices[name])


def _other_labels(table: pa.Table, random: Random) -> tuple[str, pa.Table]:
    choices = {
        "names": pa.array(["b", "nobody", None]),
        "huge": pa.array([2**63, 2**64 - 1, 0], pa.uint64()),
        "below 0": pa.array([-1, -7, -(2**63)], pa.int64()),
        "floats": pa.array([1.0, float("nan"), 2.0]),
        "beyond the classes": pa.array([4, 0, 1]),
        "texts of a megabyte": pa.array(["x" * 10**6] * 3).dictionary_encode(),
    }
    name = random.choice(sorted(choices))
    return f"labels are {name}", _with(table, "label", choices[name])


def _other_boxes(table: pa.Table, random: Random) -> tuple[str, pa.Table]:
    infinite, corner = float("inf"), pa.list_(pa.list_(pa.float64()))
    choices = {
        "not finite": pa.array([[[0.0, 0.0, infinite, 1.0]], [[float("nan")] * 4], [[1.0]]], corner),
        "swapped": pa.array([[[5.0, 5.0, 1.0, 1.0]], [[None] * 4], [None]], corner),
        "many": pa.array([[[0.0, 0.0, 9.0, 9.0]] * 5000, [], []], corner),
        "texts": pa.array([["a"], [], []]),
        "structs": pa.array([[{"label": 1, "box": [0.0, 0.0, 3.0, 3.0]}], [{"label": None, "box": None}], []]),
    }
    name = random.choice(sorted(choices))
    return f"boxes are {name}", _with(table, "boxes", choices[name])


def _other_columns(table: pa.Table, random: Random) -> tuple[str, pa.Table]:
    name = random.choice(table.schema.names)
    if random.random() < 0.5:
        return f"without {name}", table.drop_columns([name])
    return f"{name} is called otherwise", table.rename_columns(
        ["caf\u00e9\n" * 50 if each == name else each for each in table.schema.names]
    )


def _no_rows(table: pa.Table, random: Random) -> tuple[str, pa.Table]:
    return "no rows", table.slice(0, 0)


def _odd_footer(table: pa.Table, random: Random) -> tuple[str, pa.Table]:
    text = random.choice(
        ("{", "[]", "[" * 50_000, '{"info": {"features": {"label": {"_type": "ClassLabel", "names": 7}}}}')
    )
    return f"its footer has {text[:60]}", table.replace_schema_metadata({"huggingface": text})


CHANGES: tuple[Callable[[pa.Table, Random], tuple[str, pa.Table]], ...] = (
    _other_images, _other_labels, _other_boxes, _other_columns, _no_rows, _odd_footer,
)  # fmt: skip
KIND = Kind(attempt, share=40)
