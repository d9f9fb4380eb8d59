"""The files that a run folder may have, with one table of their kinds, and its manifest.

The report, the gate and the next command find a run's files by this table. A new kind of file needs
a row in the table and the module that writes it. A module whose kind of file is made for each job
has `STAGES[kind]` and `ensure_<kind>`.
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
from typing import Literal, NamedTuple

from axiom_bench.errors import BenchError
from axiom_bench.kinds import MAX_SHOWN, shorten_for_error
from axiom_bench.records import files
from axiom_bench.records.entries import DataEntry, Facts, Manifest, ModelEntry, parse


class Artefact(NamedTuple):
    """A kind of files in a run folder."""

    place: str
    """A folder of the run folder, or the name of a file. If a report is made from the folder's
    files, this is also the manifest's key of their names.
    """
    suffixes: tuple[str, ...]
    """The suffixes of the folder's files; empty for a file."""
    written_by: str
    """The module or folder of the package that writes these files."""
    read_by: str
    """The module or folder of the package that reads them."""
    report: Literal["input", "output", ""] = ""
    """The role of these files for a report: it is made from them, or writes them."""


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
    Artefact("choice.json", (), "axiom_bench.cli.racing.command", "report"),
    Artefact("manifest.json", (), "axiom_bench.records.artefacts", "records.artefacts"),
    Artefact("report.json", (), "axiom_bench.report.summary", "report"),
    Artefact("report.html", (), "report", "", "output"),
    Artefact("tables", ("csv", "md", "tex", "bib"), "report", "", "output"),
    Artefact("figures", ("png", "pdf", "svg"), "report", "", "output"),
    Artefact("report", ("html",), "report", "", "output"),  # if the gallery has many images
    Artefact("report/pictures", ("webp", "png"), "report", "", "output"),
    Artefact("paper", ("html", "md", "tex", "png", "pdf", "svg"), "report.paper", ""),
)


def listed_kinds() -> tuple[str, ...]:
    """Return the kinds of files that a manifest lists and a report is made from, by the names of
    their folders.
    """
    return tuple(artefact.place for artefact in TABLE if artefact.report == "input")


def writer_by_kind() -> dict[str, str]:
    """Return {kind: the module that makes its files for a job} for files that are made after the
    records.
    """
    return {
        artefact.place: artefact.written_by
        for artefact in TABLE
        if artefact.report == "input" and artefact.written_by != SHARDS
    }


def report_files(folder: Path) -> list[Path]:
    """Return the files of a run folder that have names of a report's files, also a user's own."""
    rows = [artefact for artefact in TABLE if artefact.report == "output"]
    paths = [folder / artefact.place for artefact in rows if not artefact.suffixes]
    for artefact in rows:
        for suffix in artefact.suffixes:
            paths.extend(sorted((folder / artefact.place).glob(f"*.{suffix}")))
    return paths


NAME = "manifest.json"
# The format of a run folder. Later formats are read together with this one; others are refused.
FORMAT = 4
HASHES = "sha256"  # the manifest's key of {file: hash} of the files that it lists
SHA256_DIGITS = 64


class OtherFormat(BenchError):
    """The error for a run folder of another version of this program."""


def no_run_error(folder: Path) -> BenchError:
    """Return the error for a folder without a manifest, or a folder that doesn't exist."""
    return BenchError(
        f"{folder} is no run folder: it has no {NAME}; give results/<experiment>/<run>."
    )


def read(folder: Path) -> Manifest:
    """Return the parsed manifest.

    Raise BenchError if it is missing, can't be read, or isn't a run's manifest, and `OtherFormat`
    if it has another format.
    """
    file = folder / NAME
    try:
        content = files.read(file)
        manifest = files.parse_mapping(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no_run_error(folder) from error
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{file} can't be read ({error}); run the same command again to replace it."
        ) from error
    if not {"experiment", "run"} <= manifest.keys():
        raise BenchError(
            f"{file} isn't a run's manifest; run the same command again to replace it."
        )
    # before the checksum, so that a run of another version is reported as such
    if manifest.get("format") != FORMAT:
        raise _other_format(folder, manifest)
    try:
        if not files.is_intact(NAME, content):
            raise ValueError("its checksum doesn't match")
        return parse(manifest)
    except ValueError as error:
        raise BenchError(
            f"{file} is damaged: {error}; run the same command again to replace it."
        ) from error


def _other_format(folder: Path, manifest: Mapping[str, object]) -> OtherFormat:
    """Return the error, with the version that wrote the run and the command that installs it. The
    manifest may have any content.
    """
    versions = manifest.get("versions")
    version = versions.get("axiom-bench") if isinstance(versions, dict) else None
    command = installing(version, manifest.get("git_commit"))
    to_read = f"To read it, run {command}. " if command else ""
    return OtherFormat(
        f"{folder} is a run of another version of axiom-bench ({shorten_for_error(version)}, "
        f"format {shorten_for_error(manifest.get('format'))}, not {FORMAT}). {to_read}To compute "
        "here, give its command another run=NAME, or remove the folder."
    )


def installing(version: object, commit: object) -> str:
    """Return the command that installs a version of axiom-bench; a commit is more exact than a
    version. The command is empty if the texts can't be a version and a commit.
    """
    is_commit = re.fullmatch(r"[0-9a-f]{40}", str(commit)) is not None
    is_version = re.fullmatch(r"[0-9][0-9A-Za-z.+!-]{0,40}", str(version)) is not None
    if not is_commit and not is_version:
        return ""
    revision = commit if is_commit else f"v{version}"  # the tag of a release
    return f"git checkout {revision} && pip install . in a clone of the repository"


