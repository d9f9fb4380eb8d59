"""The settings of a run that a command line may get wrong: checked before anything is computed, one sentence each.

Those of a model, a method or a metric are checked where they are read, by the same `configs.check_values`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from axiom_bench.configs import Setting, check_values, is_integer
from axiom_bench.errors import BenchError, unknown

SECTIONS = ("metrics", "runtime", "report", "pictures", "method", "metric")  # groups of settings
OWN_KEYS = ("method", "metric", "model", "data")  # whose keys are checked where they are read


def _is_name(value: object) -> bool:
    return (isinstance(value, str) and value != "") or is_integer(value)


def _is_folder_name(value: object) -> bool:
    """It stays in its folder, and is short enough for every file system."""
    text = str(value)
    return _is_name(value) and text not in (".", "..") and not set(text) & set("/\\\0") and len(text.encode()) <= 200


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_probability(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _whole(least: int, unit: str) -> Setting:
    return Setting(lambda value: is_integer(value, least), f"{unit}, {least} or more")


def _optional(setting: Setting, meaning: str) -> Setting:
    return Setting(lambda value: value is None or setting.fits(value), f"{setting.expected}, or null for {meaning}")


SWITCH = Setting(lambda value: isinstance(value, bool), "true or false")
METRICS = Setting(_is_list_of_names, "a list of metrics, as [zeta,epsilon]")
METHODS = Setting(_is_list_of_names, "a list of methods, as [grad_cam,cam]")
METHOD = Setting(lambda value: isinstance(value, str), "a method of the run")
SETTINGS = {
    "results": Setting(_is_name, "a folder"),
    "experiment": Setting(_is_folder_name, "the name of a folder"),
    "run": Setting(_is_folder_name, "the name of a folder"),
    "shard_size": _whole(1, "a number of images"),
    "data.root": Setting(lambda value: isinstance(value, str), "a folder"),
    "data.classes": Setting(lambda value: value is None or isinstance(value, str | list), "a list, a file or null"),
    "data.size": _optional(_whole(1, "a number of images"), "all"),
    "data.seed": _whole(0, "a whole number"),
    "data.only_classes": _optional(Setting(lambda value: isinstance(value, list), "a list of classes"), "all"),
    "data.only_correct": SWITCH,
    "data.grid": _whole(2, "cells along a side"),
    "data.target_cells": _whole(1, "a number of cells"),
    "data.uses": _whole(1, "a number of mosaics"),
    "data.confidence": _optional(Setting(_is_probability, "a probability, 0 to 1"), "any image"),
    "data.batch_size": _whole(1, "a number of rows"),
    "data.workers": _whole(0, "a number of processes"),
    "metrics.max_forwards_per_image": _optional(_whole(0, "a number of forward passes"), "no budget"),
    "runtime.repeats": _whole(0, "a number of repetitions"),
    "runtime.batch_size": _whole(1, "a number of rows"),
    "pictures.rows": _whole(0, "a number of rows"),
    "pictures.gallery": _optional(_whole(0, "a number of images"), "all"),
    "pictures.perturbation": Setting(
        lambda value: isinstance(value, str), "a metric that perturbs, as confidence_drop"
    ),
    "report.headline": METRICS,
    "report.columns": METRICS,
    "report.compare": _optional(METHOD, "no paired tests"),
    "report.figures.over_models": METRICS,
    "report.figures.by_depth": METRICS,
    "report.figures.plane": METRICS,
    "report.figures.floor": METRICS,
    "report.figures.grid": _optional(METHODS, "all"),
    "report.figures.perturbed": _optional(METHOD, "no such figure"),
    "report.figures.pair": METHODS,
    "report.figures.class_seen": _optional(Setting(lambda value: isinstance(value, str), "a metric"), "no such figure"),
    "report.figures.formats": Setting(_is_list_of_names, "a list of formats, as [png,pdf,svg]"),
    "report.figures.columns": SWITCH,
    "report.latex.width": Setting(lambda value: isinstance(value, str), "auto, column or page"),
    "device.deterministic": SWITCH,
}


def check(config: Mapping[str, Any]) -> None:
    """Raises BenchError for a value of the wrong type, and for one that is missing."""
    for key in SECTIONS:
        if not isinstance(config[key], Mapping):
            raise BenchError(
                f"{key} is a group of settings, of which you set one, as {key}.NAME=..., not {config[key]!r}."
            )
    values = dict(settings(config))
    missing = next((key for key, value in values.items() if value == "???"), None)
    if missing is not None:
        raise BenchError(f"{missing} has no default; set {missing}=VALUE.")
    check_values(values, SETTINGS)
    of_mosaics = {key.removeprefix("data."): setting for key, setting in SETTINGS.items() if key.startswith("data.")}
    check_values(config["data"].get("of") or {}, of_mosaics, prefix="data.of.")


def check_keys(config: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raises BenchError for a key that was added with + and that nobody would read. keys: those that exist."""
    existing = set(keys)
    for key, _ in settings(config):
        if key not in existing and key.partition(".")[0] not in OWN_KEYS:
            raise unknown("setting", key, existing)


def settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as it is written on the command line, and its value."""
    for key, value in config.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from settings(value, f"{prefix}{key}.")
