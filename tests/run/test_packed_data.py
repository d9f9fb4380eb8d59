"""A run on tar shards and on Parquet: the values of the same images in a folder, and a row for what is damaged."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

SETTINGS = (
    "data.workers=0",
    "data.size=null",
    "metric=[confidence_drop]",
    "data.target=predicted",
    "runtime.repeats=0",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images in each form; of a second tar and a second Parquet file only the beginning."""
    contents = []
    for number in range(4):
        path = tmp_path / f"folder/class/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        contents.append(path.read_bytes())
    for kind in ("webdataset", "parquet"):
        (tmp_path / kind).mkdir()
    with tarfile.open(tmp_path / "webdataset/a.tar", "w") as tar:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    table = {"image": pa.array(contents), "label": [0] * 4}
    pq.write_table(pa.table(table), tmp_path / "parquet/a.parquet")
    for name in ("webdataset/{}.tar", "parquet/{}.parquet"):
        whole = (tmp_path / name.format("a")).read_bytes()
        (tmp_path / name.format("b")).write_bytes(whole[:200])
    return tmp_path


def test_values_equal_those_of_a_folder_and_damage_has_a_row(root: Path, run: Callable, rows: Callable) -> None:
    of_folder = rows(run("data=folder", f"data.root={root / 'folder'}", "data.classes=null", *SETTINGS))
    for kind in ("webdataset", "parquet"):
        packed = rows(run(f"data={kind}", f"data.path={root / kind}", *SETTINGS))
        bad = packed[packed.status == "bad_image"]
        assert set(bad.image_id) == {"b"}
        good = packed.drop(bad.index).reset_index(drop=True)
        assert len(good) == len(of_folder) > 0
        same = [name for name in good if name not in ("image_id", "data")]
        pd.testing.assert_frame_equal(good[same], of_folder[same], check_exact=True)
