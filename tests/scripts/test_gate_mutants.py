"""The bugs of scripts/mutants fit today's code, and a run of two of them tells who sees which."""

from multiprocessing import forkserver

import gate_mutants
import pytest
from mutants import MUTANTS
from mutants.judging import ROOT, Copy, GateRun, Judgement, Mutant, judged, prepare, room_tests

from axiom_bench.cli.benchmark import compute
from axiom_bench.gate import write_baseline


def test_there_are_enough_and_each_has_a_name():
    assert len(MUTANTS) >= 60
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_changes_one_place_of_todays_code(mutant):
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, "mend its old text in scripts/mutants"
    assert mutant.new != mutant.old
    if mutant.file.endswith(".py"):
        compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
    assert all((ROOT / test).exists() for test in (room_tests(mutant.file), *mutant.tests))
    assert mutant.seen_by in ("gate", "quick", "tests")
    assert bool(mutant.unseen) == (mutant.seen_by == "tests"), "what the gate can't see says why"
    assert bool(mutant.tests) or not mutant.unseen, "what the gate can't see names the tests that do"


TINY = (
    *("model=planted_cancelling", "data=hard_scenes", "data.size=2", "metric=[epsilon,guarded_channels]"),
    *("method=[xgrad_cam]", "runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0"),
)
SEEN = Mutant(
    "seen", "tiny", "metrics/guarded_channels.py", "one too many", "activations).sum(1)", "activations).sum(1).add(1)",
)  # fmt: skip
UNSEEN = Mutant(
    "unseen", "tests", "bench/gate/findings.py", "relative limits are 200 %",
    "self.amount * abs(baseline)", "2 * abs(baseline)",
    unseen="the gate itself", tests=("tests/gate/test_gate.py::test_limits_are_two_sided_and_know_nan",),
)  # fmt: skip


@pytest.fixture
def _forks_of_libraries_alone():
    """A process has one server to fork from, and other tests' has imported the code."""
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


@pytest.mark.slow
@pytest.mark.usefixtures("_forks_of_libraries_alone")
def test_who_sees_a_bug_and_who_does_not(tmp_path, monkeypatch):
    """Some ten seconds of a processor: a run here, two in a copy of the code, and one test of the copy."""
    monkeypatch.chdir(tmp_path)
    code, lines, folder = compute([*TINY, "results=results"])
    assert code == 0, lines
    run = GateRun(TINY, str(write_baseline(folder, tmp_path / "tiny.csv")), "planted_cancelling")
    prepare()
    copy, kept = Copy(tmp_path / "mutants" / "copy"), tmp_path / "kept"
    judgement = judged(SEEN, copy, kept, [run])
    assert (judgement.by, judgement.rows) == ("tiny", 1), judgement.first
    assert "guarded_channels: mean was" in judgement.first
    assert judged(UNSEEN, copy, kept, [run]).first.startswith(UNSEEN.tests[0])
    monkeypatch.setattr("mutants.judging._judged", lambda *_: pytest.fail("it was judged before"))
    assert judged(SEEN, copy, kept, [run]) == judgement
    assert (copy.folder / SEEN.file).read_text() == (ROOT / SEEN.file).read_text(), "the copy is as it was"


def test_what_nobody_sees_and_what_the_gate_misses_is_told():
    missed = Mutant("missed", "gate", "a.py", "why", "a", "b")
    judgements = {
        "missed": Judgement("tests", 0, "tests/a.py::test_a", 1.0),
        "unseen": Judgement("tests", 0, "tests/a.py::test_b", 1.0),
        "seen": Judgement("", 0, "", 1.0),
    }
    assert list(gate_mutants.failures([missed, UNSEEN, SEEN], judgements)) == [
        "missed: seen by tests (tests/a.py::test_a), not by gate.",
        "seen: seen by nobody (), not by tiny.",
    ]
    lines = gate_mutants.table([missed, UNSEEN, SEEN], judgements).splitlines()
    assert lines[3] == ("| `unseen` | relative limits are 200 % | tests; the gate itself |  | `tests/a.py::test_b` |")
    assert "**nobody**" in lines[4]
