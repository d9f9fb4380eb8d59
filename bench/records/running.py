"""The state of a run before its manifest is written: the folder `running/`, which a command removes
at its end.

`running/command.json` is written when a command begins. A file per job is written when the job is
prepared, and again when it is done. Until then, manifest.json is that of the previous command, if
there was one.

Locks of the folder: one command at a time computes into it, and one process at a time writes its
report. A lock ends with its process. A note next to it says who holds it, for those who wait.
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

from axiom_bench.errors import BenchError, plural, verb
from axiom_bench.records import artefacts, files, record_files
from axiom_bench.records.artefacts import common_value, merge_facts
from axiom_bench.records.entries import AnnouncedJob, Manifest

FOLDER = "running"
COMMAND = "command.json"  # a file of FOLDER
RUNNING = "running"
STOPPED = "stopped"
SENTENCES = {  # by the state of a command that hasn't ended
    RUNNING: "This run hasn't ended: values are of the images that are done.",
    STOPPED: "This run was stopped before its end: the same command continues from there.",
}


def begin_command(folder: Path, about: Mapping[str, object]) -> None:
    """Write that a command begins.

    `about` has experiment, run, overrides, created, config, the number of its jobs, and "command".
    "command" is an id that tells values of users' plug-ins from those of other commands.
    """
    end_command(folder)
    files.write_json(folder / FOLDER / COMMAND, about)


def command_to_continue(folder: Path, overrides: Sequence[str], continue_run: bool) -> str | None:
    """Return the id of the command whose values of users' plug-ins this command reuses; None for a
    new command.

    This is the same command if it was stopped before its end. Otherwise, with `continue_run`, it is
    the command of the manifest.
    """
    stopped = files.read_json_or_none(folder / FOLDER / COMMAND) or {}
    if stopped.get("overrides") == list(overrides) and "command" in stopped:
        return str(stopped["command"])
    if not continue_run:
        return None
    manifest = files.read_json_or_none(folder / artefacts.NAME) or {}
    previous = manifest.get("command")
    return None if previous is None else str(previous)


def running_command(folder: Path) -> str | None:
    """Return the id of the running command, which tells users' own values from those of other
    commands.
    """
    found = (files.read_json_or_none(folder / FOLDER / COMMAND) or {}).get("command")
    return None if found is None else str(found)


def announce(folder: Path, job: str, manifest: Manifest) -> None:
    """Write that a job has begun, or is done. `manifest` is that of this job only; while the job
    runs, it is an `AnnouncedJob`.
    """
    files.write_json(folder / FOLDER / f"{record_files.key(job=job)}.json", manifest.model_dump())


def end_command(folder: Path) -> None:
    """Remove the folder `running/`: the command has ended, and the manifest, if it has results, is
    written.
    """
    place = folder / FOLDER
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        files.make_way(place)
    shutil.rmtree(place, ignore_errors=True)


def read(folder: Path) -> Manifest | None:
    """Return a manifest of the values so far, with its `state` and `progress`; None if no command
    is unfinished. Raise BenchError if a file can't be read.
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
    """Return the manifest of a command that hasn't ended, from {name of a file in `running/`: its
    content}.
    """
    command = parts.pop(COMMAND, {})
    announced = [AnnouncedJob.model_validate(part, strict=True) for part in parts.values()]
    jobs: list[AnnouncedJob] = []
    progress: dict[str, tuple[int, int]] = {}
    for part in sorted(announced, key=lambda part: part.created):
        job, counts = _list_files(folder, part)
        jobs.append(job)
        progress[part.jobs[0].job] = counts
    # the facts of the run are those of its first job, unless the command has them itself
    entries: dict[str, Any] = {"experiment": "", "run": folder.name}
    if jobs:
        entries = jobs[0].model_dump(exclude={"shards"})
    entries |= command
    facts = merge_facts(jobs)
    entries |= {
        artefacts.HASHES: {},
        "state": RUNNING if in_use(folder) else STOPPED,
        "progress": {"jobs": max(len(jobs), command.get("jobs", 0)), "images": progress},
        "methods": facts.methods,
        "metrics": facts.metrics,
        "models": facts.models,
        "data": facts.data,
        "axes": {},
    }
    if jobs:
        entries["device"] = common_value(job.device for job in jobs)
        entries["precision"] = common_value(job.precision for job in jobs)
    entries |= {kind: [] for kind in artefacts.listed_kinds()}
    entries |= {"jobs": [], "seconds": {}, "work": {}, "failures": []}
    for job in jobs:
        for name in ("axes", "seconds", "work"):
            entries[name] |= getattr(job, name)
        for name in ("jobs", "failures"):
            entries[name] += getattr(job, name)
        for kind in artefacts.listed_kinds():
            entries[kind] += job.files(kind)
    return Manifest.model_validate(entries)


