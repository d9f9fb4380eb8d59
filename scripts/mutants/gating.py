"""The gate's runs of a copy of the code, in a child of a process that has imported the libraries and not the code."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from time import process_time

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

    @property
    def name(self) -> str:
        return Path(self.baseline).stem


@dataclass(frozen=True)
class Verdict:
    """What a gate says. exit_code: the gate's; -1 where the run failed, or didn't end. rows: that moved. first: the
    first line. seconds: of the processor."""

    exit_code: int
    rows: int
    first: str
    seconds: float


def prepare() -> None:
    """Before the first call of `gated`: one thread a process, and the libraries in the process that is forked."""
    os.environ["OMP_NUM_THREADS"] = "1"
    _context.set_forkserver_preload(LIBRARIES)


def gated(package: Path, run: GateRun) -> Verdict:
    """The gate's verdict of the code in `package`. Values of no earlier run are used."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (str(package), folder, run)
        process = _context.Process(target=_gated, args=arguments)
        process.start()
        process.join(60 * MINUTES)
        if process.is_alive():
            process.kill()
            process.join()
            return Verdict(-1, 0, f"the run didn't end in {MINUTES} minutes", 60.0 * MINUTES)
        answer = Path(folder) / "verdict.json"
        if not answer.is_file():
            return Verdict(-1, 0, f"the process ended with {process.exitcode}", 0.0)
        return Verdict(**json.loads(answer.read_text()))


def _gated(package: str, folder: str, run: GateRun) -> None:
    """In the child: runs, compares, and writes the verdict."""
    os.chdir(folder)
    os.environ["NUMBA_CACHE_DIR"] = str(Path(package).parents[2] / "numba")  # outlives the copy
    with open("output.txt", "w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    assert not any(name.partition(".")[0] == "axiom_bench" for name in sys.modules)
    sys.path.insert(0, package)
    start = process_time()
    try:
        code, rows, first = _compared(Path(folder), run)
    except BaseException as error:  # noqa: BLE001 - a mutant may raise anything
        traceback.print_exc()
        code, rows, first = -1, 0, f"the run fails: {type(error).__name__}: {error}".splitlines()[0]
    verdict = {"exit_code": code, "rows": rows, "first": first, "seconds": process_time() - start}
    (Path(folder) / "verdict.json").write_text(json.dumps(verdict))


def _compared(folder: Path, run: GateRun) -> tuple[int, int, str]:
    import torch

    torch.set_num_threads(1)
    from axiom_bench.cli.benchmark import compute
    from axiom_bench.gate import gate
    from axiom_bench.gate.baseline import find

    code, lines, run_folder = compute([*QUIET, *run.overrides, f"results={folder}/results"])
    if code:
        return -1, 0, "; ".join(lines)
    baseline = folder / f"{run.name}.csv"
    baseline.write_text(_part(find(Path(run.baseline)).read_text(), run.model, run_folder))
    result = gate(run_folder, baseline)
    return result.exit_code, len({finding.place for finding in result.findings}), result.lines[0]


def _part(baseline: str, model: str, run_folder: Path) -> str:
    """The rows of one model of a baseline, and what its header says of the run's data. The target rule is the job's
    own: a header has that of the first job alone."""
    manifest = json.loads((run_folder / "manifest.json").read_text())
    header = [f"# target: {manifest['config']['target']}\n"]
    rows = []
    for line in baseline.splitlines(keepends=True):
        name = line[2:].partition(":")[0]
        if line.startswith("# images of "):
            header += [line] if name.removeprefix("images of ") in manifest["data"] else []
        elif line.startswith("#"):
            header += [line] if name != "target" else []
        elif line.startswith((f"{model},", "model,")):
            rows.append(line)
    return "".join([*header, *rows])
