"""The record files of a run folder: their values, the missing ones, and what is read of them."""

from axiom_bench.records import reading, record_files, store

from .conftest import SHARD, manifest_of

TWO = {"cam": {"zeta": "1", "pair": "2"}, "other": {"zeta": "3"}}


def test_what_is_missing_is_what_no_file_holds(write_file, tmp_path):
    write_file(TWO)
    held = record_files.read(tmp_path)
    wanted = {"cam": {"zeta": "1", "iou": "4"}, "new": {"zeta": "5"}}
    assert held.missing_values(SHARD, wanted) == {"cam": {"iou": "4"}, "new": {"zeta": "5"}}
    assert held.missing_values(SHARD, {"cam": {"zeta": "another key"}}) == {
        "cam": {"zeta": "another key"}
    }
    assert held.missing_values("f" * 32, TWO) == TWO
    assert held.missing_values(SHARD, TWO) == {}
    write_file(TWO, shard="1" * 32)
    assert set(record_files.read(tmp_path, {"1" * 32}).files) == {"1" * 32}


def test_files_of_several_commands_add_up(write_file, tmp_path):
    files = [
        write_file(TWO),
        write_file({"cam": {"iou": "4"}}),
        write_file({"cam": {"unused": "5"}}),
    ]
    wanted = {"cam": {"zeta": "1", "iou": "4"}}
    needed = record_files.read(tmp_path).files_for(SHARD, wanted)
    assert {file.name for file in needed} == {file.name for file in files[:2]}
    table = reading.read_records(tmp_path, manifest_of((needed, wanted)))
    assert set(zip(table["method"], table["metric"], strict=True)) == {
        ("cam", "zeta"),
        ("cam", "iou"),
    }
    assert len(table) == 2 * 3


def test_metadata_of_another_version_do_not_count(write_file, tmp_path):
    write_file(TWO, more={"beside": ["mine.cam"]})
    assert record_files.read(tmp_path).missing_values(SHARD, TWO) == {}


def test_values_under_two_keys_stay_apart(write_file, tmp_path):
    old = write_file({"cam": {"zeta": "old"}}, seed=1)
    new = write_file({"cam": {"zeta": "new", "iou": "4"}}, seed=2)
    manifest = manifest_of(([old, new], {"cam": {"zeta": "new"}}))
    table = reading.read_records(tmp_path, manifest)
    expected = store.read_table(tmp_path / new.name, store.SCHEMA).to_pandas()
    assert table["value"].tolist() == expected[expected["metric"] == "zeta"]["value"].tolist()


def test_a_value_that_two_files_hold_is_read_once(write_file, tmp_path):
    files = [write_file(TWO), write_file(TWO)]
    parts = [write_file({"cam": {metric: TWO["cam"][metric]}}) for metric in TWO["cam"]]
    for listed_files in (files, [*parts, *files]):
        records = reading.read_records(tmp_path, manifest_of((listed_files, TWO)))
        assert len(records) == (1 + 2 + 1) * 3
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


def test_a_file_under_the_name_of_another_shard_is_damaged(write_file, tmp_path):
    name = write_file(TWO).name
    other = name.replace(SHARD, "1" * 32)
    (tmp_path / name).rename(tmp_path / other)
    held = record_files.read(tmp_path)
    assert (held.files, held.damaged) == ({}, (other,))
