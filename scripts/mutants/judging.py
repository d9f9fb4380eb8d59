"""Who sees a mutant: the gate's hard rows, else its default run, model by model, else tests of the changed room."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from .copies import Copy, digest
from .gating import GateRun, gated
from .mutant import Mutant

RUNS = tuple(  # the quickest first
    GateRun((f"experiment={baseline}", f"model={model}"), baseline, model)
    for baseline, model in (
        *(("gate", model) for model in ("planted_cancelling", "scenes_vgg", "scenes_resnet")),
        *(("quick", model) for model in ("scenes_vgg", "scenes_resnet")),
    )
)
TEST_FOLDERS = {"methods": "tests/methods", "metrics": "tests/metrics", "conf": "tests/gate"}


@dataclass(frozen=True)
class Judgement:
    """by: "gate" or "quick", the baseline; "tests"; "" where nobody saw it. rows: that moved, of the first model where
    any does. first: the first of them, or the first test that failed. seconds: of all that was run."""

    by: str
    rows: int
    first: str
    seconds: float


def judged(mutant: Mutant, copy: Copy, kept: Path, runs: Sequence[GateRun] = RUNS) -> Judgement:
    """From the folder of kept judgements where the code is the same, else made and kept."""
    file = kept / f"{mutant.name}-{digest(mutant.file, mutant.old, mutant.new, *mutant.tests)}.json"
    if file.is_file():
        return Judgement(**json.loads(file.read_text()))
    with copy.changed(mutant):
        judgement = _judged(mutant, copy, runs)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(judgement)))
    return judgement


def control(copy: Copy, kept: Path, runs: Sequence[GateRun] = RUNS) -> None:
    """Raises RuntimeError where the gate doesn't hold without a bug: then no judgement would mean anything."""
    file = kept / f"control-{digest()}"
    if file.is_file():
        return
    for run in runs:
        verdict = gated(copy.package, run)
        if verdict.exit_code != 0:
            raise RuntimeError(f"Without a bug {run.baseline} doesn't hold for {run.model}: {verdict.first}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def _judged(mutant: Mutant, copy: Copy, runs: Sequence[GateRun]) -> Judgement:
    start = monotonic()
    for run in runs:
        verdict = gated(copy.package, run)
        if verdict.exit_code != 0:
            return Judgement(run.name, verdict.rows, verdict.first, monotonic() - start)
    test = failing_test(copy, mutant.tests or (room_tests(mutant.file),))
    return Judgement("tests" if test else "", 0, test, monotonic() - start)


def room_tests(file: str) -> str:
    """The tests of the room that a file is in."""
    top, *rest = Path(file).parts
    return TEST_FOLDERS.get(top) or f"tests/{rest[0]}"


def failing_test(copy: Copy, tests: Sequence[str]) -> str:
    """The first test that fails, empty where all pass."""
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(copy.package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0", *tests]
    process = subprocess.run(
        command, cwd=copy.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if process.returncode == 0:
        return ""
    match = re.search(r"^(?:FAILED|ERROR) (\S+)", process.stdout, re.MULTILINE)
    return match[1] if match else f"pytest ended with {process.returncode}: {process.stdout[-200:]}"
