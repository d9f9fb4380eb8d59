"""Compose a command line's configuration with Hydra, from the YAML files of conf/ and of the user's
own folders.

Hydra composes one configuration from names of files (`data=voc`) and settings (`data.size=100`).
This module adds what a run needs: a job for each combination of several values, `all` in the place
of names, degrees, protocols, and sentences for mistakes.
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
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.evaluation import plugins
from axiom_bench.models.spec import network_name
from axiom_bench.records.files import safe_name
from axiom_bench.run.composing import own_files, settings
from axiom_bench.run.composing.settings import AXES, LAYER, Entries, Settings
from axiom_bench.run.composing.typed_words import instead_of

# groups of which a run takes several entries, as a list or `all`
LISTS = ("method", "metric", "peers", "spoiled")
PROTOCOL = "protocol"
CHOOSING = ("experiment", PROTOCOL, *LISTS)  # groups whose files choose entries of LISTS
# settings that no file has to write down
OPTIONAL_SETTINGS = (
    "model.checkpoint",
    "model.background",
    "model.draw",
    "model.weights_key",
    "model.inputs",
    "model.explained",
    "model.read",
    "model.min_probability",
    "model.finetuned",
)
SEARCH_PATH = "hydra.searchpath"
DEFAULT = "default"  # the name of a run of the experiment's own models and data
# the settings that give a run its name
MODEL_KEYS = {"model", "model.name", "model.architecture", "model.checkpoint"}
DATA_KEYS = {"data", "data@data.of", "data.name"}
PATH_KEYS = {"data.root", "data.path"}
# settings that need no + in front of them
NEEDS_NO_PLUS = re.compile(
    rf"\+*({'|'.join(map(re.escape, OPTIONAL_SETTINGS))}|model\.kwargs(?:\..*)?)"
)
# an entry of a list, up to the next comma
ENTRY = re.compile(r"(?:\\.|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|[^,])+")
HOME = re.compile(r"~(?:[^/\\\s]*[/\\].*)?", re.DOTALL)  # the home folder, or a path below one
# kinds of data sets whose names don't tell them apart
OWN_FILES = ("folder", "webdataset", "parquet")


@dataclass(frozen=True)
class Composition:
    """A composed command line.

    Attributes:
        folders: The user's own folders of YAML files.
        overrides: The overrides of all jobs, in which names replace `all`.
        config: The configuration of all jobs. An axis with several values has its default in it.
        jobs: The overrides of each job, in order.
        several: The axes that have several values.
    """

    folders: Sequence[str]
    overrides: Sequence[str]
    config: DictConfig
    jobs: Sequence[Sequence[str]]
    swept_axes: set[str]

    def plain(self) -> dict[str, Any]:
        """Return the resolved configuration of all jobs, without Hydra's node."""
        return resolve_config(self.config)

    def job_configs(self) -> list[DictConfig]:
        """Return the configuration of each job, in which no interpolation is resolved."""
        return [self._job(number) for number in range(len(self.jobs))]

    def plain_job(self, number: int = 0) -> dict[str, Any]:
        """Return the resolved configuration of one of the jobs."""
        return resolve_config(self._job(number))

    def job_settings(self, number: int = 0) -> Settings:
        """Return the checked settings of one of the jobs.

        Raises:
            BenchError: If a setting is missing or wrong.
        """
        return Settings.of(self.plain_job(number))

    def _job(self, number: int) -> DictConfig:
        """Return the unresolved configuration of one of the jobs."""
        job = self.jobs[number]
        choices = self.config.hydra.runtime.choices
        axis_choices = [word.partition("=") for word in job[len(self.overrides) :]]
        # Composing takes up to seconds. So the configuration of all jobs is used if it already has
        # the job's choices, such as those of the first network. A protocol's settings depend on the
        # network, so its jobs are composed.
        has_choices = all(choices.get(key) == value for key, _, value in axis_choices)
        is_composed = job == self.overrides or (self.config[PROTOCOL] is None and has_choices)
        with _reword_unexpected_errors(job):
            config = self.config if is_composed else _compose_config(self.folders, job)
        return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


