"""`axiom-bench doctor`: what is found about the networks and data of a command line before anything
is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from axiom_bench.errors import first_names
from axiom_bench.examination.examine import Answer
from axiom_bench.run import examining, spine, worker
from axiom_bench.run.composing.composition import composed
from axiom_bench.run.job import OBJECT_RULES, Job
from axiom_bench.run.notes import note_lines
from axiom_bench.run.progress import progress
from axiom_bench.run.result import Failure

MAX_NAMES = 5  # of jobs, in a line


def doctor(overrides: Sequence[str], config_folder: Path | None = None) -> tuple[int, list[str]]:
    """(2 where an answer is a stop, else 0; a line for each answer, with its jobs). Computes no
    value, writes nothing. Raises BenchError for a command line that can't be composed.
    """
    names_by_line: dict[tuple[str, str], list[str]] = {}
    code = 0
    with composed(overrides, config_folder) as composition:
        spine.checked(composition.plain())
        for number in range(len(composition.jobs)):
            name = str(composition.plain_job(number)["model"]["name"])
            with progress(f"{name}: examination"):
                try:
                    job = _with_objects(worker.loaded(composition.job_settings(number)))
                    examination = examining.examination(job)
                    sentences = [*job.data_notes, *note_lines(job.notes)]
                    notes = [Answer("data", "note", sentence) for sentence in sentences]
                    name = job.name
                    answers = (*notes, *examination)
                except (Exception, SystemExit) as error:  # a user's network may raise anything
                    failure = Failure.of(error)
                    if not failure.mendable:
                        raise
                    answers = (Answer("settings", "stop", failure.message),)
            for answer in answers:
                own = name if answer.level == "ok" else ""  # a note of several jobs is one line
                names_by_line.setdefault((str(answer), own), []).append(name)
            code = 2 if any(answer.level == "stop" for answer in answers) else code
    return code, [
        f"{first_names([*dict.fromkeys(names)], MAX_NAMES)}: {line}"
        for (line, _), names in names_by_line.items()
    ]


def _with_objects(job: Job) -> Job:
    """The job itself; of a network that finds objects on those in a few of its images."""
    if job.target not in OBJECT_RULES:
        return job
    from axiom_bench.run.objects import on_objects  # here: most networks find none

    with TemporaryDirectory() as folder:
        return on_objects(replace(job, indices=job.indices[: examining.EXAMINED]), Path(folder))
