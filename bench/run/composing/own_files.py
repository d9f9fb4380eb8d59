"""Sources of Hydra's beside conf/. A user's own folders of YAML files: methods and metrics with or
without their name around them, experiments with or without theirs. torchvision's and timm's
networks. And what Hydra couldn't say in words.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from axiom_bench.environment import conf_groups, decoded
from axiom_bench.errors import BenchError
from axiom_bench.kinds import is_path, shown
from axiom_bench.models.spec import classifiers, is_of_library, model_config
from axiom_bench.run.composing import settings

SCHEME = "own"
CLASSIFIERS = "classifiers://torchvision"
PLUGINS = ("method", "metric", "peers", "spoiled")  # groups whose files hold {name: entry}
GLOBAL = "# @package _global_"


class OwnFiles(ConfigSource):
    """A folder as own://PATH."""

    @staticmethod
    def scheme() -> str:
        """As Hydra asks for it."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """The file as `completed` has it. Raises BenchError for one that is no YAML."""
        file = self._file(config_path)
        text = _text(file)
        try:
            content = load_yaml(text, config_path.strip("/").partition("/")[0])
        except yaml.YAMLError as error:
            raise unreadable(error, file) from error
        header = self._get_header_dict(text[:512])
        if isinstance(content, DictConfig):
            content = completed(content, config_path, header["package"] == "_global_", file)
        return ConfigResult(self.provider, self.full_path(), content, header)

    def is_group(self, config_path: str) -> bool:
        """Whether it is a folder."""
        return os.path.isdir(os.path.join(self.path, config_path))

    def is_config(self, config_path: str) -> bool:
        """Whether it is a file."""
        return os.path.isfile(self._file(config_path))

    def available(self) -> bool:
        """Whether the folder is there."""
        return self.is_group("")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names of the files and folders in a folder."""
        found: list[str] = []
        for name in os.listdir(os.path.join(self.path, config_path)):
            self._list_add_result(found, os.path.join(config_path, name), name, results_filter)
        return sorted(set(found))

    def _file(self, config_path: str) -> str:
        return os.path.join(self.path, self._normalize_file_name(config_path))


class Classifiers(ConfigSource):
    """torchvision's and timm's networks, as entries of the group `model`. Hydra's own store for
    what has no file would be copied whole each time that it composes.
    """

    @staticmethod
    def scheme() -> str:
        """As Hydra asks for it."""
        return CLASSIFIERS.partition("://")[0]

    def load_config(self, config_path: str) -> ConfigResult:
        """The settings of a network."""
        settings = OmegaConf.create(model_config(_name_of(config_path)))
        return ConfigResult(self.provider, self.full_path(), settings, {"package": None})

    def is_group(self, config_path: str) -> bool:
        """Whether it is where networks are."""
        return config_path.strip("/") == "model"

    def is_config(self, config_path: str) -> bool:
        """Whether it is a network's name."""
        return self.is_group(config_path.rpartition("/")[0]) and is_of_library(
            _name_of(config_path)
        )

    def available(self) -> bool:
        """It is."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names of torchvision's networks; timm's are too many."""
        return (
            sorted(classifiers())
            if self.is_group(config_path) and results_filter != ObjectType.GROUP
            else []
        )


def _name_of(config_path: str) -> str:
    return config_path.rpartition("/")[2].removesuffix(".yaml")


Plugins.instance().register(OwnFiles)
Plugins.instance().register(Classifiers)


def url(option: str, folder: str) -> str:
    """A folder, or a package's folder as pkg://package.folder, as Hydra wants it. Raises BenchError
    if it is absent.
    """
    if folder.startswith("pkg://"):
        name = folder.removeprefix("pkg://")
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:
            spec = None
        if spec is None:
            raise BenchError(f"There is no package {name!r} ({option}).")
        places = [place for place in spec.submodule_search_locations or () if os.path.isdir(place)]
        return f"{SCHEME}://{places[0]}" if places else folder
    text = folder.removeprefix("file://")
    path = Path(text).expanduser().absolute() if is_path(text) else None
    if path is None or not path.is_dir():
        name = shown(folder) if path is None else str(path)
        raise BenchError(
            f"There is no folder {name} ({option}); give the folder that holds experiment/, "
            "method/, ..."
        )
    return f"{SCHEME}://{path}"


def _text(file: str) -> str:
    """Return a file's text. Raises BenchError if it is no text in UTF-8 or UTF-16."""
    try:
        return decoded(Path(file).read_bytes())
    except UnicodeDecodeError as error:
        raise BenchError(
            f"{file} can't be read as text in UTF-8 ({error.reason}); save it in UTF-8."
        ) from error


