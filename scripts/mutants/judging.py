"""Who sees a mutant: the gate's hard rows, else its default run, model by model, else tests of the changed room.

A gate's run of a copy of the code is in a child of a process that has imported the libraries and not the code.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path
from time import monotonic
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
CODE = ("bench", "methods", "metrics", "conf", "results/baselines")  # what decides what a gate says
TEST_FOLDERS = {"methods": "tests/methods", "metrics": "tests/metrics", "conf": "tests/gate"}
LIBRARIES = ["torch", "torch.fx", "pandas", "pyarrow.parquet", "scipy.stats", "hydra", "numba", "jinja2"]
QUIET = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")
MINUTES = 20  # a run of a mutant that doesn't end
_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Mutant:
    """A bug: one exact replacement. seen_by: who saw it first: "gate" (the hard rows), "quick" (the default run) or
    "tests". file: relative to the repository. why: what a user would get. old: occurs exactly once in the file. unseen:
    of one that tests see, why no run of a gate can show it. tests: in place of those of the file's room."""

    name: str
    seen_by: str
    file: str
    why: str
    old: str
    new: str
    unseen: str = ""
    tests: tuple[str, ...] = ()


class GateRun(NamedTuple):
    """One job of a run, so that the first one that moves is enough: a value doesn't depend on other jobs. overrides: a
    command line without `results`. baseline: of all jobs, a file or a packaged one's name. model: the job's."""

    overrides: tuple[str, ...]
    baseline: str
    model: str


RUNS = tuple(  # the quickest first
    GateRun((f"experiment={baseline}", f"model={model}"), baseline, model)
    for baseline, model in (
        *(("gate", model) for model in ("planted_additive", "planted_cancelling", "scenes_vgg", "scenes_resnet")),
        *(("quick", model) for model in ("scenes_vgg", "scenes_resnet")),
    )
)


class Verdict(NamedTuple):
    """holds: the gate's. rows: that moved, 0 where the run failed or didn't end. first: the first line."""

    holds: bool
    rows: int
    first: str


class Judgement(NamedTuple):
    """by: "gate" or "quick", the baseline; "tests"; "" where nobody saw it. rows: that moved, of the first model where
    any does. first: the first of them, or the first test that failed. seconds: of all that was run."""

    by: str
    rows: int
    first: str
    seconds: float


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


def prepare() -> None:
    """Before the first judgement: one thread a process, and the libraries in the process that is forked."""
    os.environ["OMP_NUM_THREADS"] = "1"
    _context.set_forkserver_preload(LIBRARIES)


def judged(mutant: Mutant, copy: Copy, kept: Path, runs: Sequence[GateRun] = RUNS) -> Judgement:
    """From the folder of kept judgements where the code is the same, else made and kept."""
    file = kept / f"{mutant.name}-{_digest(mutant.file, mutant.old, mutant.new, *mutant.tests)}.json"
    if not file.is_file():
        with copy.changed(mutant):
            judgement = _judged(mutant, copy, runs)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(judgement._asdict()))
    return Judgement(**json.loads(file.read_text()))


def control(copy: Copy, kept: Path, runs: Sequence[GateRun] = RUNS) -> None:
    """Raises RuntimeError where the gate doesn't hold without a bug: then no judgement would mean anything."""
    file = kept / f"control-{_digest()}"
    if not file.is_file():
        for run in runs:
            verdict = _verdict(copy.package, run)
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
        verdict = _verdict(copy.package, run)
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
    environment = {**os.environ, "PYTHONPATH": str(copy.package), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", "0", "-m", "", *tests]
    process = subprocess.run(
        command, cwd=copy.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if process.returncode == 0:
        return ""
    match = re.search(r"^(?:FAILED|ERROR) (\S+)", process.stdout, re.MULTILINE)
    return match[1] if match else f"pytest ended with {process.returncode}: {process.stdout[-200:]}"


def _verdict(package: Path, run: GateRun) -> Verdict:
    """The gate's verdict of the code in `package`. Values of no earlier run are used."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = _context.Process(target=_run_and_compare, args=(package, folder, run))
        process.start()
        process.join(60 * MINUTES)
        process.kill()
        process.join()
        answer = folder / "verdict.json"
        if answer.is_file():
            return Verdict(**json.loads(answer.read_text()))
        return Verdict(False, 0, f"the process ended with {process.exitcode}, after {MINUTES} minutes at most")


def _run_and_compare(package: Path, folder: Path, run: GateRun) -> None:
    """In the child: runs, compares, and writes the verdict."""
    os.chdir(folder)
    os.environ["NUMBA_CACHE_DIR"] = str(package.parents[2] / "numba")  # outlives the copy
    with open("output.txt", "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    assert not any(name.partition(".")[0] == "axiom_bench" for name in sys.modules)
    sys.path.insert(0, str(package))
    try:
        verdict = _compared(folder, run)
    except BaseException as error:  # noqa: BLE001 - a mutant may raise anything
        traceback.print_exc()
        verdict = Verdict(False, 0, f"the run fails: {type(error).__name__}: {error}".splitlines()[0])
    (folder / "verdict.json").write_text(json.dumps(verdict._asdict()))


def _compared(folder: Path, run: GateRun) -> Verdict:
    import torch

    torch.set_num_threads(1)
    from axiom_bench.cli.benchmark import compute
    from axiom_bench.gate import gate
    from axiom_bench.gate.baseline import find

    code, lines, run_folder = compute([*QUIET, *run.overrides, f"results={folder}/results"])
    if code:
        return Verdict(False, 0, "; ".join(lines))
    baseline = folder / f"{Path(run.baseline).stem}.csv"
    baseline.write_text(_part(find(Path(run.baseline)).read_text(), run.model, run_folder))
    result = gate(run_folder, baseline)
    return Verdict(not result.exit_code, len({finding.place for finding in result.findings}), result.lines[0])


def _part(baseline: str, model: str, run_folder: Path) -> str:
    """The rows of one model of a baseline, and what its header says of the run's data. The target rule is the job's
    own: a header has that of the first job alone."""
    manifest = json.loads((run_folder / "manifest.json").read_text())
    kept = [f"# target: {manifest['config']['target']}\n"]
    for line in baseline.splitlines(keepends=True):
        name = line[2:].partition(":")[0]
        if line.startswith("# images of "):
            wanted = name.removeprefix("images of ") in manifest["data"]
        else:
            wanted = name != "target" if line.startswith("#") else line.startswith((f"{model},", "model,"))
        if wanted:
            kept.append(line)
    return "".join(kept)
