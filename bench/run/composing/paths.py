"""Refuse paths of a command line that lead to nothing, before torch is imported.

A mistyped path is then reported at once, and not after the seconds of the import.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TypeGuard

from axiom_bench.data.formats.urls import is_url
from axiom_bench.errors import BenchError
from axiom_bench.models.spec import ModelSpec
from axiom_bench.run.composing.settings import Entries, check_missing

MAX_NAMES = 3
LAYOUTS = "axiom_bench.data.layouts"  # a module for each kind of data set with a root


def check_paths(config: Mapping[str, object], several: Collection[str] = ()) -> None:
    """Check that the paths of the model and the data exist, and that no setting is missing.

    The errors are worded as those of the modules that read the files. This check comes before
    torch is imported, weights are read or anything is fetched. The content of a file is checked
    where it is read.

    Args:
        config: The resolved configuration.
        several: "model" or "data" or both, if they have several values: then `config` hasn't
            their own settings.

    Raises:
        BenchError: If a path leads to nothing, or a setting is missing.
    """
    data = config.get("data")
    model = config.get("model")
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
        spec.check_checkpoint()
        _ = spec.weights_file  # raises BenchError if the file doesn't exist
        file = spec.architecture.rpartition(":")[0]
        is_own_file = spec.source == "user" and file.endswith(".py")
        if is_own_file and not os.path.isfile(os.path.expanduser(file)):
            raise BenchError(
                f"There is no file {file}; set model.architecture to path/to/file.py:function."
            )
    check_missing(config)


def check_images(paths: Sequence[Path]) -> None:
    """Raise BenchError if there are no paths, or none of the images or folders exists."""
    if not paths:
        raise BenchError("Name an image, or a folder of images: axiom-bench explain photo.jpg.")
    if not any(map(os.path.lexists, paths)):
        sentences = [f"The image {path}: there is no file {path}." for path in paths[:MAX_NAMES]]
        if len(paths) > MAX_NAMES:
            sentences.append(f"{len(paths) - MAX_NAMES} more don't exist either.")
        raise BenchError(" ".join(sentences))


def _check_data(data: Entries) -> None:
    """Raise BenchError for a path of the data that leads to nothing."""
    root = data.get("root")
    path = data.get("path")
    classes = data.get("classes")
    inner_data = data.get("of")
    if isinstance(inner_data, Mapping):
        _check_data(inner_data)
    # modules that read images take long to import, so only a wrong path imports one
    if _is_absent(root):
        # another module reads a kind without a layout; an unknown kind is reported later
        with suppress(ModuleNotFoundError):
            module = import_module(f"{LAYOUTS}.{data.get('kind')}")
            module.existing_folder(Path(root), module.LAYOUT)
    if _is_absent(path):
        from axiom_bench.data.formats.files import files_named

        files_named(path, "")
    if isinstance(classes, str) and not is_url(classes):
        from axiom_bench.data.layouts.classes import class_list

        class_list(classes)


def _is_absent(path: object) -> TypeGuard[str]:
    """Return whether a setting is the path of a local file or folder that doesn't exist."""
    if not isinstance(path, str) or path == "???" or "://" in path:
        return False
    return not os.path.lexists(path)
