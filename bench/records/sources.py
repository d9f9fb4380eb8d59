"""Which code decides a value: it is part of the value's key, so that changed code computes anew.

From the modules that compute a value, imports are followed through the rooms that compute (see ROOMS) and through the
user's own modules, and the parsed code of each module reached counts, without comments, docstrings and formatting.
What belongs to an installed distribution counts by its version (see `Sources.distributions`); all other code of this
project (command line, gate, report, records, scheduling of runs) doesn't count.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions, version
from importlib.util import find_spec, resolve_name
from pathlib import Path

PACKAGE = __name__.partition(".")[0]
ROOMS = frozenset({"cutting", "data", "embedded", "evaluation", "explanation", "methods", "metrics", "models"})
FROM_FILE = "axiom_bench_user_"  # how modules are called that were imported from a file: see models/user.py


@dataclass(frozen=True)
class Code:
    """sha256: over the parsed source of all modules reached. versions: of the installed distributions they import."""

    sha256: str
    versions: tuple[tuple[str, str], ...]


@dataclass
class Sources:
    """Follows imports; what was looked up once is kept, so one object serves all plug-ins of a job."""

    _modules: dict[str, tuple[str, Path] | None] = field(default_factory=dict)
    _distributions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _by_package: dict[str, list[str]] = field(default_factory=dict)

    def of(self, names: Iterable[str]) -> Code:
        """The code that these modules run: their own, and that of what they import."""
        reached: dict[str, str] = {}
        libraries: set[str] = set()
        pending = list(names)
        visited: set[str] = set()
        while pending:
            name = pending.pop()
            if name in visited:
                continue
            visited.add(name)
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "__main__":
                continue
            if distributions := self.distributions(top):
                libraries.update(distributions)
            elif (module := self._module(name)) is not None:
                own_label, path = module
                state = path.stat()
                digest, imports = _parsed(path, (state.st_mtime_ns, state.st_size), name)
                reached[own_label] = digest
                pending += [*imports, *([name.rpartition(".")[0]] if "." in name else [])]
        digest = hashlib.sha256(json.dumps(sorted(reached.items())).encode()).hexdigest()
        return Code(digest, tuple((name, version_of(name)) for name in sorted(libraries)))

    def distributions(self, top: str) -> tuple[str, ...]:
        """The installed distributions that a top-level package comes from.

        None for code that counts by its source: this project's, a user's own, and what was installed from a folder or a
        repository, editable or not.
        """
        if top == PACKAGE:
            return ()
        if top not in self._distributions:
            if not self._by_package:
                self._by_package.update(_packages())
            names = sorted(set(self._by_package.get(top, ())))
            spec = _top_level(top) if names else None
            self._distributions[top] = tuple(name for name in names if spec and _is_installed(distribution(name), spec))
        return self._distributions[top]

    def _module(self, name: str) -> tuple[str, Path] | None:
        """A module's label, the same on every machine, and its file; None for what doesn't count, or is no module."""
        if name not in self._modules:
            path = _file(name) if _counts(name) else None
            self._modules[name] = (label(name), path) if path else None
        return self._modules[name]


def label(module: str) -> str:
    """A module's name, the same on every machine: without the hash of the path if it was imported from a file."""
    return module.rpartition("_")[0] if module.startswith(FROM_FILE) else module


@cache
def _packages() -> Mapping[str, list[str]]:
    """The distributions of each installed top-level package: hundreds of small files, read once."""
    return packages_distributions()


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


def _is_installed(found: Distribution, spec: ModuleSpec) -> bool:
    """Whether a package's files are those that the distribution has installed, from an index or an archive."""
    folder = Path(str(found.locate_file("")))
    try:
        direct = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        direct = {}
    checkout = any((folder / name).is_file() for name in ("setup.py", "pyproject.toml"))  # of `setup.py develop`
    if checkout or "dir_info" in direct or "vcs_info" in direct:  # PEP 610: its version needn't change with its code
        return False
    places = [Path(place) for place in (*(spec.submodule_search_locations or ()), spec.origin) if place]
    return any(place.is_relative_to(folder) or place.resolve().is_relative_to(folder.resolve()) for place in places)


def _top_level(name: str) -> ModuleSpec | None:
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None


def _file(name: str) -> Path | None:
    """The file of a module, which isn't imported for that; None for what is no module, and for a built-in one."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        origin = getattr(loaded, "__file__", None)
        return Path(origin) if origin and Path(origin).is_file() else None
    top, *rest = name.split(".")
    spec = _top_level(top)
    for depth in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *rest[: depth + 1]]), list(spec.submodule_search_locations))
    origin = spec.origin if spec is not None and spec.has_location else None
    return Path(origin) if origin else None


@cache
def _parsed(path: Path, state: tuple[int, int], name: str) -> tuple[str, tuple[str, ...]]:
    """(SHA-256 of the code, names of the modules that it may import); a compiled module counts byte by byte.

    state: time of modification and size, so that what was parsed before counts as long as the file stays as it is.
    """
    content = path.read_bytes()
    if path.suffix != ".py":
        return hashlib.sha256(content).hexdigest(), ()
    tree = ast.parse(content)
    _drop_docstrings(tree)
    imports = tuple(_imports(tree, name if path.name == "__init__.py" else name.rpartition(".")[0]))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body[:1]:
                case [ast.Expr(value=ast.Constant(value=str()))]:
                    node.body = node.body[1:]


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The names that import statements give, of modules or of what is in them; not those for type checkers alone."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package) if node.level else str(node.module)
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names if alias.name != "*")
        pending += ast.iter_child_nodes(node)
