"""Hydra's sources in addition to conf/: a user's own folders of YAML files, and the networks of
torchvision and timm. A file of a method, metric or experiment may leave out its name. Mistakes in a
file that Hydra can't explain become sentences.
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

from axiom_bench.environment import conf_groups, decode_text
from axiom_bench.errors import BenchError
from axiom_bench.kinds import is_path, shorten_for_error
from axiom_bench.models.spec import classifiers, is_of_library, model_config
from axiom_bench.run.composing import settings

SCHEME = "own"  # of the URL of a user's folder
CLASSIFIERS = "classifiers://torchvision"  # the URL of the libraries' networks
PLUGINS = ("method", "metric", "peers", "spoiled")  # groups whose files hold {name: entry}
GLOBAL = "# @package _global_"


class OwnFiles(ConfigSource):
    """A user's own folder, as own://PATH."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of the URLs that Hydra passes to this class."""
        return SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the content of a file, as `add_missing_name` returns it.

        Raises:
            BenchError: If the file is no YAML, or `add_missing_name` finds a mistake in it.
        """
        file = self._file(config_path)
        text = _text(file)
        try:
            content = load_yaml(text, config_path.strip("/").partition("/")[0])
        except yaml.YAMLError as error:
            raise yaml_error(error, file) from error
        header = self._get_header_dict(text[:512])
        if isinstance(content, DictConfig):
            content = add_missing_name(content, config_path, header["package"] == "_global_", file)
        return ConfigResult(self.provider, self.full_path(), content, header)

    def is_group(self, config_path: str) -> bool:
        """Return whether the path is a folder."""
        return os.path.isdir(os.path.join(self.path, config_path))

    def is_config(self, config_path: str) -> bool:
        """Return whether the path is a file."""
        return os.path.isfile(self._file(config_path))

    def available(self) -> bool:
        """Return whether the user's folder exists."""
        return self.is_group("")

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of the files and folders in a folder."""
        found: list[str] = []
        for name in os.listdir(os.path.join(self.path, config_path)):
            self._list_add_result(found, os.path.join(config_path, name), name, results_filter)
        return sorted(set(found))

    def _file(self, config_path: str) -> str:
        return os.path.join(self.path, self._normalize_file_name(config_path))


class Classifiers(ConfigSource):
    """The networks of torchvision and timm, as entries of the group `model`.

    Hydra's own store for entries without a file isn't used: Hydra copies all of it each time that
    it composes.
    """

    @staticmethod
    def scheme() -> str:
        """Return the scheme of the URL that Hydra passes to this class."""
        return CLASSIFIERS.partition("://")[0]

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the settings of a network."""
        settings = OmegaConf.create(model_config(_name_of(config_path)))
        return ConfigResult(self.provider, self.full_path(), settings, {"package": None})

    def is_group(self, config_path: str) -> bool:
        """Return whether the path is the group of the networks."""
        return config_path.strip("/") == "model"

    def is_config(self, config_path: str) -> bool:
        """Return whether the path is a network of a library."""
        folder = config_path.rpartition("/")[0]
        return self.is_group(folder) and is_of_library(_name_of(config_path))

    def available(self) -> bool:
        """Return True: the libraries are always installed."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the names of torchvision's networks. timm's are too many."""
        if not self.is_group(config_path) or results_filter == ObjectType.GROUP:
            return []
        return sorted(classifiers())


def _name_of(config_path: str) -> str:
    """Return the name of the entry at a path such as "model/resnet18.yaml"."""
    return config_path.rpartition("/")[2].removesuffix(".yaml")


Plugins.instance().register(OwnFiles)
Plugins.instance().register(Classifiers)


def folder_url(option: str, folder: str) -> str:
    """Return the URL that Hydra needs to search a user's folder.

    Args:
        option: The option or setting that names the folder, for the error.
        folder: The path of a folder, or pkg://package.folder for a folder of a package.

    Raises:
        BenchError: If the folder or the package doesn't exist.
    """
    # A package is searched as a folder, too, so that `add_missing_name` applies to its files.
    if folder.startswith("pkg://"):
        name = folder.removeprefix("pkg://")
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:
            spec = None
        if spec is None:
            raise BenchError(f"There is no package {name!r} ({option}).")
        paths = [path for path in spec.submodule_search_locations or () if os.path.isdir(path)]
        return f"{SCHEME}://{paths[0]}" if paths else folder
    text = folder.removeprefix("file://")
    path = Path(text).expanduser().absolute() if is_path(text) else None
    if path is None or not path.is_dir():
        name = shorten_for_error(folder) if path is None else str(path)
        raise BenchError(
            f"There is no folder {name} ({option}); give the folder that holds experiment/, "
            "method/, ..."
        )
    return f"{SCHEME}://{path}"


