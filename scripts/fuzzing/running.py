"""Runs cases and counts what came of them: read, refused in one sentence, or a finding."""

from __future__ import annotations

import contextlib
import io
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from axiom_bench.errors import BenchError

from .case import Case, Kind

SECONDS = 60  # of one case; one that takes longer hangs
MAX_CHARACTERS = 2000  # of a refusal; a longer one is no sentence


class Hangs(BaseException):
    """A case takes too long. The package catches no such error: a reader may take any Exception for a damaged file."""


@dataclass(frozen=True)
class Outcome:
    """What came of one case. what: "read", "refused" or "finding"; text: the refusal, or the error's last lines."""

    kind: str
    index: int
    what: str
    made: str
    text: str


def run_case(name: str, kind: Kind, seed: int, index: int) -> Outcome:
    """Makes case `index` of this kind, the same for the same seed, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="axiom-bench-fuzz-") as folder:
        case = Case(Random(f"{seed}/{name}/{index}"), Path(folder))
        what, text = _attempt(kind, case)
    return Outcome(name, index, what, "; ".join(case.made), text)


def cases(kinds: Mapping[str, Kind], total: int) -> list[tuple[str, int]]:
    """(kind, index) of about `total` cases, by the kinds' shares; at least one of each."""
    shares = sum(kind.share for kind in kinds.values())
    return [
        (name, index) for name, kind in kinds.items() for index in range(max(1, round(total * kind.share / shares)))
    ]


def _attempt(kind: Kind, case: Case) -> tuple[str, str]:
    try:
        with _limited(SECONDS), _quiet():
            kind.attempt(case)
    except BenchError as error:
        return _judged(str(error))
    except (Exception, SystemExit, Hangs) as error:  # noqa: BLE001 - any other error is what is looked for
        return "finding", "".join(traceback.format_exception(error)[-3:]).strip()
    return "read", ""


def _judged(message: str) -> tuple[str, str]:
    """A refusal has a text that a user can read."""
    if not message.strip():
        return "finding", "BenchError without a text"
    if "Traceback (most recent call last)" in message or len(message) > MAX_CHARACTERS:
        return "finding", f"no sentence: {message[:MAX_CHARACTERS]}"
    return "refused", message


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"the case took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
