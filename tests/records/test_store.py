"""Parquet files: their types, and that no flipped bit gives other numbers quietly."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import files, sealed, store


@pytest.fixture
def table() -> pd.DataFrame:
    text = {name: [name] * 40 for name in ("experiment", "model", "layer", "data", "image_id", "method", "metric")}
    numbers = {"target_class": 3, "predicted_class": [2, -1] * 20, "value": np.random.default_rng(0).random(40)}
    return pd.DataFrame({**text, **numbers, "status": "ok"})


def test_records_come_back_with_their_types(tmp_path: Path, table: pd.DataFrame):
    table.loc[1, ["value", "status"]] = [np.nan, "bad_image"]
    store.write(tmp_path / "one.parquet", table)
    rows = read(*2 * [tmp_path / "one.parquet"])
    assert list(rows.columns) == store.SCHEMA.names
    assert len(rows) == 80
    assert rows["value"].tolist()[0] == table["value"][0]
    assert rows["value"].isna().tolist()[:3] == [False, True, False]
    assert rows["target_class"].tolist()[:2] == [3, 3]


def test_what_a_file_holds_is_in_its_metadata(tmp_path: Path, table: pd.DataFrame):
    store.write(tmp_path / "one.parquet", table, metadata={"shard": "abc", "values": {"cam": {"zeta": "1"}}})
    content = sealed.content_of(tmp_path / "one.parquet")
    assert store.metadata_of(content) == {"shard": "abc", "values": {"cam": {"zeta": "1"}}}
    assert store.metadata_of(b"no Parquet") is None


def test_pages_have_checksums_too(tmp_path: Path, table: pd.DataFrame):
    """Other programs verify these: a flipped bit in a page of values is an error of Arrow's own."""
    store.write(tmp_path / "one.parquet", table)
    flip_a_bit_of_the_values(tmp_path / "one.parquet")
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(tmp_path / "one.parquet", page_checksum_verification=True)


def test_a_file_without_a_checksum_is_refused(tmp_path: Path, table: pd.DataFrame):
    """As another program writes it."""
    pq.write_table(pa.Table.from_pandas(table, store.SCHEMA, preserve_index=False), tmp_path / "other.parquet")
    with pytest.raises(BenchError, match=r"other\.parquet can't be read: it has no checksum"):
        store.read_table(tmp_path / "other.parquet")


def read(*paths: Path) -> pd.DataFrame:
    return store.to_frame([store.read_table(path, store.SCHEMA) for path in paths], store.SCHEMA)


def flip_a_bit_of_the_values(path: Path) -> None:
    """In the middle of the column `value`."""
    content = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(store.SCHEMA.names.index("value"))
    first = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
    content[first + column.total_compressed_size // 2] ^= 1
    path.write_bytes(bytes(content))


def test_no_flipped_bit_gives_other_numbers(tmp_path: Path, table: pd.DataFrame):
    """320 bits all over the file: each is found, and the file named, or the numbers are those that were written."""
    path = tmp_path / "one.parquet"
    store.write(path, table, metadata={"shard": "abc"})
    content, expected = path.read_bytes(), read(path)
    generator, detected = random.Random(0), 0
    for _ in range(320):
        bit = generator.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(flipped))
        try:
            pd.testing.assert_frame_equal(read(path), expected, check_exact=True)
            assert store.metadata_of(sealed.content_of(path)) == {"shard": "abc"}
        except BenchError as error:
            assert str(path) in str(error)  # noqa: PT017 - either way is right
            detected += 1
        with pytest.raises(sealed.Damaged):
            sealed.content_of(path)
    assert detected > 300


@pytest.mark.parametrize("content", [b"PAR1", b"", b"PAR1" + b"\0" * 100])
def test_what_is_no_parquet_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "broken.parquet").write_bytes(content)
    with pytest.raises(BenchError, match=r"broken\.parquet can't be read"):
        read(tmp_path / "broken.parquet")
    assert not store.is_usable(tmp_path / "missing.parquet", ())  # in silence
    with pytest.warns(files.DamagedFile, match=r"broken\.parquet"):
        assert not store.is_usable(tmp_path / "broken.parquet", ())


def test_a_small_file_of_many_rows_is_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A million equal values are some hundred bytes of a file, and any number of them a few more."""
    monkeypatch.setattr(store, "MAX_UNPACKED", 2**20)
    store.write(tmp_path / "a.parquet", pa.table({"value": np.zeros(1_000_000, np.int32)}), schema=None)
    monkeypatch.setattr(store.pq, "read_table", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(BenchError, match=r"it would unpack from [\d,]+ to [\d,]+ bytes"):
        store.read_table(tmp_path / "a.parquet")
