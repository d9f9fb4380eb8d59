"""What a run says of itself before its manifest is written: the folder `running/`, which a command
removes at its end.

`running/command.json` is written when a command begins, and a file for each job when it is prepared
and when it is done. manifest.json is that of the command before, if there was one.

The folder's locks: one command at a time computes into it, and one process at a time writes its
report. A lock ends with its process. Beside it lies a note of who holds it, for those who wait.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, files, record_files
from axiom_bench.records.artefacts import common, merge_facts
from axiom_bench.records.entries import AnnouncedJob, Manifest

FOLDER, COMMAND = "running", "command.json"
RUNNING, STOPPED = "running", "stopped"
SENTENCES = {
    RUNNING: "This run hasn't ended: values are of the images that are done.",
    STOPPED: "This run was stopped before its end: the same command goes on from there.",
}


def begin(folder: Path, about: Mapping[str, Any]) -> None:
    """A command begins. about: experiment, run, overrides, created, config, the number of its jobs,
    and "command", by which values of users' own plug-ins are told from those of other commands.
    """
    end(folder)
    files.write_json(folder / FOLDER / COMMAND, about)


def command_to_continue(folder: Path, overrides: Sequence[str], goes_on: bool) -> str | None:
    """The command whose values of users' own plug-ins this one takes: the same that was stopped
    before its end, or, where it goes on with the one before, that of the manifest. None: a new one.
    """
    stopped = files.read_json_or_none(folder / FOLDER / COMMAND) or {}
    if stopped.get("overrides") == list(overrides) and "command" in stopped:
        return str(stopped["command"])
    before = (
        (files.read_json_or_none(folder / artefacts.NAME) or {}).get("command") if goes_on else None
    )
    return None if before is None else str(before)


def command(folder: Path) -> str | None:
    """The running command, by which users' own values are told from those of others."""
    found = (files.read_json_or_none(folder / FOLDER / COMMAND) or {}).get("command")
    return None if found is None else str(found)


def announce(folder: Path, job: str, manifest: Manifest) -> None:
    """Write that a job has begun, or is done. manifest: of this job alone; while it runs an
    `AnnouncedJob`.
    """
    files.write_json(folder / FOLDER / f"{record_files.key(job=job)}.json", manifest.model_dump())


def end(folder: Path) -> None:
    """The command has ended, and the manifest, if it has results, is written."""
    place = folder / FOLDER
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        files.discard(place)
    shutil.rmtree(place, ignore_errors=True)


def read(folder: Path) -> Manifest | None:
    """Return a manifest of the values that are there so far, with its `state` and `progress`; None
    if no command is unfinished. Raises BenchError for a file that can't be read.
    """
    try:
        parts = {
            path.name: files.read_json(path) for path in sorted((folder / FOLDER).glob("*.json"))
        }
        return _unfinished(folder, parts) if parts else None
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{folder / FOLDER} can't be read ({error}); run the same command again."
        ) from error


def _unfinished(folder: Path, parts: dict[str, Any]) -> Manifest:
    """Return the manifest of a command that hasn't ended. parts: {name of a file: its content}."""
    command = parts.pop(COMMAND, {})
    announced = [AnnouncedJob.model_validate(part, strict=True) for part in parts.values()]
    found: list[AnnouncedJob] = []
    done: dict[str, tuple[int, int]] = {}
    for part in sorted(announced, key=lambda part: part.created):
        with_files, counts = _with_files(folder, part)
        found.append(with_files)
        done[part.jobs[0].job] = counts
    facts = merge_facts(found)
    machine = {
        name: common(getattr(part, name) for part in found)
        for name in ("device", "precision")
        if found
    }
    return Manifest.model_validate(
        {
            **(
                found[0].model_dump(exclude={"shards"})
                if found
                else {"experiment": "", "run": folder.name}
            ),
            **command,
            artefacts.HASHES: {},
            "state": RUNNING if in_use(folder) else STOPPED,
            "progress": {"jobs": max(len(found), command.get("jobs", 0)), "images": done},
            "methods": facts.methods,
            "metrics": facts.metrics,
            "models": facts.models,
            "data": facts.data,
            "axes": {name: axes for part in found for name, axes in part.axes.items()},
            **machine,
            **{
                kind: [file for part in found for file in part.files(kind)]
                for kind in artefacts.listed()
            },
            "jobs": [job for part in found for job in part.jobs],
            "seconds": {job: seconds for part in found for job, seconds in part.seconds.items()},
            "work": {job: work for part in found for job, work in part.work.items()},
            "failures": [failure for part in found for failure in part.failures],
        }
    )