@contextmanager
def composed(overrides: Sequence[str], config_folder: Path | None = None) -> Iterator[Composition]:
    """Compose a command line, and turn Hydra's errors in the `with` block into sentences.

    Args:
        overrides: The command line's words, such as `data=voc`.
        config_folder: A user's own folder of YAML files. It is searched after conf/, as the
            folders of `hydra.searchpath=[...]` are.

    Raises:
        BenchError: If the command line can't be composed, if a setting other than those of AXES has
            several values, or if there is no job.
    """
    if any(override.startswith("suite=") for override in overrides):
        from axiom_bench.run.composing import suites  # here, since few runs belong to a suite

        overrides = suites.expand_suite(overrides)
    overrides = [_quote_override(override) for override in overrides]
    folders, overrides = _split_search_path(overrides, config_folder)
    try:
        with _reword_unexpected_errors(overrides):
            composition = _compose_jobs(folders, overrides)
        yield composition
    except (HydraException, OmegaConfBaseException) as error:
        # imported here and below, since most command lines have no mistakes
        from axiom_bench.run.composing import mistakes

        keys = _existing_keys(folders, overrides)
        raise mistakes.explain_hydra_error(
            error, keys, lambda group: _options(folders, group), overrides
        ) from error


@contextmanager
def _reword_unexpected_errors(overrides: Sequence[str]) -> Iterator[None]:
    """Raise BenchError for whatever Hydra raises for values that it doesn't expect, such as
    model=[1].
    """
    try:
        yield
    except (BenchError, HydraException, OmegaConfBaseException):
        raise
    except Exception as error:
        from axiom_bench.run.composing import mistakes

        raise mistakes.explain_internal_error(error, overrides, conf_groups()) from error


