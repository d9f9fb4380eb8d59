"""Who sees a mutant: the gate's hard rows, else its default run, model by model, else tests of the changed room."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import cache_from_source
from pathlib import Path
from time import monotonic

from .gating import GateRun, gated
from .mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
CODE = ("bench", "methods", "metrics", "conf", "results/baselines")  # what decides what a gate says
TEST_FOLDERS = {"methods": "tests/methods", "metrics": "tests/metrics", "conf": "tests/gate"}
RUNS = tuple(  # the quickest first
    GateRun((f"experiment={baseline}", f"model={model}"), baseline, model)
    for baseline, model in (
        *(("gate", model) for model in ("planted_cancelling", "scenes_vgg", "scenes_resnet")),
        *(("quick", model) for model in ("scenes_vgg", "scenes_resnet")),
    )
)


class Copy:
    """A copy of the repository, in which one file at a time is changed. package: the folder to import from, with links
    as an editable install has them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, folder / "build" / "editable"
        shutil.rmtree(folder, ignore_errors=True)
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
        for name in (name for name in listed.split("\0") if (ROOT / name).is_file()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        subprocess.run([sys.executable, folder / "hatch_build.py"], check=True)

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """With the mutant in place. Raises ValueError where its old text doesn't occur exactly once."""
        file = self.folder / mutant.file
        before = file.read_text(encoding="utf-8")
        if before.count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: its old text occurs {before.count(mutant.old)} times in {mutant.file}.")
        _write(file, before.replace(mutant.old, mutant.new))
        try:
            yield
        finally:
            _write(file, before)


def _write(file: Path, text: str) -> None:
    """Without its compiled code, which is told from its source by whole seconds and the size alone."""
    file.write_text(text, encoding="utf-8")
    Path(cache_from_source(str(file))).unlink(missing_ok=True)


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
    file = kept / f"{mutant.name}-{_digest(mutant.file, mutant.old, mutant.new, *mutant.tests)}.json"
    if not file.is_file():
        with copy.changed(mutant):
            judgement = _judged(mutant, copy, runs)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(judgement)))
    return Judgement(**json.loads(file.read_text()))


def control(copy: Copy, kept: Path, runs: Sequence[GateRun] = RUNS) -> None:
    """Raises RuntimeError where the gate doesn't hold without a bug: then no judgement would mean anything."""
    file = kept / f"control-{_digest()}"
    if not file.is_file():
        for run in runs:
            verdict = gated(copy.package, run)
            if not verdict.holds:
                raise RuntimeError(f"Without a bug {run.baseline} doesn't hold for {run.model}: {verdict.first}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def _digest(*texts: str) -> str:
    """Of the code that a gate's run uses, and of these texts."""
    digest = hashlib.sha256("\0".join(texts).encode())
    for folder in CODE:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _judged(mutant: Mutant, copy: Copy, runs: Sequence[GateRun]) -> Judgement:
    start = monotonic()
    for run in runs:
        verdict = gated(copy.package, run)
        if not verdict.holds:
            return Judgement(Path(run.baseline).stem, verdict.rows, verdict.first, monotonic() - start)
    test = _failing_test(copy, mutant.tests or (room_tests(mutant.file),))
    return Judgement("tests" if test else "", 0, test, monotonic() - start)


def room_tests(file: str) -> str:
    """The tests of the room that a file is in."""
    top, *rest = Path(file).parts
    return TEST_FOLDERS.get(top) or f"tests/{rest[0]}"


def _failing_test(copy: Copy, tests: Sequence[str]) -> str:
    """The first test that fails, empty where all pass."""
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(copy.package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0", "-m", "", *tests]
    process = subprocess.run(
        command, cwd=copy.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if process.returncode == 0:
        return ""
    match = re.search(r"^(?:FAILED|ERROR) (\S+)", process.stdout, re.MULTILINE)
    return match[1] if match else f"pytest ended with {process.returncode}: {process.stdout[-200:]}"
