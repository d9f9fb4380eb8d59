"""Tests of damaged and hostile input, which the package reads with the right result or refuses in a
sentence that a user can read.

Anything else fails: another error, an exit, a wrong result without a message, or more than a
minute. The cases are the same each time, or those of `--hypothesis-seed=N`. For a failing case,
hypothesis prints how to reproduce it.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import hypothesis
import pytest
from hypothesis import strategies as st

from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.gate.baseline import Baseline
from axiom_bench.records import artefacts, files
from tests.fuzzing import data, run_folders, settings, weights

SECONDS = 60  # of one case; one that takes longer hangs
MAX_CHARACTERS = 2000  # of a refusal; a longer one is no sentence
Attempt = Callable[[st.DrawFn, Path], None]
# With the numbers of cases, which together take a minute of one core.
KINDS: dict[str, tuple[Attempt, int]] = {
    "data": (data.attempt, 500),
    "run_folders": (run_folders.attempt, 250),
    "settings": (settings.attempt, 250),
    "weights": (weights.attempt, 300),
}


class HangsError(BaseException):
    """A case takes too long. The package catches no such error: a reader may take any Exception for
    a damaged file.
    """


@pytest.mark.slow
@pytest.mark.parametrize(("attempt", "cases"), KINDS.values(), ids=KINDS)
def test_damaged_input_is_read_or_refused(attempt, cases):
    check(attempt, cases)


def check(attempt: Attempt, cases: int) -> None:
    """Try this number of cases, each in its own folder. Raise the error of the first finding."""

    @hypothesis.settings(max_examples=cases, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(st.data())
    def run(drawn: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as folder, _at_most(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                attempt(drawn.draw, Path(folder))
            except BenchError as error:
                check_sentence(str(error))

    run()


def check_sentence(refusal: str) -> None:
    """A refusal has a text that a user can read."""
    assert refusal.strip(), "BenchError without a text"
    assert "Traceback (most recent call last)" not in refusal
    assert len(refusal) <= MAX_CHARACTERS


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise HangsError(f"the case took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_name_too_long_for_a_file_is_refused(tmp_path):
    """Check a case that fuzzing found once."""
    run_folders.write(tmp_path)
    content = files.read_json(tmp_path / artefacts.NAME)
    job, *_ = content["jobs"]
    for name in ("a" * 10_000, "a\0b"):
        for change in ({"pictures": [name]}, {"jobs": [{**job, "records": [name]}]}):
            with pytest.raises(BenchError, match="which is no file of a run folder"):
                run_folders.read_manifest(
                    tmp_path, files.to_json(artefacts.NAME, {**content, **change})
                )
    with pytest.raises(BenchError, match="There is no method"):
        plugins.load("method", "a" * 10_000)


def test_a_comment_of_a_baseline_stays_as_it_is(tmp_path):
    """Check a case that fuzzing found once."""
    first = tmp_path / "1.csv"
    second = tmp_path / "2.csv"
    first.write_bytes(run_folders.undisturbed()[1].replace(b"# experiment: synthetic", b"# mine"))
    Baseline.read(first).write(second)
    assert b"# mine\n" in first.read_bytes()
    assert b"# mine\n" in second.read_bytes()


@pytest.mark.parametrize(
    "error", [BenchError(" "), BenchError("x" * 5000), ValueError("inside"), SystemExit(3)]
)
def test_what_is_a_finding(error):
    def attempt(draw, folder):
        raise error

    with pytest.raises((type(error), AssertionError)):
        check(attempt, 1)
