"""What a run folder may hold, the one table of its kinds of files, and its manifest. A new kind of
file is a row here, and the module that writes it: of one that is made for each job, with
`STAGES[kind]` and `ensure_<kind>`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from axiom_bench.errors import BenchError
from axiom_bench.kinds import MAX_SHOWN, shown
from axiom_bench.records import files
from axiom_bench.records.entries import DataEntry, Facts, Manifest, ModelEntry, parse


class Artefact(NamedTuple):
    """place: a folder of the run folder, also the manifest's key of its files' names where these
    are an input of the report; or the name of a file. suffixes: of the folder's files. written_by,
    read_by: modules or rooms. report: whether a report is made from it, or makes it.
    """

    place: str
    suffixes: tuple[str, ...]
    written_by: str
    read_by: str
    report: Literal["input", "output", ""] = ""


SHARDS = "axiom_bench.run.shards"
TABLE = (
    Artefact("records", ("parquet",), SHARDS, "records.reading", "input"),
    Artefact("curves", ("parquet",), SHARDS, "records.reading", "input"),
    Artefact("whole_set", ("parquet",), "axiom_bench.run.whole_set", "records.reading", "input"),
    Artefact("runtime", ("parquet",), "axiom_bench.run.samples", "records.reading", "input"),
    Artefact("pictures", ("npz",), "axiom_bench.run.samples", "records.store", "input"),
    Artefact("gallery", ("parquet",), "axiom_bench.run.samples", "records.store", "input"),
    Artefact("answers", ("json",), SHARDS, "run"),
    Artefact("predictions", ("json",), "axiom_bench.run.choosing", "run"),
    Artefact("objects", ("parquet",), "axiom_bench.run.objects", "run"),
    Artefact("examination", ("json",), "axiom_bench.run.worker", "run"),
    Artefact("image_hashes.json", (), "axiom_bench.run.job", "run"),
    Artefact("running", ("json",), "axiom_bench.records.running", "records.running"),
    Artefact("manifest.json", (), "axiom_bench.records.artefacts", "records.artefacts"),
    Artefact("report.json", (), "axiom_bench.report.summary", "report"),
    Artefact("report.html", (), "report", "", "output"),
    Artefact("tables", ("csv", "md", "tex"), "report", "", "output"),
    Artefact("figures", ("png", "pdf", "svg"), "report", "", "output"),
    Artefact("report", ("html",), "report", "", "output"),  # of a gallery with many images
    Artefact("report/pictures", ("webp", "png"), "report", "", "output"),
    Artefact("paper", ("html", "md", "tex", "png", "pdf", "svg"), "report.paper", ""),
)


def listed() -> tuple[str, ...]:
    """The kinds of files that a manifest lists, under the names of their folders: what a report is
    made from.
    """
    return tuple(artefact.place for artefact in TABLE if artefact.report == "input")


def steps() -> dict[str, str]:
    """{kind: the module that makes its files for a job}, of what is made after the records."""
    made = (
        artefact
        for artefact in TABLE
        if artefact.report == "input" and artefact.written_by != SHARDS
    )
    return {artefact.place: artefact.written_by for artefact in made}


def outputs(folder: Path) -> list[Path]:
    """The files of a run folder that have names as a report's, also a user's own."""
    rows = [artefact for artefact in TABLE if artefact.report == "output"]
    named = [folder / artefact.place for artefact in rows if not artefact.suffixes]
    globs = (
        (folder / artefact.place).glob(f"*.{suffix}")
        for artefact in rows
        for suffix in artefact.suffixes
    )
    return [*named, *(path for paths in globs for path in sorted(paths))]


NAME = "manifest.json"
FORMAT = 4  # of a run folder. Later formats are read together with this one; others are refused
HASHES = "sha256"  # {file: hash} of the files that are listed
SHA256_DIGITS = 64


class OtherFormat(BenchError):
    """A run folder of another version of this program."""


def no_run(folder: Path) -> BenchError:
    """The error for a folder without a manifest, or no folder."""
    return BenchError(
        f"{folder} is no run folder: it has no {NAME}; give results/<experiment>/<run>."
    )


def read(folder: Path) -> Manifest:
    """Return the parsed manifest. Raises BenchError where it is missing, can't be read, or isn't a
    run's manifest; `OtherFormat` for one of another format.
    """
    file = folder / NAME
    try:
        content = files.read(file)
        manifest = files.mapping(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no_run(folder) from error
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{file} can't be read ({error}); run the same command again to write it anew."
        ) from error
    if not {"experiment", "run"} <= manifest.keys():
        raise BenchError(
            f"{file} isn't a run's manifest; run the same command again to write it anew."
        )
    if manifest.get("format") != FORMAT:
        raise _other_format(folder, manifest)
    try:
        if not files.is_intact(NAME, content):
            raise ValueError("its checksum doesn't match")
        return parse(manifest)
    except ValueError as error:
        raise BenchError(
            f"{file} is damaged: {error}; run the same command again to write it anew."
        ) from error


def _other_format(folder: Path, manifest: Mapping[str, Any]) -> OtherFormat:
    """Return the error, with the version that wrote the run and the command that installs it. The
    manifest may hold anything.
    """
    versions = manifest.get("versions")
    version = versions.get("axiom-bench") if isinstance(versions, dict) else None
    command = installing(version, manifest.get("git_commit"))
    to_read = f"To read it, run {command}. " if command else ""
    return OtherFormat(
        f"{folder} is a run of another version of axiom-bench ({shown(version)}, format "
        f"{shown(manifest.get('format'))}, not {FORMAT}). {to_read}To compute here, give its "
        "command another run=NAME, or remove the folder."
    )


def installing(version: object, commit: object) -> str:
    """Return the command that installs a version of axiom-bench, of which the commit says more;
    empty if the texts can't be a version and a commit.
    """
    is_commit = re.fullmatch(r"[0-9a-f]{40}", str(commit)) is not None
    is_version = re.fullmatch(r"[0-9][0-9A-Za-z.+!-]{0,40}", str(version)) is not None
    if not is_commit and not is_version:
        return ""
    revision = commit if is_commit else f"v{version}"  # the tag of a release
    return f"git checkout {revision} && pip install . in a clone of the repository"


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, completely or not at all, with the hashes of the files that it lists.
    Hashes that it has stay, so that later damage is found. Raises BenchError if it can't be
    written.
    """
    hashes_of_files: dict[str, str] = {}
    for name in dict.fromkeys(_listed_names(manifest)):
        with suppress(OSError):  # the reader of the file reports that it is missing
            hashes_of_files[name] = manifest.sha256.get(name) or files.sha256(
                files.read(folder / name)
            )
    written = manifest.model_copy(update={"format": FORMAT, HASHES: hashes_of_files})
    files.write_json(folder / NAME, written.model_dump(), indent=1)


