"""What a run folder's record files hold, what is missing, and what is read of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import holdings, reading, store

from .conftest import SHARD, manifest_of

WriteFile = Callable[..., holdings.RecordFile]
TWO = {"cam": {"zeta": "1", "pair": "2"}, "other": {"zeta": "3"}}


def test_what_is_missing_is_what_no_file_holds(write_file: WriteFile, tmp_path: Path):
    write_file(TWO)
    held = holdings.read(tmp_path)
    assert held.missing(SHARD, TWO) == {}
    assert held.missing(SHARD, {"cam": {"zeta": "1", "iou": "4"}, "new": {"zeta": "5"}}) == {
        "cam": {"iou": "4"},
        "new": {"zeta": "5"},
    }
    assert held.missing(SHARD, {"cam": {"zeta": "another key"}}) == {"cam": {"zeta": "another key"}}
    assert held.missing("f" * 32, TWO) == TWO


def test_files_of_several_commands_add_up(write_file: WriteFile, tmp_path: Path):
    files = [write_file(TWO), write_file({"cam": {"iou": "4"}}), write_file({"cam": {"unused": "5"}})]
    wanted = {"cam": {"zeta": "1", "iou": "4"}}
    needed = holdings.read(tmp_path).needed(SHARD, wanted)
    assert {file.name for file in needed} == {file.name for file in files[:2]}
    table = reading.read_records(tmp_path, manifest_of((needed, wanted)))
    assert set(zip(table["method"], table["metric"], strict=True)) == {("cam", "zeta"), ("cam", "iou")}
    assert len(table) == 2 * 3


def test_a_value_under_another_key_isnt_read(write_file: WriteFile, tmp_path: Path):
    old, new = write_file({"cam": {"zeta": "old"}}, seed=1), write_file({"cam": {"zeta": "new", "iou": "4"}}, seed=2)
    wanted = {"cam": {"zeta": "new"}}
    table = reading.read_records(tmp_path, manifest_of(([old, new], wanted)))
    expected = store.read_table(tmp_path / new.name, store.SCHEMA).to_pandas()
    assert table["value"].tolist() == expected[expected["metric"] == "zeta"]["value"].tolist()


def test_a_value_that_two_files_hold_is_read_once(write_file: WriteFile, tmp_path: Path):
    files = [write_file(TWO), write_file(TWO)]
    assert len(reading.read_records(tmp_path, manifest_of((files, TWO)))) == (1 + 2 + 1) * 3
    two_jobs = manifest_of((files, TWO), (files, {"cam": {"zeta": "1"}}))
    assert len(reading.read_records(tmp_path, two_jobs)) == (1 + 2 + 1) * 3
    assert len(list(reading.read_curves(tmp_path, manifest_of((files, TWO))))) == 1


def test_curves_of_one_method_and_name(write_file: WriteFile, tmp_path: Path):
    values = {"cam": {"pair": "1"}, "other": {"pair": "2"}}
    manifest = manifest_of(([write_file(values)], values))
    (part,) = reading.read_curves(tmp_path, manifest, ["pair_curve"], method="other")
    assert (part.model, part.layer, part.data) == ("net", "last", "scenes")
    assert part.table["points"].to_pylist() == [[0.0, 0.5, 0.0], [0.0, 0.5, 1.0], [0.0, 0.5, 2.0]]
    assert not list(reading.read_curves(tmp_path, manifest, ["none"]))
    assert [len(part.table) for part in reading.read_curves(tmp_path, manifest)] == [6]


@pytest.mark.parametrize("which", ["records", "curves"])
@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
def test_a_damaged_file_counts_as_missing_and_is_named(write_file: WriteFile, tmp_path: Path, which: str, change: str):
    file, intact = write_file(TWO), write_file({"cam": {"iou": "4"}})
    path = tmp_path / (file.name if which == "records" else str(file.curve_file))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(bytes(content) if change == "flip" else bytes(content[:-20]))
    held = holdings.read(tmp_path)
    gone = (which, change) == ("records", "remove")
    assert held.damaged == (() if gone else (file.name,))
    assert held.missing(SHARD, TWO) == TWO
    assert held.missing(SHARD, intact.values) == {}
    with pytest.raises(BenchError, match=path.name):
        list(reading.read_curves(tmp_path, manifest_of(([file], TWO))))


def test_only_the_shards_asked_for_are_read(write_file: WriteFile, tmp_path: Path):
    write_file(TWO)
    write_file(TWO, shard="1" * 32)
    assert set(holdings.read(tmp_path, {"1" * 32}).files) == {"1" * 32}
