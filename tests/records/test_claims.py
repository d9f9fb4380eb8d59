"""Shards that several processes share: each is computed once, and none is lost with a process that dies."""

import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.records import claims, sealed
from axiom_bench.records.claims import claimed, running, shard_lock, sweep, tidying

SHARDS = ["a", "b", "c"]


def fail_if_called(line):
    raise AssertionError(line)


def test_alone_every_shard_comes_once_in_order(tmp_path):
    """Also after a loop that stopped early, and where a lock is no file."""
    records = tmp_path / "records"
    shards = claimed(SHARDS, tmp_path, fail_if_called)
    next(shards)
    shards.close()
    assert not list(records.iterdir())
    assert list(claimed(SHARDS, tmp_path, fail_if_called)) == SHARDS
    assert not list(records.iterdir())
    (records / ".a.lock").mkdir()
    (records / ".b.lock").symlink_to("nowhere")
    assert list(claimed(SHARDS, tmp_path, fail_if_called)) == SHARDS


HOLD = "import sys, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print('held', flush=True)\n    input()"
STOPPED = """
import sys
from pathlib import Path
from axiom_bench.records.claims import claimed
for shard in claimed(["a"], Path(sys.argv[1]), print):
    print("held", flush=True)
    input()
"""


@contextlib.contextmanager
def process(code, argument):
    """One that has printed a line and waits for another, or to be killed."""
    command = [sys.executable, "-c", code, str(argument)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout.readline() == "held\n"
        yield started
        started.kill()


@pytest.fixture
def other(tmp_path):
    """A process that holds the first shard until it is sent a line, or killed."""
    with process(HOLD, shard_lock("a", tmp_path).lock_file) as started:
        yield started


@pytest.fixture
def said(monkeypatch):
    """What is said to one who waits, again and again."""
    monkeypatch.setattr(claims, "PATIENCE", 0.05)
    return []


def test_what_another_holds_comes_last(tmp_path, other):
    said = []

    def say(line):
        said.append(line)
        other.stdin.write("\n")
        other.stdin.flush()

    assert list(claimed(SHARDS, tmp_path, say)) == ["b", "c", "a"]
    assert said == ["waiting for 1 shard that other processes compute"]


def test_what_a_killed_process_held_is_free(tmp_path, other):
    assert list(claimed(SHARDS, tmp_path, lambda line: other.kill())) == ["b", "c", "a"]


def test_what_is_free_by_then_is_not_waited_for(tmp_path, other):
    shards = claimed(SHARDS, tmp_path, fail_if_called)
    assert next(shards) == "b"
    other.kill()
    other.wait()
    assert list(shards) == ["c", "a"]


def test_without_waiting_the_rest_is_left_to_the_others(tmp_path, other):
    assert list(claimed(SHARDS, tmp_path, fail_if_called, wait=False)) == ["b", "c"]


def test_who_waits_is_told_who_holds_the_shard(tmp_path, said):
    """A stopped process keeps its locks: its number, and how to end it, are told again and again, but seldom."""
    with process(STOPPED, tmp_path) as holder:

        def say(line):
            said.append(line)
            if len(said) == 2:
                holder.send_signal(signal.SIGSTOP)
                os.waitpid(holder.pid, os.WUNTRACED)
            elif len(said) == 3:
                holder.kill()

        assert list(claimed(["a"], tmp_path, say)) == ["a"]
    number = holder.pid
    assert re.fullmatch(f"waiting for shard a: process {number} on {platform.node()} has held it for [0-9]+ s; "
                        f"`kill {number}` ends that process, and this one goes on", said[1])  # fmt: skip
    assert f"and is stopped; `kill -CONT {number}` lets it go on, `kill -KILL {number}` ends it" in said[2]
    assert not list((tmp_path / "records").iterdir())


def test_of_another_machine_its_name_is_told(tmp_path, other, said):
    about = {"host": "node7", "place": "0" * 8, "process": os.getpid(), "since": time.time() - 7300}
    sealed.write_json(tmp_path / "records/.a.holder", about)

    def say(line):
        said.append(line)
        if len(said) == 2:
            (tmp_path / "records/.a.holder").write_text("damaged")
        if len(said) == 3:
            other.kill()

    assert list(claimed(["a"], tmp_path, say)) == ["a"]
    assert said[1] == (
        f"waiting for shard a: process {os.getpid()} on node7 has held it for 2.0 h; `kill {os.getpid()}` on node7 "
        "ends that process, and this one goes on"
    )
    assert said[2] == "waiting for shard a: another process holds it"


def test_how_long_is_said_in_the_largest_unit_of_which_there_is_one():
    durations = {0.4: "0 s", 59: "59 s", 60: "1 min", 119: "1 min", 3599: "59 min", 3600: "1.0 h", 90_000: "25.0 h"}
    assert {seconds: claims._duration(seconds) for seconds in durations} == durations


def test_locks_of_killed_processes_are_swept(tmp_path, other):
    with running(tmp_path):
        (tmp_path / ".run.12345678.lock").touch()
        for name in ("b.lock", "b.holder"):
            (tmp_path / f"records/.{name}").touch()
        sweep(tmp_path)
        assert {path.name for path in (tmp_path / "records").iterdir()} == {".a.lock"}
        assert len(list(tmp_path.glob(".run.*.lock"))) == 1


def test_two_at_once_share_the_work(tmp_path):
    done = set()
    computed = []

    def work():
        for shard in claimed(SHARDS, tmp_path, lambda line: None):
            if shard not in done:
                computed.append(shard)
                done.add(shard)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == SHARDS


def test_runs_share_a_folder_and_tidy_has_it_alone(tmp_path):
    with running(tmp_path), running(tmp_path), pytest.raises(BenchError, match="A run is using"), tidying(tmp_path):
        pass
    with tidying(tmp_path), pytest.raises(BenchError, match="tidied by another process"), tidying(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_killed_run_doesnt_keep_the_folder(tmp_path):
    lock, refused = tmp_path / ".run.12345678.lock", pytest.raises(BenchError, match="A run is using")
    with process(HOLD, lock), refused, tidying(tmp_path):
        pass
    with tidying(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_can_t_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for use in (claims.running, claims.reporting, partial(claims.shard_lock, "0" * 32)):
        with pytest.raises(BenchError, match="Can't write results to"), use(tmp_path / "file" / "run"):
            pass