def check_format(folder: Path) -> None:
    """Raises `OtherFormat` for a folder with a run of another version, before a command computes
    into it.
    """
    try:
        read(folder)
    except OtherFormat:
        raise
    except BenchError:  # there is none, or it is written anew
        return


def content_of(folder: Path, manifest: Manifest, name: str) -> bytes:
    """The bytes of a file that a manifest lists. Raises `Damaged` where they aren't those that it
    counts.
    """
    return files.content_of(folder / name, manifest.sha256.get(name))


def hash_of(path: Path) -> str | None:
    """A file's SHA-256 as the manifest of its run folder has it, if it has."""
    manifest = path.parents[1] / NAME
    try:
        state = manifest.stat()
        return _hashes(manifest, state.st_mtime_ns, state.st_size).get(
            f"{path.parent.name}/{path.name}"
        )
    except OSError:
        return None


@lru_cache(maxsize=1)
def _hashes(path: Path, modified: int, size: int) -> dict[str, str]:
    try:
        return files.read_json(path).get(HASHES) or {}
    except ValueError:
        return {}


def _listed_names(manifest: Manifest) -> Iterator[str]:
    """Yield the files that it lists."""
    for kind in listed():
        yield from manifest.files(kind)
    for job in manifest.jobs:
        yield from job.records


