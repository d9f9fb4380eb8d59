"""A run before its end: what its folder says, from complete record files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import claims, files, holdings, reading, running, store

JOB = "net at last on scenes"
SHARDS = {"a" * 32: 4, "b" * 32: 4, "c" * 32: 2}
VALUES = {"grad_cam": {"drop": "key of drop", "error": "key of error"}}
COMMAND = {
    "experiment": "quick",
    "run": "default",
    "overrides": ["model=net"],
    "jobs": 3,
    "config": {"target": "label"},
}


def job(name: str = JOB, created: str = "2026-01-01T00:00:00", **more: Any) -> dict[str, Any]:
    return {
        **{"experiment": "quick", "run": "default", "created": created, "config": {"target": "label"}},
        **{"methods": {"grad_cam": {}}, "metrics": {"drop": {}, "error": {}}, "data": {"scenes": {"ids": ["x"]}}},
        "models": {name.partition(" ")[0]: {"layer": "last", "images": {}, "depths": {}}},
        **{"device": "cpu", "precision": {"trunk": "fp32"}, "axes": {}, "seconds": {}, "work": {}},
        **{key: [] for key in ("records", "curves", "whole_set", "runtime", "pictures", "gallery")},
        "jobs": [{"job": name, "images": 10, "values": VALUES, "records": []}],
        **more,
    }


def write(folder: Path, shard: str, metrics: tuple[str, ...] = ("drop", "error")) -> str:
    rows = pd.DataFrame(
        {
            **{"experiment": "quick", "model": "net", "layer": "last", "data": "scenes", "image_id": ["x", "y"]},
            **{"target_class": 1, "predicted_class": 1, "method": "grad_cam", "metric": metrics[0], "value": 0.5},
            "status": "ok",
        }
    )[store.SCHEMA.names]
    values = {"grad_cam": {metric: f"key of {metric}" for metric in metrics}}
    notes = {"names": {metric: [metric] for metric in metrics}, "curves": {}, "axes": {}}
    return holdings.write(folder, shard, values, rows, pd.DataFrame(), notes).name


def test_another_command_that_ends_meanwhile_stops_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `end` comes between two steps of writing."""
    sync, ended = files._sync_folder, []

    def ends_first(folder: Path) -> None:
        if not ended:
            ended.append(running.end(tmp_path))
        sync(folder)

    monkeypatch.setattr(files, "_sync_folder", ends_first)
    running.begin(tmp_path, COMMAND)
    assert ended
    assert running.command(tmp_path) == COMMAND


def test_complete_shards_count_and_others_are_waited_for(tmp_path: Path) -> None:
    running.begin(tmp_path, COMMAND)
    running.announce(tmp_path, JOB, job(shards=SHARDS))
    first, second, *_ = SHARDS
    complete, partial = write(tmp_path, first), write(tmp_path, second, ("drop",))
    write(tmp_path, "f" * 32)  # of another job, which isn't asked for
    with claims.running(tmp_path):
        manifest = reading.read_manifest(tmp_path)
    assert manifest["state"] == running.RUNNING
    assert manifest["progress"] == {"jobs": 3, "images": {JOB: [4, 10]}}
    assert manifest["records"] == manifest["jobs"][0]["records"] == [complete, partial]
    assert len(reading.read_records(tmp_path, manifest)) == 4
    assert (manifest["overrides"], manifest["device"]) == (["model=net"], "cpu")
    assert running.sentences(manifest) == [
        "This run hasn't ended: values are of the images that are done.",
        "net at last on scenes: 4 of 10 images so far.",
        "2 of 3 jobs have not begun.",
    ]


def test_a_job_that_is_done_is_taken_as_it_says(tmp_path: Path) -> None:
    running.begin(tmp_path, COMMAND)
    running.announce(tmp_path, JOB, job(shards=SHARDS))
    running.announce(tmp_path, JOB, job(runtime=["runtime/a.parquet"], created="2026-01-01T00:00:02"))
    running.announce(tmp_path, "other at last on scenes", job("other at last on scenes", "2026-01-01T00:00:01"))
    manifest = reading.read_manifest(tmp_path)
    assert manifest["runtime"] == ["runtime/a.parquet"]
    assert list(manifest["models"]) == ["other", "net"]
    assert manifest["progress"]["images"][JOB] == [10, 10]


def test_without_the_process_it_is_stopped(tmp_path: Path) -> None:
    """The lock of a killed process is free; its files say how far it came."""
    running.begin(tmp_path, COMMAND)
    manifest = reading.read_manifest(tmp_path)
    assert manifest["state"] == running.STOPPED
    assert running.sentences(manifest)[0].startswith("This run was stopped before its end")
    with pytest.raises(BenchError, match="was stopped before its end; run the same command again"):
        running.check_ended(tmp_path, manifest)
    with claims.running(tmp_path):
        assert running.goes_on(tmp_path)
        with pytest.raises(BenchError, match="is still being computed"):
            running.check_ended(tmp_path, reading.read_manifest(tmp_path))
    assert not running.goes_on(tmp_path)


def test_the_end_leaves_nothing(tmp_path: Path) -> None:
    running.begin(tmp_path, COMMAND)
    running.end(tmp_path)
    assert running.read(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BenchError, match="is no run folder"):
        reading.read_manifest(tmp_path)


def test_a_new_command_forgets_the_one_that_was_killed(tmp_path: Path) -> None:
    running.begin(tmp_path, COMMAND)
    running.announce(tmp_path, JOB, job(shards=SHARDS))
    running.begin(tmp_path, COMMAND)
    assert reading.read_manifest(tmp_path)["progress"] == {"jobs": 3, "images": {}}


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    running.begin(tmp_path, COMMAND)
    (tmp_path / running.FOLDER / "job.json").write_text("{")
    with pytest.raises(BenchError, match=r"job.json can't be read .*; run the same command again"):
        reading.read_manifest(tmp_path)
