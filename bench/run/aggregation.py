"""Values of the whole data set, once all shards of a job are done: a record file for each method that has such."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from axiom_bench.columns import LAYER
from axiom_bench.evaluation import whole_set
from axiom_bench.evaluation.evaluate import frame
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.records import store as records
from axiom_bench.run import fingerprint
from axiom_bench.run.compute import Todo, constants
from axiom_bench.run.job import Job


def ensure(job: Job, shards: Sequence[Todo], folder: Path) -> tuple[str, ...]:
    """The files, relative to the run folder; what isn't there is computed from the shards' curves.

    A file's name hashes the names of its shards' files and the aggregates' source.
    """
    methods = list(shards[0].files) if shards else []
    return tuple(
        _ensure(job, method, metrics, shards, folder) for method in methods if (metrics := _metrics(job, method))
    )


def _ensure(job: Job, method: str, metrics: Sequence[Plugin], shards: Sequence[Todo], folder: Path) -> str:
    name = fingerprint.of_whole_set([shard.files[method] for shard in shards], metrics)
    if not (folder / name).is_file():
        curves = records.read_curves(folder, [file for shard in shards for file in shard.curve_files(method)])
        rows = frame([whole_set.whole_set(metrics, method, curves)])
        records.write(folder / name, rows.assign(**constants(job)))
    return name


def _metrics(job: Job, method: str) -> list[Plugin]:
    of_layer = method == LAYER
    return [one for one in whole_set.aggregating(job.metrics) if (one.spec.of == "layer") == of_layer]
