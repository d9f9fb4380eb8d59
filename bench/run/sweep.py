"""A command line as a sweep: every model, layer or data set of it is a job, and all share one run folder. A command
with other settings than the one before says what its report no longer shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.records import artefacts, files, mirror, running
from axiom_bench.run import executors
from axiom_bench.run.composing import settings
from axiom_bench.run.composing.composition import Composition, base_keys, composed
from axiom_bench.run.computing.isolated import chosen_methods
from axiom_bench.run.execute import execute
from axiom_bench.run.executors import Local
from axiom_bench.run.jobs.job import chosen
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.progress import progress
from axiom_bench.run.tasks import run_folder

MAX_NAMES = 5  # of each kind


def sweep(overrides: Sequence[str], config_folder: Path | None = None) -> tuple[dict[str, Any], list[Outcome]]:
    """Runs the jobs of a command line, one after the other: the sweep's configuration, each job's outcome.
    config_folder: a user's own folder of YAML files beside conf/. Raises BenchError, before anything is computed, for a
    mistake that concerns all jobs."""
    with composed(overrides, config_folder) as composition:
        config = composition.plain()
        check(config)
        return config, launch(composition, config)


def configuration(overrides: Sequence[str], config_folder: Path | None = None) -> dict[str, Any]:
    """What a command line configures, before its sweep is spread over jobs. Raises BenchError."""
    with composed(overrides, config_folder) as composition:
        return composition.plain()


def launch(composition: Composition, config: dict[str, Any], goes_on: bool = False) -> list[Outcome]:
    """Each job's outcome, in their order; each job once. goes_on: with what the command before has computed by users'
    own plug-ins. Raises BenchError where the run folder can't be written."""
    folder = run_folder(config)
    files.ensure_writable(folder)
    with progress(str(config["results"])):
        mirror.pull(folder)
    artefacts.check_format(folder)
    with mirror.held(folder):
        files.sweep(folder)
        overrides = list(composition.overrides)
        command = running.command_to_continue(folder, overrides, goes_on) or uuid4().hex
        about_command = {  # what a reader of the unfinished run needs to know of the whole command
            **{"experiment": config["experiment"], "run": config["run"], "overrides": overrides},
            **{"created": datetime.now(UTC).isoformat(timespec="seconds"), "config": config},
            **{"jobs": len(composition.jobs), "command": command},
        }
        running.begin(folder, about_command)
        with executors.opened(config["executor"], folder) as executor:
            of_engine = None if isinstance(executor, Local) else executor
            return _distinct([execute(job, command, of_engine) for job in composition.job_configs()])


def check(config: dict[str, Any]) -> tuple[tuple[Plugin, ...], tuple[Plugin, ...]]:
    """The methods and metrics, once the settings that concern all jobs are checked. Raises BenchError."""
    settings.add_current_folder()
    settings.check_keys(config, base_keys())
    settings.check(config)
    executors.checked(config["executor"])
    methods, metrics = chosen_methods(config), chosen("metric", config)
    if config["pictures"]["rows"] and config["pictures"]["perturbation"] not in config["metric"]:
        plugins.load("metric", config["pictures"]["perturbation"])  # which refuses an unknown name
    return methods, metrics


def _distinct(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Each job once: two may be the same, as with model.layer=default and the layer's own name. Of jobs with one name
    and different settings all but the first fail, since their values couldn't be told apart."""
    first: dict[str, Outcome] = {}
    kept = []
    for outcome in outcomes:
        if outcome.failure is not None:
            kept.append(outcome)
        elif outcome.job not in first:
            first[outcome.job] = outcome
            kept.append(outcome)
        elif _without_layer(outcome.config) != _without_layer(first[outcome.job].config):
            sentence = "Another job has the same model name, layer and data name; give each its own name (name: NAME)."
            kept.append(replace(outcome, failure=Failure(outcome.job, sentence, mendable=True)))
    return kept


def _without_layer(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "model": {key: value for key, value in config["model"].items() if key != "layer"}}


def no_longer_shown(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """One line that names the models, layers, methods, metrics and images which the new manifest leaves out. None where
    it leaves out nothing."""
    parts = list(_missing(before, after))
    if not parts:
        return None
    return (
        f"the report no longer shows {'; '.join(parts)}: its run name held them until now. "
        "Their records are kept; run=NAME gives a report of its own."
    )


def _missing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key, kind in (("models", "model"), ("methods", "method"), ("metrics", "metric"), ("data", "data set")):
        if names := [name for name in before.get(key) or {} if name not in (after.get(key) or {})]:
            yield _listed(kind, names)
    for model, facts in _in_both(before, after, "models"):
        if layers := [layer for layer in facts[0].get("layers") or () if layer not in (facts[1].get("layers") or ())]:
            yield f"{_listed('layer', layers)} of {model}"
        if (weights := facts[0].get("weights_sha256")) and weights != facts[1].get("weights_sha256", weights):
            yield f"other weights of {model}"
    for data, facts in _in_both(before, after, "data"):
        if count := len(set(facts[0].get("ids") or ()) - set(facts[1].get("ids") or ())):
            yield f"{count} image{'s' if count > 1 else ''} of {data}"
        elif facts[0].get("ids") == facts[1].get("ids") and facts[0].get("fingerprint") != facts[1].get("fingerprint"):
            yield f"other files of {data}"


def _in_both(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    new = after.get(key) or {}
    yield from ((name, (facts, new[name])) for name, facts in (before.get(key) or {}).items() if name in new)


def _listed(kind: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{kind}{'s' if len(names) > 1 else ''} {', '.join(names[:MAX_NAMES])}{more}"
