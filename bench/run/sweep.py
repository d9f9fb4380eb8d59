"""A command line as a sweep: every model, layer or data set of it is a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.records import artefacts, claims, files, mirror, running
from axiom_bench.run import same_folder
from axiom_bench.run.composing import settings
from axiom_bench.run.composing.composition import Composition, base_keys, composed
from axiom_bench.run.composing.settings import add_current_folder
from axiom_bench.run.execute import execute, run_folder
from axiom_bench.run.jobs.job import chosen
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.progress import progress


def sweep(overrides: Sequence[str], config_folder: Path | None = None) -> tuple[dict[str, Any], list[Outcome]]:
    """Runs the jobs of a command line, spread by Hydra's launcher: the sweep's configuration, each job's outcome.

    config_folder: a user's own folder of YAML files beside conf/. Raises BenchError, before anything is computed, for a
    mistake that concerns all jobs.
    """
    with composed(overrides, config_folder) as composition:
        config = composition.plain()
        check(config)
        return config, launch(composition, config)


def configuration(overrides: Sequence[str], config_folder: Path | None = None) -> dict[str, Any]:
    """What a command line configures, before its sweep is spread over jobs. Raises BenchError."""
    with composed(overrides, config_folder) as composition:
        return composition.plain()


def launch(composition: Composition, config: dict[str, Any]) -> list[Outcome]:
    """Each job's outcome, in their order; each job once. Raises BenchError where the run folder can't be written."""
    folder = run_folder(config)
    files.ensure_writable(folder)
    with progress(str(config["results"])):
        mirror.begin(folder)
    artefacts.check_format(folder)
    others = same_folder.other_commands(folder)
    with claims.running(folder):
        claims.sweep(folder)
        running.begin(folder, {**_about(composition, config), "others": others})
        return distinct(composition.launch(execute))


def share(composition: Composition, config: dict[str, Any]) -> list[Outcome]:
    """Each job's outcome, of shards alone, beside the command that `launch`es them and says what goes on."""
    folder = run_folder(config)
    files.ensure_writable(folder)
    with claims.running(folder):
        return distinct(composition.launch(partial(execute, share=True)))


def _about(composition: Composition, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader of the unfinished run needs to know of the whole command."""
    names = {key: config[key] for key in ("experiment", "run")}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"overrides": list(composition.overrides), "created": created, "config": config}
    facts["about"] = same_folder.about(config, composition.typed)
    return {**names, **facts, "jobs": len(composition.jobs)}


def check(config: dict[str, Any]) -> tuple[tuple[Plugin, ...], tuple[Plugin, ...]]:
    """The methods and metrics, once the settings that concern all jobs are checked. Raises BenchError."""
    add_current_folder()
    settings.check_keys(config, base_keys())
    settings.check(config)
    methods, metrics = chosen("method", config), chosen("metric", config)
    if config["pictures"]["rows"] and config["pictures"]["perturbation"] not in config["metric"]:
        plugins.load("metric", config["pictures"]["perturbation"])  # which refuses an unknown name
    return methods, metrics


def distinct(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Each job once: two may be the same, as with model.layer=default and the layer's own name.

    Of jobs with one name and different settings all but the first fail, since their values couldn't be told apart.
    """
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
