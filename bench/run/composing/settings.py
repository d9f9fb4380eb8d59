"""The settings of a run that a command line may get wrong, checked before anything is computed, and its device. torch
is imported where it is needed: a misspelt key is answered before that."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any

from axiom_bench.data.formats.urls import is_url
from axiom_bench.environment import conf_groups
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import (
    File,
    Name,
    check_group,
    check_values,
    element_of,
    is_name,
    shown,
    signature,
    stays_text,
    whole,
    worded,
)
from axiom_bench.models.spec import ModelSpec

if TYPE_CHECKING:
    import torch

GROUPS = ("runtime", "report", "pictures", "method", "metric", "model", "data", "device", "executor")
CHECKED_WHERE_READ = ("method", "metric", "model", "data", "executor", "protocol")
MAX_FOLDER_NAME = 200  # bytes; file systems allow 255
DEVICES = ("auto", "cpu", "cuda")
NUMBERED = re.compile(r"cuda:([0-9]{1,4})")
MAX_NAMES = 3
LAYOUTS = "axiom_bench.data.layouts"  # a module for each kind of data set with a root
UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
# Parameters of mallopt(3): where free memory on top of the heap is given back, and how many blocks lie outside of it.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MAX_INT = 2**31 - 1  # bytes; mallopt takes an int
KEEPING = ((M_TRIM_THRESHOLD, MAX_INT), (M_MMAP_MAX, 0))
RETURNING = ((M_TRIM_THRESHOLD, 2**17), (M_MMAP_MAX, 2**16))  # glibc's defaults
USER_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def _is_folder_name(value: object) -> bool:
    """It stays in its folder, and is short enough for every file system."""
    text = str(value)
    is_inside = is_name(text) and text not in (".", "..") and not set(text) & {*"/\\"}
    return is_inside and len(text.encode()) <= MAX_FOLDER_NAME


FolderName = Annotated[str | int, worded("the name of a folder", _is_folder_name)]
NAMES = Name | Sequence[Name] | None  # of methods, metrics and other entries of conf/
WITH_URLS = ("path", "classes")  # settings of data that may be a URL
NUMBERS = ("size", "seed", "batch_size", "workers")  # settings of all data sets
LAYER = "model.layer"
AXES = ("model", LAYER, "model.draw", "data")  # what may take several values, each of them a job
PLAIN = (bool, int, float, NoneType)  # what YAML reads in the place of a text
MAX_REPEATS, MAX_ROWS, MAX_PICTURES = 1000, 4096, 100
SETTINGS: Mapping[str, Any] = {
    "results": File | int,
    "real_root": File,
    "experiment": FolderName,
    "run": FolderName,
    "suite_part": Name | None,
    "target": Name | None,
    "normalise": Name,
    "shard_size": Annotated[int, whole(1, "a number of images")],
    "runtime.repeats": Annotated[int, whole(0, "a number of repetitions", MAX_REPEATS)],
    "runtime.batch_size": Annotated[int, whole(1, "a number of rows", MAX_ROWS)],
    "pictures.rows": Annotated[int, whole(0, "a number of rows", MAX_PICTURES)],
    "pictures.gallery": Annotated[int, whole(0, "a number of images")] | None,
    "pictures.arrays": bool,
    "pictures.perturbation": Name,
    "device.name": Name,
    "device.precision": Name,
    "device.head_precision": Name,
    "device.ablation_memory": int | Name,
    "device.ablation_channels": Annotated[int, whole(1, "a number of channels")] | None,
    "device.deterministic": bool,
}


def annotation_of(key: str) -> Any:
    """Return what a setting may be; None if it isn't known before the settings are composed."""
    group, _, name = key.partition(".")
    if key in SETTINGS:
        return SETTINGS[key]
    if group in ("model", "data") and name:
        if group == "model":
            parameter = signature(ModelSpec).get(name)
            return parameter and parameter.annotation
        name = name.removeprefix("of.")
        if name in NUMBERS:
            return None
        from axiom_bench.data import registry  # here: it takes seconds, and most settings of data are read as texts

        return registry.annotation_of(name)
    return NAMES if group == "report" or key in conf_groups() else None


def is_text(key: str, text: str, value: object, is_entry: bool = False) -> bool:
    """Return whether a setting, or an entry of its list, is the text and not the value that is read."""
    annotation = annotation_of(key) if isinstance(value, PLAIN) else None
    if is_entry:
        annotation = element_of(annotation)
    return annotation is not None and stays_text(annotation, text, value)


