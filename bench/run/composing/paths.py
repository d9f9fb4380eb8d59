"""Paths on a command line that lead to nothing, refused before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from axiom_bench.data.formats.urls import is_url
from axiom_bench.errors import BenchError
from axiom_bench.models.spec import ModelSpec
from axiom_bench.run.composing.settings import check_missing

MAX_NAMES = 3
LAYOUTS = "axiom_bench.data.layouts"  # a module for each kind of data set with a root


def check_paths(config: Mapping[str, Any], several: Collection[str] = ()) -> None:
    """Raises BenchError for a path of the model or the data that leads to nothing, as their own
    modules word it, and for a missing setting. This is before torch is imported, weights are read
    or anything is fetched; what files hold is checked where it is read. several: of "model" and
    "data" what has several values, whose own settings `config` hasn't.
    """
    data, model = config.get("data"), config.get("model")
    if "data" not in several and isinstance(data, Mapping):
        _check_data(data)
    if not isinstance(model, Mapping):
        return
    if "model" in several:
        folder = model.get("weights_folder")
        if isinstance(folder, str) and not os.path.isdir(os.path.expanduser(folder)):
            raise BenchError(
                f"There is no folder {folder}; set model.weights_folder to one that holds the "
                "weights."
            )
    elif "???" not in map(str, model.values()):
        spec = ModelSpec.of(model)
        _ = spec.weights_file  # which raises
        file = spec.architecture.rpartition(":")[0]
        if (
            spec.source == "user"
            and file.endswith(".py")
            and not os.path.isfile(os.path.expanduser(file))
        ):
            raise BenchError(
                f"There is no file {file}; set model.architecture to path/to/file.py:function."
            )
    check_missing(config)


def check_images(paths: Sequence[Path]) -> None:
    """Raises BenchError where there are none, or none of the images or folders is there."""
    if not paths:
        raise BenchError("Name an image, or a folder of images: axiom-bench explain photo.jpg.")
    if not any(map(os.path.lexists, paths)):
        more = (
            f" {len(paths) - MAX_NAMES} more aren't there either." if len(paths) > MAX_NAMES else ""
        )
        sentences = (f"The image {path}: there is no file {path}." for path in paths[:MAX_NAMES])
        raise BenchError(" ".join(sentences) + more)


def _check_data(data: Mapping[str, Any]) -> None:
    kind, root, path, classes = (data.get(key) for key in ("kind", "root", "path", "classes"))
    if isinstance(of := data.get("of"), Mapping):
        _check_data(of)
    if isinstance(root, str) and root != "???" and "://" not in root and not os.path.lexists(root):
        with suppress(
            ModuleNotFoundError
        ):  # a kind of another module's, or an unknown one, which is told later
            module = import_module(f"{LAYOUTS}.{kind}")
            module.existing(Path(root), module.LAYOUT)
    if isinstance(path, str) and path != "???" and "://" not in path and not os.path.lexists(path):
        from axiom_bench.data.formats.files import (
            files_named,  # here, and above: what reads images takes long to import
        )

        files_named(path, "")
    if isinstance(classes, str) and not is_url(classes):
        from axiom_bench.data.layouts.classes import class_list

        class_list(classes)
