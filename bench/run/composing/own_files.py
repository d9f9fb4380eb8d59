"""A user's own YAML files, as Hydra reads them: methods and metrics with or without their name around them, experiments
with or without theirs; and what Hydra couldn't say in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import yaml
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf

from axiom_bench.errors import BenchError

PROVIDER = "own configuration"
PLUGINS = ("method", "metric", "peers", "spoiled")  # groups whose files hold {name: entry}
GLOBAL = "# @package _global_"


def place(source: ConfigSource, config: str) -> str:
    """The file of a configuration, as "experiment/mine", for an error."""
    folder = source.path if source.scheme() == "file" else source.full_path()
    return f"{folder}/{config.removesuffix('.yaml')}.yaml"


def unreadable(error: yaml.YAMLError, file: str) -> BenchError:
    """The sentence for a file that is no YAML."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    line = "" if mark is None else f", line {mark.line + 1}"
    return BenchError(f"{file}{line}: this is no YAML ({problem or ' '.join(str(error).split())}).")


def completed(loaded: ConfigResult, config: str, file: str, groups: Collection[str]) -> ConfigResult:
    """What a user's file holds, with the name that it may leave out: of a method or metric the key around its entry, of
    an experiment `experiment`. config: as "experiment/mine". groups: of conf/. Raises BenchError for an experiment that
    Hydra would take for something else, with the file, the line and what to write there."""
    group, _, name = config.strip("/").partition("/")
    content = loaded.config
    if not isinstance(content, DictConfig):
        return loaded
    if group in PLUGINS and "_target_" in content:
        loaded.config = OmegaConf.create({name: content})
    elif group == "experiment":
        if problems := list(_problems(loaded, file, groups)):
            raise BenchError(" ".join(problems))
        if "experiment" not in content:
            content["experiment"] = name.rpartition("/")[2]
    return loaded


def _problems(loaded: ConfigResult, file: str, groups: Collection[str]) -> Iterator[str]:
    path = Path(file)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []  # a package's may be in an archive

    def at(start: str) -> str:
        """The place of the first line that begins so, but for blanks."""
        number = next((number for number, line in enumerate(lines, 1) if line.strip().startswith(start)), 1)
        return f"{file}, line {number}:"

    if loaded.header.get("package") != "_global_":
        yield f"{at('')} an experiment begins with the line `{GLOBAL}`, since it sets what a whole run has; add it."
    content = loaded.config.items_ex(resolve=False) if isinstance(loaded.config, DictConfig) else ()
    for key, value in ((str(key), value) for key, value in content):
        if key in groups and key not in ("experiment", "hydra") and not isinstance(value, DictConfig | None):
            chosen = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            text = f"[{', '.join(map(str, chosen))}]" if isinstance(chosen, list) else str(chosen)
            yield f"{at(key)} `{key}: {text}` is a choice; write it under `defaults:`, as `- override /{key}: {text}`."
    for default in loaded.defaults_list or ():
        group = getattr(default, "group", "") if default.is_override() else ""
        if group in groups:
            yield f"{at(f'- override {group}')} the slash is missing; write `- override /{group}: ...`."
