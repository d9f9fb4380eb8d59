"""A command line's configuration: the YAML files of conf/ and of the user's own folders, composed
by Hydra.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from axiom_bench.environment import conf_folder, conf_groups, read_yaml
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation import plugins
from axiom_bench.records.files import safe_name
from axiom_bench.run.composing import own_files, settings
from axiom_bench.run.composing.settings import AXES, LAYER, Settings

LISTS = (
    "method",
    "metric",
    "peers",
    "spoiled",
)  # groups of which a run takes several entries, as a list, or `all`
PROTOCOL = "protocol"
CHOOSING = ("experiment", PROTOCOL, *LISTS)  # groups whose files choose entries of these
# settings that no file has to write down
RARE = tuple(
    f"model.{name}"
    for name in (
        "background",
        "draw",
        "weights_key",
        "inputs",
        "explained",
        "read",
        "min_probability",
        "finetuned",
    )
)
SEARCH_PATH = "hydra.searchpath"
DEFAULT = "default"  # the name of a run of the experiment's own models and data
# the settings that give a run its name
MODEL_KEYS = {"model", "model.name", "model.architecture"}
DATA_KEYS = {"data", "data@data.of", "data.name"}
PLACES = {"data.root", "data.path"}
OPEN = re.compile(
    rf"\+*({'|'.join(map(re.escape, RARE))}|model\.kwargs(?:\..*)?)"
)  # what needs no + before it
ENTRY = re.compile(
    r"(?:\\.|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^,])+"
)  # of a list, up to the next comma
HOME = re.compile(r"~(?:[^/\\\s]*[/\\].*)?", re.DOTALL)  # the home folder, or a path below one
OWN_FILES = (
    "folder",
    "webdataset",
    "parquet",
)  # kinds of data sets that aren't told apart by their name


@dataclass(frozen=True)
class Composition:
    """A command line, composed. folders: the user's own. overrides: with `all` replaced by the
    names. config: what is swept over has its default. jobs: the overrides of each job, in order.
    several: the axes with several values, of which `config` has only the default's.
    """

    folders: Sequence[str]
    overrides: Sequence[str]
    config: DictConfig
    jobs: Sequence[Sequence[str]]
    several: set[str]

    def plain(self) -> dict[str, Any]:
        """The configuration of all jobs, as `plain` makes it."""
        return plain(self.config)

    def job_configs(self) -> list[DictConfig]:
        """The configuration of each job, in which nothing is filled in."""
        return [self._job(number) for number in range(len(self.jobs))]

    def plain_job(self, number: int = 0) -> dict[str, Any]:
        """The configuration of one of the jobs."""
        return plain(self._job(number))

    def job_settings(self, number: int = 0) -> Settings:
        """Return the checked settings of one of the jobs. Raises BenchError."""
        return Settings.of(self.plain_job(number))

    def _job(self, number: int) -> DictConfig:
        job, choices = self.jobs[number], self.config.hydra.runtime.choices
        own = (word.partition("=") for word in job[len(self.overrides) :])
        # That of all jobs has these choices already, as of the first network: to compose takes up
        # to seconds.
        is_same = self.config[PROTOCOL] is None and all(
            choices.get(key) == value for key, _, value in own
        )
        with _understood(job):
            config = self.config if is_same or job == self.overrides else _config(self.folders, job)
        return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


@contextmanager
def composed(overrides: Sequence[str], config_folder: Path | None = None) -> Iterator[Composition]:
    """Composes a command line; inside, Hydra's errors become sentences. config_folder: a user's own
    folder of YAML files, searched after conf/, as those of `hydra.searchpath=[...]` are. Raises
    BenchError for what can't be composed, for an axis other than AXES, and where there is no job.
    """
    if any(override.startswith("suite=") for override in overrides):
        from axiom_bench.run.composing import suites  # here: most runs are of none

        overrides = suites.expanded(overrides)
    overrides = [_as_typed(override) for override in overrides]
    folders, overrides = _search_path(overrides, config_folder)
    try:
        with _understood(overrides):
            composition = _composition(folders, overrides)
        yield composition
    except (HydraException, OmegaConfBaseException) as error:
        from axiom_bench.run.composing import (
            mistakes,
        )  # here, and below: most command lines have none

        keys = _keys(folders, overrides)
        raise mistakes.sentence(error, keys, lambda group: _options(folders, group)) from error


@contextmanager
def _understood(overrides: Sequence[str]) -> Iterator[None]:
    """Raise BenchError for whatever Hydra raises for values that it doesn't expect, such as
    model=[1].
    """
    try:
        yield
    except (BenchError, HydraException, OmegaConfBaseException):
        raise
    except Exception as error:
        from axiom_bench.run.composing import mistakes

        raise mistakes.unexpected(error, overrides, conf_groups()) from error


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration, resolved, without Hydra's node; what is missing until a job is composed
    stays `???`.
    """
    nodes = ((str(key), node) for key, node in config.items() if key != "hydra")
    return {
        k: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for k, node in nodes
    }


