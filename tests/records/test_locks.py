"""Tests of the locks of a run folder.

One command at a time has the lock. The lock ends with its process, and waiting commands print its
holder.
"""

import io
import os
import platform
import re
import subprocess
import sys
import threading
from contextlib import contextmanager, redirect_stderr

import pytest

from axiom_bench.records import running
from tests.faults.runs import wait_until

HOLDS = """
import sys
from pathlib import Path
from axiom_bench.records import running
with running.hold_lock(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    input()
"""


@contextmanager
def another(folder, name=running.RUN):
    """A process that holds a lock until it is sent a line, or killed."""
    command = [sys.executable, "-c", HOLDS, str(folder), name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout.readline() == "held\n"
        yield started
        started.kill()


@contextmanager
def waiting(folder):
    """A thread that has the lock once it can be had, and what it tells then."""
    had = threading.Event()

    def wait():
        with running.hold_lock(folder):
            had.set()

    thread = threading.Thread(target=wait)
    thread.start()
    yield had
    thread.join(timeout=60)
    assert had.is_set()


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "line"])
def test_a_second_command_waits_for_the_first_and_says_who_has_the_folder(
    tmp_path, monkeypatch, end
):
    monkeypatch.setattr(running, "PATIENCE", 0.05)
    told = io.StringIO()  # capfd would lose a line that comes between its reading and its emptying
    with redirect_stderr(told), another(tmp_path) as first, waiting(tmp_path) as had:
        wait_until(lambda: told.getvalue().endswith("\n"))
        assert not had.is_set()
        assert running.in_use(tmp_path)
        first.kill() if end == "kill" else first.communicate("\n")
        holder = (
            rf"process {first.pid} on {platform.node()} holds it since \d\d\d\d-\d\d-\d\d \d\d:\d\d"
        )
        assert re.fullmatch(
            rf"waiting for {re.escape(str(tmp_path))}: {holder} \(`kill` ends it\)\n",
            told.getvalue(),
        )
    assert not running.in_use(tmp_path)


@pytest.mark.slow
def test_a_report_is_a_lock_of_its_own_and_the_holder_is_named(tmp_path):
    with another(tmp_path):
        with running.hold_lock(tmp_path, running.REPORT):
            pass
        (tmp_path / ".run.holder").write_text("damaged")
        assert running.holder(tmp_path) == "another process holds it"
    with running.hold_lock(tmp_path):
        assert str(os.getpid()) in running.holder(tmp_path)


def test_a_folder_that_nobody_used_is_not_in_use_and_asking_leaves_nothing(tmp_path):
    assert not running.in_use(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_no_lock_file_makes_way(tmp_path):
    (tmp_path / running.RUN).mkdir()
    (tmp_path / running.REPORT).symlink_to("nowhere")
    for name in (running.RUN, running.REPORT):
        with running.hold_lock(tmp_path, name):
            assert (tmp_path / name).is_file()
            assert not (tmp_path / name).is_symlink()
