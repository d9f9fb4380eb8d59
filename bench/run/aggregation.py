"""Values of the whole data set, once all shards of a job are done: one file for the job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench.columns import CURVE_COLUMNS, LAYER
from axiom_bench.evaluation import whole_set
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.tables import frame
from axiom_bench.records import reading
from axiom_bench.records import store as records
from axiom_bench.records.keys import key
from axiom_bench.run.compute import constants
from axiom_bench.run.facts import Facts, is_of_layer
from axiom_bench.run.job import Job

COLUMNS = ["model", "layer", "data", "method", "metric", "value", "status"]


def ensure(facts: Facts, stored: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    """The file, relative to the run folder; computed from the shards' curves where it isn't there, or is damaged.

    stored: what the manifest says of the job's records: {"jobs": [{"records": ..., "values": ...}]}.
    """
    job = facts.job
    methods = [method for method in (LAYER, *(entry.name for entry in job.methods)) if _metrics(job, method)]
    if not methods:
        return ()
    aggregates = [str(metric.spec.aggregate) for metric in whole_set.aggregating(job.metrics)]
    identity = key(
        shards=[facts.shard(shard) for shard in job.shards],
        values=facts.values,
        aggregates=aggregates,
        code=facts.code(aggregate.rpartition(".")[0] for aggregate in aggregates),
    )
    name = f"whole_set/{identity}.parquet"
    if not records.is_intact(folder / name):
        parts = [_values(job, method, stored, folder) for method in methods]
        rows = pd.concat(parts).assign(**constants(job))
        records.write(folder / name, rows[COLUMNS], schema=None)
    return (name,)


def _values(job: Job, method: str, stored: Mapping[str, Any], folder: Path) -> pd.DataFrame:
    parts = [part.table.to_pandas() for part in reading.read_curves(folder, stored, method=method)]
    curves = pd.concat(parts) if parts else pd.DataFrame(columns=list(CURVE_COLUMNS))
    return frame([whole_set.whole_set(_metrics(job, method), method, curves)])


def _metrics(job: Job, method: str) -> list[Plugin]:
    return [metric for metric in whole_set.aggregating(job.metrics) if is_of_layer(metric) == (method == LAYER)]
