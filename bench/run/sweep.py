"""A command line's overrides as a Hydra sweep: every model, layer or data set of it is a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from axiom_bench.evaluation import plugins
from axiom_bench.models.registry import register_models
from axiom_bench.records import files
from axiom_bench.run import costs, hydra_errors, settings
from axiom_bench.run.execute import execute, run_folder
from axiom_bench.run.job import chosen
from axiom_bench.run.manifest import Outcome
from axiom_bench.run.user_code import add_current_folder

PLUGIN_GROUPS = ("method", "metric")


def sweep(overrides: Sequence[str]) -> tuple[dict[str, Any], list[Outcome]]:
    """Runs the jobs of a command line, spread by Hydra's launcher: the sweep's configuration, each job's outcome.

    Raises BenchError, before anything is computed, for a mistake that concerns all jobs.
    """
    with _hydra(overrides):
        overrides = with_plugins(overrides)
        config = plain(compose(overrides))
        _check(config)
        returned = _engine().multirun("config", execute, list(overrides), with_log_configuration=False)
        return config, [job.return_value for batch in returned for job in batch]


def configuration(overrides: Sequence[str]) -> dict[str, Any]:
    """What a command line configures, before its sweep is spread over jobs. Raises BenchError."""
    with _hydra(overrides):
        return plain(compose(with_plugins(overrides)))


def with_plugins(overrides: Sequence[str]) -> list[str]:
    """The overrides, with every file of conf/method/ or conf/metric/ in the place of `all`, whoever says it."""
    experiment = [override for override in overrides if override.startswith("experiment=")]
    choices = compose(experiment).hydra.runtime.choices  # a list isn't told there
    said = {override.partition("=")[0] for override in overrides}
    every = {group: f"{group}=[{','.join(plugins.names(group))}]" for group in PLUGIN_GROUPS}
    of_experiment = [every[group] for group in every if choices.get(group) == plugins.ALL and group not in said]
    written = {f"{group}={plugins.ALL}": override for group, override in every.items()}
    return [*of_experiment, *(written.get(override, override) for override in overrides)]


def compose(overrides: Sequence[str]) -> DictConfig:
    """The sweep's configuration with Hydra's own node; what is swept over keeps its default."""
    return _engine().compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN)


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration, resolved, without Hydra's node; what is missing until a job is composed stays `???`."""
    own = {key: value for key, value in config.items() if key != "hydra"}
    return OmegaConf.to_container(OmegaConf.create(own), resolve=True)  # type: ignore[return-value]


def _check(config: dict[str, Any]) -> None:
    """What concerns all jobs: the settings, the methods, the metrics, and the folder they write to."""
    add_current_folder()
    settings.check_keys(config, _keys(()))
    settings.check(config)
    methods, metrics = (chosen(kind, config) for kind in PLUGIN_GROUPS)
    costs.check(metrics, len(methods), config["metrics"]["max_forwards_per_image"])
    files.ensure_writable(run_folder(config))


@contextmanager
def _hydra(overrides: Sequence[str]) -> Iterator[None]:
    """Hydra with this project's conf/; its errors become sentences."""
    GlobalHydra.instance().clear()
    register_models()
    with initialize_config_dir(str(plugins.conf_folder()), version_base="1.3", job_name="axiom-bench"):
        try:
            yield
        except (HydraException, OmegaConfBaseException) as error:
            raise hydra_errors.sentence(error, _keys(overrides)) from error


def _engine() -> Hydra:
    """What `hydra.main` would drive; driven here, it hands back what the jobs return, and its errors."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None  # inside `_hydra`
    return hydra


def _keys(overrides: Sequence[str]) -> list[str]:
    """The settings there are, given the files that the overrides choose."""
    groups = [path.name for path in plugins.conf_folder().iterdir() if path.is_dir()]
    choices = [override for override in overrides if override.partition("=")[0] in groups]
    try:
        return [key for key, _ in settings.settings(plain(compose(with_plugins(choices))))]
    except (HydraException, OmegaConfBaseException):  # a wrong choice is what the sentence is about
        return []
