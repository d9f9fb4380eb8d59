"""manifest.json: a run's configuration, its models, data, methods and metrics, and the files that count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.kinds import shown
from axiom_bench.records import artefacts, files, sealed

NAME = "manifest.json"
FORMAT = 4  # of a run folder; one of another format is refused
OF_JOBS = ("seconds", "work")  # {job: {name: number}}: of each stage, and how much was computed
MAX_PATH = 1000  # characters of a file's name in the folder


class OtherFormat(BenchError):
    """A run folder of another version of this program."""


def read(folder: Path) -> dict[str, Any]:
    """The parsed manifest. Raises BenchError where it is missing, can't be read, or isn't a run's manifest;
    `OtherFormat` for one of another format."""
    file = folder / NAME
    try:
        content = files.read(file)
        manifest = sealed.mapping(content)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BenchError(f"{folder} is no run folder: it has no {NAME}; give results/<experiment>/<run>.") from error
    except (OSError, ValueError) as error:
        raise BenchError(f"{file} can't be read ({error}); run the same command again to write it anew.") from error
    if not {"experiment", "run"} <= manifest.keys():
        raise BenchError(f"{file} isn't a run's manifest; run the same command again to write it anew.")
    if manifest.get("format") != FORMAT:
        raise OtherFormat(
            f"{folder} is a run of another version of axiom-bench (format {shown(manifest.get('format'))}, not "
            f"{FORMAT}); give its command another run=NAME, or remove the folder."
        )
    wrong = _wrong_entry(manifest) if sealed.is_intact(NAME, content) else "its checksum doesn't match"
    if wrong is not None:
        raise BenchError(f"{file} is damaged: {wrong}; run the same command again to write it anew.")
    return manifest


def check_format(folder: Path) -> None:
    """Raises `OtherFormat` for a folder with a run of another version, before a command computes into it."""
    try:
        read(folder)
    except OtherFormat:
        raise
    except BenchError:  # there is none, or it is written anew
        return


def _wrong_entry(manifest: Mapping[str, Any]) -> str | None:
    """What is wrong with the first entry that isn't of the kind that its readers rely on; None where all are.

    Names of files stay in the folder, since a run folder may come from a stranger; those of combined runs, which are
    only read, name files of the runs' own folders.
    """
    from axiom_bench.records import shape  # here: `--help` needs no pydantic

    wrong = shape.problem(manifest, shape.Manifest)
    for kind in artefacts.listed():
        wrong = wrong or shape.problem(manifest.get(kind), shape.Names, kind)
    if wrong is not None or manifest.get("runs"):
        return wrong
    names = [(kind, name) for kind in artefacts.listed() for name in manifest.get(kind) or ()]
    names += [("jobs", name) for job in manifest.get("jobs") or () for name in job.get("records") or ()]
    for kind, name in names:
        if not _is_inside(name):
            return f"its {kind!r} names {shape.short(name)}, which is no file of a run folder"
    return None


def _is_inside(name: str) -> bool:
    if len(name) > MAX_PATH:
        return False
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def write(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest, completely or not at all. Raises BenchError where it can't."""
    sealed.write_json(folder / NAME, {**manifest, "format": FORMAT}, indent=1)


def merge_facts(facts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """{"methods", "metrics", "models", "data": {name: about}} of several jobs or runs; of models their layers and
    images are put together, of data sets the ids of their images, which may depend on the model; of the others the last
    counts."""
    merged: dict[str, dict[str, Any]] = {key: {} for key in ("methods", "metrics", "models", "data")}
    for part in facts:
        for key, into in merged.items():
            for name, about in (part.get(key) or {}).items():
                into[name] = PUT_TOGETHER[key](into[name], about) if key in PUT_TOGETHER and name in into else about
    for about in merged["models"].values():
        about["layers"] = _layers(about)
    return merged


def common(values: Iterable[Any]) -> Any:
    """The value that all have, or the list of the different ones."""
    distinct = list({json.dumps(value, sort_keys=True): value for value in values}.values())
    return distinct[0] if len(distinct) == 1 else distinct


def _with_layers(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """One model's facts from two jobs, which may differ in layer and data."""
    layers = [*_layers(first), *_layers(second)]
    merged = {key: (first.get(key) or {}) | (second.get(key) or {}) for key in ("depths", "images")}
    return {**first, "layers": list(dict.fromkeys(layers)), **merged}


def _with_images(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """One data set's facts from two jobs: where their images differ, those of both, and a fingerprint of both."""
    ids, own = first.get("ids") or [], second.get("ids") or []
    if ids == own:
        return second
    both = hashlib.sha256(f"{first.get('fingerprint')} {second.get('fingerprint')}".encode()).hexdigest()
    return {**second, "ids": list(dict.fromkeys([*ids, *own])), "fingerprint": both}


def _layers(about: Mapping[str, Any]) -> list[str]:
    return list(about.get("layers") or [about["layer"]])


PUT_TOGETHER = {"models": _with_layers, "data": _with_images}
