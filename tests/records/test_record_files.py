"""What a run folder's record files hold, what is missing, what is read of them; and `tidy`: nothing is lost."""

import pandas as pd
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, reading, record_files, running, store
from axiom_bench.records.tidy import tidy

from .conftest import SHARD, manifest_of

TWO = {"cam": {"zeta": "1", "pair": "2"}, "other": {"zeta": "3"}}
SECOND = {"cam": {"iou": "4"}, "other": {"pair": "6"}}
BOTH = {method: TWO[method] | SECOND[method] for method in TWO}


def test_what_is_missing_is_what_no_file_holds(write_file, tmp_path):
    write_file(TWO)
    held = record_files.read(tmp_path)
    wanted = {"cam": {"zeta": "1", "iou": "4"}, "new": {"zeta": "5"}}
    assert held.missing(SHARD, wanted) == {"cam": {"iou": "4"}, "new": {"zeta": "5"}}
    assert held.missing(SHARD, {"cam": {"zeta": "another key"}}) == {"cam": {"zeta": "another key"}}
    assert held.missing("f" * 32, TWO) == TWO
    assert held.missing(SHARD, TWO) == {}
    write_file(TWO, shard="1" * 32)
    assert set(record_files.read(tmp_path, {"1" * 32}).files) == {"1" * 32}


def test_files_of_several_commands_add_up(write_file, tmp_path):
    files = [write_file(TWO), write_file({"cam": {"iou": "4"}}), write_file({"cam": {"unused": "5"}})]
    wanted = {"cam": {"zeta": "1", "iou": "4"}}
    needed = record_files.read(tmp_path).needed(SHARD, wanted)
    assert {file.name for file in needed} == {file.name for file in files[:2]}
    table = reading.read_records(tmp_path, manifest_of((needed, wanted)))
    assert set(zip(table["method"], table["metric"], strict=True)) == {("cam", "zeta"), ("cam", "iou")}
    assert len(table) == 2 * 3


def test_values_under_two_keys_stay_apart(write_file, tmp_path):
    old, new = write_file({"cam": {"zeta": "old"}}, seed=1), write_file({"cam": {"zeta": "new", "iou": "4"}}, seed=2)
    manifest = manifest_of(([old, new], {"cam": {"zeta": "new"}}))
    table = reading.read_records(tmp_path, manifest)
    expected = store.read_table(tmp_path / new.name, store.SCHEMA).to_pandas()
    assert table["value"].tolist() == expected[expected["metric"] == "zeta"]["value"].tolist()
    artefacts.write(tmp_path, manifest_of(([new], new.values)))
    tidy(tmp_path, drop=False)
    assert files_of(tmp_path) == {old.name, new.name}
    tidy(tmp_path, drop=True)
    assert files_of(tmp_path) == {new.name}


def test_a_value_that_two_files_hold_is_read_once(write_file, tmp_path):
    files = [write_file(TWO), write_file(TWO)]
    parts = [write_file({"cam": {metric: TWO["cam"][metric]}}) for metric in TWO["cam"]]
    for held in (files, [*parts, *files]):
        assert len(reading.read_records(tmp_path, manifest_of((held, TWO)))) == (1 + 2 + 1) * 3
    two_jobs = manifest_of((files, TWO), (files, {"cam": {"zeta": "1"}}))
    assert len(reading.read_records(tmp_path, two_jobs)) == (1 + 2 + 1) * 3
    assert len(list(reading.read_curves(tmp_path, manifest_of((files, TWO))))) == 1


def test_curves_of_one_method_and_name(write_file, tmp_path):
    values = {"cam": {"pair": "1"}, "other": {"pair": "2"}}
    manifest = manifest_of(([write_file(values)], values))
    (part,) = reading.read_curves(tmp_path, manifest, ["pair_curve"], method="other")
    assert (part.model, part.layer, part.data) == ("net", "last", "scenes")
    assert part.table["points"].to_pylist() == [[0.0, 0.5, 0.0], [0.0, 0.5, 1.0], [0.0, 0.5, 2.0]]
    assert not list(reading.read_curves(tmp_path, manifest, ["none"]))
    assert [len(part.table) for part in reading.read_curves(tmp_path, manifest)] == [6]


@pytest.mark.parametrize("which", ["records", "curves"])
@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
def test_a_damaged_file_counts_as_missing_and_is_named(write_file, tmp_path, which, change):
    file, intact = write_file(TWO), write_file({"cam": {"iou": "4"}})
    path = tmp_path / (file.name if which == "records" else str(file.curve_file))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(bytes(content) if change == "flip" else bytes(content[:-20]))
    held = record_files.read(tmp_path)
    gone = (which, change) == ("records", "remove")
    assert held.damaged == (() if gone else (path.relative_to(tmp_path).as_posix(),))
    assert held.missing(SHARD, TWO) == TWO
    assert held.missing(SHARD, intact.values) == {}
    with pytest.raises(BenchError, match=path.name):
        list(reading.read_curves(tmp_path, manifest_of(([file], TWO))))


