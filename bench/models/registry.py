"""The models that have a name: the YAML files of conf/model/, and all other torchvision classifiers. Needs no torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from axiom_bench.configs import conf_folder
from axiom_bench.errors import unknown
from axiom_bench.models.spec import ModelSpec


def register_models(mentioned_in: str | None = None) -> None:
    """Makes `model=vgg11_bn` work on the command line: a Hydra node for each torchvision classifier without a YAML.

    mentioned_in: only those whose name is in this text, since Hydra copies all nodes each time that it composes.
    """
    for name in _without_file():
        if mentioned_in is not None and name not in mentioned_in:
            continue
        ConfigStore.instance().store(group="model", name=name, node=model_config(name))


def model_names() -> list[str]:
    """Every name that `model=` takes, sorted."""
    return sorted([*_files(), *_without_file()])


def model_config(name: str) -> dict[str, Any]:
    """The settings of a named model as in its YAML, ${...} not filled in. Raises BenchError for an unknown name."""
    if name in _files():
        settings = yaml.safe_load(_files()[name].read_text())
        assert isinstance(settings, dict)
        return settings
    if name not in _without_file():
        raise unknown("model", name, model_names())
    spec = ModelSpec(name=name, source="torchvision", architecture=name)
    return {entry.name: getattr(spec, entry.name) for entry in fields(spec)}


def describe_model(name: str) -> str:
    """One line about a named model: the comment at the top of its YAML, or torchvision's own facts."""
    if name in _files():
        return _files()[name].read_text().splitlines()[0].removeprefix("#").strip()
    return classifiers()[name]


def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted((conf_folder() / "model").glob("*.yaml"))}


def _without_file() -> list[str]:
    with_file = _files()
    return [name for name in classifiers() if name not in with_file]


@cache
def classifiers() -> dict[str, str]:
    """{name: one line about it}, as `torchvision.models.list_models` and each model's default weights have it."""
    spec = importlib.util.find_spec("torchvision")
    folders = [Path(folder, "models") for folder in (spec.submodule_search_locations or ())] if spec else []
    return dict(sorted(entry for folder in folders for path in folder.glob("*.py") for entry in _of_module(path)))


def _of_module(path: Path) -> Iterator[tuple[str, str]]:
    """Every function of a module that is decorated with @register_model()."""
    tree = ast.parse(path.read_text())
    weights = {node.name: _default(node) for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any(map(_registers, node.decorator_list)):
            yield node.name, weights.get(_weights_class(node)) or "torchvision."


def _registers(decorator: ast.expr) -> bool:
    """Whether a decorator is register_model(); one that gives another name is of a model that is no classifier."""
    return (
        isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "register_model" and not decorator.keywords
    )


def _weights_class(builder: ast.FunctionDef) -> str:
    """X_Weights of a builder's `weights: Optional[X_Weights]`."""
    for argument in (*builder.args.args, *builder.args.kwonlyargs):
        if argument.arg == "weights" and isinstance(argument.annotation, ast.Subscript):
            return ast.unparse(argument.annotation.slice)
    return ""


def _default(weights: ast.ClassDef) -> str | None:
    """A description of the default entry of a class of weights; None for another class."""
    values = {ast.unparse(node.targets[0]): node.value for node in weights.body if isinstance(node, ast.Assign)}
    default = ast.unparse(values["DEFAULT"]) if "DEFAULT" in values else ""
    if default not in values:
        return None
    for node in ast.walk(values[default]):
        if isinstance(node, ast.Dict):
            facts = {ast.unparse(key): value for key, value in zip(node.keys, node.values, strict=True) if key}
            if isinstance(count := facts.get("'num_params'"), ast.Constant) and isinstance(count.value, int):
                return f"torchvision, {count.value / 1e6:.1f} million parameters, weights {default}."
    return None
