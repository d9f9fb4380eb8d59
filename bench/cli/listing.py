"""`axiom-bench list`: what can be chosen, one line each. Imports neither torch nor any method or metric."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.errors import BenchError
from axiom_bench.models.spec import classifiers
from axiom_bench.run.composing.settings import add_current_folder

ALL = ("all", "all_fast")  # no entries, but choices: method=all
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def listing(kind: str | None, config_folder: Path | None = None) -> list[str]:
    """The lines for one kind; for None those of all kinds, under headings.

    config_folder: a user's own YAML files, listed beside those of conf/. Raises BenchError where it isn't there.
    """
    if config_folder is not None and not config_folder.is_dir():
        raise BenchError(f"There is no folder {config_folder} (--config-dir).")
    add_current_folder()  # where a user's own functions are
    folders = [conf_folder(), *([config_folder] if config_folder else [])]
    lines: list[str] = []
    for name, describe in LISTED.items():
        if kind not in (None, name):
            continue
        entries = dict(sorted(describe(folders)))
        width = max(map(len, entries))
        if kind is None:
            lines += ["", name] if lines else [name]
        lines += [f"  {entry:<{width}}  {text}".rstrip() for entry, text in entries.items()]
    return lines


def _files(folders: Sequence[Path], group: str) -> Iterator[Path]:
    """The group's files; of several with one name the first, as Hydra takes it."""
    files: dict[str, Path] = {}
    for folder in folders:
        for path in (folder / group).glob("*.yaml"):
            files.setdefault(path.stem, path)
    return (path for name, path in files.items() if name not in ALL)


def _entry(path: Path) -> Mapping[str, Any]:
    """What a plug-in's file says. Raises BenchError where it holds no entry of its own name."""
    try:
        content = yaml.load(path.read_text(), LOADER)
    except yaml.YAMLError as error:
        raise BenchError(f"{path} can't be read: {' '.join(str(error).split())}.") from error
    entry = content.get(path.stem) if isinstance(content, Mapping) else None
    if not isinstance(entry, Mapping):
        raise BenchError(f"{path} has no entry {path.stem!r}; a file of conf/ begins with its own name as the key.")
    return entry


def _plugins(group: str) -> Callable[[Sequence[Path]], Iterator[tuple[str, str]]]:
    """Of methods or metrics: the first line of the function's docstring, and its reference."""

    def described(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
        for path in _files(folders, group):
            entry = _entry(path)
            reference = f" [{entry['reference']}]" if entry.get("reference") else ""
            yield path.stem, docstring(str(entry.get("_target_", ""))) + reference

    return described


def docstring(target: str) -> str:
    """The first line of the docstring of the function at a dotted path, read from its source without importing it.

    "" where there is none, or where the module doesn't define the function itself.
    """
    module, _, name = target.rpartition(".")
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    try:
        tree = ast.parse(Path(spec.origin).read_text())
    except SyntaxError:  # a user's own module: running it says where
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return inspect.cleandoc(ast.get_docstring(node) or "").split("\n")[0]
    return ""


def _peers(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Methods of other libraries, which may be absent."""
    for path in _files(folders, "peers"):
        entry = _entry(path)
        yield path.stem, f"{entry.get('title', path.stem)}, {_version(str(entry.get('library')))}"


def _titled(group: str) -> Callable[[Sequence[Path]], Iterator[tuple[str, str]]]:
    """Of entries that share a function: their titles."""
    return lambda folders: ((path.stem, str(_entry(path).get("title", ""))) for path in _files(folders, group))


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "pip install axiom-bench[peers]"


def _models(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    files = {path.stem: _comment(path) for path in _files(folders, "model")}
    yield from (classifiers() | files).items()


def _commented(group: str) -> Callable[[Sequence[Path]], Iterator[tuple[str, str]]]:
    """Of data sets and experiments: the first comment of the file."""
    return lambda folders: ((path.stem, _comment(path)) for path in _files(folders, group))


def _comment(path: Path) -> str:
    """The first comment of a YAML file, which says what it is; "" where there is none."""
    comments = (line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


LISTED: dict[str, Callable[[Sequence[Path]], Iterator[tuple[str, str]]]] = {
    "methods": _plugins("method"),
    "peers": _peers,
    "spoiled": _titled("spoiled"),
    "metrics": _plugins("metric"),
    "models": _models,
    "data": _commented("data"),
    "experiments": _commented("experiment"),
}
