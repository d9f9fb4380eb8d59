"""The settings of a run that a command line may get wrong: checked before anything is computed, one sentence each.

Those of a method, a metric, a report and one kind of data set are checked where they are read, by the same
`axiom_bench.kinds`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import File, Kind, Name, check_group, check_values, is_name, kinds, whole
from axiom_bench.models.spec import ModelSpec

GROUPS = ("metrics", "runtime", "report", "pictures", "method", "metric", "model", "data", "device")
OWN_KEYS = ("method", "metric", "model", "data")  # whose keys are checked where they are read
MAX_FOLDER_NAME = 200  # bytes; file systems allow 255


def _is_folder_name(value: object) -> bool:
    """It stays in its folder, and is short enough for every file system."""
    text = str(value)
    return is_name(text) and text not in (".", "..") and not set(text) & {*"/\\"} and _bytes(text) <= MAX_FOLDER_NAME


def _bytes(text: str) -> int:
    return len(text.encode())


FolderName = Annotated[str | int, Kind(_is_folder_name, "the name of a folder")]
MAX_REPEATS, MAX_ROWS, MAX_PICTURES = 1000, 4096, 100
SETTINGS = kinds(
    {
        "results": File | int,
        "real_root": File,
        "experiment": FolderName,
        "run": FolderName,
        "target": Name,
        "normalise": Name,
        "shard_size": Annotated[int, whole(1, "a number of images")],
        "metrics.max_forwards_per_image": Annotated[int, whole(0, "a number of forward passes")] | None,
        "runtime.repeats": Annotated[int, whole(0, "a number of repetitions", MAX_REPEATS)],
        "runtime.batch_size": Annotated[int, whole(1, "a number of rows", MAX_ROWS)],
        "pictures.rows": Annotated[int, whole(0, "a number of rows", MAX_PICTURES)],
        "pictures.gallery": Annotated[int, whole(0, "a number of images")] | None,
        "pictures.perturbation": Name,
        "device.name": Name,
        "device.precision": Name,
        "device.head_precision": Name,
        "device.ablation_memory": int | Name,
        "device.deterministic": bool,
    }
)


def check(config: Mapping[str, Any]) -> None:
    """Raises BenchError for a value of the wrong type, and for one that is missing."""
    from axiom_bench.data import registry  # here, because it imports torch: a misspelt key is answered before that
    from axiom_bench.run.composing import device
    from axiom_bench.run.inputs import fetching

    for key in GROUPS:
        check_group(key, config.get(key))
    values = dict(settings(config))
    missing = next((key for key, value in values.items() if value == "???"), None)
    if missing is not None:
        raise BenchError(f"{missing[:200]} has no default; set {missing[:200]}=VALUE.")
    absent = next((key for key in SETTINGS if key not in values), None)
    if absent is not None:
        raise BenchError(f"{absent} isn't set; set {absent}=VALUE.")
    check_values(values, SETTINGS)
    device.check(config["device"])
    ModelSpec.of(config["model"])
    registry.check_loading(config["data"])
    registry.check_settings(config["data"])
    fetching.check(config["data"])


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


def add_current_folder() -> None:
    """Appends the current folder to sys.path, for a user's own modules: `+method.mine._target_=my_module.my_cam`.

    As the last one it hides no installed package.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
