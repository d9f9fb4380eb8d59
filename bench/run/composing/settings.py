"""The settings of a run, read by attribute, and the values that each may have. They are checked
before anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_type_hints

from pydantic import ValidationError

from axiom_bench.data.formats.urls import is_url
from axiom_bench.environment import conf_groups
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.kinds import (
    File,
    Group,
    Name,
    TypeForm,
    check_group,
    check_values,
    described_values,
    element_annotation,
    is_name,
    signature,
    stays_text,
    whole_number,
)
from axiom_bench.models.spec import EXAMPLES, ModelSpec
from axiom_bench.records import files
from axiom_bench.run.composing.device import DeviceSettings

GROUPS = (
    "runtime",
    "report",
    "pictures",
    "method",
    "metric",
    "model",
    "data",
    "device",
    "executor",
)
CHECKED_ELSEWHERE = ("method", "metric", "model", "data", "executor", "protocol")
MAX_FOLDER_NAME = 200  # bytes; file systems allow 255


def _is_folder_name(value: object) -> bool:
    """Return whether a folder of this name stays in its parent folder, and every file system takes
    the name.
    """
    text = str(value)
    is_inside = is_name(text) and text not in (".", "..") and not set(text) & {*"/\\"}
    return is_inside and len(text.encode()) <= MAX_FOLDER_NAME


FolderName = Annotated[str | int, described_values("the name of a folder", _is_folder_name)]
NAMES = Name | Sequence[Name] | None  # of methods, metrics and other entries of conf/
WITH_URLS = ("path", "classes")  # settings of data that may be a URL
NUMBERS = ("size", "seed", "batch_size", "workers")  # settings of all data sets
LEVEL = "report.level"  # the only number among the settings of a report
LAYER = "model.layer"
AXES = ("model", LAYER, "model.draw", "data")  # settings that may have several values, a job each
SCALAR_TYPES = (bool, int, float, NoneType)  # types that YAML reads in the place of a text
MAX_REPEATS = 1000
MAX_ROWS = 4096
MAX_PICTURES = 100
Entries = Mapping[str, Any]
"""Settings as YAML has them, which methods, metrics, models, data sets and executors check."""


class Runtime(Group):
    """Settings of the measurement of run times."""

    repeats: Annotated[int, whole_number(0, "a number of repetitions", MAX_REPEATS)]
    batch_size: Annotated[int, whole_number(1, "a number of rows", MAX_ROWS)]


class Pictures(Group):
    """Settings of the images whose maps are kept."""

    rows: Annotated[int, whole_number(0, "a number of rows", MAX_PICTURES)]
    gallery: Annotated[int, whole_number(0, "a number of images")] | None
    arrays: bool
    perturbation: Name | None


class Settings(Group):
    """The settings of conf/config.yaml, as a command line or a finished run has them."""

    experiment: FolderName
    run: FolderName
    results: File | int
    real_root: File
    protocol: Entries | None = None
    suite_part: Name | None
    target: Name | None
    normalise: Name
    shard_size: Annotated[int, whole_number(1, "a number of images")]
    runtime: Runtime
    report: Entries
    pictures: Pictures
    method: Entries
    metric: Entries
    model: Entries
    data: Entries
    device: DeviceSettings
    executor: Entries

    @classmethod
    def of(cls, config: Mapping[str, object]) -> Settings:
        """Return the checked settings of a resolved configuration.

        Raises:
            BenchError: If a value is missing or wrong.
        """
        from axiom_bench.data import registry  # here, since it imports torch

        for key in GROUPS:
            check_group(key, config.get(key))
        if config.get("protocol") is not None:
            check_group("protocol", config["protocol"])
        check_missing(config)
        values = dict(iterate_settings(config))
        absent = next((key for key in annotations_by_key() if key not in values), None)
        if absent is not None:
            raise BenchError(f"{absent} isn't set; set {absent}=VALUE.")
        try:
            settings = cls.model_validate(config)
        except ValidationError:
            # raises BenchError for the first mistake, worded as all others are
            check_values(values, annotations_by_key())
            raise
        settings.device.check()
        model = ModelSpec.of(settings.model)
        registry.check_loading(settings.data)
        registry.check_settings(settings.data)
        if settings.data["kind"] not in registry.ARRAY_KINDS:
            model.check_colours()
        check_urls(settings.data)
        return settings

    @property
    def run_folder(self) -> Path:
        """The folder of the run's files, <results>/<experiment>/<run>.

        Raises:
            BenchError: If the results are at a URL.
        """
        return files.local_path(str(self.results)) / str(self.experiment) / str(self.run)


@cache
def annotations_by_key() -> Mapping[str, TypeForm]:
    """Return the annotation of each setting by its dotted key.

    Groups that are checked where they are read are left out.
    """
    return dict(_allowed(Settings))


def _allowed(group: type[Group], prefix: str = "") -> Iterator[tuple[str, TypeForm]]:
    """Yield the dotted key and the annotation of each setting of a group."""
    hints = get_type_hints(group, include_extras=True)
    for name in group.model_fields:
        annotation = hints[name]
        if isinstance(annotation, type) and issubclass(annotation, Group):
            yield from _allowed(annotation, f"{prefix}{name}.")
        elif annotation not in (Entries, Entries | None):
            yield f"{prefix}{name}", annotation


def annotation_of(key: str) -> TypeForm:
    """Return the annotation of a setting, or None if it isn't known before the settings are
    composed.
    """
    group, _, name = key.partition(".")
    if key in annotations_by_key():
        return annotations_by_key()[key]
    if group in ("model", "data") and name:
        if group == "model":
            parameter = signature(ModelSpec).get(name)
            return parameter and parameter.annotation
        name = name.removeprefix("of.")
        if name in NUMBERS:
            return None
        # imported here, since it takes seconds, and most settings of data are read as texts
        from axiom_bench.data import registry

        return registry.setting_type(name)
    if key == LEVEL:
        return None
    return NAMES if group == "report" or key in conf_groups() else None


def is_text(key: str, text: str, value: object, is_entry: bool = False) -> bool:
    """Return whether a setting is the text that is typed, and not the value that YAML reads.

    Args:
        key: The dotted setting.
        text: The text that is typed.
        value: The value that YAML reads.
        is_entry: The text is an entry of the setting's list.
    """
    annotation = annotation_of(key) if isinstance(value, SCALAR_TYPES) else None
    if is_entry:
        annotation = element_annotation(annotation)
    return annotation is not None and stays_text(annotation, text, value)


def check_urls(data: Mapping[str, object]) -> None:
    """Raise BenchError for a URL in a setting of the data that can't be one."""
    for key, url in iterate_urls(data):
        if key.rpartition(".")[2] not in WITH_URLS:
            raise BenchError(
                f"{key}={url[:200]} must be on this machine, or mounted: only data.path, of tar "
                "shards (data=webdataset) or Parquet (data=parquet), and data.classes may be a "
                "URL."
            )


