"""A command line's configuration: the YAML files of conf/ and of the user's own folders, composed by Hydra."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from axiom_bench.environment import conf_folder, conf_groups, read_yaml
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.kinds import is_path, shown
from axiom_bench.models.spec import model_names, register_models
from axiom_bench.records import remote
from axiom_bench.records.files import safe_name
from axiom_bench.run.composing import hydra_inside, settings
from axiom_bench.run.composing.hydra_inside import BASIC_LAUNCHER, BASIC_SWEEPER, Composer

LISTS = ("method", "metric", "peers", "spoiled")  # groups of which a run takes several entries, as a list
WITH_ALL = (
    "method",
    "metric",
    "peers",
    "spoiled",
)  # those of which `all` chooses every entry, of metrics but the fast forms
AXES = ("model", "model.layer", "data")  # what may take several values, each of them a job
SEARCH_PATH = "hydra.searchpath"
DEFAULT = "default"  # the name of a run of the experiment's own models and data
COUNTED = {"data": "datasets", "model": "models", "model.layer": "layers"}  # what several values of it are called
PLACES = {"data.root", "data.path"}
OF_DATA = {"data@data.of", "data.name", *PLACES}  # what else decides which data and model these are
OF_MODEL = {"model.name", "model.architecture", "model.weights"}
OWN_FILES = ("folder", "webdataset", "parquet")  # kinds of data sets that aren't told apart by their name


@dataclass(frozen=True)
class Composition:
    """A command line, composed. Valid inside `composed` only. typed: the overrides as they were typed. overrides: with
    `all` replaced by the names. config: with Hydra's own node; what is swept over has its default. jobs: the overrides
    of each job, in order."""

    composer: Composer
    typed: Sequence[str]
    overrides: Sequence[str]
    config: DictConfig
    jobs: Sequence[Sequence[str]]

    @property
    def several(self) -> set[str]:
        """The axes with several values, of which `config` has only the default's."""
        values = ({override.partition("=")[::2] for override in job} for job in self.jobs)
        keys = [key for key, _ in set().union(*values)]
        return {axis for axis in AXES if keys.count(axis) > 1}

    def plain(self) -> dict[str, Any]:
        """The configuration of all jobs, as `plain` makes it."""
        return plain(self.config)

    def plain_job(self, number: int = 0) -> dict[str, Any]:
        """The configuration of one of the jobs."""
        return plain(self.composer.job_config(self.config, self.jobs[number]))

    def launch(self, function: TaskFunction) -> list[Any]:
        """What the function returns for each job's configuration; Hydra's launcher spreads the jobs."""
        launcher = self.config.hydra.launcher["_target_"]
        try:
            return self.composer.launch(self.config, self.jobs, function)
        except (BenchError, HydraException, OmegaConfBaseException, OSError):
            raise
        except Exception as error:  # a job's own errors are in what it returns
            if launcher != BASIC_LAUNCHER:
                raise hydra_inside.failed(error) from error
            raise hydra_inside.unexpected(error, self.overrides, conf_groups()) from error


@contextmanager
def composed(overrides: Sequence[str], config_folder: Path | None = None) -> Iterator[Composition]:
    """Composes a command line; inside, Hydra's errors become sentences. config_folder: a user's own folder of YAML
    files, searched after conf/, as those of `hydra.searchpath=[...]` are. Raises BenchError for what can't be composed,
    for an axis other than AXES, and where there is no job."""
    typed = overrides
    overrides = [hydra_inside.as_typed(override, AXES) for override in _with_suite(overrides)]
    folders, overrides = _search_path(overrides, config_folder)
    register_models(_may_name_models(folders, overrides))
    composer = Composer(folders)
    try:
        try:
            overrides = _with_all(composer, overrides)
            config = composer.config(overrides)
            hydra_inside.check_launcher(config.hydra.launcher, OmegaConf.select(config, "executor._target_"))
            if name := _run_name(composer, config, overrides):
                overrides = [*overrides, f"run='{name}'"]
                config.run = name
                config.hydra.overrides.task.append(overrides[-1])
            if remote.is_url(results := str(OmegaConf.select(config, "results"))):
                folder = str(remote.folder_of(results)).replace("'", r"\'")
                overrides = [*overrides, f"hydra.sweep.dir='{folder}'"]  # here; Hydra would make one called s3:
                config = composer.config(overrides)
            jobs = _jobs(composer, config)
        except (BenchError, HydraException, OmegaConfBaseException):
            raise
        except Exception as error:  # Hydra raises anything for values that it doesn't expect, as model=[1]
            raise hydra_inside.unexpected(error, overrides, conf_groups()) from error
        yield Composition(composer, typed, overrides, config, jobs)
    except (HydraException, OmegaConfBaseException) as error:
        raise hydra_inside.sentence(
            error, _keys(composer, overrides), lambda group: _options(composer, group)
        ) from error


