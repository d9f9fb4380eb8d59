"""A seeded sample of a job's values, computed from scratch in fresh processes: what `axiom-bench verify` compares."""

from __future__ import annotations

import math
import multiprocessing
import random
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from axiom_bench.evaluation.batch import MethodLeftOut, ZeroMaps, frame, holds_values
from axiom_bench.evaluation.plugins import from_config, required
from axiom_bench.evaluation.shard import shard_rows
from axiom_bench.run.composing.settings import add_current_folder, recording
from axiom_bench.run.computing import compute
from axiom_bench.run.inputs.images import rows
from axiom_bench.run.jobs.facts import Facts
from axiom_bench.run.jobs.ready import ReadyJob, loaded

SHARE, FEWEST = 0.02, 3  # of a job's images


def recomputed(config: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """The records of the sampled images of a job, in columns.RECORD_COLUMNS, but for values of whole data sets.

    config: the job's, as its manifest has it. Users' own plug-ins run in a process of their own, so that none can
    touch the values of the suite's. Raises BenchError where the job can't be run here.
    """
    add_current_folder()
    suite = {
        kind: {name: each for name, each in config[kind].items() if not from_config(kind, name, each).is_foreign}
        for kind in ("method", "metric")
    }
    has_foreign = any(len(each) < len(config[kind]) for kind, each in suite.items())
    parts = [{**config, **suite}] if all(suite.values()) else []
    context, tables = multiprocessing.get_context("spawn"), []
    # Without a method or a metric of the suite's all values are computed beside the user's, those of the layer too.
    for part, of_foreign in [(part, False) for part in parts] + ([(dict(config), bool(parts))] if has_foreign else []):
        with ProcessPoolExecutor(1, context) as process:
            tables.append(process.submit(_computed, part, seed, of_foreign).result())
    return pd.concat(tables, ignore_index=True)


def computed_alone(configs: Iterable[Mapping[str, Any]], seed: int, share: float = SHARE) -> pd.DataFrame:
    """As `recomputed`, of several jobs, in one new process for all: no code of a user's runs in this one. share: of
    each job's images."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        tables = [process.submit(_computed, dict(config), seed, False, share).result() for config in configs]
    return pd.concat(tables, ignore_index=True)


def _computed(config: dict[str, Any], seed: int, of_foreign: bool, share: float = SHARE) -> pd.DataFrame:
    """of_foreign: the values alone that a user's own method or metric has a part in. Users' modules are compiled from
    their text, as in the run: bytecode may be that of another one."""
    add_current_folder()
    with recording(config), warnings.catch_warnings():
        warnings.simplefilter("ignore", MethodLeftOut)  # which the run itself has told
        warnings.simplefilter("ignore", ZeroMaps)
        return _sampled(config, seed, of_foreign, share)


def _sampled(config: dict[str, Any], seed: int, of_foreign: bool, share: float) -> pd.DataFrame:
    config = {**config, "data": {**config["data"], "cache": None}}
    with TemporaryDirectory() as folder:
        job, cut_model = loaded(config, Path(folder))
        ready = ReadyJob.of(job, cut_model, bool(config["data"].get("only_correct")), Path(folder))
        job, cut_model = ready.job, ready.cut_model
    count = min(len(job.indices), max(FEWEST, math.ceil(share * len(job.indices))))
    sample = tuple(sorted(random.Random(f"{seed} {job.name}").sample(job.indices, count)))
    foreign = {plugin.name for plugin in (*job.methods, *job.metrics) if plugin.is_foreign}
    wanted = {
        method: {metric: key for metric, key in keys.items() if not of_foreign or {method, metric} & foreign}
        for method, keys in Facts(job).values.items()
    }
    requests = compute.requests(job, {method: keys for method, keys in wanted.items() if keys})
    batches = rows(job, sample, required((*job.methods, *job.metrics)))
    parts = shard_rows(cut_model, batches, requests, job.batch_rows, job.normalise)
    return frame(filter(holds_values, parts)).assign(**compute.constants(job))
