"""`tidy`: one file a shard, nothing lost, nothing dropped unasked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, claims, holdings, reading
from axiom_bench.records.tidy import tidy

from .conftest import SHARD, manifest_of

WriteFile = Callable[..., holdings.RecordFile]
FIRST = {"cam": {"zeta": "1", "pair": "2"}, "other": {"zeta": "3"}}
SECOND = {"cam": {"iou": "4"}, "other": {"pair": "6"}}
BOTH = {"cam": {"zeta": "1", "pair": "2", "iou": "4"}, "other": {"zeta": "3", "pair": "6"}}


def read(folder: Path) -> tuple[pd.DataFrame, list[dict]]:
    """The records and curves that the manifest counts, sorted."""
    run = reading.read_manifest(folder)
    rows = reading.read_records(folder, run).astype({"method": str, "metric": str})
    curves = [row for part in reading.read_curves(folder, run) for row in part.table.to_pylist()]
    by = ["method", "metric", "image_id"]
    return rows.sort_values(by, ignore_index=True)[[*by, "value", "status"]], sorted(curves, key=str)


def files_of(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*.parquet")}


@pytest.fixture
def run_folder(write_file: WriteFile, tmp_path: Path) -> Path:
    """Two shards of three files each, one of which the manifest doesn't count."""
    counted = []
    for shard in (SHARD, "1" * 32):
        counted += [write_file(FIRST, shard), write_file(SECOND, shard, seed=1)]
        write_file({"cam": {"old_metric": "7"}, "gone": {"zeta": "8"}}, shard)
    artefacts.write(tmp_path, manifest_of((counted, BOTH)))
    return tmp_path


def test_small_files_become_one_and_nothing_is_lost(run_folder: Path):
    before, curves = read(run_folder)
    lines = tidy(run_folder, drop=False)
    after, curves_after = read(run_folder)
    pd.testing.assert_frame_equal(after, before, check_exact=True)
    assert curves_after == curves
    held = holdings.read(run_folder)
    assert [len(files) for files in held.files.values()] == [1, 1]
    assert held.missing(SHARD, {**BOTH, "gone": {"zeta": "8"}}) == {}
    assert len(files_of(run_folder)) == 4  # two of records, two of curves
    assert lines[-1] == f"{run_folder}: 6 record files are now 2."
    assert any("not needed by the run: old_metric of cam (2" in line for line in lines)
    assert any("--drop" in line for line in lines)


def test_a_second_time_there_is_nothing_to_do(run_folder: Path):
    tidy(run_folder, drop=False)
    before = files_of(run_folder)
    assert tidy(run_folder, drop=False)[-1] == f"{run_folder}: no record files to merge."
    assert files_of(run_folder) == before


def test_what_the_run_doesnt_need_is_dropped_on_request_and_named(run_folder: Path):
    damaged = run_folder / "records" / f"{'a' * 32}-00000000.parquet"
    damaged.write_bytes(b"of a disk")
    before, _ = read(run_folder)
    assert tidy(run_folder, drop=False)
    assert damaged.exists()
    lines = tidy(run_folder, drop=True)
    after, _ = read(run_folder)
    pd.testing.assert_frame_equal(after, before, check_exact=True)
    assert not damaged.exists()
    held = holdings.read(run_folder)
    assert held.missing(SHARD, BOTH) == {}
    assert held.missing(SHARD, {"gone": {"zeta": "8"}}) == {"gone": {"zeta": "8"}}
    assert {line for line in lines if line.startswith("dropped")} == {
        "dropped: old_metric of cam (2 values of a shard)",
        "dropped: zeta of gone (2 values of a shard)",
        f"dropped: 1 files, damaged (records/{damaged.name})",
    }


def test_values_under_two_keys_stay_apart(write_file: WriteFile, tmp_path: Path):
    old, new = write_file({"cam": {"zeta": "old"}}), write_file({"cam": {"zeta": "new"}}, seed=1)
    artefacts.write(tmp_path, manifest_of(([new], {"cam": {"zeta": "new"}})))
    tidy(tmp_path, drop=False)
    assert files_of(tmp_path) == {old.name, new.name}
    tidy(tmp_path, drop=True)
    assert files_of(tmp_path) == {new.name}


def test_a_folder_in_use_is_refused(run_folder: Path):
    before = files_of(run_folder)
    with claims.running(run_folder), pytest.raises(BenchError, match="A run is using"):
        tidy(run_folder, drop=True)
    assert files_of(run_folder) == before


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(BenchError, match="no run folder"):
        tidy(tmp_path, drop=False)
