"""Tests of plain files, JSON, tables and arrays.

They check obstacles, leftovers, and that no flipped bit silently changes the content.
"""

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.notes import DamagedFile
from axiom_bench.records import files, store

CONTENT = {
    "experiment": "quick",
    "n": 3,
    "values": [0.25, 1e-5, float("nan")],
    "ids": {"caf\udce9.jpg": None},
}


def test_a_file_takes_the_place_of_whatever_is_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "elsewhere").write_text("kept")
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("empty", "full", "pipe", "link"):
        files.write(tmp_path / name, b"new")
        assert files.read(tmp_path / name) == b"new"
    assert (tmp_path / "elsewhere").read_text() == "kept"
    (aside,) = tmp_path.glob("full.set-aside-*")
    assert (aside / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk is full; free some space"),
        (errno.EACCES, "permission denied; allow writing there"),
        (errno.EROFS, "read-only file system; allow writing there"),
    ],
)
def test_what_cannot_be_written_is_as_before_and_the_reason_is_said(
    tmp_path, monkeypatch, number, sentence
):
    (tmp_path / "a").write_bytes(b"before")
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(BenchError, match=f"to {tmp_path}: {sentence}"):
        files.write(tmp_path / "a", b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]  # the draft is gone


def test_what_is_no_file_isnt_read(tmp_path):
    """Reading a pipe would wait without end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(OSError, match="a folder, a pipe or a device"):
            files.read(path)


KILLED = """
import os, signal, sys
from pathlib import Path
from axiom_bench.records import files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write(Path(sys.argv[1]), b"half")
"""


def test_only_drafts_of_dead_processes_are_swept(tmp_path):
    (tmp_path / "records").mkdir()
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "records/a.parquet")], check=False)
    (killed,) = (tmp_path / "records").iterdir()
    mine = killed.with_name(
        killed.name.replace(f"-{killed.name.split('-')[-2]}-", f"-{os.getpid()}-")
    )
    elsewhere = killed.with_name(killed.name.replace(files.machine_digits(), "0" * 8))
    a_users = tmp_path / ".notes.tmp"
    for path in (mine, elsewhere, a_users):
        path.write_bytes(b"")
    files.sweep(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {mine, elsewhere, a_users}


def test_json_comes_back(tmp_path):
    file = tmp_path / "a.json"
    files.write_json(file, CONTENT)
    assert repr(files.read_json(file)) == repr(CONTENT)
    files.write_json(file, json.loads(file.read_text()))  # with the old checksum in it
    assert repr(files.read_json(file)) == repr(CONTENT)
    raw = file.read_bytes()
    for bit in range(8 * len(raw)):
        assert not files.is_intact("a.json", flipped(raw, bit)), bit
    file.rename(tmp_path / "b.json")
    with pytest.raises(ValueError, match="its checksum doesn't match"):
        files.read_json(tmp_path / "b.json")


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"a": ' * 100_000, b"\xff", b"{} {}"]
)
def test_what_is_no_mapping_is_refused(raw):
    with pytest.raises(ValueError, match=r"."):
        files.parse_mapping(raw)


def test_damage_is_told_and_absence_is_not(tmp_path):
    assert files.read_json_or_none(tmp_path / "none.json") is None
    assert not store.is_usable(tmp_path / "runtime/none.parquet")
    (tmp_path / "old.json").write_text("{}")
    for path in (tmp_path, tmp_path / "old.json"):
        with pytest.warns(DamagedFile, match=path.name):
            assert files.read_json_or_none(path) is None


def flipped(content, bit):
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def table():
    text = {
        name: [name] * 40
        for name in ("experiment", "model", "layer", "data", "image_id", "method", "metric")
    }
    numbers = {
        "target_class": 3,
        "predicted_class": [2, -1] * 20,
        "value": np.random.default_rng(0).random(40),
    }
    return pd.DataFrame({**text, **numbers, "status": "ok"})


def read(*paths):
    return store.to_frame([store.read_table(path, store.SCHEMA) for path in paths], store.SCHEMA)


def test_records_come_back_with_their_types(tmp_path, table):
    table.loc[1, ["value", "status"]] = [np.nan, "bad_image"]
    store.write(
        tmp_path / "one.parquet", table, metadata={"shard": "abc", "values": {"cam": {"zeta": "1"}}}
    )
    rows = read(*2 * [tmp_path / "one.parquet"])
    assert list(rows.columns) == store.SCHEMA.names
    assert len(rows) == 80
    assert rows["value"].tolist()[0] == table["value"][0]
    assert rows["value"].isna().tolist()[:3] == [False, True, False]
    assert rows["target_class"].tolist()[:2] == [3, 3]
    content = files.content_of(tmp_path / "one.parquet")
    assert store.metadata_of(content) == {"shard": "abc", "values": {"cam": {"zeta": "1"}}}
    assert store.metadata_of(b"no Parquet") is None


def test_a_record_file_holds_its_metadata_once():
    """The metadata of a run with all methods and metrics is larger than its values."""
    keys = {"values": {str(number): "k" * 32 for number in range(500)}}
    size = len(store.to_bytes(pd.DataFrame({"a": [1.0]}), None, keys))
    assert size < len(json.dumps(keys)) + 2_000


def test_pages_have_checksums_too(tmp_path, table):
    """Other programs verify these. A flipped bit in the middle of the column of values is an error
    of Arrow's own.
    """
    path = tmp_path / "one.parquet"
    store.write(path, table)
    column = pq.read_metadata(path).row_group(0).column(store.SCHEMA.names.index("value"))
    first = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
    path.write_bytes(flipped(path.read_bytes(), 8 * (first + column.total_compressed_size // 2)))
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_a_small_file_of_many_rows_is_refused_before_they_are_read(tmp_path, monkeypatch):
    """A million equal values are some hundred bytes of a file, and any number of them a few
    more.
    """
    monkeypatch.setattr(store, "MAX_UNPACKED", 2**20)
    store.write(
        tmp_path / "a.parquet", pa.table({"value": np.zeros(1_000_000, np.int32)}), schema=None
    )
    monkeypatch.setattr(store.pq, "read_table", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(BenchError, match=r"it would unpack from [\d,]+ to [\d,]+ bytes"):
        store.read_table(tmp_path / "a.parquet")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    store.write_arrays(path, {"a": np.zeros(200_000)})
    assert path.stat().st_size < 10_000
    assert len(store.read_arrays(path)["a"]) == 200_000
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**17,)}
    )
    with ZipFile(tmp_path / "claims.npz", "w", ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(80))
    with pytest.raises(files.Damaged, match="can't be read"):
        store.read_arrays(tmp_path / "claims.npz")
    monkeypatch.setattr(store, "MAX_UNPACKED", 2**20)
    with pytest.raises(files.Damaged, match=r"it would unpack to 1,600,128 bytes"):
        store.read_arrays(path)
