"""Values of the whole data set with their bootstrap replicates, one file a job. Efron and Tibshirani, An Introduction
to the Bootstrap, 1993, algorithm 6.1: a resample draws as many images as there are, with replacement. The standard
deviation of the values on the resamples, the replicates, is the value's standard error."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.columns import CURVE_COLUMNS, LAYER, OK
from axiom_bench.evaluation import whole_set
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.records import by_metric as common_rows
from axiom_bench.records import reading, store
from axiom_bench.records.by_metric import compared_columns
from axiom_bench.records.entries import JobEntry, Manifest
from axiom_bench.records.record_files import key
from axiom_bench.records.store import WHOLE_SET as COLUMNS
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys

STAGES = {"whole_set": "whole data set"}
Floats = NDArray[np.float64]
RESAMPLES = 200  # more are seldom needed for a standard error (ibid., 6.4)
Row = tuple[str, int]  # image id and explained class


def ensure_whole_set(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """The file, relative to the run folder; computed from the shards' curves where it isn't there, or is damaged. A row
    for each method and value: the value with its status, of how many `images` and `rows`, and its replicates. Also the
    same of the rows that all compared methods have (`by_metric.compared_columns`), of which another method has none.
    Raises BenchError where an aggregate doesn't return its values."""
    job = keys.job
    folder = job.settings.run_folder
    metrics = whole_set.aggregating(job.metrics)
    if not metrics:
        return ()
    aggregates = [str(metric.spec.aggregate) for metric in metrics]
    steps = (common_rows.__name__, __name__)
    identity = key(
        shards=[keys.shard(shard) for shard in job.shards],
        values=keys.values,  # of all methods: they decide which images are common
        aggregates=[keys.of_aggregate(metric) for metric in metrics],
        code=keys.code([*(name.rpartition(".")[0] for name in aggregates), *steps]),
    )
    name = f"whole_set/{identity}.parquet"
    if not store.is_usable(folder / name, COLUMNS.names, job.notes):
        counted = Manifest(jobs=[stored])
        rows = [row for metric in metrics for row in _rows(job, metric, counted, folder)]
        store.write(folder / name, pd.DataFrame(rows).assign(**job.columns)[COLUMNS.names], schema=COLUMNS)
    return (name,)


def _rows(job: Job, metric: Plugin, stored: Manifest, folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of one metric. The curves of one method at a time: those of all together may be gigabytes."""
    methods = [LAYER] if metric.spec.of == "layer" else [method.name for method in job.methods]
    rows_of = {method: frozenset(_rows_of(_curves(metric, method, stored, folder))) for method in methods}
    all_rows = list(frozenset[Row]().union(*rows_of.values()))
    has = [[row in of_method for of_method in rows_of.values()] for row in all_rows]
    columns, is_common = compared_columns(np.array(has, dtype=bool).reshape(len(all_rows), len(methods)))
    compared_methods = {methods[column] for column in columns}
    common = frozenset(row for row, in_all in zip(all_rows, is_common, strict=True) if in_all)
    images, common_images = _images(all_rows), _images(common)
    for method in methods:
        curves = _curves(metric, method, stored, folder)
        values, replicates = whole_set.values(metric, curves), _replicates(metric, curves, images)
        is_compared = method in compared_methods
        if is_compared and rows_of[method] == common and images == common_images:
            common_values, common_replicates = values, replicates
        else:
            of_common = curves[np.array([is_compared and row in common for row in _rows_of(curves)], dtype=bool)]
            common_values = whole_set.values(metric, of_common)
            common_replicates = _replicates(metric, of_common, common_images)
        for name, (value, status) in values.items():
            yield {
                "method": method, "metric": name, "value": value, "status": status,
                "images": len(_images(rows_of[method])), "rows": len(rows_of[method]),
                "replicates": replicates.get(name, []), "common_value": common_values[name][0],
                "common_images": len(common_images) * is_compared, "common_rows": len(common) * is_compared,
                "common_replicates": common_replicates.get(name, []),
            }  # fmt: skip


def _rows_of(curves: pd.DataFrame) -> list[Row]:
    return list(zip(curves["image_id"], curves["target_class"], strict=True))


def _images(rows: Iterable[Row]) -> list[str]:
    return sorted({image for image, _ in rows})


def _curves(metric: Plugin, method: str, stored: Manifest, folder: Path) -> pd.DataFrame:
    parts = reading.read_curves(folder, stored, metric.spec.curves, method)
    frames = [part.table.to_pandas() for part in parts]
    curves = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(CURVE_COLUMNS))
    return curves[curves["status"] == OK]


def _replicates(metric: Plugin, curves: pd.DataFrame, images: Sequence[str]) -> dict[str, list[float]]:
    values = partial(whole_set.resampled_values, metric, curves)
    return replicates(values, images, whole_set.image_ids(metric, curves))


def draws(images: Sequence[str]) -> Floats:
    """How often each of N images is drawn in each resample: (RESAMPLES, N). Seeded by the image ids, so that all
    methods with these images have the same resamples, in any run."""
    digest = hashlib.sha256("\n".join(images).encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    drawn = generator.integers(len(images), size=(RESAMPLES, len(images)))
    resample = len(images) * np.arange(RESAMPLES)[:, None]
    counts = np.bincount((drawn + resample).ravel(), minlength=RESAMPLES * len(images))
    return counts.reshape(RESAMPLES, len(images)).astype(np.float64)


def replicates(
    values: Callable[[Floats], Mapping[str, Floats]], images: Sequence[str], rows: Sequence[str]
) -> dict[str, list[float]]:
    """{value name: one replicate for each resample}; none for fewer than two different images among the rows. values:
    how often each row is drawn, (R, n) -> {value name: (R,)}. images: those that are drawn from, sorted, each once.
    rows: the image of each of the n rows: all rows of an image are drawn together. A resample with none of the rows has
    no value and is left out."""
    place = {image: index for index, image in enumerate(images)}
    if len(set(rows)) < 2:
        return {}
    counts = draws(images)[:, [place[image] for image in rows]]
    counts = counts[counts.any(axis=1)]
    return {name: np.asarray(points, dtype=np.float64).tolist() for name, points in values(counts).items()}
