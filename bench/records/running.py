"""What a run says of itself before its manifest is written: the folder `running/`, which a command removes at its end.

`running/command.json` is written when a command begins, and a file for each job when its model and images are loaded
and when it is done. While they are there, the last command runs, or it was stopped: what its record files hold so far
can be read. manifest.json is that of the command before, if there was one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, claims, files, holdings, sealed
from axiom_bench.records.artefacts import OF_JOBS, common, merge_facts
from axiom_bench.records.holdings import key

FOLDER = "running"
COMMAND = "command.json"
RUNNING, STOPPED = "running", "stopped"


def begin(folder: Path, about: Mapping[str, Any]) -> None:
    """A command begins. about: experiment, run, overrides, created, config, and the number of its jobs."""
    end(folder)
    _write(folder / FOLDER / COMMAND, about)


def announce(folder: Path, job: str, about: Mapping[str, Any]) -> None:
    """A job has begun, or is done. about: a manifest of this job alone; while it runs, with {"shards": {shard key:
    number of images}}, whose record files are still to be found."""
    _write(folder / FOLDER / f"{key(job=job)}.json", about)


def end(folder: Path) -> None:
    """The command has ended, and the manifest, if it has results, is written."""
    place = folder / FOLDER
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        files.discard(place)
    shutil.rmtree(place, ignore_errors=True)


def command(folder: Path) -> dict[str, Any] | None:
    """What the command says of itself that began last and hasn't ended, also where it was killed; None where there is
    none, or where it can't be read."""
    try:
        return sealed.read_json(folder / FOLDER / COMMAND)
    except (OSError, ValueError):
        return None


def goes_on(folder: Path) -> bool:
    """Whether a command that hasn't ended holds the folder; reads no records."""
    return (folder / FOLDER).is_dir() and claims.in_use(folder)


def read(folder: Path) -> dict[str, Any] | None:
    """A manifest of what is there so far, with "state" RUNNING or STOPPED; None where no command is unfinished.

    "progress": {"jobs": how many the command has, "images": {job: [done, all]}}. Raises BenchError for a file that
    can't be read.
    """
    if not (folder / FOLDER).is_dir():
        return None
    is_running = claims.in_use(folder)
    parts = {path.name: _read(path) for path in sorted((folder / FOLDER).glob("*.json"))}
    command = parts.pop(COMMAND, {})
    jobs = sorted(parts.values(), key=lambda part: str(part["created"]))
    if not command and not jobs:
        return None
    found = [_with_files(folder, part) for part in jobs]
    about = {**(found[0] if found else {"experiment": "", "run": folder.name}), **command}
    return {
        **about,
        "state": RUNNING if is_running else STOPPED,
        "progress": {
            "jobs": max(len(found), command.get("jobs", 0)),
            "images": {part["jobs"][0]["job"]: part["done"] for part in found},
        },
        **merge_facts(found),
        "axes": {name: axes for part in found for name, axes in part["axes"].items()},
        **{name: common(part[name] for part in found) for name in ("device", "precision") if found},
        **{kind: [file for part in found for file in part[kind]] for kind in artefacts.listed()},
        "jobs": [job for part in found for job in part["jobs"]],
        **{kind: {job: about for part in found for job, about in (part.get(kind) or {}).items()} for kind in OF_JOBS},
        "failures": [],
    }


def sentences(manifest: Mapping[str, Any]) -> list[str]:
    """How far an unfinished run is, in sentences; none for one that has ended."""
    if manifest.get("state") not in (RUNNING, STOPPED):
        return []
    progress = manifest["progress"]
    waiting = progress["jobs"] - len(progress["images"])
    lines = [f"{job}: {done:,} of {count:,} images so far." for job, (done, count) in progress["images"].items()]
    if waiting:
        lines.append(f"{waiting} of {progress['jobs']} jobs {'has' if waiting == 1 else 'have'} not begun.")
    if manifest["state"] == RUNNING:
        return ["This run hasn't ended: values are of the images that are done.", *lines]
    return ["This run was stopped before its end: the same command goes on from there.", *lines]


def check_ended(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raises BenchError for a run whose last command hasn't come to its end."""
    state = manifest.get("state")
    if state == RUNNING:
        raise BenchError(f"{folder} is still being computed; wait until its command has ended.")
    if state == STOPPED:
        raise BenchError(f"the last command of {folder} was stopped before its end; run the same command again.")


def _with_files(folder: Path, part: dict[str, Any]) -> dict[str, Any]:
    """A job's manifest with the record files that are there, and {"done": [images that are done, all images]}."""
    (job,) = part["jobs"]
    shards = part.pop("shards", None)
    if shards is None:
        return {**part, "done": [job["images"], job["images"]]}
    held, wanted = holdings.read(folder, shards.keys()), job["values"]
    needed = [file for shard in shards for file in held.needed(shard, wanted)]
    done = sum(count for shard, count in shards.items() if not held.missing(shard, wanted))
    names = [file.name for file in needed]
    return {
        **part,
        "jobs": [{**job, "records": names}],
        "records": names,
        "curves": [file.curve_file for file in needed if file.curve_file is not None],
        "axes": {name: axes for file in needed for name, axes in file.axes.items()},
        "done": [done, sum(shards.values())],
    }


def _write(path: Path, about: Mapping[str, Any]) -> None:
    """Another command that ends removes the folder, whatever step of writing this one is at: then it is made anew."""
    for last in (False, False, True):
        try:
            sealed.write_json(path, about)
            return
        except BenchError as error:
            if last or not isinstance(error.__cause__, FileNotFoundError):
                raise


def _read(path: Path) -> dict[str, Any]:
    try:
        return sealed.read_json(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} can't be read ({error}); run the same command again.") from error
