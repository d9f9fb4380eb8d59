"""Which code decides a value, as a part of its key. From the modules that compute it, imports are
followed through ROOMS and the user's own modules. Their parsed code counts, without comments and
docstrings; of an installed distribution the version. Other code of this project counts only where a
module is named, not where it is imported.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    distribution,
    packages_distributions,
    version,
)
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import NamedTuple

PACKAGE = __name__.partition(".")[0]
ROOMS = frozenset(
    {"cutting", "data", "embedded", "evaluation", "explanation", "methods", "metrics", "models"}
)
BLOCKS = (
    "body",
    "orelse",
    "handlers",
    "finalbody",
    "cases",
)  # lists of statements in the nodes of `ast`
TYPE_CHECKING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
NO_SOURCE = ("__main__", "__mp_main__")
# how modules are called that were imported from a file: see models/user_code.py
FROM_FILE = "axiom_bench_user_"


@dataclass(frozen=True)
class Code:
    """sha256: over the parsed source of all modules reached. versions: of the installed
    distributions they import.
    """

    sha256: str
    versions: tuple[tuple[str, str], ...]


class Imported(NamedTuple):
    """What importing one name runs. code: label and SHA-256 of a module whose source counts; None
    for any other name. distributions: those that the name's package comes from. imports: names to
    follow from here.
    """

    code: tuple[str, str] | None = None
    distributions: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


@dataclass
class Sources:
    """Follows imports. What was looked up once is kept, so that one object serves all plug-ins of a
    job; files that change while it is in use aren't looked at again.
    """

    _imported: dict[str, Imported] = field(default_factory=dict)
    _distributions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def of(self, names: Iterable[str]) -> Code:
        """The code that these modules run: their own, and that of what they import."""
        reached: dict[str, str] = {}
        libraries: set[str] = set()
        pending, visited = list(names), set[str]()
        while pending:
            name = pending.pop()
            if name not in visited:
                visited.add(name)
                imported = self.imported(name)
                libraries.update(imported.distributions)
                pending += imported.imports
                reached.update([imported.code] if imported.code else [])
        digest = hashlib.sha256(json.dumps(sorted(reached.items())).encode()).hexdigest()
        return Code(digest, tuple((name, version_of(name)) for name in sorted(libraries)))

    def imported(self, name: str) -> Imported:
        """What importing a dotted name runs; nothing for the standard library, and for what is no
        module.
        """
        if name not in self._imported:
            self._imported[name] = self._look_up(name)
        return self._imported[name]

    def distributions(self, top: str) -> tuple[str, ...]:
        """The installed distributions that a top-level package comes from. None for code that
        counts by its source: this project's, a user's own, and what was installed from a folder or
        a repository, editable or not.
        """
        if top == PACKAGE:
            return ()
        if top not in self._distributions:
            names = sorted(set(_distributions_of_packages().get(top, ())))
            spec = _top_level(top) if names else None
            installed = (name for name in names if spec and _is_installed(distribution(name), spec))
            self._distributions[top] = tuple(installed)
        return self._distributions[top]

    def _look_up(self, name: str) -> Imported:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in NO_SOURCE:
            return Imported()
        if distributions := self.distributions(top):
            return Imported(distributions=distributions)
        path = file_of(name)
        if path is None:
            return Imported()
        sha256, imports = _parsed(path, path.read_bytes(), name)
        packages = (name.rpartition(".")[0],) if "." in name else ()
        return Imported(
            (label(name), sha256), imports=tuple(filter(_counts, (*imports, *packages)))
        )


def label(module: str) -> str:
    """A module's name, the same on every machine: without the hash of the path if it was imported
    from a file.
    """
    return module.rpartition("_")[0] if module.startswith(FROM_FILE) else module


_distributions_of_packages = cache(packages_distributions)


@cache
def version_of(library: str) -> str:
    """A distribution's installed version; "absent" where it isn't installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"


def _counts(name: str) -> bool:
    parts = name.split(".")
    return parts[0] != PACKAGE or (len(parts) > 1 and parts[1] in ROOMS)


def _is_installed(entry: Distribution, spec: ModuleSpec) -> bool:
    """Whether a package's files are those that the distribution has installed, from an index or an
    archive.
    """
    folder = Path(str(entry.locate_file("")))
    try:
        direct = json.loads(entry.read_text("direct_url.json") or "{}")
    except ValueError:
        direct = {}
    checkout = any(
        (folder / name).is_file() for name in ("setup.py", "pyproject.toml")
    )  # of `setup.py develop`
    if (
        checkout or "dir_info" in direct or "vcs_info" in direct
    ):  # PEP 610: its version needn't change with its code
        return False
    places = [
        Path(place) for place in (*(spec.submodule_search_locations or ()), spec.origin) if place
    ]
    return any(
        place.is_relative_to(folder) or place.resolve().is_relative_to(folder.resolve())
        for place in places
    )


def _top_level(name: str) -> ModuleSpec | None:
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None


def file_of(name: str) -> Path | None:
    """The file of a module, which isn't imported for that; None for what is no module, and for a
    built-in one.
    """
    loaded = sys.modules.get(name)
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
        return Path(origin) if origin and Path(origin).is_file() else None
    parts = name.split(".")
    spec = _top_level(parts[0])
    for depth in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join(parts[:depth]), list(spec.submodule_search_locations))
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


@cache
def _parsed(path: Path, content: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    """(SHA-256 of the code, names of the modules that it may import); a compiled module counts byte
    by byte.
    """
    if path.suffix != ".py":
        return hashlib.sha256(content).hexdigest(), ()
    tree = ast.parse(content)
    # Docstrings don't count, nor do those beside a class's fields.
    for node in _blocks(tree, for_types=True):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            texts = [
                each
                for each in node.body
                if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)
            ]
            node.body = [each for each in node.body if each not in texts]
    imports = tuple(_imports(tree, name if path.name == "__init__.py" else name.rpartition(".")[0]))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """The names that import statements give, of modules or of what is in them; not those for type
    checkers alone.
    """
    for node in _blocks(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = (
                resolve_name("." * node.level + (node.module or ""), package)
                if node.level
                else str(node.module)
            )
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names if alias.name != "*")


def _blocks(tree: ast.Module, for_types: bool = False) -> Iterator[ast.AST]:
    """The module with all statements, handlers and cases in it: an expression holds none.
    for_types: also those that only type checkers see.
    """
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) in TYPE_CHECKING
        blocks = BLOCKS[1:] if is_for_types and not for_types else BLOCKS
        pending += [inner for block in blocks for inner in getattr(node, block, ())]
