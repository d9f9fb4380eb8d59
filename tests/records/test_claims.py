"""Shards that several processes share: each is computed once, and none is lost with a process that dies."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records.claims import claimed, running, shard_lock, tidying

SHARDS = ["a", "b", "c"]


def fail_if_called(count: int) -> None:
    raise AssertionError(f"{count} shards were thought to be another's")


def test_alone_every_shard_comes_once_in_order(tmp_path):
    assert list(claimed(SHARDS, tmp_path, fail_if_called)) == SHARDS
    assert not list((tmp_path / "records").iterdir())


HOLD = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print('held', flush=True)\n    input()"


@pytest.fixture
def other(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the first shard until it is sent a line, or killed."""
    command = [sys.executable, "-c", HOLD, shard_lock("a", tmp_path).lock_file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_another_holds_comes_last(tmp_path, other):
    waited = []

    def wait(count: int) -> None:
        waited.append(count)
        other.stdin.write("\n")
        other.stdin.flush()

    assert list(claimed(SHARDS, tmp_path, wait)) == ["b", "c", "a"]
    assert waited == [1]


def test_what_a_killed_process_held_is_free(tmp_path, other):
    assert list(claimed(SHARDS, tmp_path, lambda count: other.kill())) == ["b", "c", "a"]


def test_two_at_once_share_the_work(tmp_path):
    done: set[str] = set()
    computed: list[str] = []

    def work() -> None:
        for shard in claimed(SHARDS, tmp_path, lambda count: None):
            if shard not in done:
                computed.append(shard)
                done.add(shard)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == SHARDS


def test_who_stops_early_leaves_nothing_held(tmp_path):
    shards = claimed(SHARDS, tmp_path, fail_if_called)
    next(shards)
    shards.close()
    assert not list((tmp_path / "records").iterdir())
    assert list(claimed(SHARDS, tmp_path, fail_if_called)) == SHARDS


def test_runs_share_a_folder_and_tidy_has_it_alone(tmp_path):
    with running(tmp_path), running(tmp_path), pytest.raises(BenchError, match="A run is using"), tidying(tmp_path):
        pass
    with tidying(tmp_path), pytest.raises(BenchError, match="tidied by another process"), tidying(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_run_doesnt_keep_the_folder(tmp_path):
    lock = tmp_path / ".run.12345678.lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        with pytest.raises(BenchError, match="A run is using"), tidying(tmp_path):
            pass
        run.kill()
        run.wait()
    with tidying(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
