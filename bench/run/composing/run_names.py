"""The name of a run that isn't given one: of the experiment's own models and data `default`; where a command chooses
others, a name that follows from them, so that the same command goes on in its folder, and another has its own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from axiom_bench.records.files import safe_name
from axiom_bench.run.composing.hydra_inside import Composer

DEFAULT = "default"
AXES = {"data": "datasets", "model": "models", "model.layer": "layers"}  # what several values of it are called
PLACES = {"data.root", "data.path"}
OF_DATA = {"data@data.of", "data.name", *PLACES}  # what else decides which data and model these are
OF_MODEL = {"model.name", "model.architecture", "model.weights"}
OWN_FILES = ("folder", "webdataset", "parquet")  # kinds of data sets that aren't told apart by their name


def following(composer: Composer, config: DictConfig, overrides: Sequence[str]) -> str | None:
    """The name; None where the command or the experiment gives one, or the experiment's own models and data are used.
    config: composed of the overrides; of what has several values it has the default."""
    keys = {override.partition("=")[0].lstrip("+") for override in overrides}
    if "run" in keys or config.run != DEFAULT or not keys & {*AXES, *OF_DATA, *OF_MODEL}:
        return None
    own = _own(composer, config, overrides)
    values = own | _values(composer, config.hydra.overrides.task)
    changed = {axis for axis in AXES if values.get(axis) != own.get(axis)}
    several = {axis: f"{len(of_axis)}{AXES[axis]}" for axis, of_axis in values.items() if len(of_axis) > 1}
    data: Any = OmegaConf.to_container(config.data, resolve=True)
    names = []
    if "data" in changed or keys & _deciding(data):
        names.append(several.get("data") or _data_name(data, keys))
    if "model" in changed or keys & OF_MODEL:
        names += [several.get("model") or _model_name(config.model, keys), *_weights(config.model, keys)]
    if "model.layer" in changed:
        names.append(several.get("model.layer") or str(config.model.layer))
    return safe_name("-".join(dict.fromkeys(names))) if names else None


def _own(composer: Composer, config: DictConfig, overrides: Sequence[str]) -> dict[str, list[str]]:
    """The values of each axis in the experiment alone."""
    choices = composer.choices([override for override in overrides if override.startswith("experiment=")])
    swept: Any = OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create({}))
    chosen = {axis: [str(choices[axis])] for axis in AXES if axis in choices}
    return chosen | _values(composer, [f"{key}={value}" for key, value in swept.items()])


def _values(composer: Composer, lines: Iterable[str]) -> dict[str, list[str]]:
    """The values that lines of KEY=VALUE give each axis."""
    parsed = [override for override in composer.parsed(list(lines)) if override.get_key_element() in AXES]
    return {
        override.get_key_element(): list(dict.fromkeys(override.sweep_string_iterator()))
        if override.is_sweep_override() and override.is_discrete_sweep()
        else [str(override.value())]
        for override in parsed
    }


def _deciding(data: Mapping[str, Any]) -> set[str]:
    """The settings that make another data set of the same choice."""
    return OF_DATA if data.get("kind") in OWN_FILES else OF_DATA - PLACES


def _data_name(data: Mapping[str, Any], keys: set[str]) -> str:
    """The data set's name; of files of the user's own that of their place."""
    place = data.get("root") or data.get("path")
    if data.get("kind") not in OWN_FILES or "data.name" in keys or not keys & PLACES or not isinstance(place, str):
        return str(data.get("name"))
    return Path(place if "://" in place else os.path.abspath(os.path.expanduser(place))).name


def _model_name(model: DictConfig, keys: set[str]) -> str:
    """The network's name; of a user's own without one that of its file or module."""
    if "model.name" in keys or "model.architecture" not in keys:
        return str(model.name)
    return Path(str(model.architecture).rpartition(":")[0]).stem


def _weights(model: DictConfig, keys: set[str]) -> list[str]:
    """The name of the weights where the command chooses them."""
    if "model.weights" not in keys or model.weights == "default":
        return []
    return ["random_weights" if model.weights is None else Path(str(model.weights)).stem]
