"""The manifest of a run: the outcomes of its jobs, merged."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin, value_names, whole_set_value_names
from axiom_bench.evaluation.specs import MetricSpec
from axiom_bench.records.artefacts import common, listed, merge_facts
from axiom_bench.records.sources import version_of
from axiom_bench.run import references
from axiom_bench.run.computing.stored import Computed, Stored
from axiom_bench.run.jobs.job import Job
from axiom_bench.run.jobs.mosaics import Choice

RECORDED = ("torch", "torchvision", "Pillow", "numpy", "pandas", "pyarrow", "scipy", "hydra-core", "axiom-bench")
OF_A_METRIC = ("title", "unit", "better", "tolerance", "of", "needs", "note", "definition", "deviation", "reference")


@dataclass(frozen=True)
class Failure:
    """A job that ended early. mendable: by the user (a BenchError). trace: where it happened, for a bug report."""

    job: str
    message: str
    mendable: bool
    trace: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a job hands back, plain enough to travel between processes.

    facts: its share of the manifest. images: how many are explained; left_out: ids of those that data.only_correct
    leaves out. shards: how many there are; computed: what this command computed of them. files: {kind: paths, relative
    to the run folder}, see `records.artefacts`. seconds: of each stage.
    """

    job: str
    config: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    left_out: tuple[str, ...] = ()
    shards: int = 0
    stored: Stored = field(default_factory=Stored)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    computed: Computed = field(default_factory=Computed)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failure: Failure | None = None


def facts(job: Job, kept: int, others: str | None = None, choice: Choice | None = None) -> dict[str, Any]:
    """A job's share of the manifest. kept: how many of the job's images are explained; others: why not all.
    choice: of the images of mosaics."""
    model = job.model
    chosen = {} if choice is None else {"mosaics": asdict(choice)}
    images = {job.data.name: {"chosen": len(job.indices), "kept": kept, "others": others, **chosen}}
    of_model = {
        **{"layer": model.layer, "depths": {model.layer: model.depth}, "output": model.output.name},
        **{"weights": model.weights, "weights_sha256": model.weights_sha256, "images": images},
        "random_weights": model.random_weights,
    }
    ids = [job.data.ids[index] for index in job.indices]
    return {
        "methods": {method.name: method.as_dict() | _explained(method) for method in job.methods},
        "metrics": {name: about for metric in job.metrics for name, about in _values(metric).items()},
        "models": {model.name: of_model},
        "data": {
            job.data.name: {"ids": ids, "fingerprint": job.data_fingerprint, "classes": list(job.data.class_names)}
        },
        "device": job.device.device.type,  # which GPU of several doesn't matter
        "precision": {"trunk": job.device.precision, "head": job.device.head_precision},
    }


def assemble(outcomes: Sequence[Outcome], experiment: str, run: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The manifest of a sweep, from what its jobs handed back, in their order. overrides: as they were typed."""
    all_facts = [outcome.facts for outcome in outcomes if outcome.facts]
    merged = merge_facts(all_facts)
    return {
        "experiment": experiment,
        "run": run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "overrides": list(overrides),
        "config": outcomes[0].config if outcomes else {},
        **merged,
        "axes": {name: axes for outcome in outcomes for name, axes in outcome.stored.axes.items()},
        "device": common(facts_of_job["device"] for facts_of_job in all_facts),
        "precision": common(facts_of_job["precision"] for facts_of_job in all_facts),
        "versions": {name: version_of(name) for name in (*RECORDED, *_libraries(merged["methods"]))},
        "git_commit": _commit(),
        **{kind: [path for outcome in outcomes for path in outcome.files.get(kind, ())] for kind in listed()},
        "jobs": [_job(outcome) for outcome in outcomes],
        "seconds": {
            outcome.job: {stage: round(seconds, 2) for stage, seconds in outcome.seconds.items()}
            for outcome in outcomes
            if outcome.computed.shards
        },
        "work": {outcome.job: outcome.computed.work() for outcome in outcomes if outcome.computed.shards},
        "failures": [
            {"job": outcome.failure.job, "message": outcome.failure.message}
            for outcome in outcomes
            if outcome.failure is not None
        ],
    }


def of_job(outcome: Outcome) -> dict[str, Any]:
    """The manifest of one job, as `records.running` keeps it until the sweep has ended."""
    return assemble([outcome], outcome.config["experiment"], outcome.config["run"])


def _job(outcome: Outcome) -> dict[str, Any]:
    """A job's entry. left_out: by data.only_correct."""
    about = {"job": outcome.job, "config": outcome.config, "images": outcome.images}
    return {**about, "left_out": list(outcome.left_out), **outcome.stored.as_dict()}


def _libraries(methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The distributions whose code the methods run, as their YAML files say."""
    return sorted({about["library"] for about in methods.values() if "library" in about})


def _values(metric: Plugin[MetricSpec]) -> dict[str, dict[str, Any]]:
    """Each value of a metric with its metadata, those of the whole data set first; a value's own entries replace the
    metric's."""
    plain = metric.spec.as_dict()
    own = {**plain.get("aggregate_values", {}), **plain.get("values", {})}
    shared = {key: plain[key] for key in OF_A_METRIC if key in plain} | _explained(metric)
    names = dict.fromkeys([*whole_set_value_names(metric), *value_names(metric)])
    return {name: {"title": name, **shared, **own.get(name, {}), "metric": metric.name} for name in names}


def _explained(plugin: Plugin) -> dict[str, Any]:
    """What a plug-in computes, in the first line of its docstring, and what it cites: text and link."""
    about = {"description": plugin.description} if plugin.description else {}
    key = plugin.spec.reference
    if not key:
        return about
    reference = references.bibliography().get(key)  # a user's own plug-in may cite what isn't there
    cited = (reference.cited, reference.title, reference.url) if reference else (key, "", "")
    return {**about, "cited": dict(zip(("text", "title", "url"), cited, strict=True))}


@cache
def _commit() -> str | None:
    """The commit of the checkout this code runs from; None for an installed package."""
    top = plugins.conf_folder().parent
    if not (top / ".git").exists() or shutil.which("git") is None:
        return None
    result = subprocess.run(["git", "rev-parse", "HEAD"], cwd=top, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
