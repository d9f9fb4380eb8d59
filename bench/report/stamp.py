"""Whether a run folder's report is up to date: hashes of what it was made from and of what it wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from axiom_bench.records import artefacts, files
from axiom_bench.report.options import Options

FILE = "report_stamp.json"  # in the run folder, beside the page
PAGE = "report.html"
LIBRARIES = ("matplotlib", "seaborn", "pandas", "numpy", "scipy", "jinja2", "Pillow")
PACKAGES = ("report", "records", "statistics", "judging")
SOURCES = (".py", ".j2", ".css", ".js", ".ttf")  # suffixes of files whose content decides a report
State = list[int]  # of a file: its size, and when it and its entry in the folder last changed, in nanoseconds
NOT_DECIDING = ("created", "report_seconds", "verified")  # keys of the manifest that differ though nothing else does


def inputs(folder: Path, manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what decides a report: the manifest, the files that it lists (by name and state),
    the options, the source of PACKAGES, and the versions of the libraries that draw.

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
    """Whether the folder holds a report of these inputs, see `headline`."""
    return headline(folder, inputs) is not None


def headline(folder: Path, inputs: str) -> list[str] | None:
    """The headline of the folder's report; None where it holds none of these inputs, with every file as it was written
    here. No archive can bring the time at which this machine made a file, so that a page which came with a stranger's
    folder is written anew, whatever its stamp says."""
    stamp = _read(folder)
    lines, outputs = stamp.get("headline"), stamp.get("outputs")
    if stamp.get("inputs") != inputs or not isinstance(lines, list) or not isinstance(outputs, dict):
        return None
    is_written = PAGE in outputs and all(_state(folder / name) == state for name, state in outputs.items())
    return [str(line) for line in lines] if is_written else None


def begin(folder: Path) -> dict[str, State]:
    """Remove what the last report wrote: a figure of a metric that is gone must not stay beside the new ones.

    Other files of these folders, which a user put there, stay. They are noted, so that the files of a report that is
    interrupted are known as its own. Raises BenchError where the folder can't be written.
    """
    stamp, present = _read(folder), _states(folder)
    outputs, kept = stamp.get("outputs"), stamp.get("kept")
    if isinstance(kept, dict):  # the last report was interrupted
        stale = [name for name, state in present.items() if kept.get(name) != state]
    else:
        stale = [name for name in present if isinstance(outputs, dict) and name in outputs]
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    remaining = {name: state for name, state in present.items() if name not in stale}
    _write(folder, {"kept": remaining})
    return remaining


def seconds(folder: Path) -> float | None:
    """How long the folder's report took to write; None where it has none."""
    taken = _read(folder).get("seconds")
    return taken if isinstance(taken, float) else None


def shown(folder: Path, name: str) -> str:
    """A text that the folder's report shows, however old; empty where there is none. name: "conclusion", its title
    where it says who is best or why nobody is; "accuracy"."""
    return str(_read(folder).get(name) or "")


def write(folder: Path, inputs: str, shown: Mapping[str, Any], before: Mapping[str, State], seconds: float) -> None:
    """Record that the folder's report is of these inputs, and what else shows of it: "headline", which takes longer to
    compute than to read, "conclusion" and "accuracy".

    before: from `begin`. seconds: that it took. Raises BenchError where the folder can't be written.
    """
    written = {name: state for name, state in _states(folder).items() if before.get(name) != state}
    facts = {"inputs": inputs, "outputs": written, **shown}
    _write(folder, facts | {"seconds": round(seconds, 2)})


def _read(folder: Path) -> dict[str, Any]:
    try:
        return files.read_json(folder / FILE)
    except (OSError, ValueError):  # no stamp, or a damaged one: the report is written again
        return {}


def _write(folder: Path, stamp: Mapping[str, Any]) -> None:
    files.write_json(folder / FILE, dict(sorted(stamp.items())), indent=1)


def _states(folder: Path) -> dict[str, State]:
    """{name: state} of the files that have names as a report's."""
    states = ((path.relative_to(folder).as_posix(), _state(path)) for path in artefacts.outputs(folder))
    return {name: state for name, state in states if state is not None}


def _state(file: Path) -> State | None:
    try:
        stat = file.stat()
    except (OSError, ValueError):  # whoever reads it says so
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


@cache
def _source() -> str:
    """SHA-256 over the source of the report."""
    digest = hashlib.sha256()
    for path in source_files():
        content = path.read_bytes()
        digest.update(f"{path.parent.name}/{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def source_files() -> list[Path]:
    """The files whose content decides a report: this package, those that read and compare the run, and the overlay."""
    bench = Path(__file__).resolve().parents[1]
    inside = (path for package in PACKAGES for path in (bench / package).rglob("*") if path.suffix in SOURCES)
    return sorted([bench / "explanation" / "overlay.py", *inside])
