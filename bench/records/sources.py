"""The code that decides a value, as a part of the value's key. Imports are followed from the
modules that compute the value, through ROOMS and the user's own modules. Their parsed code counts,
without comments and docstrings. An installed distribution counts by its version. Other code of this
project counts only if a module is named, not if it is imported.
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
# The folders of this package whose code may decide values.
ROOMS = frozenset(
    {
        "cutting",
        "data",
        "embedded",
        "evaluation",
        "explanation",
        "isolation",
        "methods",
        "metrics",
        "models",
    }
)
BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")  # lists of statements in `ast` nodes
TYPE_CHECKING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
NO_SOURCE = ("__main__", "__mp_main__")
# The names of modules that were imported from a file begin with this: see models/user_code.py.
FROM_FILE = "axiom_bench_user_"


@dataclass(frozen=True)
class Code:
    """The code that some modules run, with everything that they import."""

    sha256: str
    """The hash over the parsed source of all modules reached."""
    versions: tuple[tuple[str, str], ...]
    """(name, version) of the installed distributions that they import."""


class Imported(NamedTuple):
    """The code that importing one name runs."""

    code: tuple[str, str] | None = None
    """The label and SHA-256 of a module whose source counts; None for any other name."""
    distributions: tuple[str, ...] = ()
    """The distributions that the name's package comes from."""
    imports: tuple[str, ...] = ()
    """The names to follow from here."""


@dataclass
class Sources:
    """A cache of the imports of modules. Each name is looked up once, so that one object serves all
    plug-ins of a job. Files that change in the meantime aren't read again.
    """

    _imported: dict[str, Imported] = field(default_factory=dict)
    _distributions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def code_of(self, names: Iterable[str]) -> Code:
        """Return the code that these modules run: their own code, and that of everything they
        import.
        """
        reached: dict[str, str] = {}
        libraries: set[str] = set()
        pending = list(names)
        visited: set[str] = set()
        while pending:
            name = pending.pop()
            if name in visited:
                continue
            visited.add(name)
            imported = self.imported(name)
            libraries.update(imported.distributions)
            pending += imported.imports
            if imported.code:
                module, sha256 = imported.code
                reached[module] = sha256
        digest = hashlib.sha256(json.dumps(sorted(reached.items())).encode()).hexdigest()
        return Code(digest, tuple((name, version_of(name)) for name in sorted(libraries)))

    def imported(self, name: str) -> Imported:
        """Return the code that importing a dotted name runs; nothing for the standard library, and
        for a name that isn't a module.
        """
        if name not in self._imported:
            self._imported[name] = self._look_up(name)
        return self._imported[name]

    def distributions(self, top: str) -> tuple[str, ...]:
        """Return the installed distributions that a top-level package comes from.

        There is none for code that counts by its source: this project's, a user's own, and code
        that was installed from a folder or a repository, editable or not.
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
        """Return the code that importing a name runs, without a look into the cache."""
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
        followed = tuple(filter(_counts, (*imports, *packages)))
        return Imported(code=(label(name), sha256), imports=followed)


def label(module: str) -> str:
    """Return a module's name, which is the same on every machine: the name of a module that was
    imported from a file loses the hash of its path.
    """
    return module.rpartition("_")[0] if module.startswith(FROM_FILE) else module


_distributions_of_packages = cache(packages_distributions)


@cache
def version_of(library: str) -> str:
    """Return a distribution's installed version; "absent" if it isn't installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"


def _counts(name: str) -> bool:
    """Return whether the imports of a module are followed."""
    parts = name.split(".")
    return parts[0] != PACKAGE or (len(parts) > 1 and parts[1] in ROOMS)


def _is_installed(entry: Distribution, spec: ModuleSpec) -> bool:
    """Return whether a package's files are those that the distribution has installed from an index
    or an archive.
    """
    folder = Path(str(entry.locate_file("")))
    try:
        direct = json.loads(entry.read_text("direct_url.json") or "{}")
    except ValueError:
        direct = {}
    # `setup.py develop` leaves the files in a checkout
    is_checkout = any((folder / name).is_file() for name in ("setup.py", "pyproject.toml"))
    # PEP 610: the version of such an installation needn't change with its code
    if is_checkout or "dir_info" in direct or "vcs_info" in direct:
        return False
    places = [*(spec.submodule_search_locations or ()), spec.origin]
    for path in (Path(place) for place in places if place):
        if path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve()):
            return True
    return False


def _top_level(name: str) -> ModuleSpec | None:
    """Return the spec of a top-level package; None if it can't be found."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None


def file_of(name: str) -> Path | None:
    """Return the file of a module without importing it; None for a built-in module, and for a name
    that isn't a module.
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
    """Return (SHA-256 of the code, names of the modules that it may import); a compiled module
    counts byte by byte.
    """
    if path.suffix != ".py":
        return hashlib.sha256(content).hexdigest(), ()
    tree = ast.parse(content)
    # Docstrings don't count, nor do those next to a class's fields.
    for node in _blocks(tree, for_types=True):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imports = tuple(_imports(tree, package))
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


def _is_text(statement: ast.stmt) -> bool:
    """Return whether a statement is only a constant, such as a docstring."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the names that import statements give, of modules or of objects in them, except imports
    for type checkers only.
    """
    for node in _blocks(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = str(node.module)
            if node.level:
                origin = resolve_name("." * node.level + (node.module or ""), package)
            yield origin
            for alias in node.names:
                if alias.name != "*":
                    yield f"{origin}.{alias.name}"


def _blocks(tree: ast.Module, for_types: bool = False) -> Iterator[ast.AST]:
    """Yield the module and all statements, handlers and cases in it, but no expressions, which
    can't contain any of them.

    With `for_types`, also yield the statements that only type checkers see.
    """
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) in TYPE_CHECKING
        blocks = BLOCKS[1:] if is_for_types and not for_types else BLOCKS
        for block in blocks:
            pending += getattr(node, block, ())