def sentences(manifest: Manifest) -> list[str]:
    """How far an unfinished run is, in sentences; none for one that has ended."""
    if manifest.state not in SENTENCES:
        return []
    jobs, images = manifest.progress.jobs, manifest.progress.images
    waiting = jobs - len(images)
    lines = [
        f"{job}: {done:,} of {count:,} images so far." for job, (done, count) in images.items()
    ]
    if waiting:
        lines.append(f"{waiting} of {jobs} jobs {'has' if waiting == 1 else 'have'} not begun.")
    return [SENTENCES[manifest.state], *lines]


def check_ended(folder: Path, manifest: Manifest) -> None:
    """Raises BenchError for a run whose last command hasn't come to its end."""
    if manifest.state in SENTENCES:
        goes_on = manifest.state != STOPPED
        mend = "wait until its command has ended" if goes_on else "run the same command again"
        what = "is still being computed" if goes_on else "was stopped before its end"
        raise BenchError(f"{folder} {what}; {mend}.")


def _with_files(folder: Path, part: AnnouncedJob) -> tuple[AnnouncedJob, tuple[int, int]]:
    """Return a job's manifest with the record files that are there, and (images that are done, all
    images).
    """
    (job,) = part.jobs
    if part.shards is None:
        return part, (job.images, job.images)
    usable = record_files.read(folder, part.shards.keys())
    listed = usable.listed(part.shards, job.values)
    done = sum(
        count for shard, count in part.shards.items() if not usable.missing(shard, job.values)
    )
    with_records = job.model_copy(update={"records": listed["records"]})
    return part.model_copy(update={**listed, "jobs": [with_records]}), (
        done,
        sum(part.shards.values()),
    )


RUN, REPORT = ".run.lock", ".report.lock"
PATIENCE = 1.0  # seconds of waiting until it is said whom for


@contextmanager
def held(folder: Path, name: str = RUN) -> Iterator[None]:
    """Takes a lock once it is free, and says who holds it until then. Its file stays, since others
    may have it open.

    Raises BenchError where the folder can't be written.
    """
    lock, note = FileLock(folder / name), _note(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_symlink() or (folder / name).is_dir():
            files.discard(folder / name)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            print(f"waiting for {folder}: {holder(folder, name)}", file=sys.stderr, flush=True)
            lock.acquire()  # Ctrl-C ends the waiting
    except OSError as error:
        raise files.unwritable(folder, error) from error
    with suppress(OSError):  # without it nothing is lost but a word
        note.write_bytes(
            files.to_json(
                note.name, {**files.process(), "since": f"{datetime.now():%Y-%m-%d %H:%M}"}
            )
        )
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def in_use(folder: Path) -> bool:
    """Whether a command that hasn't ended holds the folder."""
    if not (folder / RUN).is_file():
        return False
    try:
        with FileLock(folder / RUN, timeout=0):
            return False
    except Timeout:
        return True


def holder(folder: Path, name: str = RUN) -> str:
    """Who holds a lock, since when, and how to end that."""
    try:
        about = files.read_json(_note(folder, name))
        return (
            f"process {about['process']} on {about['host']} holds it since {about['since']} "
            "(`kill` ends it)"
        )
    except (OSError, ValueError, KeyError):
        return "another process holds it"


def _note(folder: Path, name: str) -> Path:
    return folder / f"{name.removesuffix('.lock')}.holder"
