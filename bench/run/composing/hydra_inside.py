"""All that this package uses of Hydra's inside, which another release may change: Hydra has no public way to compose a
command line's jobs without taking over `sys.argv`, logging and the output folder."""

from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import yaml
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, RunMode, TaskFunction
from hydra.version import setbase
from omegaconf import DictConfig, OmegaConf

from axiom_bench.environment import conf_folder, conf_groups
from axiom_bench.errors import BenchError, unknown
from axiom_bench.kinds import shown
from axiom_bench.run.composing import own_files

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
LOCAL = "axiom_bench.run.executors.local"
EXTRAS = {"hydra_joblib_launcher": "launchers", "hydra_submitit_launcher": "launchers", "hydra_ray_launcher": "ray"}
NAMES = re.compile(r"\[?[^\W\d][\w@,. -]*\]?")  # of entries
NOT_NAMES = ("", "null", "true", "false")
KINDS = {"peers": "peer", "spoiled": "spoiled explainer"}  # what an entry is, where its group has another name


class _Repository(ConfigRepository):
    """Hydra copies it, to exchange its sources, each time that it composes: here without all that the sources hold."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        """As Hydra reads it; of a user's own file as `own_files.completed` has it. Raises BenchError."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.provider != own_files.PROVIDER:
            return super().load_config(config_path)
        file = own_files.place(source, config_path)
        try:
            loaded = super().load_config(config_path)
        except yaml.YAMLError as error:
            raise own_files.unreadable(error, file) from error
        return None if loaded is None else own_files.completed(loaded, config_path, file, conf_groups())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Repository:
        return copy.copy(self)


class _Loader(ConfigLoaderImpl):
    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """What a job has that isn't composed again where its overrides are the command's and no choice is missing. The
        axes come first in a job's, which changes nothing."""
        command = master_config.hydra
        is_same = sorted(sweep_overrides) == sorted(command.overrides.task)
        if is_same and not OmegaConf.missing_keys(command.runtime.choices):
            return copy.deepcopy(master_config)
        return super().load_sweep_config(master_config, sweep_overrides)


