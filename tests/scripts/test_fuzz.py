"""500 cases of damaged input: each is read or refused in a sentence. And the counting itself finds what it should."""

from __future__ import annotations

import time

import pytest
from fuzzing import running
from fuzzing.case import Case, Kind
from fuzzing.kinds import KINDS
from fuzzing.running import cases, run_case

from axiom_bench.errors import BenchError

CASES, SEED = 500, 20_000  # another seed than the script's own
ONCE_FOUND = [("manifests", 0, 100), ("settings", 0, 2290)]  # (kind, seed, case): paths and names too long for a file


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_damaged_input_is_read_or_refused(kind: str) -> None:
    outcomes = [run_case(kind, KINDS[kind], SEED, index) for name, index in cases(KINDS, CASES) if name == kind]
    findings = [f"{case.kind} {case.index}: {case.made}\n{case.text}" for case in outcomes if case.what == "finding"]
    assert not findings, "\n\n".join(findings)
    assert {case.what for case in outcomes} <= {"read", "refused"}


@pytest.mark.parametrize(("kind", "seed", "index"), ONCE_FOUND)
def test_what_was_found_once_is_refused(kind: str, seed: int, index: int) -> None:
    outcome = run_case(kind, KINDS[kind], seed, index)
    assert outcome.what == "refused", outcome.text


def test_the_number_of_cases() -> None:
    assert len(cases(KINDS, CASES)) == pytest.approx(CASES, abs=len(KINDS))


def _raises(error: BaseException) -> Kind:
    def attempt(case: Case) -> None:
        case.say("made")
        raise error

    return Kind(attempt, share=1)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (BenchError("There is no file."), "refused"),
        (BenchError(" "), "finding"),
        (BenchError("x" * 5000), "finding"),
        (ValueError("inside"), "finding"),
        (SystemExit(3), "finding"),
        (AssertionError("wrong"), "finding"),
        (RecursionError("deep"), "finding"),
    ],
)
def test_what_comes_of_an_error(error: BaseException, what: str) -> None:
    outcome = run_case("kind", _raises(error), 0, 0)
    assert (outcome.what, outcome.made) == (what, "made")


def test_a_case_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SECONDS", 1)
    outcome = run_case("kind", Kind(lambda case: time.sleep(30), share=1), 0, 0)
    assert outcome.what == "finding"
    assert "more than 1 s" in outcome.text


def test_a_case_is_the_same_again() -> None:
    def attempt(case: Case) -> None:
        case.say(str(case.random.random()))

    kind = Kind(attempt, share=1)
    first, again, other = (run_case("kind", kind, 0, index).made for index in (4, 4, 5))
    assert first == again != other
