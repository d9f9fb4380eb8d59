"""Values of the whole data set with their bootstrap replicates, in one file per job.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, algorithm 6.1: a resample draws N of
the N images, with replacement. The values on the resamples are the replicates. Their standard
deviation is the value's standard error, which tables print.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from axiom_bench.columns import CURVE_COLUMNS, LAYER, OK
from axiom_bench.evaluation import whole_set
from axiom_bench.evaluation.plugins import Metric
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
Row = tuple[str, int]
"""An image id and an explained class."""


def ensure_whole_set(keys: Keys, stored: JobEntry) -> tuple[str, ...]:
    """Compute the job's values of the whole data set from the shards' curves, unless their file
    exists undamaged.

    The file has a row for each method and value: the value with its status, the numbers of `images`
    and `rows` that it is computed from, and its replicates. The columns `common_*` have the same
    for the rows that all compared methods have (`by_metric.compared_columns`). A method that isn't
    compared has no common rows.

    Args:
        keys: The keys of the job.
        stored: The job's entry, which lists its records.

    Returns:
        The path of the file, relative to the run folder; nothing if no metric has such values.

    Raises:
        BenchError: If an aggregate doesn't return its values.
    """
    job = keys.job
    folder = job.settings.run_folder
    metrics = whole_set.aggregating(job.metrics)
    if not metrics:
        return ()
    modules = [str(metric.spec.aggregate).rpartition(".")[0] for metric in metrics]
    modules.extend([common_rows.__name__, __name__])
    identity = key(
        shards=[keys.shard(shard) for shard in job.shards],
        values=keys.values,  # of all methods, since they decide which images are common
        aggregates=[keys.for_aggregate(metric) for metric in metrics],
        code=keys.code(modules),
    )
    name = f"whole_set/{identity}.parquet"
    if not store.is_usable(folder / name, COLUMNS.names, job.notes):
        manifest = Manifest(jobs=[stored])
        rows: list[dict[str, object]] = []
        for metric in metrics:
            rows.extend(_rows(job, metric, manifest, folder))
        table = pd.DataFrame(rows).assign(**job.columns)
        store.write(folder / name, table[COLUMNS.names], schema=COLUMNS)
    return (name,)


def _rows(job: Job, metric: Metric, stored: Manifest, folder: Path) -> Iterator[dict[str, object]]:
    """Yield the file's rows of one metric. It reads one method at a time, since all curves may be
    gigabytes.
    """
    methods = [LAYER] if metric.spec.of == "layer" else [method.name for method in job.methods]
    rows_by_method = {
        method: frozenset(_rows_of(_curves(metric, method, stored, folder))) for method in methods
    }
    all_rows = list(frozenset[Row]().union(*rows_by_method.values()))
    has_row = [[row in method_rows for method_rows in rows_by_method.values()] for row in all_rows]
    row_by_method = np.array(has_row, dtype=bool).reshape(len(all_rows), len(methods))
    columns, is_common = compared_columns(row_by_method)
    compared_methods = {methods[column] for column in columns}
    common = frozenset(row for row, in_all in zip(all_rows, is_common, strict=True) if in_all)
    images = _images(all_rows)
    common_images = _images(common)
    for method in methods:
        curves = _curves(metric, method, stored, folder)
        values = whole_set.values(metric, curves)
        replicates = _replicates(metric, curves, images)
        is_compared = method in compared_methods
        # a method with only common rows has the same values twice, and resampling takes long
        if is_compared and rows_by_method[method] == common and images == common_images:
            common_values = values
            common_replicates = replicates
        else:
            is_row_common = [is_compared and row in common for row in _rows_of(curves)]
            common_curves = curves[np.array(is_row_common, dtype=bool)]
            common_values = whole_set.values(metric, common_curves)
            common_replicates = _replicates(metric, common_curves, common_images)
        for name, (value, status) in values.items():
            yield {
                "method": method,
                "metric": name,
                "value": value,
                "status": status,
                "images": len(_images(rows_by_method[method])),
                "rows": len(rows_by_method[method]),
                "replicates": replicates.get(name, []),
                "common_value": common_values[name][0],
                "common_images": len(common_images) if is_compared else 0,
                "common_rows": len(common) if is_compared else 0,
                "common_replicates": common_replicates.get(name, []),
            }


def _rows_of(curves: pd.DataFrame) -> list[Row]:
    return list(zip(curves["image_id"], curves["target_class"], strict=True))


def _images(rows: Iterable[Row]) -> list[str]:
    return sorted({image for image, _ in rows})


def _curves(metric: Metric, method: str, stored: Manifest, folder: Path) -> pd.DataFrame:
    """Read the curves of a metric and a method that have a value."""
    parts = reading.read_curves(folder, stored, metric.spec.curves, method)
    frames = [part.table.to_pandas() for part in parts]
    curves = (
        pd.concat(frames, ignore_index=True)
        if frames
        else pd.DataFrame(columns=list(CURVE_COLUMNS))
    )
    return curves[curves["status"] == OK]


def _replicates(
    metric: Metric, curves: pd.DataFrame, images: Sequence[str]
) -> dict[str, list[float]]:
    """Return {value name: replicates} of a metric, for resamples of `images`."""
    values = partial(whole_set.resampled_values, metric, curves)
    return replicates(values, images, whole_set.image_ids(metric, curves))


def draws(images: Sequence[str]) -> Floats:
    """Return how often each of N images is drawn in each resample: (RESAMPLES, N).

    The image ids are the seed, so that all methods with these images have the same resamples, in
    any run.
    """
    digest = hashlib.sha256("\n".join(images).encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    drawn = generator.integers(len(images), size=(RESAMPLES, len(images)))
    # each resample counts in a range of its own
    offsets = len(images) * np.arange(RESAMPLES)[:, None]
    counts = np.bincount((drawn + offsets).ravel(), minlength=RESAMPLES * len(images))
    return counts.reshape(RESAMPLES, len(images)).astype(np.float64)


def replicates(
    values: Callable[[Floats], Mapping[str, Floats]],
    images: Sequence[str],
    rows: Sequence[str],
) -> dict[str, list[float]]:
    """Compute the bootstrap replicates of values. Fewer than two different images among the rows
    have none.

    Args:
        values: A function from how often each row is drawn, (R, n), to {value name: (R,)}.
        images: The images to draw from, sorted, each once.
        rows: The image of each of the n rows. All rows of an image are drawn together.

    Returns:
        {value name: one replicate for each resample}. A resample with none of the rows has no value
        and is left out.
    """
    if len(set(rows)) < 2:  # all resamples of one image are equal: no standard error
        return {}
    position = {image: index for index, image in enumerate(images)}
    counts = draws(images)[:, [position[image] for image in rows]]
    counts = counts[counts.any(axis=1)]
    return {
        name: np.asarray(points, dtype=np.float64).tolist()
        for name, points in values(counts).items()
    }
