"""Whether a run folder's report is up to date: hashes of what it was made from and of what it wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from axiom_bench.records import files
from axiom_bench.report.options import Options

FILE = "report_stamp.json"  # in the run folder, beside the page
PAGE = "report.html"
OUTPUTS = {  # folder -> suffixes of the report's files
    **{"tables": ("csv", "md", "tex"), "figures": ("png", "pdf", "svg")},
    **{"report": ("html",), "report/pictures": ("webp", "png")},  # of a gallery with many images
}
INPUTS = ("records", "curves", "runtime", "whole_set", "pictures", "gallery")  # the manifest's lists of files
LIBRARIES = ("matplotlib", "seaborn", "pandas", "numpy", "scipy", "jinja2", "Pillow")
SOURCES = (".py", ".j2", ".css", ".js", ".ttf")  # suffixes of files whose content decides a report
NOT_SHOWN = ("created",)  # keys of the manifest that change from run to run though nothing else does


def inputs(folder: Path, manifest: Mapping[str, Any]) -> str:
    """SHA-256 of what decides a report: the manifest, the files that it lists (by name, size and modification time),
    the options, the source of this package and of `records`, and the versions of the libraries that draw.

    Raises BenchError for an unknown option.
    """
    listed = [str(file) for kind in INPUTS for file in manifest.get(kind) or ()]
    facts = {
        "manifest": {key: value for key, value in manifest.items() if key not in NOT_SHOWN},
        "options": repr(Options.of(manifest.get("config") or {})),  # with the defaults
        "files": {file: _state(folder / file) for file in listed},
        "source": _source(),
        "versions": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def is_current(folder: Path, inputs: str) -> bool:
    """Whether the folder holds a report of these inputs, with every file as it was written and no other."""
    return headline(folder, inputs) is not None


def headline(folder: Path, inputs: str) -> list[str] | None:
    """The headline of the folder's report; None where it holds none of these inputs, see `is_current`."""
    try:
        stamp = json.loads((folder / FILE).read_text())
        lines = [str(line) for line in stamp["headline"]]
        return lines if stamp["inputs"] == inputs and stamp["outputs"] == _hashes(folder) else None
    except (OSError, ValueError, KeyError, TypeError):  # no stamp, or a damaged one: the report is written again
        return None


def write(folder: Path, inputs: str, headline: Sequence[str]) -> None:
    """Record that the folder's report is of these inputs, and its headline, which takes longer to compute than to read.
    Raises BenchError where the folder can't be written."""
    stamp = {"inputs": inputs, "outputs": _hashes(folder), "headline": list(headline)}
    files.write(folder / FILE, (json.dumps(stamp, indent=1, sort_keys=True) + "\n").encode())


def remove_outputs(folder: Path) -> None:
    """Remove what an earlier report wrote: a figure of a metric that is gone must not stay beside the new ones."""
    for path in (folder / FILE, *_outputs(folder)):
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _outputs(folder: Path) -> Iterator[Path]:
    yield folder / PAGE
    for name, suffixes in OUTPUTS.items():
        for suffix in suffixes:
            yield from sorted((folder / name).glob(f"*.{suffix}"))


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in _outputs(folder)
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
