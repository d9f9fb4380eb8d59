"""`axiom-bench paper`: run or continue the experiments of the paper, and write a file for each of
its figures and tables.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from axiom_bench.cli.benchmark import run_jobs
from axiom_bench.cli.finish import finish
from axiom_bench.errors import BenchError
from axiom_bench.report.paper import PaperRun, on_two_classes, write_paper
from axiom_bench.report.paper import paper as study
from axiom_bench.run.progress import progress
from axiom_bench.run.spine import configuration
from axiom_bench.statistics.run_folder import RunFolder

SHARED = ("results", "run", "real_root", "device", "data.batch_size", "data.workers", "data.size")
IN_PLACE = "model.weights_folder=${real_root}/weights"
TWO_CLASSES = "experiment=paper_two_classes"


def paper(overrides: Sequence[str], config_folder: Path | None = None) -> tuple[int, list[str]]:
    """Run experiment=paper, and write the paper's figures and tables.

    If no image of that run shows two classes, experiment=paper_two_classes is run too. If none of
    the paper's networks has weights, the networks of real_root replace them.

    Args:
        overrides: The words KEY=VALUE of the command line.
        config_folder: A user's own folder of YAML files, used in addition to conf/.

    Returns:
        The exit code and the last lines.

    Raises:
        BenchError: As `run_jobs` does.
    """
    arguments = ["experiment=paper", *overrides]
    is_chosen = "model" in map(_key, overrides)
    title = "The chosen networks" if is_chosen else "The paper's networks"
    code, folder, failures = _run(arguments, config_folder, title)
    if folder is None and not is_chosen:
        real_root = Path(configuration(arguments, config_folder)["real_root"]).expanduser()
        if (real_root / "weights").is_dir():  # few people have that folder
            print(
                "None of the paper's networks could run; the networks of real_root replace them.",
                flush=True,
            )
            arguments = [*arguments, f"model={','.join(study().instead)}", IN_PLACE]
            code, folder, other_failures = _run(arguments, config_folder, "Networks of real_root")
            failures = {**other_failures, **failures}
    if folder is None:
        return code, ["Nothing was computed, so there is nothing to show."]
    with progress("Writing the paper's figures and tables"):

        def say(line: str) -> None:
            print(line, flush=True)

        main = PaperRun(RunFolder.read(folder), _command(arguments), failures)
        two_classes, problem = _two_classes(main.run, arguments, config_folder)
        command = shlex.join(["axiom-bench", "paper", *overrides])
        index = write_paper(main, two_classes, problem, command, say)
    return code, [f"report: {folder / 'report.html'}", f"paper: {index}"]


def _two_classes(
    run: RunFolder, arguments: Sequence[str], config_folder: Path | None
) -> tuple[PaperRun | None, str]:
    """Return a run of the same networks on images that show several classes, and a text about the
    networks that it lacks.

    The run is `None` if the main run has such images itself, or if no such run succeeds.
    """
    if not on_two_classes(run).class_records.empty:
        return None, ""
    shared = []
    for argument in arguments:
        key = _key(argument)
        if key in SHARED or key.startswith("device."):
            shared.append(argument)
    arguments = [TWO_CLASSES, *shared, *_networks(run, arguments)]
    try:
        _, folder, failures = _run(arguments, config_folder, "Images of two classes, for Fig 4(a)")
    except BenchError as error:  # the paper is written without them
        return None, str(error)
    jobs_by_reason: dict[str, list[str]] = {}
    for job, reason in failures.items():
        jobs_by_reason.setdefault(reason, []).append(job)
    sentences = [f"Without {', '.join(jobs)}: {reason}" for reason, jobs in jobs_by_reason.items()]
    problem = " ".join(sentences)
    if folder is None:
        return None, problem
    return PaperRun(RunFolder.read(folder), _command(arguments), failures), problem


def _networks(run: RunFolder, arguments: Sequence[str]) -> list[str]:
    """Return the settings that choose a run's networks again, without those that failed."""
    completed = run.manifest.models
    names: Sequence[str] = study().networks
    settings = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "model":
            names = value.split(",")
        elif key.startswith("model."):
            settings[key] = argument
    settings.setdefault("model.weights_folder", "model.weights_folder=null")
    # A network with model.name=NAME has another name in the manifest, so that no name may be left.
    names = [name for name in names if name in completed] or names
    return [f"model={','.join(names)}", *settings.values()]


def _run(
    arguments: Sequence[str], config_folder: Path | None, title: str
) -> tuple[int, Path | None, Mapping[str, str]]:
    """Run the jobs and print their last lines. Return the exit code, the run folder, or None if no
    job ended well, and {model: why it failed}.
    """
    print(f"{title}: {_command(arguments)}", flush=True)
    settings, results = run_jobs(arguments, config_folder)
    failures = {}
    for result in results:
        if result.failure is not None:
            failures[result.job] = result.failure.message
    code, lines = finish(settings, results, arguments)
    print("\n".join(lines), flush=True)
    folder = settings.run_folder if len(failures) < len(results) else None
    return code, folder, failures


def _command(arguments: Sequence[str]) -> str:
    return shlex.join(["axiom-bench", *arguments])


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
