"""What is done stays done: a repeated run, a new method, changed inputs, and a run that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from axiom_bench.run import compute
from axiom_bench.run.manifest import Outcome

Run = Callable[..., list[Outcome]]


def written(results: Path) -> dict[str, int]:
    """Every record file with the moment it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (results / "quick/default/records").glob("*.parquet")}


def test_a_repeated_run_computes_nothing(run: Run, results: Path, capsys: pytest.CaptureFixture[str]):
    first = run()[0]
    assert (first.shards, first.shards_computed) == (3, 3)
    before = written(results)
    assert len(before) == 3 * 3  # shards x (two methods and the layer)
    again = run()[0]
    assert (again.shards, again.shards_computed) == (3, 0)
    assert again.records == first.records
    assert written(results) == before
    assert "3 of 3 shards were already there" in capsys.readouterr().out


def test_a_new_method_computes_itself_alone(run: Run, results: Path):
    run()
    before = written(results)
    run("method=[grad_cam,xgrad_cam,uniform]")
    after = written(results)
    assert {name: when for name, when in after.items() if name in before} == before
    assert len(after) == len(before) + 3


def test_a_run_that_broke_off_goes_on(run: Run, results: Path, monkeypatch: pytest.MonkeyPatch):
    shard_rows, seen = compute.shard_rows, []

    def breaks(job, whole, shard, names):
        seen.append(shard.number)
        for part in shard_rows(job, whole, shard, names):
            yield part
            if shard.number == 1:
                raise RuntimeError("a power cut")

    monkeypatch.setattr(compute, "shard_rows", breaks)
    (outcome,) = run()
    assert outcome.failure is not None
    assert "a power cut" in outcome.failure.message
    assert not outcome.failure.mendable
    assert len(written(results)) == 3  # the first shard's files; nothing of the second
    monkeypatch.setattr(compute, "shard_rows", shard_rows)
    assert run()[0].shards_computed == 2


@pytest.mark.skipif(os.name != "posix", reason="kills a process by a signal")
def test_a_killed_run_goes_on(run: Run, results: Path):
    from_scratch = [
        sys.executable,
        "-m",
        "axiom_bench.cli.main",
        f"results={results}",
        "data.size=2000",
        "shard_size=2",
    ]
    tiny = [
        "model=scenes_vgg",
        "model.weights=null",
        "method=[grad_cam]",
        "metric=[zeta]",
        "device=cpu",
        "data.batch_size=4",
    ]
    process = subprocess.Popen(
        [*from_scratch, *tiny], stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        wait_for(lambda: len(list((results / "quick/default/records").glob("*.parquet"))) >= 4)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    there = written(results)
    done = len(there) // 2  # of the first shards; at most one of the two files of the next one
    size = 2 * (done + 2)
    outcome = run("method=[grad_cam]", "metric=[zeta]", f"data.size={size}")[0]
    assert (outcome.shards, outcome.shards_computed) == (done + 2, 2)
    assert {name: when for name, when in written(results).items() if name in there} == there


def wait_for(happened: Callable[[], bool], seconds: float = 120) -> None:
    start = time.monotonic()
    while not happened():
        assert time.monotonic() - start < seconds
        time.sleep(0.05)
