"""torchvision's classifiers, read from its source: importing it takes seconds, and a list of names needs no torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path


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