def read(folder):
    """The records and curves that the manifest counts, sorted."""
    run = reading.read_manifest(folder)
    rows = reading.read_records(folder, run).astype({"method": str, "metric": str})
    curves = [row for part in reading.read_curves(folder, run) for row in part.table.to_pylist()]
    by = ["method", "metric", "image_id"]
    return rows.sort_values(by, ignore_index=True)[[*by, "value", "status"]], sorted(curves, key=str)


def files_of(folder):
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*.parquet")}


@pytest.fixture
def run_folder(write_file, tmp_path):
    """Two shards of three files each, one of which the manifest doesn't count."""
    counted = []
    for shard in (SHARD, "1" * 32):
        counted += [write_file(TWO, shard), write_file(SECOND, shard, seed=1)]
        write_file({"cam": {"old_metric": "7"}, "gone": {"zeta": "8"}}, shard)
    artefacts.write(tmp_path, manifest_of((counted, BOTH)))
    return tmp_path


def test_small_files_become_one_and_nothing_is_lost(run_folder):
    before, curves = read(run_folder)
    lines = tidy(run_folder, drop=False)
    after, curves_after = read(run_folder)
    pd.testing.assert_frame_equal(after, before, check_exact=True)
    assert curves_after == curves
    held = record_files.read(run_folder)
    assert [len(files) for files in held.files.values()] == [1, 1]
    assert held.missing(SHARD, {**BOTH, "gone": {"zeta": "8"}}) == {}
    assert len(files_of(run_folder)) == 4  # two of records, two of curves
    assert lines[-1] == f"{run_folder}: 6 record files are now 2."
    assert any("not needed by the run: old_metric of cam (2" in line for line in lines)
    assert any("--drop" in line for line in lines)
    before = files_of(run_folder)
    assert tidy(run_folder, drop=False)[-1] == f"{run_folder}: no record files to merge."
    assert files_of(run_folder) == before


def test_what_was_computed_beside_a_plug_in_is_dropped_on_request(write_file, tmp_path):
    touched, clean = write_file(TWO, beside=("my.cam", "my.iou")), write_file(SECOND)
    artefacts.write(tmp_path, manifest_of(([touched, clean], BOTH)))
    with pytest.raises(
        BenchError, match=r"No value of .* was computed beside 'my\.ca'; some were beside my\.cam, my\.iou"
    ):
        tidy(tmp_path, drop=True, beside="my.ca")
    assert "--drop removes what isn't needed." in tidy(tmp_path, drop=False, beside="my.cam")
    (merged,) = record_files.read(tmp_path).files[SHARD]
    assert (merged.beside, merged.values) == (["my.cam", "my.iou"], BOTH)
    write_file({"cam": {"new": "9"}})
    lines = tidy(tmp_path, drop=True, beside="my.cam")
    assert any(line.startswith("dropped: zeta of cam, other (2 values") for line in lines)
    assert record_files.read(tmp_path).files == {}
    assert reading.read_manifest(tmp_path)["records"] == []


def test_what_the_run_doesnt_need_is_dropped_on_request_and_named(run_folder):
    damaged = run_folder / "records" / f"{'a' * 32}-00000000.parquet"
    damaged.write_bytes(b"of a disk")
    before, _ = read(run_folder)
    assert tidy(run_folder, drop=False)
    assert damaged.exists()
    lines = tidy(run_folder, drop=True)
    after, _ = read(run_folder)
    pd.testing.assert_frame_equal(after, before, check_exact=True)
    assert not damaged.exists()
    held = record_files.read(run_folder)
    assert held.missing(SHARD, BOTH) == {}
    assert held.missing(SHARD, {"gone": {"zeta": "8"}}) == {"gone": {"zeta": "8"}}
    assert {line for line in lines if line.startswith("dropped")} == {
        "dropped: old_metric of cam (2 values of a shard)",
        "dropped: zeta of gone (2 values of a shard)",
        f"dropped: 1 files, damaged (records/{damaged.name})",
    }


@pytest.mark.slow
def test_a_folder_in_use_and_one_that_is_no_run_are_refused(run_folder):
    before = files_of(run_folder)
    with running.held(run_folder), pytest.raises(BenchError, match="is in use"):
        tidy(run_folder, drop=True)
    assert files_of(run_folder) == before
    with pytest.raises(BenchError, match="no run folder"):
        tidy(run_folder / "records", drop=False)