def iterate_urls(data: Mapping[str, object], prefix: str = "data.") -> Iterator[tuple[str, str]]:
    """Yield (setting, URL) of all URLs in the data's settings."""
    for key, value in data.items():
        if key == "of" and isinstance(value, Mapping):
            yield from iterate_urls(value, f"{prefix}of.")
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and is_url(text):
                yield f"{prefix}{key}", text


def check_missing(config: Mapping[str, object]) -> None:
    """Raise BenchError for the first setting that has no default and isn't set."""
    missing = next((key for key, value in iterate_settings(config) if value == "???"), None)
    if missing is None:
        return
    value = EXAMPLES.get(missing.removeprefix("model."), "VALUE")
    data = config.get("data")
    if missing == "data.of.root" and isinstance(data, Mapping):
        data = data["of"]
    if missing in ("data.root", "data.of.root") and isinstance(data, Mapping):
        value = "PATH"
        # An unknown kind, which has no module, is reported as soon as there is a root.
        with suppress(ModuleNotFoundError):
            module = import_module(f"axiom_bench.data.layouts.{data['kind']}")
            value = f"PATH; expected {module.LAYOUT}"
    elif missing == "data.path":
        value = "PATH; expected a file, a folder, a list or a pattern"
    raise BenchError(f"{missing[:200]} has no default; set {missing[:200]}={value}.")


def check_keys(config: Mapping[str, object], keys: Iterable[str]) -> None:
    """Check that no key was added with + that nobody would read.

    Args:
        config: The resolved configuration.
        keys: The dotted keys that exist.

    Raises:
        BenchError: If a key doesn't exist.
    """
    existing = set(keys)
    for key, _ in iterate_settings(config):
        if key not in existing and key.partition(".")[0] not in CHECKED_ELSEWHERE:
            raise unknown_name("setting", key, existing)


def iterate_settings(
    config: Mapping[str, object], prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """Yield every setting as it is written on the command line, and its value. A group comes before
    its settings.
    """
    for key, value in config.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from iterate_settings(value, f"{prefix}{key}.")