def check(config: Mapping[str, Any]) -> None:
    """Raises BenchError for a value of the wrong type, and for one that is missing."""
    from axiom_bench.data import registry

    for key in GROUPS:
        check_group(key, config.get(key))
    check_missing(config)
    values = dict(settings(config))
    absent = next((key for key in SETTINGS if key not in values), None)
    if absent is not None:
        raise BenchError(f"{absent} isn't set; set {absent}=VALUE.")
    check_values(values, SETTINGS)
    check_device(config["device"])
    model = ModelSpec.of(config["model"])
    registry.check_loading(config["data"])
    registry.check_settings(config["data"])
    if config["data"]["kind"] not in registry.OF_ARRAYS:
        model.check_colours()
    check_urls(config["data"])


def check_urls(data: Mapping[str, Any]) -> None:
    """Raise BenchError for a URL in a setting of the data that can't be one."""
    for key, url in urls(data):
        if key.rpartition(".")[2] not in WITH_URLS:
            raise BenchError(
                f"{key}={url[:200]} must be on this machine, or mounted: only data.path, of tar shards "
                "(data=webdataset) or Parquet (data=parquet), and data.classes may be a URL."
            )


def urls(data: Mapping[str, Any], prefix: str = "data.") -> Iterator[tuple[str, str]]:
    """Yield (setting, URL) of all URLs in the data's settings."""
    for key, value in data.items():
        if key == "of" and isinstance(value, Mapping):
            yield from urls(value, f"{prefix}of.")
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and is_url(text):
                yield f"{prefix}{key}", text


def check_missing(config: Mapping[str, Any]) -> None:
    """Raises BenchError for the first setting that has no default and isn't set."""
    missing = next((key for key, value in settings(config) if value == "???"), None)
    if missing is not None:
        raise BenchError(f"{missing[:200]} has no default; set {missing[:200]}=VALUE.")


