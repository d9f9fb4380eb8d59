"""The models that have a name: the YAML files of conf/model/, and all other torchvision classifiers. Needs no torch."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore

from axiom_bench.configs import conf_folder
from axiom_bench.errors import unknown
from axiom_bench.models.spec import ModelSpec
from axiom_bench.models.torchvision_source import classifiers


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
