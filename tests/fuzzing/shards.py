"""Shards of images, tar and Parquet: one whole, one damaged as bytes.

The images of the whole file are all there with their pixels and labels. Of the other one each image is as it was, or
bad, or (where nothing in the file could tell) of other content.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import note
from hypothesis import strategies as st

from axiom_bench.data.base import DataSet
from axiom_bench.data.layouts.parquet_images import ParquetImages
from axiom_bench.data.layouts.tar_shards import TarShards
from tests.fuzzing.damage import damaged
from tests.fuzzing.loading import encoded, load, refuse

CLASSES, LABELS = ("a", "b", "c", "d"), (2, 0, 3)


def attempt(draw: st.DrawFn, folder: Path) -> None:
    kind = draw(st.sampled_from(("tar", "parquet")))
    note(kind)
    whole = _tar() if kind == "tar" else _parquet(draw)
    (folder / f"whole.{kind}").write_bytes(whole)
    (folder / f"damaged.{kind}").write_bytes(draw(damaged(whole)))
    classes = list(CLASSES)
    _check(TarShards(str(folder), classes) if kind == "tar" else ParquetImages(str(folder), classes=classes))


def _check(data: DataSet) -> None:
    bad = load(data, "predicted")
    intact = [index for index, image_id in enumerate(data.ids) if image_id.startswith("whole/")]
    assert [data.labels(index) for index in intact] == [(label,) for label in LABELS], "labels of the whole file"
    for number, index in enumerate(intact):
        assert data.ids[index] not in bad, f"refused: {bad[data.ids[index]]}"
        assert abs(np.asarray(data.read(index).image).astype(int) - 80 * number).max() <= 1, "other pixels"
    refuse(bad)


def _pictures() -> list[bytes]:
    """Three pictures of 16 x 12, each of one grey: 0, 80 and 160."""
    return [encoded(np.full((12, 16, 3), 80 * number, np.uint8), "JPEG") for number in range(3)]


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number, (picture, label) in enumerate(zip(_pictures(), LABELS, strict=True)):
            for ending, content in (("jpg", picture), ("cls", str(label).encode())):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _parquet(draw: st.DrawFn) -> bytes:
    """With page checksums, so that damage is told from content."""
    images = pa.array([{"bytes": picture, "path": f"{place}.jpg"} for place, picture in enumerate(_pictures())])
    table, buffer = pa.table({"image": images, "label": pa.array(LABELS, pa.int64())}), io.BytesIO()
    packing, rows = draw(st.sampled_from(("none", "snappy", "zstd"))), draw(st.sampled_from((1, 100)))
    pq.write_table(table, buffer, compression=packing, row_group_size=rows, write_page_checksum=True)
    return buffer.getvalue()