def resolve_config(config: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration without Hydra's node.

    A setting that is missing until a job is composed stays `???`.
    """
    values: dict[str, object] = {}
    for key, node in config.items():
        if key == "hydra":
            continue
        is_config = OmegaConf.is_config(node)
        values[str(key)] = OmegaConf.to_container(node, resolve=True) if is_config else node
    return values


def base_keys() -> set[str]:
    """Return the dotted settings of conf/config.yaml and conf/device/.

    No choice of methods or data changes them.
    """
    config = read_yaml(conf_folder() / "config.yaml")
    device = read_yaml(conf_folder() / "device/auto.yaml")
    nodes = {key: value for key, value in config.items() if key not in ("defaults", "hydra")}
    return {key for key, _ in settings.iterate_settings({**nodes, "device": device})}


def _compose_jobs(folders: Sequence[str], overrides: Sequence[str]) -> Composition:
    """Compose the configuration of all jobs, and list the overrides of each job."""
    words = OverridesParser.create().parse_overrides([*overrides])
    parsed = {word.get_key_element().lstrip("+"): word for word in words}
    swept = {
        key: _axis_overrides(folders, word)
        for key, word in parsed.items()
        if word.is_sweep_override()
    }
    unswept = [str(word.input_line) for word in words if not word.is_sweep_override()]
    fixed = _expand_all(folders, unswept)
    config = _compose_config(folders, fixed)
    for group in ("hydra/launcher", "hydra/sweeper"):
        if config.hydra.runtime.choices[group] != "basic":
            raise BenchError(
                f"{group} can't be set: models, layers and data sets are a run's jobs, "
                "`executor=` spreads them."
            )
    # An experiment's file names several models, layers or data sets in Hydra's sweeper. A mapping
    # of layers has those of each network, and isn't an axis.
    params = resolve_config(config.hydra.sweeper)["params"] or {}
    layers = None if LAYER in parsed else params.get(LAYER)
    lines = []
    for key, values in params.items():
        if key != LAYER or not isinstance(values, dict):
            text = ",".join(map(str, values)) if isinstance(values, list) else values
            lines.append(_quote_override(f"{key}={text}"))
    axes: dict[str, list[str]] = {}
    for word in OverridesParser.create().parse_overrides(lines):
        key = word.get_key_element().lstrip("+")
        if key in swept:  # the command line's values replace the experiment's, in its order
            axes[key] = swept[key]
        elif key not in parsed:
            axes[key] = _axis_overrides(folders, word)
    axes |= swept
    several = {key for key, values in axes.items() if len(values) > 1}
    networks = axes.get("model", [f"model={config.hydra.runtime.choices.model}"])
    layers_by_network = _layers_by_network(layers if isinstance(layers, dict) else {}, networks)
    if "run" not in parsed and OmegaConf.select(config, "run") == DEFAULT:
        config.run = _run_name(resolve_config(config), parsed.keys() - several)
        fixed.append(f"run={_quoted(config.run)}")
    jobs = []
    for choices in product(*axes.values()):
        network = next((word for word in choices if word in layers_by_network), networks[0])
        jobs += [[*fixed, *choices, *layer] for layer in layers_by_network[network]]
    return Composition(folders, fixed, config, jobs, several)


def _layers_by_network(
    layers: Mapping[str, object], networks: Sequence[str]
) -> dict[str, list[list[str]]]:
    """Return, per `model=NAME`, the overrides that each of its jobs adds: one of its layers, or
    nothing. Raise BenchError if `layers` has a network that the run hasn't.
    """
    for name in layers:
        if f"model={name}" not in networks:
            names = [network.partition("=")[2] for network in networks]
            raise unknown_name("network", name, names, place=f"in this run ({LAYER})")
    by_network: dict[str, list[list[str]]] = {network: [[]] for network in networks}
    for name, entry in layers.items():
        listed = entry if isinstance(entry, list) else str(entry).split(",")
        overrides = [[f"{LAYER}={_quoted(str(layer))}"] for layer in dict.fromkeys(listed)]
        by_network[f"model={name}"] = overrides or [[]]
    return by_network


@contextmanager
def _hydra() -> Iterator[ConfigLoader]:
    """Open Hydra with conf/ as its folder. Afterwards, restore the Hydra of the program in which
    this may run.
    """
    user_hydra = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), job_name="axiom-bench", version_base="1.3"):
            yield GlobalHydra.instance().config_loader()
    finally:
        GlobalHydra.instance().hydra = user_hydra


def _compose_config(folders: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """Compose a configuration and apply what Hydra can't: home folders, degrees, a protocol."""
    with _hydra():
        words = [_search_path_override(folders), *overrides]
        config = compose("config", words, return_hydra_config=True)
    _expand_home(config)
    typed = [override.partition("=")[0].lstrip("+") for override in overrides]
    _leave_out_unchosen(config, typed)
    _expand_degrees(config)
    if "metric" in typed and "runtime.repeats" not in typed and config.suite_part is None:
        config.runtime.repeats = 0  # a user who chooses metrics asks only for these
    if config[PROTOCOL] is not None:
        from axiom_bench.run.composing import protocols  # here, since few runs have a protocol

        protocols.check(config, typed)
        file = _read_entry(folders, PROTOCOL, config.hydra.runtime.choices[PROTOCOL])
        protocols.apply(config, file, typed)
    return config


def _leave_out_unchosen(config: DictConfig, typed: Sequence[str]) -> None:
    """Remove an experiment's settings of methods and metrics that aren't chosen, if a protocol or
    the command line, whose keys are `typed`, chooses others.
    """
    with open_dict(config):
        for kind in ("method", "metric"):
            if kind not in typed and config[PROTOCOL] is None:
                continue
            for name, entry in list(config[kind].items()):
                is_chosen = not isinstance(entry, DictConfig) or "_target_" in entry
                if not is_chosen and not any(key.startswith(f"{kind}.{name}.") for key in typed):
                    del config[kind][name]


def _expand_degrees(config: DictConfig) -> None:
    """Make each chosen kind of spoiling methods, one per degree, such as blur_25.

    Kinds have a node of their own, since a method may have the same name as a kind.
    """
    kinds = config.get(plugins.SPOILED)
    if kinds is None:
        return
    with open_dict(config):
        for name, entry in resolve_config(kinds).items():
            config.method.update(plugins.by_degree(name, entry))
        del config[plugins.SPOILED]


def _search_path_override(folders: Sequence[str]) -> str:
    """Return the override that has Hydra search the user's folders and the libraries' networks."""
    sources = map(_quoted, [*folders, own_files.CLASSIFIERS])
    return f"{SEARCH_PATH}=[{','.join(sources)}]"


def _options(folders: Sequence[str], group: str) -> list[str]:
    """Return the entries of a configuration group: those of conf/, of the user's folders, and of
    torchvision.
    """
    words = [_search_path_override(folders)]
    with _hydra() as loader:
        options = loader.get_group_options(group, config_name="config", overrides=words)
    return sorted({*options})


def _existing_keys(folders: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return the dotted settings that exist, given the files that the overrides choose."""
    choices = [override for override in overrides if override.partition("=")[0] in conf_groups()]
    added = [
        override.partition("=")[0].lstrip("+") for override in overrides if override.startswith("+")
    ]
    # such as method.mine, of +method.mine._target_
    entries = [".".join(key.split(".")[:2]) for key in added]
    try:
        config = resolve_config(_compose_config(folders, _expand_all(folders, choices)))
    except (HydraException, OmegaConfBaseException):
        return []  # a choice is wrong, and the sentence is about it
    return [*added, *entries, *(key for key, _ in settings.iterate_settings(config))]


def _quote_override(override: str) -> str:
    """Return KEY=VALUE, with the value in quotes if Hydra's grammar would misread it.

    Such values are paths with parentheses or letters outside ASCII, and names that look like
    numbers. A setting that not every file has, such as an argument of a network's builder, needs
    no +.
    """
    key, equals, value = override.partition("=")
    if match := NEEDS_NO_PLUS.fullmatch(key):
        key = f"++{match[1]}"
        override = f"{key}{equals}{value}"
    if not equals or not _is_parsable(f"{key}="):
        return override
    return f"{key}={_quote_value(key.lstrip('+'), value)}"


def _quote_value(key: str, value: str) -> str:
    """Return a setting's value, with the texts in quotes that Hydra would misread."""
    if value.startswith("[") and value.endswith("]") and not set(value[1:-1]) & set("[]{}"):
        entries = ENTRY.findall(value[1:-1])
        return f"[{','.join(_quote_scalar(key, entry, is_entry=True) for entry in entries)}]"
    if value.startswith(("[", "{")):
        return value
    is_several = key in AXES and not re.match(r"[a-z]+\(", value)  # such as choice(a,b)
    texts = ENTRY.findall(value) if is_several else [value]
    return ",".join(_quote_scalar(key, text) for text in texts)


def _quote_scalar(key: str, text: str, is_entry: bool = False) -> str:
    """Return a text, in quotes if Hydra would misread it. `is_entry`: The text is in a list."""
    try:
        value = OverridesParser.create().parse_override(f"{key}={text}").value()
    except HydraException:
        return text if is_entry else _quoted(text)
    return _quoted(text.strip()) if settings.is_text(key, text.strip(), value, is_entry) else text


def _is_parsable(override: str) -> bool:
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
    """Replace the ~ at the start of each path by the home folder, also in a path from the
    environment.
    """
    content: Any = OmegaConf.to_container(config)
    own_settings = {name: content[name] for name in content if name != "hydra"}
    for key, value in settings.iterate_settings(own_settings):
        if isinstance(value, str) and value.startswith("${oc.env:"):
            value = OmegaConf.select(config, key)
        expanded: object
        if isinstance(value, list):
            expanded = [_expanded(entry) for entry in value]
        else:
            expanded = _expanded(value)
        if expanded != value:
            OmegaConf.update(config, key, expanded)


def _expanded(value: object) -> object:
    """Return a value, with the home folder in the place of ~ if it is a path with one."""
    return os.path.expanduser(value) if isinstance(value, str) and HOME.fullmatch(value) else value


def _split_search_path(
    overrides: Sequence[str], config_folder: Path | None
) -> tuple[list[str], list[str]]:
    """Return the user's folders as URLs of Hydra, and the overrides that don't name folders. Raise
    BenchError for a folder that doesn't exist, or a search path that is no list of folders.
    """
    folders = []
    if config_folder is not None:
        folders.append(own_files.folder_url("--config-dir", str(config_folder)))
    # a folder that doesn't exist would only be a warning of Hydra's
    rest = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") != SEARCH_PATH:
            rest.append(override)
            continue
        try:
            parser = OverridesParser.create()
            listed: object = parser.parse_override(f"{SEARCH_PATH}={value}").value()
        except HydraException as error:
            raise BenchError(
                f"Invalid {SEARCH_PATH} {value!r}; write \"{SEARCH_PATH}=['/my/conf']\"."
            ) from error
        if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
            raise BenchError(
                f"{SEARCH_PATH} must be a list of folders, as [file:///my/conf], not {listed!r}."
            )
        folders += [own_files.folder_url(SEARCH_PATH, str(entry)) for entry in listed]
    return folders, rest


def _expand_all(folders: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return the overrides, with all names of a group in the place of `method=all` and the like. An
    experiment may also choose `all`.
    """
    # Hydra writes the choice of a data set inside another as data@data.of=NAME.
    overrides = [
        f"data@{override}" if override.partition("=")[0] == "data.of" else override
        for override in overrides
    ]
    choosing = [override for override in overrides if override.partition("=")[0] in CHOOSING]
    if not any(
        override.startswith("experiment=") or plugins.ALL in override for override in choosing
    ):
        return overrides
    words = [_search_path_override(folders), *choosing]
    with _hydra() as loader:
        defaults = loader.compute_defaults_list("config", words, RunMode.RUN)
    choices = defaults.overrides.known_choices
    names_by_group = {}
    for group in LISTS:
        choice = choices.get(group)
        if choice in (plugins.ALL, plugins.ALL_FAST):
            names_by_group[group] = _names_of_all(folders, group, choice == plugins.ALL_FAST)
    rest = [override for override in overrides if override.partition("=")[0] not in names_by_group]
    return [*(f"{group}=[{','.join(names)}]" for group, names in names_by_group.items()), *rest]


def _names_of_all(folders: Sequence[str], group: str, is_fast: bool) -> list[str]:
    """Return the names that `all` or `all_fast` means for the group: only one of a metric and its
    fast form.
    """
    entries = {
        name: _read_entry(folders, group, name)
        for name in _options(folders, group)
        if name not in (plugins.ALL, plugins.ALL_FAST)
    }
    slow_forms = {
        name: entry["fast_form_of"] for name, entry in entries.items() if entry.get("fast_form_of")
    }
    left_out = slow_forms.values() if is_fast else slow_forms.keys()
    return [
        name
        for name, entry in entries.items()
        if name not in left_out and not plugins.is_left_out_of_all(entry)
    ]


def _read_entry(folders: Sequence[str], group: str, name: str) -> Entries:
    """Return the content of an entry's file, of conf/ or of one of the user's folders."""
    paths = [Path(folder.partition("://")[2]) for folder in folders]
    files = (path / group / f"{name}.yaml" for path in (conf_folder(), *paths))
    content = next((read_yaml(file) for file in files if file.is_file()), None)
    entry = content.get(name, content) if isinstance(content, Mapping) else {}
    return entry if isinstance(entry, Mapping) else {}


def _axis_overrides(folders: Sequence[str], override: Override) -> list[str]:
    """Return one override per value of a setting, each value once. Raise BenchError for several
    values of a setting that is no axis, and for an axis without a value.
    """
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element().lstrip("+")
    line = str(override.input_line)
    if key in LISTS:
        text = line.partition("=")[2].replace("[", "").replace("]", "")
        raise BenchError(
            f"The brackets are missing in {line}; write {key}=[{text}] for several in one run."
        )
    if advice := instead_of(key, line.partition("=")[2]):
        raise BenchError(f"There is no setting {key!r}; {advice}.")
    if key not in AXES:
        raise BenchError(
            f"{key} takes one value, not several ({line}); only {', '.join(AXES)} take "
            "several. Start a run for each value, with run=NAME; a text with a comma needs "
            f"quotes: \"{key}='a,b'\"."
        )
    if not override.is_discrete_sweep():
        raise BenchError(f"{line} names no values; write {key}=a,b.")
    value = override.value()
    if isinstance(value, Glob):
        names = value.filter(_options(folders, key))
    else:
        names = override.sweep_string_iterator()
    # two jobs of one name would compute the same values, so each value counts once
    prefix = "++" if key in OPTIONAL_SETTINGS else ""
    values = [f"{prefix}{key}={name}" for name in dict.fromkeys(names)]
    if not values:
        raise BenchError(
            f"{line} matches nothing, so there is no job; axiom-bench list names the choices."
        )
    return values


def _run_name(config: Entries, chosen: Collection[str]) -> str:
    """Return the name of a run that isn't given one: DATA-MODEL, or one of both, or DEFAULT.

    The same command continues in the folder of this name, and another model or data set has
    another folder.

    Args:
        config: The configuration of all jobs.
        chosen: The settings of the command line that have one value. The name has only data and a
            model that they choose.
    """
    names = []
    data = config["data"]
    model = config["model"]
    # data sets of a user's own files share their default name, so the path tells them apart
    is_own = data.get("kind") in OWN_FILES
    data_keys = DATA_KEYS | PATH_KEYS if is_own else DATA_KEYS
    if data_keys & set(chosen):
        is_named_by_path = is_own and "data.name" not in chosen
        path = data.get("root") or data.get("path") if is_named_by_path else None
        if isinstance(path, str):
            names.append(Path(os.path.abspath(os.path.expanduser(path))).name)
        else:
            names.append(data["name"])
    if MODEL_KEYS & set(chosen):
        file = "" if "model.name" in chosen else str(model["architecture"]).rpartition(":")[0]
        names.append(Path(file).stem or network_name(model) or "")
    return safe_name("-".join(dict.fromkeys(map(str, names)))) if names else DEFAULT
