"""scripts/faults.py: what it counts, keeps and calls broken; and one real fault, a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import faults
import pytest
from faulting.launcher import DAY, _jumping
from faulting.trial import Case, Fault, Trial, table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A family of one fault, whose third trial breaks a promise; the numbers of the trials that were made."""
    made: list[int] = []

    def attempt(trial: Trial, case: Case) -> None:
        made.append(case.number)
        (case.folder / "left").touch()
        trial.times, trial.identical = 1, True
        trial.took(3.0 if case.number == 2 else 0.5, 2.0)

    monkeypatch.setattr(faults, "FAMILIES", {"kills": SimpleNamespace(FAULTS=(Fault("a fault", attempt, 4),))})
    monkeypatch.setattr(faults, "_warm_up", lambda folder: None)
    return made


def test_a_broken_promise_exits_with_1_and_is_tried_again(attempts: list[int], tmp_path: Path, capsys):
    command = ["--output", str(tmp_path)]
    assert faults.main(command) == 1
    printed = capsys.readouterr().out
    assert "a fault: 2\n  broken: gone after 3.0 s, not within 2 s" in printed
    assert "| a fault | 4 | 3.0 | 4 of 4 runs | 0 | - |" in printed
    assert [path.parent.name for path in tmp_path.rglob("left")] == ["2-of-4"]  # to be looked at
    assert faults.main(command) == 1
    assert attempts == [0, 1, 2, 3, 2]
    assert faults.main([*command, "--times", "2"]) == 0


def test_the_table_has_the_worst_of_each_fault():
    trials = [
        Trial("a", 0, 3, 0.5, True, 1, ["one line"]),
        Trial("a", 1, 2, 0.7, False, 0, ["one line"]),
        Trial("b", 0),
    ]
    assert table(trials).splitlines()[2:] == [
        "| a | 5 | 0.7 | 1 of 2 runs | 1 | one line |",
        "| b | 0 | - | 0 of 1 runs | 0 | - |",
    ]


def test_the_clock_jumps_by_a_day_and_back():
    clock = _jumping(2)
    times = [clock() for _ in range(5)]
    jumps = [round((after - before) / DAY) for before, after in pairwise(times)]
    assert jumps == [1, 0, -1, 0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_a_run_survives_a_full_disk(tmp_path: Path):
    """Starts torch once, and forks five small runs from there: some 15 seconds."""
    command = [sys.executable, "scripts/faults.py", "--fault", "disk full from a write on", "--times", "1"]
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--only", "disks", "--output", str(tmp_path), "--seed", "3"],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| disk full from a write on, each of them | 1 | - | 1 of 1 runs |" in done.stdout
