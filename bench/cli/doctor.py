"""`axiom-bench doctor`: examine the networks and data of a command line before anything is
computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from axiom_bench.errors import first_names
from axiom_bench.examination.examine import Answer
from axiom_bench.models.spec import network_name
from axiom_bench.run import examining, spine, worker
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.job import OBJECT_RULES, Job
from axiom_bench.run.notes import note_lines, warning_lines
from axiom_bench.run.progress import progress
from axiom_bench.run.result import Failure

MAX_NAMES = 5  # jobs that a line lists by name


def doctor(overrides: Sequence[str], config_folder: Path | None = None) -> tuple[int, list[str]]:
    """Examine the jobs of a command line. No value is computed, and nothing is written.

    Args:
        overrides: The words KEY=VALUE of the command line.
        config_folder: A user's own folder of YAML files, used in addition to conf/.

    Returns:
        The exit code, 2 if a run would stop, otherwise 0. A line for each answer, with its jobs.

    Raises:
        BenchError: If the command line can't be composed.
    """
    names_by_line: dict[tuple[str, str], list[str]] = {}
    code = 0
    with composed(overrides, config_folder) as composition:
        spine.checked(composition.plain())
        for number in range(len(composition.jobs)):
            name = str(network_name(composition.plain_job(number)["model"]))
            with progress(f"{name}: examining the model and data"):
                try:
                    job = with_objects(worker.loaded(composition.job_settings(number)))
                    examination = examining.examination(job)
                    job_lines = (*warning_lines(job.notes), *note_lines(job.notes))
                    # the line begins with the name of the model, which doctor prints itself
                    notes = [
                        Answer("model", "note", line.partition(": ")[2]) for line in job.model.lines
                    ]
                    for sentence in (*job.data_notes, *job_lines):
                        notes.append(Answer("data", "note", sentence))
                    answers = (*notes, *examination)
                    name = job.name
                except (Exception, SystemExit) as error:  # a user's network may raise anything
                    failure = Failure.of(error)
                    if not failure.is_users_to_fix:
                        raise
                    answers = (Answer("settings", "stop", failure.message),)
            for answer in answers:
                # A note of several jobs is one line; each "ok" is a line of its own job.
                job_name = name if answer.level == "ok" else ""
                names_by_line.setdefault((str(answer), job_name), []).append(name)
            if any(answer.level == "stop" for answer in answers):
                code = 2
    lines = []
    for (line, _), names in names_by_line.items():
        unique_names = list(dict.fromkeys(names))
        lines.append(f"{first_names(unique_names, MAX_NAMES)}: {line}")
    return code, lines


def with_objects(job: Job) -> Job:
    """Return the job. If its network finds objects, the job is on those in a few of its images.

    Args:
        job: A job that is loaded.
    """
    if job.target not in OBJECT_RULES:
        return job
    from axiom_bench.run.objects import use_found_objects  # here: most networks find none

    with TemporaryDirectory() as folder:
        return use_found_objects(
            replace(job, indices=job.indices[: examining.EXAMINED]), Path(folder)
        )