def _with_suite(overrides: Sequence[str]) -> Sequence[str]:
    """With the overrides of suite=NAME/PART in its place. Raises BenchError as `suites.expanded`."""
    if not any(override.startswith("suite=") for override in overrides):
        return overrides
    from axiom_bench.run.composing import suites  # here: most runs are of none

    return suites.expanded(overrides)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration, resolved, without Hydra's node; what is missing until a job is composed stays `???`."""
    nodes = ((str(key), node) for key, node in config.items() if key != "hydra")
    return {k: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node for k, node in nodes}


def base_keys() -> set[str]:
    """The dotted settings of conf/config.yaml and conf/device/, which no choice of methods or data changes."""
    files = (conf_folder() / name for name in ("config.yaml", "device/auto.yaml"))
    config, device = map(read_yaml, files)
    nodes = {key: value for key, value in config.items() if key not in ("defaults", "hydra")}
    return {key for key, _ in settings.settings({**nodes, "device": device})}


def _may_name_models(folders: Sequence[str], overrides: Sequence[str]) -> str | None:
    """The overrides and the YAML files of the user's folders that may name a model; None where any may be meant."""
    if any(folder.startswith("pkg://") for folder in folders):
        return None
    paths = [Path(folder.removeprefix("file://")) / group for folder in folders for group in ("experiment", "model")]
    files = [file for path in (*paths, conf_folder() / "experiment") for file in path.glob("*.yaml")]
    text = "\n".join([*overrides, *(file.read_text() for file in files)])
    return None if "glob(" in text else text


def _search_path(overrides: Sequence[str], config_folder: Path | None) -> tuple[list[str], list[str]]:
    """The user's folders as Hydra's URLs, and the overrides that don't name folders. Raises BenchError for a folder
    that isn't there, or a search path that is no list of folders."""
    folders = [] if config_folder is None else [_url("--config-dir", str(config_folder))]
    rest = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") != SEARCH_PATH:
            rest.append(override)
            continue
        try:
            listed = hydra_inside.value_of(f"{SEARCH_PATH}={value}")
        except HydraException as error:
            raise BenchError(f"Invalid {SEARCH_PATH} {value!r}; write \"{SEARCH_PATH}=['/my/conf']\".") from error
        if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
            raise BenchError(f"{SEARCH_PATH} must be a list of folders, as [file:///my/conf], not {listed!r}.")
        folders += [_url(SEARCH_PATH, str(entry)) for entry in listed]
    return folders, rest


def _url(option: str, folder: str) -> str:
    """A folder, or a package's folder as pkg://package.folder, as Hydra wants it. Raises BenchError if it is absent."""
    if folder.startswith("pkg://"):
        try:
            present = importlib.util.find_spec(folder.removeprefix("pkg://")) is not None
        except ImportError:
            present = False
        if not present:
            raise BenchError(f"There is no package {folder.removeprefix('pkg://')!r} ({option}).")
        return folder
    text = folder.removeprefix("file://")
    path = Path(text).expanduser().absolute() if is_path(text) else None
    if path is None or not path.is_dir():
        name = shown(folder) if path is None else path
        raise BenchError(f"There is no folder {name} ({option}); give the folder that holds experiment/, method/, ...")
    return f"file://{path}"