def write(folder: Path, manifest: Manifest, indent: int | None = 1) -> None:
    """Write the manifest, completely or not at all, with the hashes of the files that it lists.

    Hashes that the manifest has already stay, so that later damage is found. `indent` is that of
    the JSON text; `None` is the shortest text. Raise BenchError if it can't be written.
    """
    hashes: dict[str, str] = {}
    for name in dict.fromkeys(_listed_names(manifest)):
        with suppress(OSError):  # the reader of the file reports that it is missing
            known_hash = manifest.sha256.get(name)
            hashes[name] = known_hash or files.sha256(files.read(folder / name))
    written = manifest.model_copy(update={"format": FORMAT, HASHES: hashes})
    files.write_json(folder / NAME, written.model_dump(), indent)


def check_format(folder: Path) -> None:
    """Raise `OtherFormat` if the folder has a run of another version, before a command computes
    into it.
    """
    try:
        read(folder)
    except OtherFormat:
        raise
    except BenchError:  # a manifest that is missing or damaged is written again
        return


def content_of(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Return the bytes of a file that a manifest lists. Raise `Damaged` if they don't have the
    manifest's hash.
    """
    return files.content_of(folder / name, manifest.sha256.get(name))


def hash_of(path: Path) -> str | None:
    """Return a file's SHA-256 from the manifest of its run folder; None if the manifest has
    none.
    """
    manifest = path.parents[1] / NAME
    try:
        state = manifest.stat()
        hashes = _hashes(manifest, state.st_mtime_ns, state.st_size)
    except OSError:
        return None
    return hashes.get(f"{path.parent.name}/{path.name}")


@lru_cache(maxsize=1)
def _hashes(path: Path, modified: int, size: int) -> dict[str, str]:
    """Return the hashes of a manifest, which is read again if its time or size has changed."""
    try:
        return files.read_json(path).get(HASHES) or {}
    except ValueError:
        return {}


def _listed_names(manifest: Manifest) -> Iterator[str]:
    """Yield the files that a manifest lists."""
    for kind in listed_kinds():
        yield from manifest.files(kind)
    for job in manifest.jobs:
        yield from job.records


# A run folder may come from a stranger, so it is checked before its files are read.


def check_folders(folder: Path) -> None:
    """Raise BenchError if a folder that is read or written leads out of the run folder.

    The same holds for a file that is read first. Such a file must also not be a pipe or a device,
    on which reading would wait.
    """
    _check(folder, [artefact.place for artefact in TABLE if artefact.suffixes or artefact.read_by])


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise BenchError if a file that a manifest lists leads out of the run folder or isn't a file,
    see `check_folders`.

    Files of combined runs are in other folders, and need their whole hash: a stranger can name a
    file of yours, but doesn't know its hash.
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
        except (OSError, ValueError):  # a missing file is reported by its reader
            continue
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise BenchError(
                f"{path} leads out of the run folder; replace the link by the files themselves."
            )
        if not (os.path.isfile(path) or os.path.isdir(path)):
            raise BenchError(f"{path} is no file; run the same command again, which replaces it.")


def merge_facts(parts: Iterable[Facts]) -> Facts:
    """Return the models, data sets, methods and metrics of several jobs or runs.

    The layers and images of a model are joined, and so are the ids of a data set's images. The last
    entry of a method or a metric counts.
    """
    merged = Facts(methods={}, metrics={}, models={}, data={})
    for part in parts:
        merged.methods.update(part.methods)
        merged.metrics.update(part.metrics)
        for name, model in part.models.items():
            if name in merged.models:
                model = _with_layers(merged.models[name], model)
            merged.models[name] = model
        for name, data in part.data.items():
            if name in merged.data:
                data = _with_images(merged.data[name], data)
            merged.data[name] = data
    for name, model in merged.models.items():
        merged.models[name] = model.model_copy(update={"layers": list(model.all_layers)})
    return merged


def common_value(values: Iterable[object]) -> object:
    """Return the value that all have, or the list of the different values."""
    distinct = list({json.dumps(value, sort_keys=True): value for value in values}.values())
    return distinct[0] if len(distinct) == 1 else distinct


def _with_layers(first: ModelEntry, second: ModelEntry) -> ModelEntry:
    """Merge the entries of one model from two jobs, which may differ in layer and data."""
    layers = list(dict.fromkeys([*first.all_layers, *second.all_layers]))
    merged = {
        "layers": layers,
        "depths": first.depths | second.depths,
        "images": first.images | second.images,
    }
    return first.model_copy(update=merged)


def _with_images(first: DataEntry, second: DataEntry) -> DataEntry:
    """Merge the entries of one data set from two jobs.

    If their images differ, the entry has the images of both and a fingerprint of both. If networks
    find other objects in the same images, the fingerprint stays.
    """
    if first.ids == second.ids:
        return second
    fingerprint = first.fingerprint
    if first.fingerprint != second.fingerprint:
        both = f"{first.fingerprint} {second.fingerprint}"
        fingerprint = hashlib.sha256(both.encode()).hexdigest()
    ids = list(dict.fromkeys([*first.ids, *second.ids]))
    notes = list(dict.fromkeys([*first.notes, *second.notes]))
    merged = {"ids": ids, "fingerprint": fingerprint, "notes": notes}
    return second.model_copy(update=merged)
