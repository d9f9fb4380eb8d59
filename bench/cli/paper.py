"""`axiom-bench paper`: what the paper shows, run or continued, and a file for each of its figures and tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.cli.finish import finish
from axiom_bench.errors import BenchError
from axiom_bench.records import mirror, remote
from axiom_bench.report.paper import PaperRun, on_two_classes, write_paper
from axiom_bench.report.paper import paper as study
from axiom_bench.run.job import run_folder
from axiom_bench.run.progress import progress
from axiom_bench.run.spine import configuration
from axiom_bench.statistics.run_folder import RunFolder

SHARED = ("results", "run", "real_root", "device", "data.batch_size", "data.workers", "data.size", "model.weights")
IN_PLACE = "model.weights_folder=${real_root}/weights"
TWO_CLASSES = "experiment=paper_two_classes"


def paper(overrides: Sequence[str], config_folder: Path | None = None) -> tuple[int, list[str]]:
    """Runs experiment=paper, and experiment=paper_two_classes where no image of it shows two classes: the exit code and
    the last lines. Where none of the paper's networks has weights, those of real_root stand in for them. Raises
    BenchError."""
    arguments = ["experiment=paper", *overrides]
    code, folder, failures = _run(arguments, config_folder, "The paper's networks")
    named = "model" in map(_key, overrides)
    if folder is None and not named:
        real_root = Path(configuration(arguments, config_folder)["real_root"]).expanduser()
        if (real_root / "weights").is_dir():  # few people have that folder
            print("None of the paper's networks could run; the networks of real_root stand in for them.", flush=True)
            arguments = [*arguments, f"model={','.join(study().instead)}", IN_PLACE]
            code, folder, more = _run(arguments, config_folder, "Networks of real_root")
            failures = {**more, **failures}
    if folder is None:
        return code, ["Nothing was computed, so there is nothing to show."]
    with progress("paper") as shown:

        def say(line: str) -> None:
            print(line, flush=True)
            shown.says(f"paper, {line}")

        main = PaperRun(RunFolder.read(folder), _command(arguments), failures)
        two_classes, problem = _two_classes(main.run, overrides, config_folder)
        command = shlex.join(["axiom-bench", "paper", *overrides])
        index = write_paper(main, two_classes, problem, command, say)
        mirror.push(folder)
    return code, [f"report: {remote.named(folder / 'report.html')}", f"paper: {remote.named(index)}"]


def _two_classes(run: RunFolder, overrides: Sequence[str], config_folder: Path | None) -> tuple[PaperRun | None, str]:
    """The run whose images show several classes, where the main one's don't; and why there is none."""
    if not on_two_classes(run).class_records.empty:
        return None, ""
    shared = [override for override in overrides if _key(override) in SHARED or _key(override).startswith("device.")]
    arguments = [TWO_CLASSES, *shared]
    imagenet = [name for name in study().networks if name in (run.manifest.get("models") or {})]
    if imagenet:
        arguments = [*arguments, f"model={','.join(imagenet)}", "model.weights_folder=null"]
    try:
        _, folder, failures = _run(arguments, config_folder, "Images of two classes, for Fig 4(a)")
    except BenchError as error:  # the main run's report is there without them
        return None, str(error)
    if folder is None:
        return None, " ".join(dict.fromkeys(failures.values()))
    return PaperRun(RunFolder.read(folder), _command(arguments), failures), ""


def _run(
    arguments: Sequence[str], config_folder: Path | None, title: str
) -> tuple[int, Path | None, Mapping[str, str]]:
    """The exit code, the run folder, None where no job has ended well, and {model: why it failed}."""
    print(f"{title}: {_command(arguments)}", flush=True)
    config, results = run_jobs(arguments, config_folder)
    failures = {result.job: result.failure.message for result in results if result.failure is not None}
    code, lines = finish(config, results, arguments)
    print("\n".join(lines), flush=True)
    return code, run_folder(config) if len(failures) < len(results) else None, failures


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["axiom-bench", *arguments])


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