def _with_all(composer: Composer, overrides: Sequence[str]) -> list[str]:
    """The overrides, with every name of a group in the place of `method=all` and the like, also an experiment's."""
    # Hydra writes the choice of a data set inside another as data@data.of=NAME.
    overrides = [f"data@{override}" if override.partition("=")[0] == "data.of" else override for override in overrides]
    replaced = [_named(composer, *override.partition("=")[::2]) or override for override in overrides]
    experiment = [override for override in overrides if override.startswith("experiment=")]
    if not experiment:
        return replaced
    choices = composer.choices(experiment)
    chosen = {override.partition("=")[0] for override in overrides}
    of_experiment = [_named(composer, group, choices.get(group)) for group in WITH_ALL if group not in chosen]
    return [*(override for override in of_experiment if override), *replaced]


def _named(composer: Composer, group: str, choice: object) -> str | None:
    """The override that chooses by name what `all` or `all_fast` means for the group; None for any other choice."""
    if group not in WITH_ALL or choice not in (plugins.ALL, plugins.ALL_FAST):
        return None
    options = [name for name in _options(composer, group) if name not in (plugins.ALL, plugins.ALL_FAST)]
    names = [name for name in options if not plugins.needs_setting(_entry(composer, group, name))]
    if group == "metric":
        fast_forms = {name: metric for name in names if (metric := _fast_form_of(composer, name))}
        left_out = fast_forms.values() if choice == plugins.ALL_FAST else fast_forms.keys()
        names = [name for name in names if name not in left_out]
    return f"{group}=[{','.join(names)}]"


def _fast_form_of(composer: Composer, metric: str) -> str | None:
    """The metric of which this one is a fast form."""
    fast_form_of: str | None = _entry(composer, "metric", metric).get("fast_form_of")
    return fast_form_of


def _entry(composer: Composer, group: str, name: str) -> dict[str, Any]:
    """What the file of a method or metric says, of conf/ or of a user's folder."""
    content = composer.content(f"{group}/{name}")
    entry = content.get(name) if isinstance(content, DictConfig) else None
    container: Any = OmegaConf.to_container(entry) if isinstance(entry, DictConfig) else {}
    return container


def _jobs(composer: Composer, config: DictConfig) -> list[list[str]]:
    """The overrides of each job: one for each combination of the axes' values, each value once. The axes are those of
    the command line over those of the experiment. Raises BenchError for another axis, and for one without values."""
    if config.hydra.sweeper["_target_"] != BASIC_SWEEPER:
        raise BenchError("hydra/sweeper can't be changed: the jobs of a run are its models, layers and data sets.")
    axes: Any = OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create({}))
    lines = [*(f"{key}={value}" for key, value in axes.items()), *config.hydra.overrides.task]
    values: dict[str, list[str]] = {}
    for override in composer.parsed(lines):
        key = override.get_key_element()
        values[key] = [f"{key}={value}" for value in _values(override)]
    return [list(job) for job in product(*values.values())]


def _values(override: Override) -> list[str]:
    """What a job may take for one setting: its value, or each of an axis, once."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    key, line = override.get_key_element().lstrip("+"), str(override.input_line)
    if key in LISTS:
        names = line.partition("=")[2]
        raise BenchError(f"The brackets are missing in {line}; write {key}=[{names}] for several in one run.")
    if key not in AXES:
        raise BenchError(
            f"{key} takes one value, not several as in {line}; only {AXES[0]}, {AXES[1]} and {AXES[2]} take several. "
            f"Start a run for each value, with run=NAME; a text with a comma needs quotes: \"{key}='a,b'\"."
        )
    if not override.is_discrete_sweep():
        raise BenchError(f"{line} names no values; write {key}=a,b.")
    values = list(dict.fromkeys(override.sweep_string_iterator()))
    if not values:
        raise BenchError(f"{line} matches nothing, so there is no job; axiom-bench list names the choices.")
    return values


def _options(composer: Composer, group: str) -> list[str]:
    """The entries of a configuration group, of conf/, of the user's folders, and of torchvision."""
    of_torchvision = model_names() if group == "model" else []
    return sorted({*composer.options(group), *of_torchvision})


