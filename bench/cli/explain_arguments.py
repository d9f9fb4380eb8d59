"""What `axiom-bench explain` is asked for, checked as far as that takes no torch."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.run.composing import settings
from axiom_bench.run.composing.composition import composed

ALL = "all"
GROUP_OF = {True: "peers", False: "method"}  # by whether a name has the library in it


def named_methods(options: Namespace) -> list[str] | None:
    """The methods' names; None where none is named, or all."""
    return options.methods.split(",") if options.methods and options.methods != ALL else None


def configuration(options: Namespace) -> dict[str, Any]:
    """The configuration, with the command line's options in it. Raises BenchError where it can't be composed, where no
    model is named, and for images, weights and code that aren't there."""
    settings.check_images(options.images)
    config, several = _composed(_overrides(options, named_methods(options)), options.config_dir)
    chosen = {"weights": options.weights, "layer": options.layer}
    config["model"] |= {key: value for key, value in chosen.items() if value is not None}
    settings.check_paths({"model": config["model"]}, several)
    return config


def _composed(overrides: Sequence[str], folder: Path | None) -> tuple[dict[str, Any], set[str]]:
    with composed(overrides, folder) as composition:
        return composition.plain(), composition.several


def _overrides(options: Namespace, names: Sequence[str] | None) -> list[str]:
    """The overrides with the named methods as choices, so that those of a user's own folder are found, too. Raises
    BenchError where no model is named."""
    overrides = [*options.overrides, *([] if options.model is None else [f"model={options.model}"])]
    if not any(override.partition("=")[0] in ("model", "experiment") for override in overrides):
        raise BenchError(
            "Name the model: --model resnet18, or your own: model=user model.architecture=net.py:build model.weights=F."
        )
    if names is None:
        return [*overrides, *(["method=all"] if options.methods else [])]
    groups: dict[str, list[str]] = {}
    for name in names:
        if "." not in name:
            groups.setdefault(GROUP_OF["@" in name], []).append(name)
    return [*overrides, *(f"{group}=[{','.join(named)}]" for group, named in groups.items())]
