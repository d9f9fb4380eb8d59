"""A signal by which a launcher stops a job ends it, and isn't taken for an error of what it interrupts."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from axiom_bench.run.composing import launcher_signals

from .conftest import Run

STOPPED = """
import os, signal, torch

calls = []


def stops(explanation):
    calls.append(explanation)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGUSR2)
    return torch.zeros(len(explanation.trace))
"""


@pytest.fixture
def exits() -> Iterator[None]:
    """As submitit does when Slurm tells it that a job's time is over."""
    before = signal.signal(signal.SIGUSR2, lambda *_: sys.exit(-1))
    yield
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.usefixtures("exits")
def test_a_stopped_job_ends_and_goes_on_later(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stopped_once.py").write_text(STOPPED)
    monkeypatch.syspath_prepend(tmp_path)
    words = ("method=[grad_cam]", "metric=[sensitivity_error]", "+metric.stops._target_=stopped_once.stops")
    with pytest.raises(SystemExit):
        run(*words)
    (outcome,) = run(*words)
    assert outcome.failure is None
    assert 0 < outcome.computed.shards < outcome.shards


def test_handlers_are_put_back() -> None:
    def own(*_: object) -> None:
        raise RuntimeError("too many timeouts")

    def interrupted() -> None:
        with launcher_signals.apart(), suppress(Exception):  # as code around a user's function does
            signal.raise_signal(signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, own)
    try:
        with pytest.raises(RuntimeError, match="too many timeouts"):
            interrupted()
        assert signal.getsignal(signal.SIGUSR2) is own
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_an_error_of_a_child_is_one_of_who_has_it() -> None:
    def killed(*_: object) -> None:
        raise RuntimeError("DataLoader worker is killed")

    before = signal.signal(signal.SIGCHLD, killed)
    try:
        with launcher_signals.apart(), pytest.raises(RuntimeError, match="worker is killed"):
            signal.raise_signal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_other_threads_have_no_handlers() -> None:
    ran = []

    def use() -> None:
        with launcher_signals.apart():
            ran.append(True)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert ran == [True]