def _text(file: str) -> str:
    """Return a file's text. Raise BenchError if it is no text in UTF-8 or UTF-16."""
    try:
        return decode_text(Path(file).read_bytes())
    except UnicodeDecodeError as error:
        raise BenchError(
            f"{file} can't be read as text in UTF-8 ({error.reason}); save it in UTF-8."
        ) from error


def load_yaml(text: str, group: str) -> Any:
    """Return the content of a user's YAML file as OmegaConf reads it, except that texts stay as
    they are written.

    Args:
        text: The text of the file.
        group: The folder of the file, such as "model".

    Raises:
        yaml.YAMLError: If the text is no YAML.
    """
    content = OmegaConf.load(StringIO(text))
    node = yaml.compose(text, yaml.SafeLoader)
    prefix = f"{group}." if group in ("model", "data", "device") else ""
    if isinstance(node, yaml.MappingNode) and _quote_texts(node, prefix):
        return OmegaConf.load(StringIO(yaml.serialize(node)))
    return content


def _quote_texts(node: yaml.MappingNode, prefix: str) -> bool:
    """Put texts in quotes that YAML would read as something else, and return whether there were
    any.
    """
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
                # a list of an axis has its values, and isn't itself the value
                is_entry = is_list and key not in settings.AXES
                if settings.is_text(key, scalar.value, value, is_entry):
                    scalar.style = "'"
                    scalar.tag = "tag:yaml.org,2002:str"
                    has_texts = True
    return has_texts


def yaml_error(error: yaml.YAMLError, file: str) -> BenchError:
    """Return the sentence for a file that is no YAML."""
    mark = getattr(error, "problem_mark", None)
    line = "" if mark is None else f", line {mark.line + 1}"
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return BenchError(f"{file}{line}: this is no YAML ({problem}).")


def add_missing_name(content: DictConfig, config: str, is_global: bool, file: str) -> DictConfig:
    """Return the content of a user's file, with the name that it may leave out.

    A method or metric may leave out the key around its entry, and an experiment may leave out
    `experiment`.

    Args:
        content: The content of the file.
        config: The group and the name, such as "experiment/mine".
        is_global: The first line of the file says that its package is global.
        file: The path of the file, for the error.

    Raises:
        BenchError: If Hydra would misunderstand the experiment. The message has the line, and what
            to write there.
    """
    # Hydra wants {name: entry} in a file, and a run `experiment`: both would repeat the file's name
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
    """Return an experiment with its several models, data sets or layers moved into Hydra's sweep.
    They may be written with commas, as a list or as a mapping.
    """
    plain: Any = OmegaConf.to_container(content)
    sweep_params: dict[str, object] = {}
    for default in list(plain.get("defaults") or ()):
        for key, value in default.items() if isinstance(default, dict) else ():
            group = str(key).removeprefix("override ").lstrip("/")
            if group in ("model", "data") and _has_several_values(value):
                sweep_params[group] = value
                plain["defaults"].remove(default)
    model = plain.get("model")
    if isinstance(model, dict):
        for key, value in list(model.items()):
            if key in ("layer", "draw") and _has_several_values(value):
                sweep_params[f"model.{key}"] = model.pop(key)
    if not sweep_params:
        return content
    return DictConfig(OmegaConf.merge(plain, {"hydra": {"sweeper": {"params": sweep_params}}}))


def _has_several_values(value: object) -> bool:
    """Return whether a choice or setting in an experiment's file has several values."""
    return isinstance(value, list | dict) or "," in str(value)


def _problems(content: DictConfig, is_global: bool, file: str) -> Iterator[str]:
    """Yield a sentence for each part of an experiment's file that Hydra would misunderstand."""
    groups = conf_groups()
    lines = _text(file).splitlines()

    def find_line(start: str) -> str:
        """Return the file and the first line that begins with `start` after its indent."""
        for number, line in enumerate(lines, 1):
            if line.strip().startswith(start):
                return f"{file}, line {number}:"
        return f"{file}, line 1:"

    if not is_global:
        yield (
            f"{find_line('')} an experiment begins with the line `{GLOBAL}`, since it sets what a "
            "whole run has; add it."
        )
    # Hydra would take the choice of an entry for the settings of its group
    for node_key, value in content.items_ex(resolve=False):
        key = str(node_key)
        if key in groups - {"experiment"} and not isinstance(value, DictConfig | None):
            chosen = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            text = f"[{', '.join(map(str, chosen))}]" if isinstance(chosen, list) else str(chosen)
            yield (
                f"{find_line(key)} `{key}: {text}` is a choice; write it under `defaults:`, as `- "
                f"override /{key}: {text}`."
            )
    for default in content.get("defaults") or ():
        if not isinstance(default, DictConfig):
            continue
        group = str(next(iter(default))).removeprefix("override ")
        if group in groups:
            yield (
                f"{find_line(f'- override {group}')} the slash is missing; write `- override "
                f"/{group}: ...`."
            )
