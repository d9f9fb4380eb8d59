"""Shards that several processes share: each is computed once, and none is lost with a process that dies."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from axiom_bench.run.claims import _lock, claimed
from axiom_bench.run.compute import Todo
from axiom_bench.run.shards import Shard


@pytest.fixture
def todo() -> list[Todo]:
    return [Todo(Shard(number, (number,)), {"cam": f"records/{number}.parquet"}) for number in range(3)]


def finish(one: Todo, folder: Path) -> None:
    for file in one.files.values():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("done")


def nobody(count: int) -> None:
    raise AssertionError(f"{count} shards were thought to be another's")


def test_alone_every_shard_comes_once_in_order(todo, tmp_path):
    found = [(one.shard.number, files) for one, files in claimed(todo, tmp_path, nobody)]
    assert found == [(number, {"cam": f"records/{number}.parquet"}) for number in range(3)]
    assert not list((tmp_path / "records").iterdir())


@pytest.fixture
def other(todo, tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the first shard until it is told a line, or killed."""
    hold = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print('held', flush=True)\n    input()"
    command = [sys.executable, "-c", hold, _lock(todo[0], tmp_path).lock_file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_another_finishes_is_waited_for_and_not_computed(todo, tmp_path, other):
    waited = []

    def wait(count: int) -> None:
        waited.append(count)
        finish(todo[0], tmp_path)
        other.stdin.write("\n")
        other.stdin.flush()

    found = [(one.shard.number, bool(files)) for one, files in claimed(todo, tmp_path, wait)]
    assert found == [(1, True), (2, True), (0, False)]
    assert waited == [1]


def test_what_a_killed_process_held_is_computed(todo, tmp_path, other):
    shards = claimed(todo, tmp_path, lambda count: other.kill())
    found = [(one.shard.number, bool(files)) for one, files in shards]
    assert found == [(1, True), (2, True), (0, True)]


def test_two_at_once_share_the_work(todo, tmp_path):
    computed: list[int] = []

    def work() -> None:
        for one, files in claimed(todo, tmp_path, lambda count: None):
            if files:
                computed.append(one.shard.number)
                finish(one, tmp_path)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == [0, 1, 2]


def test_who_stops_early_leaves_nothing_held(todo, tmp_path):
    shards = claimed(todo, tmp_path, nobody)
    next(shards)
    shards.close()
    assert not list((tmp_path / "records").iterdir())
    assert len(list(claimed(todo, tmp_path, nobody))) == 3