# A run folder may come from a stranger.


def check_folders(folder: Path) -> None:
    """Raises BenchError where a folder that is read or written leads out of the run folder, or a
    file that is read first does or is none, as a pipe, which would be waited for.
    """
    _check(folder, [artefact.place for artefact in TABLE if artefact.suffixes or artefact.read_by])


def check_files(folder: Path, manifest: Manifest) -> None:
    """As `check_folders`, for the files that a manifest lists. Those of combined runs lie in other
    folders. They need their whole hash: a stranger can name a file of yours, and doesn't know its
    hash.
    """
    names = dict.fromkeys(_listed_names(manifest))
    if not manifest.is_combined:
        _check(folder, (*dict.fromkeys(map(os.path.dirname, names)), *names))
        return
    for name in names:
        if len(manifest.sha256.get(name, "")) != SHA256_DIGITS:
            raise BenchError(
                f"{folder} combines runs, and its {NAME} has no hash of {name[:MAX_SHOWN]}; "
                f"combine them again: axiom-bench report RUN RUN --output {folder}."
            )


def _check(folder: Path, names: Iterable[str]) -> None:
    root = os.path.realpath(folder)
    for name in names:
        path = os.path.join(folder, name)
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                continue
        except (OSError, ValueError):  # absent: whoever reads it says so
            continue
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise BenchError(f"{path} leads out of the run folder; put there the files themselves.")
        if not (os.path.isfile(path) or os.path.isdir(path)):
            raise BenchError(f"{path} is no file; run the same command again, which replaces it.")


def merge_facts(parts: Iterable[Facts]) -> Facts:
    """Return the models, data sets, methods and metrics of several jobs or runs.

    The layers and images of a model, and the ids of a data set's images, are put together. Of
    methods and metrics the last entry counts.
    """
    merged = Facts(methods={}, metrics={}, models={}, data={})
    for part in parts:
        merged.methods.update(part.methods)
        merged.metrics.update(part.metrics)
        for name, model in part.models.items():
            merged.models[name] = (
                _with_layers(merged.models[name], model) if name in merged.models else model
            )
        for name, data in part.data.items():
            merged.data[name] = (
                _with_images(merged.data[name], data) if name in merged.data else data
            )
    for name, model in merged.models.items():
        merged.models[name] = model.model_copy(update={"layers": list(model.all_layers)})
    return merged


def common(values: Iterable[Any]) -> Any:
    """The value that all have, or the list of the different ones."""
    distinct = list({json.dumps(value, sort_keys=True): value for value in values}.values())
    return distinct[0] if len(distinct) == 1 else distinct


def _with_layers(first: ModelEntry, second: ModelEntry) -> ModelEntry:
    """Merge the entries of one model from two jobs, which may differ in layer and data."""
    merged = {
        "layers": list(dict.fromkeys([*first.all_layers, *second.all_layers])),
        "depths": first.depths | second.depths,
        "images": first.images | second.images,
    }
    return first.model_copy(update=merged)


def _with_images(first: DataEntry, second: DataEntry) -> DataEntry:
    """Merge the entries of one data set from two jobs. If their images differ, the entry has the
    images of both and a fingerprint of both. If networks find other objects in the same images, the
    fingerprint stays.
    """
    if first.ids == second.ids:
        return second
    fingerprint = first.fingerprint
    if first.fingerprint != second.fingerprint:
        fingerprint = hashlib.sha256(
            f"{first.fingerprint} {second.fingerprint}".encode()
        ).hexdigest()
    merged = {
        "ids": list(dict.fromkeys([*first.ids, *second.ids])),
        "fingerprint": fingerprint,
        "notes": list(dict.fromkeys([*first.notes, *second.notes])),
    }
    return second.model_copy(update=merged)