def base_keys() -> set[str]:
    """The dotted settings of conf/config.yaml and conf/device/, which no choice of methods or data
    changes.
    """
    files = (conf_folder() / name for name in ("config.yaml", "device/auto.yaml"))
    config, device = map(read_yaml, files)
    nodes = {key: value for key, value in config.items() if key not in ("defaults", "hydra")}
    return {key for key, _ in settings.dotted({**nodes, "device": device})}


def _composition(folders: Sequence[str], overrides: Sequence[str]) -> Composition:
    words = OverridesParser.create().parse_overrides([*overrides])
    parsed = {word.get_key_element().lstrip("+"): word for word in words}
    swept = {
        key: _values(folders, word) for key, word in parsed.items() if word.is_sweep_override()
    }
    fixed = _with_all(
        folders, [str(word.input_line) for word in words if not word.is_sweep_override()]
    )
    config = _config(folders, fixed)
    for group in ("hydra/launcher", "hydra/sweeper"):
        if config.hydra.runtime.choices[group] != "basic":
            raise BenchError(
                f"{group} can't be set: models, layers and data sets are a run's jobs, "
                "`executor=` spreads them."
            )
    of_file = plain(config.hydra.sweeper)["params"] or {}
    layers = None if LAYER in parsed else of_file.get(LAYER)
    params = [f"{key}={','.join(map(str, values)) if isinstance(values, list) else values}"
              for key, values in of_file.items() if key != LAYER or not isinstance(values, dict)]  # fmt: skip
    sweep = OverridesParser.create().parse_overrides([_as_typed(word) for word in params])
    of_experiment = {word.get_key_element().lstrip("+"): word for word in sweep}
    axes = {
        key: swept.get(key) or _values(folders, each)
        for key, each in of_experiment.items()
        if key in swept or key not in parsed
    } | swept
    several = {key for key, values in axes.items() if len(values) > 1}
    networks = axes.get("model", [f"model={config.hydra.runtime.choices.model}"])
    of_networks = _of_networks(layers if isinstance(layers, dict) else {}, networks)
    if "run" not in parsed and OmegaConf.select(config, "run") == DEFAULT:
        config.run = _run_name(plain(config), parsed.keys() - several)
        fixed.append(f"run={_quoted(config.run)}")
    jobs = [[*fixed, *job, *own] for job in product(*axes.values())
            for own in of_networks[next((word for word in job if word in of_networks), networks[0])]]  # fmt: skip
    return Composition(folders, fixed, config, jobs, several)