def _keys(composer: Composer, overrides: Sequence[str]) -> list[str]:
    """The dotted settings that exist, given the files that the overrides choose."""
    choices = [override for override in overrides if override.partition("=")[0] in conf_groups()]
    added = [override.partition("=")[0].lstrip("+") for override in overrides if override.startswith("+")]
    entries = [".".join(key.split(".")[:2]) for key in added]  # as method.mine, of +method.mine._target_
    try:
        return [*added, *entries, *(key for key, _ in settings.settings(plain(composer.config(choices))))]
    except (HydraException, OmegaConfBaseException):  # a wrong choice is what the sentence is about
        return []


def _run_name(composer: Composer, config: DictConfig, overrides: Sequence[str]) -> str | None:
    """The name of a run that isn't given one, so that the same command goes on in its folder. None where the command or
    the experiment gives one, or the experiment's own models and data are used: it is DEFAULT.
    config: composed of the overrides; of what has several values it has the default."""
    keys = {override.partition("=")[0].lstrip("+") for override in overrides}
    if "run" in keys or config.run != DEFAULT or not keys & {*COUNTED, *OF_DATA, *OF_MODEL}:
        return None
    own = _own(composer, config, overrides)
    values = own | _axis_values(composer, config.hydra.overrides.task)
    changed = {axis for axis in COUNTED if values.get(axis) != own.get(axis)}
    several = {axis: _counted(axis, of_axis) for axis, of_axis in values.items() if len(of_axis) > 1}
    data: Any = OmegaConf.to_container(config.data, resolve=True)
    names = []
    if "data" in changed or keys & _deciding(data):
        names.append(several.get("data") or _data_name(data, keys))
    if "model" in changed or keys & OF_MODEL:
        names += [several.get("model") or _model_name(config.model, keys), *_weights(config.model, keys)]
    if "model.layer" in changed:
        names.append(several.get("model.layer") or str(config.model.layer))
    return safe_name("-".join(dict.fromkeys(names))) if names else None


def _counted(axis: str, values: Iterable[str]) -> str:
    """ "3models-6d74": how many, and four digits that tell other values apart, the same in any order."""
    names = sorted(values)
    return f"{len(names)}{COUNTED[axis]}-{hashlib.sha256(','.join(names).encode()).hexdigest()[:4]}"


def _own(composer: Composer, config: DictConfig, overrides: Sequence[str]) -> dict[str, list[str]]:
    """The values of each axis in the experiment alone."""
    choices = composer.choices([override for override in overrides if override.startswith("experiment=")])
    swept: Any = OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create({}))
    chosen = {axis: [str(choices[axis])] for axis in COUNTED if axis in choices}
    return chosen | _axis_values(composer, [f"{key}={value}" for key, value in swept.items()])


def _axis_values(composer: Composer, lines: Iterable[str]) -> dict[str, list[str]]:
    """The values that lines of KEY=VALUE give each axis."""
    parsed = [override for override in composer.parsed(list(lines)) if override.get_key_element() in COUNTED]
    return {
        override.get_key_element(): list(dict.fromkeys(override.sweep_string_iterator()))
        if override.is_sweep_override() and override.is_discrete_sweep()
        else [str(override.value())]
        for override in parsed
    }


def _deciding(data: Mapping[str, Any]) -> set[str]:
    """The settings that make another data set of the same choice."""
    return OF_DATA if data.get("kind") in OWN_FILES else OF_DATA - PLACES


def _data_name(data: Mapping[str, Any], keys: set[str]) -> str:
    """The data set's name; of files of the user's own that of their place."""
    place = data.get("root") or data.get("path")
    if data.get("kind") not in OWN_FILES or "data.name" in keys or not keys & PLACES or not isinstance(place, str):
        return str(data.get("name"))
    return Path(place if "://" in place else os.path.abspath(os.path.expanduser(place))).name


def _model_name(model: DictConfig, keys: set[str]) -> str:
    """The network's name; of a user's own without one that of its file or module."""
    if "model.name" in keys or "model.architecture" not in keys:
        return str(model.name)
    return Path(str(model.architecture).rpartition(":")[0]).stem


def _weights(model: DictConfig, keys: set[str]) -> list[str]:
    """The name of the weights where the command chooses them."""
    if "model.weights" not in keys or model.weights == "default":
        return []
    return ["random_weights" if model.weights is None else Path(str(model.weights)).stem]