def check_keys(config: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raises BenchError for a key that was added with + and that nobody would read. keys: those that exist."""
    existing = set(keys)
    for key, _ in settings(config):
        if key not in existing and key.partition(".")[0] not in CHECKED_WHERE_READ:
            raise unknown("setting", key, existing)


def settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting as it is written on the command line, and its value."""
    for key, value in config.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from settings(value, f"{prefix}{key}.")


def add_current_folder() -> None:
    """Appends the current folder to sys.path, for a user's own modules: `+method.mine._target_=my_module.my_cam`. As
    the last one it hides no installed package."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)


@dataclass(frozen=True)
class Device:
    """The torch device, the precisions of trunk and head, the bytes that ablations may hold, of how many channels there
    are any (None: all), deterministic kernels or not."""

    device: torch.device
    precision: str
    head_precision: str
    ablation_memory: int
    ablation_channels: int | None
    deterministic: bool

    @staticmethod
    def of(config: Mapping[str, Any]) -> Device:
        """From conf/device/<name>.yaml. Raises BenchError for a value that can't be, and for a GPU that isn't there."""
        check_device(config)
        return Device(
            device=_device(config["name"]),
            precision=config["precision"],
            head_precision=config["head_precision"],
            ablation_memory=bytes_of(config["ablation_memory"]),
            ablation_channels=config["ablation_channels"],
            deterministic=bool(config["deterministic"]),
        )

    def prepare(self) -> None:
        """Select deterministic kernels if `deterministic` is set, else let cuDNN choose the fastest. cuDNN's switch
        doesn't reach torch's own kernels, of which some add in any order (as scatter_add does), nor cuBLAS, which needs
        memory of a fixed size. Those that have no other form run all the same."""
        import torch

        torch.backends.cudnn.deterministic = self.deterministic
        torch.backends.cudnn.benchmark = not self.deterministic
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # streams and events are those of the current one
            torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def check_device(config: Mapping[str, Any]) -> None:
    """Raises BenchError for a value that can't be on any machine."""
    from axiom_bench.cutting.passes import check_precision

    if config["name"] not in DEVICES and not NUMBERED.fullmatch(config["name"]):
        raise no_device(config["name"])
    check_precision(config["precision"])
    check_precision(config["head_precision"])
    bytes_of(config["ablation_memory"])


def no_device(name: str) -> BenchError:
    """Return the error for a device that no machine has."""
    if name == "mps":
        return BenchError("Apple's GPUs have no float64, in which values are measured; use device=cpu.")
    number = re.search(r"[0-9]+$", name)
    of_several = f"; for GPU {number[0]} put CUDA_VISIBLE_DEVICES={number[0]} in front of the command" if number else ""
    return BenchError(
        f"There is no device {name!r}; set device=auto, device=cpu, or device=cuda for a GPU{of_several}."
    )


def bytes_of(size: int | str) -> int:
    """A number of bytes from "1GiB", "512 MiB", "2GB" or a plain number. Raises BenchError for another text.

    >>> bytes_of("1.5 KiB")
    1536
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)", str(size).strip())
    count = int(float(match[1]) * UNITS[match[2]]) if match and match[2] in UNITS else 0
    if count < 1:
        raise BenchError(f"Invalid size {shown(size)}; give bytes or a number with a unit, such as 512MiB or 1GiB.")
    return count


def _device(name: str) -> torch.device:
    """The first GPU unless the name has a number."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if not gpus:
        raise BenchError(f"device={name} needs an NVIDIA GPU that torch can use, and there is none; use device=cpu.")
    match = NUMBERED.fullmatch(name)
    number = int(match[1]) if match else 0
    if number >= gpus:
        raise BenchError(f"There is no GPU {number} for device.name={name}: this machine has {gpus}, counted from 0.")
    return torch.device("cuda", number)


def keep_freed_memory() -> bool:
    """Keeps freed memory in the process, so that the next pass needn't ask the system for it page by page: whether it
    does. Settings in the user's environment come first. glibc returns large blocks to the system as they are freed. A
    network's activations are such blocks, so each pass asks for pages that the pass before had
    (docs/studies/performance.md has the cost)."""
    glibc = _glibc()
    return glibc is not None and all(glibc.mallopt(*pair) == 1 for pair in KEEPING)


def return_freed_memory() -> None:
    """Ends what `keep_freed_memory` began, where it did: a report needs other memory than passes."""
    if (glibc := _glibc()) is not None:
        for pair in RETURNING:
            glibc.mallopt(*pair)
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """None where the system has another library, or the user's environment settings of its own."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in USER_SETTINGS):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") else None


def code_of(config: Mapping[str, Any]) -> Iterator[str]:
    """The settings of a job by which other code than this package's may run, KEY=VALUE."""
    for kind in ("method", "metric"):
        entries = (config.get(kind) or {}).items()
        for name, entry in ((name, entry) for name, entry in entries if isinstance(entry, Mapping)):
            for key in ("_target_", "aggregate", "values", "aggregate_values"):
                value = entry.get(key)
                if isinstance(value, str) and not value.startswith(f"axiom_bench.{kind}s."):
                    yield f"{kind}.{name}.{key}={value}"
            # A parameter may be a method by its path.
            yield from (f"{kind}.{name}.params: {text}" for text in _paths(entry.get("params")))
    model = config.get("model") or {}
    if model.get("source") == "user" or ":" in str(model.get("architecture")):
        yield f"model.architecture={model.get('architecture')}"
    for key in ("reshape", "output", "read"):
        yield from (f"model.{key}={text}" for text in _paths(model.get(key)))


def _paths(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if set(value) & set(".:"):
            yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from _paths(entry)


def check_paths(config: Mapping[str, Any], several: Collection[str] = ()) -> None:
    """Raises BenchError for a path of the model or the data that leads to nothing, as their own modules word it, and
    for a missing setting. This is before torch is imported, weights are read or anything is fetched; what files hold is
    checked where it is read. several: of "model" and "data" what has several values, whose own settings `config`
    hasn't."""
    data, model = config.get("data"), config.get("model")
    if "data" not in several and isinstance(data, Mapping):
        _check_data(data)
    if not isinstance(model, Mapping):
        return
    if "model" in several:
        folder = model.get("weights_folder")
        if isinstance(folder, str) and not os.path.isdir(os.path.expanduser(folder)):
            raise BenchError(f"There is no folder {folder}; set model.weights_folder to one that holds the weights.")
    elif "???" not in map(str, model.values()):
        spec = ModelSpec.of(model)
        _ = spec.weights_file  # which raises
        file = spec.architecture.rpartition(":")[0]
        if spec.source == "user" and file.endswith(".py") and not os.path.isfile(os.path.expanduser(file)):
            raise BenchError(f"There is no file {file}; set model.architecture to path/to/file.py:function.")
    check_missing(config)


def check_images(paths: Sequence[Path]) -> None:
    """Raises BenchError where there are none, or none of the images or folders is there."""
    if not paths:
        raise BenchError("Name an image, or a folder of images: axiom-bench explain photo.jpg.")
    if not any(map(os.path.lexists, paths)):
        more = f" {len(paths) - MAX_NAMES} more aren't there either." if len(paths) > MAX_NAMES else ""
        sentences = (f"The image {path}: there is no file {path}." for path in paths[:MAX_NAMES])
        raise BenchError(" ".join(sentences) + more)


def _check_data(data: Mapping[str, Any]) -> None:
    kind, root, path, classes = (data.get(key) for key in ("kind", "root", "path", "classes"))
    if isinstance(of := data.get("of"), Mapping):
        _check_data(of)
    if isinstance(root, str) and root != "???" and "://" not in root and not os.path.lexists(root):
        with suppress(ModuleNotFoundError):  # a kind of another module's, or an unknown one, which is told later
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
