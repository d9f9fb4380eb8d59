"""Whether a run folder's report is up to date: hashes of what it was made from and of what it wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from axiom_bench.records import artefacts, files, sealed
from axiom_bench.report.options import Options

FILE = "report_stamp.json"  # in the run folder, beside the page
PAGE = "report.html"
LIBRARIES = ("matplotlib", "seaborn", "pandas", "numpy", "scipy", "jinja2", "Pillow")
SOURCES = (".py", ".j2", ".css", ".js", ".ttf")  # suffixes of files whose content decides a report
Replaced = Mapping[str, tuple[int, int] | None]  # the files that a report leaves: name -> state
NOT_DECIDING = ("created", "report_seconds")  # keys of the manifest that differ though nothing else does


def inputs(folder: Path, manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what decides a report: the manifest, the files that it lists (by name, size and modification time),
    the options, the source of this package and of `records`, and the versions of the libraries that draw.

    Raises BenchError for an unknown option.
    """
    listed = [str(file) for kind in artefacts.listed() for file in manifest.get(kind) or ()]
    facts = {
        "manifest": {key: value for key, value in manifest.items() if key not in NOT_DECIDING},
        "options": repr(Options.of(manifest.get("config") or {})),  # with the defaults
        "files": {file: _state(folder / file) for file in listed},
        "source": _source(),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def is_current(folder: Path, inputs: str) -> bool:
    """Whether the folder holds a report of these inputs, with every file as it was written."""
    return headline(folder, inputs) is not None


def headline(folder: Path, inputs: str) -> list[str] | None:
    """The headline of the folder's report; None where it holds none of these inputs, see `is_current`."""
    stamp = _read(folder)
    lines, outputs = stamp.get("headline"), stamp.get("outputs")
    if stamp.get("inputs") != inputs or not isinstance(lines, list) or not isinstance(outputs, dict):
        return None
    if not outputs or stamp.get("made") != _made(folder):
        return None
    return [str(line) for line in lines] if outputs.items() <= _hashes(folder).items() else None


def begin(folder: Path) -> Replaced:
    """Remove what the last report wrote: a figure of a metric that is gone must not stay beside the new ones.

    Other files of these folders, which a user put there, stay. They are noted, so that the files of a report that is
    interrupted are known as its own. Raises BenchError where the folder can't be written.
    """
    stamp, present = _read(folder), _hashes(folder)
    outputs, kept = stamp.get("outputs"), stamp.get("kept")
    if isinstance(kept, dict):  # the last report was interrupted
        own = [name for name, digest in present.items() if kept.get(name) != digest]
    else:
        own = [name for name in present if isinstance(outputs, dict) and name in outputs]
    for name in own:
        (folder / name).unlink(missing_ok=True)
    remaining = {name: digest for name, digest in present.items() if name not in own}
    _write(folder, {"kept": remaining})
    return {name: _state(folder / name) for name in remaining}


def seconds(folder: Path) -> float | None:
    """How long the folder's report took to write; None where it has none, or earlier versions wrote it."""
    taken = _read(folder).get("seconds")
    return taken if isinstance(taken, float) else None


def write(folder: Path, inputs: str, headline: Sequence[str], before: Replaced, seconds: float) -> None:
    """Record that the folder's report is of these inputs, and its headline, which takes longer to compute than to read.

    before: from `begin`. seconds: that it took. Raises BenchError where the folder can't be written.
    """
    written = {name: digest for name, digest in _hashes(folder).items() if before.get(name) != _state(folder / name)}
    facts = {"inputs": inputs, "outputs": written, "headline": list(headline), "made": _made(folder)}
    _write(folder, facts | {"seconds": round(seconds, 2)})


def _read(folder: Path) -> dict[str, Any]:
    try:
        return sealed.parse(files.read(folder / FILE))[0]
    except (OSError, ValueError):  # no stamp, or a damaged one: the report is written again
        return {}


def _write(folder: Path, stamp: Mapping[str, Any]) -> None:
    sealed.write(folder / FILE, dict(sorted(stamp.items())), indent=1)


def _made(folder: Path) -> int | None:
    """When this machine made the page as a file, in nanoseconds: no archive can bring this time along, so that a page
    which came with a stranger's folder is written anew, whatever its stamp says."""
    try:
        return (folder / PAGE).stat().st_ctime_ns
    except OSError:
        return None


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in artefacts.outputs(folder)
        if path.is_file()
    }


def _state(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:  # whoever reads it says so
        return None
    return stat.st_size, stat.st_mtime_ns


@cache
def _source() -> str:
    """SHA-256 over the source of the report."""
    digest = hashlib.sha256()
    for path in source_files():
        content = path.read_bytes()
        digest.update(f"{path.parent.name}/{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def source_files() -> list[Path]:
    """The files whose content decides a report: this package, `records`, which reads the run, and the overlay."""
    packages = [Path(module).resolve().parent for module in (__file__, files.__file__)]
    overlay = packages[0].parent / "explanation" / "overlay.py"
    return sorted([overlay, *(path for package in packages for path in package.rglob("*") if path.suffix in SOURCES)])