def load_yaml(text: str, group: str) -> Any:
    """Return the content of a user's YAML file, as OmegaConf reads it, with its texts as they are
    written.

    group: the folder of the file, such as "model".
    """
    content = OmegaConf.load(StringIO(text))
    node = yaml.compose(text, yaml.SafeLoader)
    prefix = f"{group}." if group in ("model", "data", "device") else ""
    if isinstance(node, yaml.MappingNode) and _quote_texts(node, prefix):
        return OmegaConf.load(StringIO(yaml.serialize(node)))
    return content


def _quote_texts(node: yaml.MappingNode, prefix: str) -> bool:
    """Put texts that YAML would read as something else in quotes. Return whether there are any."""
    has_texts = False
    for key_node, child in node.value:
        key = f"{prefix}{key_node.value}"
        if isinstance(child, yaml.MappingNode):
            has_texts |= _quote_texts(child, f"{key}.")
            continue
        is_list = isinstance(child, yaml.SequenceNode)
        for scalar in child.value if is_list else [child]:
            if isinstance(scalar, yaml.ScalarNode) and scalar.style is None:
                value = OmegaConf.select(OmegaConf.create(f"value: {scalar.value}"), "value")
                if settings.is_text(key, scalar.value, value, is_list and key not in settings.AXES):
                    scalar.style = "'"
                    scalar.tag = "tag:yaml.org,2002:str"
                    has_texts = True
    return has_texts


def unreadable(error: yaml.YAMLError, file: str) -> BenchError:
    """The sentence for a file that is no YAML."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    line = "" if mark is None else f", line {mark.line + 1}"
    return BenchError(f"{file}{line}: this is no YAML ({problem or ' '.join(str(error).split())}).")


def completed(content: DictConfig, config: str, is_global: bool, file: str) -> DictConfig:
    """What a user's file holds, with the name that it may leave out: of a method or metric the key
    around its entry, of an experiment `experiment`. config: as "experiment/mine". is_global:
    whether its first line says so. Raises BenchError for an experiment that Hydra would take for
    something else, with the line and what to write there.
    """
    group, _, name = config.strip("/").partition("/")
    if group in PLUGINS and "_target_" in content:
        defaults = content.pop("defaults", [])
        return OmegaConf.create({"defaults": defaults, name: content})
    if group == "experiment":
        if problems := list(_problems(content, is_global, file)):
            raise BenchError(" ".join(problems))
        content = _with_sweep(content)
        if "experiment" not in content:
            content["experiment"] = name.rpartition("/")[2]
    return content


def _with_sweep(content: DictConfig) -> DictConfig:
    """An experiment in which several models, data sets or layers, by commas, list or mapping, are
    Hydra's sweep.
    """
    several: dict[str, Any] = {}

    def taken(key: str, value: object) -> bool:
        """Whether it is several values, which then are the sweep's."""
        if is_several := isinstance(value, list | dict) or "," in str(value):
            several[key] = value
        return is_several

    plain: Any = OmegaConf.to_container(content)
    for default in list(plain.get("defaults") or ()):
        for key, value in default.items() if isinstance(default, dict) else ():
            group = str(key).removeprefix("override ").lstrip("/")
            if group in ("model", "data") and taken(group, value):
                plain["defaults"].remove(default)
    if isinstance(plain.get("model"), dict):
        plain["model"] = {key: value for key, value in plain["model"].items()
                          if key not in ("layer", "draw") or not taken(f"model.{key}", value)}  # fmt: skip
    sweep = {"hydra": {"sweeper": {"params": several}}}
    return DictConfig(OmegaConf.merge(plain, sweep)) if several else content


def _problems(content: DictConfig, is_global: bool, file: str) -> Iterator[str]:
    groups = conf_groups()
    lines = _text(file).splitlines()

    def at(start: str) -> str:
        """The place of the first line that begins so, but for blanks."""
        number = next(
            (number for number, line in enumerate(lines, 1) if line.strip().startswith(start)), 1
        )
        return f"{file}, line {number}:"

    if not is_global:
        yield (
            f"{at('')} an experiment begins with the line `{GLOBAL}`, since it sets what a whole "
            "run has; add it."
        )
    for key, value in ((str(key), value) for key, value in content.items_ex(resolve=False)):
        if key in groups - {"experiment"} and not isinstance(value, DictConfig | None):
            chosen = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            text = f"[{', '.join(map(str, chosen))}]" if isinstance(chosen, list) else str(chosen)
            yield (
                f"{at(key)} `{key}: {text}` is a choice; write it under `defaults:`, as `- "
                f"override /{key}: {text}`."
            )
    for default in content.get("defaults") or ():
        group = (
            str(next(iter(default))).removeprefix("override ")
            if isinstance(default, DictConfig)
            else ""
        )
        if group in groups:
            yield (
                f"{at(f'- override {group}')} the slash is missing; write `- override /{group}: "
                "...`."
            )