def _of_networks(layers: Mapping[str, Any], networks: Sequence[str]) -> dict[str, list[list[str]]]:
    """What each network's jobs have beside `model=NAME`: a layer of its entry, else nothing. Raises
    BenchError for the entry of a network that the run hasn't.
    """
    for name in layers:
        if f"model={name}" not in networks:
            there = [network.partition("=")[2] for network in networks]
            raise unknown(f"network in this run for {LAYER}'s", name, there)
    own: dict[str, list[list[str]]] = {network: [[]] for network in networks}
    for name, entry in layers.items():
        listed = entry if isinstance(entry, list) else str(entry).split(",")
        own[f"model={name}"] = [
            [f"{LAYER}={_quoted(str(layer))}"] for layer in dict.fromkeys(listed)
        ] or [[]]
    return own


@contextmanager
def _hydra() -> Iterator[ConfigLoader]:
    """Hydra with conf/ as its folder. Afterwards the user's own, in whose program this may run, is
    as it was.
    """
    own = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), job_name="axiom-bench", version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra = own


def _config(folders: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    with _hydra():
        config = compose("config", [_path(folders), *overrides], return_hydra_config=True)
    _expand_home(config)
    typed = [override.partition("=")[0].lstrip("+") for override in overrides]
    _leave_out_unchosen(config, typed)
    _expand_degrees(config)
    if "metric" in typed and "runtime.repeats" not in typed and config.suite_part is None:
        config.runtime.repeats = 0  # who chooses metrics asks for these
    if config[PROTOCOL] is not None:
        from axiom_bench.run.composing import protocols  # here: most runs are of none

        protocols.check(config, typed)
        protocols.apply(
            config, _entry(folders, PROTOCOL, config.hydra.runtime.choices[PROTOCOL]), typed
        )
    return config


def _leave_out_unchosen(config: DictConfig, typed: Sequence[str]) -> None:
    """Removes what an experiment says of methods and metrics where a protocol, or the command line,
    whose keys these are, chooses others.
    """
    with open_dict(config):
        for kind in (
            kind for kind in ("method", "metric") if kind in typed or config[PROTOCOL] is not None
        ):
            for name, entry in list(config[kind].items()):
                is_chosen = not isinstance(entry, DictConfig) or "_target_" in entry
                if not is_chosen and not any(key.startswith(f"{kind}.{name}.") for key in typed):
                    del config[kind][name]


def _expand_degrees(config: DictConfig) -> None:
    """Make each chosen kind of spoiling methods, one per degree, such as blur_25.

    Kinds have a node of their own, since a method may have the same name as a kind.
    """
    chosen = config.get(plugins.SPOILED)
    if chosen is None:
        return
    with open_dict(config):
        for name, about in plain(chosen).items():
            config.method.update(plugins.by_degree(name, about))
        del config[plugins.SPOILED]


def _path(folders: Sequence[str]) -> str:
    return f"{SEARCH_PATH}=[{','.join(map(_quoted, [*folders, own_files.CLASSIFIERS]))}]"


def _options(folders: Sequence[str], group: str) -> list[str]:
    """The entries of a configuration group, of conf/, of the user's folders, and of torchvision."""
    with _hydra() as loader:
        options = loader.get_group_options(group, config_name="config", overrides=[_path(folders)])
    return sorted({*options})


def _keys(folders: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The dotted settings that exist, given the files that the overrides choose."""
    choices = [override for override in overrides if override.partition("=")[0] in conf_groups()]
    added = [
        override.partition("=")[0].lstrip("+") for override in overrides if override.startswith("+")
    ]
    entries = [
        ".".join(key.split(".")[:2]) for key in added
    ]  # as method.mine, of +method.mine._target_
    try:
        of_choices = plain(_config(folders, _with_all(folders, choices)))
    except (HydraException, OmegaConfBaseException):  # a wrong choice is what the sentence is about
        return []
    return [*added, *entries, *(key for key, _ in settings.dotted(of_choices))]


def _as_typed(override: str) -> str:
    """Return KEY=VALUE, the value in quotes where Hydra's grammar can't read it, such as a path
    with parentheses or letters outside ASCII, or would read a name as a number. What not every file
    has, such as the arguments of a network's builder, needs no +.
    """
    key, equals, value = override.partition("=")
    if match := OPEN.fullmatch(key):
        key, override = f"++{match[1]}", f"++{match[1]}{equals}{value}"
    if not equals or not _is_read(f"{key}="):
        return override
    return f"{key}={_kept(key.lstrip('+'), value)}"


def _kept(key: str, value: str) -> str:
    """Return the value of a setting of the command line, in quotes where Hydra would read something
    else.
    """
    if value.startswith("[") and value.endswith("]") and not set(value[1:-1]) & set("[]{}"):
        return f"[{','.join(_kept_scalar(key, entry, is_entry=True) for entry in ENTRY.findall(value[1:-1]))}]"
    if value.startswith(("[", "{")):
        return value
    is_several = key in AXES and not re.match(r"[a-z]+\(", value)  # such as choice(a,b)
    return ",".join(
        _kept_scalar(key, text) for text in (ENTRY.findall(value) if is_several else [value])
    )


def _kept_scalar(key: str, text: str, is_entry: bool = False) -> str:
    try:
        value = OverridesParser.create().parse_override(f"{key}={text}").value()
    except HydraException:
        return text if is_entry else _quoted(text)
    return _quoted(text.strip()) if settings.is_text(key, text.strip(), value, is_entry) else text


def _is_read(override: str) -> bool:
    """Return whether Hydra's grammar can read an override."""
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _quoted(text: str) -> str:
    """Return the text in the quotes of Hydra's grammar."""
    return QuotedString(text, Quote.single).with_quotes()


def _expand_home(config: DictConfig) -> None:
    """Write the home folder in the place of a ~ at the start of a path, also of one from the
    environment.
    """
    content: Any = OmegaConf.to_container(config)
    for key, value in settings.dotted({name: content[name] for name in content if name != "hydra"}):
        if isinstance(value, str) and value.startswith("${oc.env:"):
            value = OmegaConf.select(config, key)
        expanded = (
            [_expanded(entry) for entry in value] if isinstance(value, list) else _expanded(value)
        )
        if expanded != value:
            OmegaConf.update(config, key, expanded)


def _expanded(value: object) -> object:
    return os.path.expanduser(value) if isinstance(value, str) and HOME.fullmatch(value) else value


def _search_path(
    overrides: Sequence[str], config_folder: Path | None
) -> tuple[list[str], list[str]]:
    """The user's folders as `own_files.url` has them, and the overrides that don't name folders.
    Raises BenchError for a folder that isn't there, or a search path that is no list of folders.
    """
    folders = [] if config_folder is None else [own_files.url("--config-dir", str(config_folder))]
    rest = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") != SEARCH_PATH:
            rest.append(override)
            continue
        try:
            listed: Any = OverridesParser.create().parse_override(f"{SEARCH_PATH}={value}").value()
        except HydraException as error:
            raise BenchError(
                f"Invalid {SEARCH_PATH} {value!r}; write \"{SEARCH_PATH}=['/my/conf']\"."
            ) from error
        if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
            raise BenchError(
                f"{SEARCH_PATH} must be a list of folders, as [file:///my/conf], not {listed!r}."
            )
        folders += [own_files.url(SEARCH_PATH, str(entry)) for entry in listed]
    return folders, rest


def _with_all(folders: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """The overrides, with every name of a group in the place of `method=all` and the like, also an
    experiment's.
    """
    # Hydra writes the choice of a data set inside another as data@data.of=NAME.
    overrides = [
        f"data@{override}" if override.partition("=")[0] == "data.of" else override
        for override in overrides
    ]
    chosen = [override for override in overrides if override.partition("=")[0] in CHOOSING]
    if not any(
        override.startswith("experiment=") or plugins.ALL in override for override in chosen
    ):
        return overrides
    with _hydra() as loader:
        defaults = loader.compute_defaults_list("config", [_path(folders), *chosen], RunMode.RUN)
    choices = defaults.overrides.known_choices
    named = {group: _all_of(folders, group, choices[group] == plugins.ALL_FAST) for group in LISTS
             if choices.get(group) in (plugins.ALL, plugins.ALL_FAST)}  # fmt: skip
    rest = [override for override in overrides if override.partition("=")[0] not in named]
    return [*(f"{group}=[{','.join(names)}]" for group, names in named.items()), *rest]


def _all_of(folders: Sequence[str], group: str, fast: bool) -> list[str]:
    """The names that `all` or `all_fast` means for the group: of each metric that has a fast form
    only one of both.
    """
    entries = {
        name: _entry(folders, group, name)
        for name in _options(folders, group)
        if name not in (plugins.ALL, plugins.ALL_FAST)
    }
    fast_forms = {
        name: entry["fast_form_of"] for name, entry in entries.items() if entry.get("fast_form_of")
    }
    left_out = fast_forms.values() if fast else fast_forms.keys()
    return [
        name
        for name, entry in entries.items()
        if name not in left_out and not plugins.left_out_of_all(entry)
    ]


def _entry(folders: Sequence[str], group: str, name: str) -> Mapping[str, Any]:
    """What the file of a method or metric says, of conf/ or of a user's folder."""
    paths = [Path(folder.partition("://")[2]) for folder in folders]
    files = (path / group / f"{name}.yaml" for path in (conf_folder(), *paths))
    content = next((read_yaml(file) for file in files if file.is_file()), None)
    entry = content.get(name, content) if isinstance(content, Mapping) else {}
    return entry if isinstance(entry, Mapping) else {}


def _values(folders: Sequence[str], override: Override) -> list[str]:
    """The overrides that a job may take for one setting: of an axis each value, once. Raises
    BenchError for another setting with several values, and for an axis without one.
    """
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key, line = override.get_key_element().lstrip("+"), str(override.input_line)
    if key in LISTS:
        names = line.partition("=")[2]
        names = names.replace("[", "").replace("]", "")
        raise BenchError(
            f"The brackets are missing in {line}; write {key}=[{names}] for several in one run."
        )
    if key not in AXES:
        raise BenchError(
            f"{key} takes one value, not several as in {line}; only {', '.join(AXES)} take "
            "several. Start a run for each value, with run=NAME; a text with a comma needs "
            f"quotes: \"{key}='a,b'\"."
        )
    if not override.is_discrete_sweep():
        raise BenchError(f"{line} names no values; write {key}=a,b.")
    value = override.value()
    listed = (
        value.filter(_options(folders, key))
        if isinstance(value, Glob)
        else override.sweep_string_iterator()
    )
    values = [f"{'++' if key in RARE else ''}{key}={name}" for name in dict.fromkeys(listed)]
    if not values:
        raise BenchError(
            f"{line} matches nothing, so there is no job; axiom-bench list names the choices."
        )
    return values


def _run_name(config: Mapping[str, Any], chosen: Collection[str]) -> str:
    """Return the name of a run that isn't given one: DATA-MODEL, or one of both, or DEFAULT.

    The same command continues in the folder of this name.

    Args:
        config: The configuration of all jobs.
        chosen: The settings of the command line that have one value. The name has only data and a
            model that they choose.
    """
    names = []
    data, model = config["data"], config["model"]
    is_own = data.get("kind") in OWN_FILES
    if (DATA_KEYS | PLACES if is_own else DATA_KEYS) & set(chosen):
        place = (
            data.get("root") or data.get("path") if is_own and "data.name" not in chosen else None
        )
        if isinstance(place, str):
            names.append(Path(os.path.abspath(os.path.expanduser(place))).name)
        else:
            names.append(data["name"])
    if MODEL_KEYS & set(chosen):
        file = "" if "model.name" in chosen else str(model["architecture"]).rpartition(":")[0]
        names.append(Path(file).stem or model["name"])
    return safe_name("-".join(dict.fromkeys(map(str, names)))) if names else DEFAULT
