"""A run before its end: what its folder says, from complete record files alone."""

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import reading, running
from axiom_bench.records.entries import AnnouncedJob, Progress
from axiom_bench.records.reading import status

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


def job(name=JOB, created="2026-01-01T00:00:00", **more):
    entries = {
        "experiment": "quick",
        "run": "default",
        "created": created,
        "config": {"target": "label"},
        "methods": {"grad_cam": {}},
        "metrics": {"drop": {}, "error": {}},
        "data": {"scenes": {"ids": ["x"]}},
        "models": {name.partition(" ")[0]: {"layer": "last", "images": {}, "depths": {}}},
        "device": "cpu",
        "precision": {"trunk": "fp32"},
        "axes": {},
        "seconds": {},
        "work": {},
        **{key: [] for key in ("records", "curves", "whole_set", "runtime", "pictures", "gallery")},
        "jobs": [{"job": name, "images": 10, "values": VALUES, "records": []}],
        **more,
    }
    return AnnouncedJob.model_validate(entries)


@pytest.fixture
def begun(tmp_path):
    """Return the folder of a run whose first job is announced."""
    running.begin_command(tmp_path, COMMAND)
    running.announce(tmp_path, JOB, job(shards=SHARDS))
    return tmp_path


def test_complete_shards_count_and_others_are_waited_for(begun, write_file):
    first, second, *_ = SHARDS
    partial = {"grad_cam": {"drop": "key of drop"}}
    files = [write_file(VALUES, first, "xy"), write_file(partial, second, "xy")]
    write_file(VALUES, "f" * 32, "xy")  # another job's, which isn't requested
    with running.hold_lock(begun):
        manifest = reading.read_manifest(begun)
    assert manifest.state == running.RUNNING
    assert manifest.progress == Progress(jobs=3, images={JOB: (4, 10)})
    assert manifest.records == manifest.jobs[0].records == [file.name for file in files]
    assert len(reading.read_records(begun, manifest)) == 4 + 2
    assert (manifest.overrides, manifest.device) == (["model=net"], "cpu")
    assert running.progress_sentences(manifest) == [
        "This run hasn't ended: values are of the images that are done.",
        "net at last on scenes: 4 of 10 images so far.",
        "2 of 3 jobs have not started.",
    ]


def test_a_job_that_is_done_is_taken_as_it_says(begun):
    running.announce(begun, JOB, job(runtime=["runtime/a.parquet"], created="2026-01-01T00:00:02"))
    running.announce(
        begun, "other at last on scenes", job("other at last on scenes", "2026-01-01T00:00:01")
    )
    manifest = reading.read_manifest(begun)
    assert manifest.runtime == ["runtime/a.parquet"]
    assert list(manifest.models) == ["other", "net"]
    assert manifest.progress.images[JOB] == (10, 10)


def test_without_the_process_it_is_stopped(begun):
    """The lock of a killed process is free; its files say how far it came."""
    manifest = reading.read_manifest(begun)
    assert manifest.state == running.STOPPED
    assert running.progress_sentences(manifest)[0].startswith("This run was stopped before its end")
    with pytest.raises(BenchError, match="was stopped before its end; run the same command again"):
        running.check_ended(begun, manifest)
    with running.hold_lock(begun):
        assert running.in_use(begun)
        with pytest.raises(BenchError, match="is still being computed"):
            running.check_ended(begun, reading.read_manifest(begun))
    assert not running.in_use(begun)


def test_a_new_command_forgets_the_one_that_was_killed_and_the_end_leaves_nothing(begun):
    running.begin_command(begun, COMMAND)
    assert reading.read_manifest(begun).progress == Progress(jobs=3, images={})
    (begun / running.FOLDER / "job.json").write_text("{")
    with pytest.raises(BenchError, match=r"running can't be read .*; run the same command again"):
        reading.read_manifest(begun)
    running.end_command(begun)
    assert running.read(begun) is None
    assert list(begun.iterdir()) == []
    with pytest.raises(BenchError, match="is no run folder"):
        reading.read_manifest(begun)


def test_failures_of_a_stopped_command_are_told(tmp_path):
    running.begin_command(tmp_path, COMMAND)
    running.announce(tmp_path, JOB, job(failures=[{"job": JOB, "message": "no memory"}]))
    assert list(status(tmp_path))[1:] == [
        "net at last on scenes: 10 of 10 images so far.",
        "2 of 3 jobs have not started.",
        f"failed: {JOB}: no memory",
    ]
