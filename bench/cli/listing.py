"""`axiom-bench list`: one line for each method, metric, model and everything that can be chosen.
Imports no method or metric, and torch only for the target layers of a few models.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from axiom_bench.environment import (
    add_current_folder,
    choice_names,
    conf_folder,
    letters,
    read_yaml,
)
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.evaluation.other_names import other_names
from axiom_bench.models.spec import (
    classifiers,
    other_model,
    other_models,
    timm_networks,
)
from axiom_bench.run.progress import progress

ALL_OTHER_NAMES = "other-names"
MOST_LAYERS = 12  # models whose target layers are listed
OTHER_NAMES = ("method", "metric")  # kinds whose entries have other names in other libraries


def listing(
    kind: str | None, config_folder: Path | None = None, part: str | None = None
) -> list[str]:
    """Return the lines of one kind, or of all kinds under headings.

    Args:
        kind: A key of `LISTED` or "other-names"; `None` lists all kinds except other names. Any
            other text without a `part` is the part, of all kinds.
        config_folder: A user's own YAML files, which are listed together with those of conf/.
        part: Only entries with this text in their name or description are listed. Case and signs
            of names don't count. Names of methods and metrics in other libraries are listed too,
            and networks of timm. A few models are listed with their target layers.

    Raises:
        BenchError: If `config_folder` doesn't exist, or if no entry has `part` in it.
    """
    if config_folder is not None and not config_folder.is_dir():
        raise BenchError(f"There is no folder {config_folder} (--config-dir).")
    kinds = (*LISTED, ALL_OTHER_NAMES)
    if kind is not None and kind not in kinds:
        if part is not None:
            raise unknown_name("kind of entries", kind, kinds)
        kind, part = None, kind
    add_current_folder()  # for a user's own functions
    folders = [conf_folder()]
    if config_folder:
        folders.append(config_folder)
    lines: list[str] = []
    for name in LISTED:
        if kind not in (None, name):
            continue
        entries = _with_part(_entries(name, folders), part)
        if name == "models" and part:
            networks = dict.fromkeys(sorted(timm_networks() - entries.keys()), "timm.")
            entries |= _with_part(networks, part)
            entries = _with_layers(dict(sorted(entries.items())))
        if kind is None and entries:
            if lines:
                lines.append("")
            lines.append(name)
        lines += _table(entries)
    other_entries = {}
    if part or kind == ALL_OTHER_NAMES:
        if kind in (None, ALL_OTHER_NAMES, "models"):
            other_entries.update(_other_models(part))
        for other_kind in OTHER_NAMES:
            if kind in (None, ALL_OTHER_NAMES, f"{other_kind}s"):
                other_entries.update(_other_names(other_kind, part))
    if other_entries and lines:
        lines += ["", "in other libraries and papers"]
    lines += _table(other_entries)
    if part and not lines:
        where = kind or "methods"
        raise BenchError(
            f"Nothing has {part!r} in its name or line; axiom-bench list {where} lists all {where}."
        )
    return lines


def _entries(name: str, folders: Sequence[Path]) -> dict[str, str]:
    """Return the entries of a kind by name, sorted, each with its description."""
    group, describe = LISTED[name]
    descriptions = {path.stem: describe(path) for path in _files(folders, group)}
    if name == "models":
        descriptions = {**classifiers(), **descriptions}
    return dict(sorted(descriptions.items()))


def _with_part(entries: Mapping[str, str], part: str | None) -> dict[str, str]:
    """Return the entries with a text in their name or description."""
    if part is None:
        return dict(entries)
    return {
        name: text
        for name, text in entries.items()
        if letters(part) in letters(name) or part.casefold() in text.casefold()
    }


def _with_layers(entries: Mapping[str, str]) -> dict[str, str]:
    """Return models with their target layers, if they are few, since finding a layer takes time."""
    if len(entries) > MOST_LAYERS:
        return {
            **entries,
            "": f"Type more of a name for the target layers of {MOST_LAYERS} models.",
        }
    # imported here, since torch takes seconds, and other lists don't need it
    with progress("Finding target layers"):
        from axiom_bench.models.load import named_layer

        lines = {}
        for name, text in entries.items():
            try:
                lines[name] = f"{text.rstrip('.')}; layer {named_layer(name)}."
            except BenchError:  # the network depends on further settings
                lines[name] = text
    return lines


def _other_names(kind: str, part: str | None) -> dict[str, str]:
    """Return the names of a kind in other libraries with a text in them, each with the entry here
    or the reason why there is none.
    """
    return {
        other.name: other.description
        for other in other_names(kind)
        if part is None or letters(part) in letters(other.name)
    }


def _other_models(part: str | None) -> dict[str, str]:
    """Return the names of models of other projects with a text in them, or the text itself if one
    of these names stands for it, each with a sentence.
    """
    names = {
        name: sentence
        for name, sentence in other_models().items()
        if part is None or letters(part) in letters(name)
    }
    if not names and part is not None and (sentence := other_model(part)):
        names[part] = sentence
    return names


def _table(entries: Mapping[str, str]) -> list[str]:
    """Return a line per entry, with its name in a column."""
    width = max(map(len, entries), default=0)
    return [f"  {name:<{width}}  {text}".rstrip() for name, text in entries.items()]


def _files(folders: Sequence[Path], group: str) -> Iterator[Path]:
    """Return the files of a group; of several with one name only the first, as Hydra does."""
    files: dict[str, Path] = {}
    for folder in folders:
        for path in (folder / group).glob("*.yaml"):
            files.setdefault(path.stem, path)
    choices = set() if group == "protocol" else choice_names()
    return (path for name, path in files.items() if name not in choices)


def _entry(path: Path) -> Mapping[str, object]:
    """Return the content of a plug-in's file. Raise BenchError if it has no entry of its own
    name.
    """
    try:
        content = read_yaml(path)
    except yaml.YAMLError as error:
        raise BenchError(f"{path} can't be read: {' '.join(str(error).split())}.") from error
    entry = content
    if isinstance(content, Mapping) and "_target_" not in content:
        entry = content.get(path.stem)
    if not isinstance(entry, Mapping):
        raise BenchError(
            f"{path} has no entry {path.stem!r}; write _target_: module.function, and what else "
            "it says."
        )
    return entry


def _plugin(path: Path) -> str:
    """Return the first line of the docstring of a method or metric, and its reference."""
    entry = _entry(path)
    reference = f" [{entry['reference']}]" if entry.get("reference") else ""
    return docstring(str(entry.get("_target_", ""))) + reference


def docstring(target: str) -> str:
    """Return the first line of a function's docstring, read from its source without importing it.

    Args:
        target: The dotted path of the function or class.

    Returns:
        The line; "" if there is none, or if the module doesn't define the function itself.
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
    except SyntaxError:  # a user's own module; running it reports the place
        return ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return inspect.cleandoc(ast.get_docstring(node) or "").split("\n")[0]
    return ""


def _peer(path: Path) -> str:
    """Return the title of another library's method, and the library's version or how to install
    it.
    """
    entry = _entry(path)
    try:
        installed = version(str(entry.get("library")))
    except PackageNotFoundError:
        installed = "pip install '.[peers]' in axiom-bench's checkout"
    return f"{entry.get('title', path.stem)}, {installed}"


def _comment(path: Path) -> str:
    """Return the first comment of a YAML file, which describes it; "" if there is none."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = (line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@package")), "")


# The group in conf/ of each kind, and the function that describes an entry's file.
LISTED: dict[str, tuple[str, Callable[[Path], str]]] = {
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
