"""Which source code decides a value: it goes into the name of a record file, so that changed code computes afresh."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

# What shows values, or decides when and where they are computed. All else of the engine counts: a file that is
# missing here computes once more than it must, and one that is here by mistake would keep values of old code.
SHOWS = frozenset(
    {"cli.py", "conf", "gate.py", "report", "runtime.py", "testing.py", "threads.py", "torchvision_import.py"}
)
SHOWS_IN_RUN = frozenset(
    {"execute", "explain", "files", "fingerprint", "finish", "hydra_errors", "listing", "manifest", "notes", "pictures"}
    | {"costs", "progress", "settings", "shards", "sources", "sweep", "timing", "user_code"}
)


@cache
def engine() -> str:
    """SHA-256 over the engine's files that compute values, by name and content."""
    package = Path(__file__).resolve().parent.parent
    files = sorted(path for path in package.rglob("*.py") if _computes(path.relative_to(package)))
    return _digest((str(path.relative_to(package)), path) for path in files)


@cache
def module(name: str) -> str:
    """SHA-256 over a plug-in's or user's module and all such modules it imports; installed libraries have no part."""
    found: dict[str, Path] = {}
    _collect(name, found)
    return _digest(sorted(found.items()))


def _computes(path: Path) -> bool:
    return path.parts[0] not in SHOWS and not (path.parts[0] == "run" and path.stem in SHOWS_IN_RUN)


def _digest(files: Iterable[tuple[str, Path]]) -> str:
    digest = hashlib.sha256()
    for name, path in files:
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _collect(name: str, found: dict[str, Path]) -> None:
    path = None if name in found else _file(name)
    if path is None or not _is_ours(name, path):
        return
    found[name] = path
    for imported in _imports(name, path):
        _collect(imported, found)


def _file(name: str) -> Path | None:
    """A module's source file; None for a name that is no module, and for one without source."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
    else:
        parent = name.rpartition(".")[0]
        if parent and not hasattr(sys.modules.get(parent), "__path__"):
            return None  # `parent` is a module, so `name` is something in it
        spec = importlib.util.find_spec(name)
        file = spec.origin if spec else None
    return Path(file) if file and file.endswith(".py") else None


def _is_ours(name: str, path: Path) -> bool:
    """The engine counts as a whole, installed libraries by their version; what is left is plug-ins and users' code."""
    top = name.partition(".")[0]
    if top in ("methods", "metrics"):
        return True
    installed = [Path(sysconfig.get_paths()[key]) for key in ("stdlib", "purelib", "platlib")]
    return top != "bench" and not any(path.is_relative_to(folder) for folder in installed)


def _imports(name: str, path: Path) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            origin = importlib.util.resolve_name(base, package) if node.level else base
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