class Composer:
    """Hydra with conf/ first, then the given folders (as file://... or pkg://...), on its search path."""

    def __init__(self, folders: Sequence[str]) -> None:
        setbase("1.3")
        path = create_config_search_path(str(conf_folder()))
        schema = path.get_path().pop()  # Hydra's own, which stays last
        for folder in folders:
            path.append(own_files.PROVIDER, folder)
        path.append(schema.provider, schema.path)
        self._loader = _Loader(path)
        self._loader.repository = _Repository(path)
        self._hydra = Hydra("axiom-bench", self._loader)
        # Hydra would warn of two launchers with one name: conf/'s, and that which a package has put into its store.
        stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
        for file in (conf_folder() / "hydra" / "launcher").glob("*.yaml"):
            stored.pop(file.name, None)

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration with Hydra's own node; what is swept over keeps its default."""
        return self._hydra.compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN)

    def choices(self, overrides: Sequence[str]) -> Mapping[str, Any]:
        """What is chosen of each group, as `config` would have it."""
        defaults = self._loader.compute_defaults_list("config", list(overrides), RunMode.MULTIRUN)
        return defaults.overrides.known_choices

    def job_config(self, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """The configuration of a job. config: of all jobs. overrides: of this one."""
        return self._loader.load_sweep_config(config, list(overrides))

    def options(self, group: str) -> list[str]:
        """The entries of a configuration group."""
        return self._loader.get_group_options(group, ObjectType.CONFIG)

    def content(self, path: str) -> Any:
        """What a configuration file holds, as "metric/road_morf", without its defaults; None where there is none."""
        loaded = self._loader.repository.load_config(path)
        return None if loaded is None else loaded.config

    def parsed(self, overrides: list[str]) -> list[Override]:
        """KEY=VALUE, read by Hydra's grammar, which knows the groups."""
        return OverridesParser.create(self._loader).parse_overrides(overrides)

    def launch(self, config: DictConfig, jobs: Sequence[Sequence[str]], function: TaskFunction) -> list[Any]:
        """What the function returns for each job's configuration; Hydra's launcher spreads the jobs."""
        context = HydraContext(config_loader=self._loader, callbacks=Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(context, function, config)
        return [job.return_value for job in launcher.launch(jobs, initial_job_idx=0)]


def check_launcher(launcher: Any, executor: object) -> None:
    """Raises BenchError for a launcher that isn't installed, and for one beside an executor.

    launcher: the configuration's node of it. executor: the target.
    """
    target = str(launcher["_target_"])
    if target == BASIC_LAUNCHER:
        return
    package = next((name for name in EXTRAS if name in target), None)
    try:
        is_installed = importlib.util.find_spec(target.rpartition(".")[0]) is not None
    except (ImportError, ValueError):
        is_installed = False
    if not is_installed:
        mend = f"pip install '.[{EXTRAS[package]}]' in axiom-bench's checkout" if package else "install its package"
        raise BenchError(f"The launcher {shown(target)} isn't installed; {mend}, or leave hydra/launcher out.")
    if executor != LOCAL:
        raise BenchError("A launcher starts processes for jobs, an executor for shards; leave hydra/launcher out.")


def failed(error: Exception) -> BenchError:
    """The sentence for what a launcher raises where it can't start processes, or one of them was killed."""
    reason = _first_line(str(error)).partition(". ")[0][:300] or "no reason given"
    return BenchError(
        f"hydra/launcher couldn't end all jobs ({type(error).__name__}: {reason}). Finished shards are kept: the same "
        "command goes on from there."
    )


def value_of(override: str) -> object:
    """The value of KEY=VALUE in Hydra's grammar. Raises HydraException."""
    return OverridesParser.create().parse_override(override).value()


def as_typed(override: str, axes: Collection[str]) -> str:
    """KEY=VALUE, the value in quotes where Hydra's grammar can't read it, as a path with parentheses or letters outside
    ASCII. Lists and mappings stay. axes: the keys that take several values, with commas between them."""
    key, equals, value = override.partition("=")
    if not equals or value.startswith(("[", "{")) or _is_read(override) or not _is_read(f"{key}="):
        return override
    values = value.split(",") if key in axes else [value]
    return f"{key}={','.join(QuotedString(text, Quote.single).with_quotes() for text in values)}"


def _is_read(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def sentence(error: Exception, keys: Iterable[str], choices: Callable[[str], Iterable[str]]) -> BenchError:
    """What is wrong with the command line or a configuration file. keys: the dotted keys that can be set. choices: the
    entries of a configuration group."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _unread(error.override)
    if match := re.search(r"Could not (?:find|load) '([\w/]+)/([^/\n]+)'", text):
        return unknown(KINDS.get(match[1], match[1]), match[2], choices(match[1]))
    if "Could not override 'data@data.of'" in text:
        return BenchError("data.of chooses the images of mosaics; add data=mosaic.")
    if match := re.search(r"Could not override '([^'@]+)'", text):
        settings = set(keys)
        if match[1] not in settings:
            return _unset(match[1], settings)
        if "No match in the defaults list" in text:
            return BenchError(f"A folder {match[1]}/ in your configuration folder hides the setting; rename it.")
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return BenchError(f"Invalid value for {match[1]}: {_first_line(str(cause))}.")
    if "'${data}_${model}'" in text:
        return BenchError("model and data take one name each, or several with commas between them: model=a,b.")
    if match := re.search(r"full_key: (\S+)", text):
        return BenchError(f"Invalid value for {match[1]}: {_first_line(text)}.")
    if match := re.match(r"In '([^']+)': (.*)", " ".join(text.split())):
        return BenchError(f"{match[1]}.yaml can't be used: {match[2].rstrip('.')}.")
    return BenchError(f"The command line can't be understood: {_first_line(text)}.")


def _unread(override: str) -> BenchError:
    """For what Hydra's grammar can't read, also with its value in quotes."""
    key, equals, _ = override.partition("=")
    if equals and not _is_read(f"{key}="):
        return BenchError(f"{shown(key)} can't be a setting: its name has ASCII letters, digits, _, - and dots.")
    return BenchError(
        f"The command line can't be understood at {shown(override)}; write KEY=VALUE, and a list of texts with two "
        "kinds of quotes: \"KEY=['a','b']\"."
    )


def _unset(key: str, settings: Collection[str]) -> BenchError:
    """For a setting that doesn't exist; a user's own method, or another parameter of one, is added with +."""
    group, _, rest = key.partition(".")
    name, _, setting = rest.partition(".")
    if group in ("method", "metric"):
        is_added = setting == "_target_" or (setting.startswith("params.") and f"{group}.{name}" in settings)
        if is_added:
            return BenchError(f"{key} isn't there to be changed; add + to set it: +{key}=VALUE.")
        if setting and f"{group}.{name}" not in settings:
            of_run = {entry.split(".")[1] for entry in settings if entry.startswith(f"{group}.")}
            return unknown(f"{group} in this run", name, of_run)
    return unknown("setting", key, settings)


def unexpected(error: Exception, overrides: Iterable[str], groups: Collection[str]) -> BenchError:
    """What is wrong where Hydra raises an error of its inside: a choice that is no name, as far as can be told. groups:
    whose entries are chosen by name."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key in groups and (value.strip("[]").lower() in NOT_NAMES or not NAMES.fullmatch(value)):
            return BenchError(
                f"{key}={shown(value)} chooses no {KINDS.get(key, key)}: give its name, or names in brackets where a "
                f"run takes several; axiom-bench list shows them."
            )
    reason = _first_line(str(error)) or "no reason given"
    return BenchError(f"The configuration can't be put together ({type(error).__name__}: {reason}).")


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].rstrip(".")
