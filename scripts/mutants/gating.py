"""The gate's runs of a copy of the code, in a child of a process that has imported the libraries and not the code."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

LIBRARIES = ["torch", "torch.fx", "pandas", "pyarrow.parquet", "scipy.stats", "hydra", "numba", "jinja2"]
QUIET = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")
MINUTES = 20  # a run of a mutant that doesn't end
_context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class GateRun:
    """One job of a run, so that the first one that moves is enough: a value doesn't depend on other jobs.

    overrides: a command line without `results`. baseline: of the whole run, a file or a packaged one's name. model: the
    job's, whose rows of the baseline are compared.
    """

    overrides: tuple[str, ...]
    baseline: str
    model: str


@dataclass(frozen=True)
class Verdict:
    """holds: the gate's. rows: that moved, 0 where the run failed or didn't end. first: the first line."""

    holds: bool
    rows: int
    first: str


def prepare() -> None:
    """Before the first call of `gated`: one thread a process, and the libraries in the process that is forked."""
    os.environ["OMP_NUM_THREADS"] = "1"
    _context.set_forkserver_preload(LIBRARIES)


def gated(package: Path, run: GateRun) -> Verdict:
    """The gate's verdict of the code in `package`. Values of no earlier run are used."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = _context.Process(target=_gated, args=(package, folder, run))
        process.start()
        process.join(60 * MINUTES)
        process.kill()
        process.join()
        answer = folder / "verdict.json"
        if answer.is_file():
            return Verdict(**json.loads(answer.read_text()))
        return Verdict(False, 0, f"the process ended with {process.exitcode}, after {MINUTES} minutes at most")


def _gated(package: Path, folder: Path, run: GateRun) -> None:
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
    (folder / "verdict.json").write_text(json.dumps(asdict(verdict)))


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
