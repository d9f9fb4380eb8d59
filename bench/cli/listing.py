"""`axiom-bench list`: what can be chosen, one line each. Imports neither torch nor any method or
metric.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from axiom_bench.environment import add_current_folder, conf_folder, read_yaml
from axiom_bench.errors import BenchError
from axiom_bench.models.spec import classifiers

ALL = ("all", "all_fast")  # no entries, but choices: method=all


def listing(kind: str | None, config_folder: Path | None = None) -> list[str]:
    """The lines for one kind; for None those of all kinds, under headings. config_folder: a user's
    own YAML files, listed beside those of conf/. Raises BenchError where it isn't there.
    """
    if config_folder is not None and not config_folder.is_dir():
        raise BenchError(f"There is no folder {config_folder} (--config-dir).")
    add_current_folder()  # where a user's own functions are
    folders = [conf_folder(), *([config_folder] if config_folder else [])]
    lines: list[str] = []
    for name, (group, describe) in LISTED.items():
        if kind not in (None, name):
            continue
        named = {path.stem: describe(path) for path in _files(folders, group)}
        entries = dict(sorted(({**classifiers(), **named} if name == "models" else named).items()))
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
        content = read_yaml(path)
    except yaml.YAMLError as error:
        raise BenchError(f"{path} can't be read: {' '.join(str(error).split())}.") from error
    entry = (
        content
        if not isinstance(content, Mapping) or "_target_" in content
        else content.get(path.stem)
    )
    if not isinstance(entry, Mapping):
        raise BenchError(
            f"{path} has no entry {path.stem!r}; write _target_: module.function, and what else "
            "it says."
        )
    return entry


def _plugin(path: Path) -> str:
    """Of a method or metric: the first line of the function's docstring, and its reference."""
    entry = _entry(path)
    reference = f" [{entry['reference']}]" if entry.get("reference") else ""
    return docstring(str(entry.get("_target_", ""))) + reference


def docstring(target: str) -> str:
    """The first line of the docstring of the function at a dotted path, read from its source
    without importing it. "" where there is none, or where the module doesn't define the function
    itself.
    """
    module, _, name = target.rpartition(".")
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return ""
    try:
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except SyntaxError:  # a user's own module: running it says where
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return inspect.cleandoc(ast.get_docstring(node) or "").split("\n")[0]
    return ""


def _peer(path: Path) -> str:
    """Of a method of another library, which may be absent: its title and the library's version."""
    entry = _entry(path)
    try:
        installed = version(str(entry.get("library")))
    except PackageNotFoundError:
        installed = "pip install '.[peers]' in axiom-bench's checkout"
    return f"{entry.get('title', path.stem)}, {installed}"


def _comment(path: Path) -> str:
    """The first comment of a YAML file, which says what it is; "" where there is none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


LISTED: dict[
    str, tuple[str, Callable[[Path], str]]
] = {  # the group in conf/, and what is said of an entry's file
    "methods": ("method", _plugin),
    "peers": ("peers", _peer),
    "spoiled": ("spoiled", lambda path: str(_entry(path).get("title", ""))),
    "metrics": ("metric", _plugin),
    "models": ("model", _comment),
    "data": ("data", _comment),
    "experiments": ("experiment", _comment),
    "protocols": ("protocol", _comment),
    "suites": ("suite", _comment),
}