def progress_sentences(manifest: Manifest) -> list[str]:
    """Return the progress of an unfinished run in sentences; none if the run has ended."""
    if manifest.state not in SENTENCES:
        return []
    lines = [SENTENCES[manifest.state]]
    jobs = manifest.progress.jobs
    images = manifest.progress.images
    for job, (done, count) in images.items():
        lines.append(f"{job}: {done:,} of {plural(count, 'image')} so far.")
    waiting = jobs - len(images)
    if waiting:
        lines.append(
            f"{waiting} of {plural(jobs, 'job')} {verb(waiting, 'has', 'have')} not started."
        )
    return lines


def check_ended(folder: Path, manifest: Manifest) -> None:
    """Raise BenchError if the last command of a run hasn't ended."""
    if manifest.state == STOPPED:
        raise BenchError(f"{folder} was stopped before its end; run the same command again.")
    if manifest.state in SENTENCES:
        raise BenchError(f"{folder} is still being computed; wait until its command has ended.")


def _list_files(folder: Path, part: AnnouncedJob) -> tuple[AnnouncedJob, tuple[int, int]]:
    """Return a job's manifest with its record files so far, and (images that are done, all
    images).
    """
    (job,) = part.jobs
    if part.shards is None:
        return part, (job.images, job.images)
    usable = record_files.read(folder, part.shards.keys())
    listed = usable.manifest_entries(part.shards, job.values)
    done = 0
    for shard, images in part.shards.items():
        if not usable.missing_values(shard, job.values):
            done += images
    with_records = job.model_copy(update={"records": listed["records"]})
    with_files = part.model_copy(update={**listed, "jobs": [with_records]})
    return with_files, (done, sum(part.shards.values()))


RUN = ".run.lock"
REPORT = ".report.lock"
PATIENCE = 1.0  # seconds of waiting before a line says whom for


@contextmanager
def hold_lock(folder: Path, name: str = RUN) -> Iterator[None]:
    """Hold a lock of a folder, once it is free. While it waits, a printed line says who holds the
    lock.

    The lock's file stays, because others may have it open. Raise BenchError if the folder can't be
    written.
    """
    lock = FileLock(folder / name)
    note = _note(folder, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / name).is_symlink() or (folder / name).is_dir():
            files.make_way(folder / name)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            print(f"waiting for {folder}: {holder(folder, name)}", file=sys.stderr, flush=True)
            lock.acquire()  # Ctrl-C ends the waiting
    except OSError as error:
        raise files.unwritable(folder, error) from error
    with suppress(OSError):  # without the note, others only can't see who holds the lock
        about = {**files.process(), "since": f"{datetime.now():%Y-%m-%d %H:%M}"}
        note.write_bytes(files.to_json(note.name, about))
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


def in_use(folder: Path) -> bool:
    """Return whether a command that hasn't ended holds the folder."""
    if not (folder / RUN).is_file():
        return False
    try:
        with FileLock(folder / RUN, timeout=0):
            return False
    except Timeout:
        return True


def holder(folder: Path, name: str = RUN) -> str:
    """Return who holds a lock, since when, and how to end that process."""
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
