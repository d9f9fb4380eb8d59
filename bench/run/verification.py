"""Compute a seeded sample of a job's values from scratch in fresh processes, for `axiom-bench
verify` to compare.

Values that depend on other images, on the order of batches or on an earlier process don't come out
the same.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from axiom_bench.cutting.trace import Trace
from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.environment import add_current_folder
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.batch import frame, holds_values
from axiom_bench.evaluation.plugins import AnyPlugin, required
from axiom_bench.evaluation.shard import shard_rows
from axiom_bench.run import shards
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.images import rows
from axiom_bench.run.job import Job, chosen
from axiom_bench.run.keys import Keys
from axiom_bench.run.own_code import code_settings
from axiom_bench.run.worker import loaded, with_chosen_images

KINDS = ("method", "metric")
SHARE = 0.1  # the share of a job's images in the sample
FEWEST = 3  # the sample has at least so many images
FEW_ROWS = 2  # the batch size if values are computed otherwise
WAITING = 4  # so many batches may wait for rows that fill their free places
FILLED = ""  # the image id of a row that only fills a place


def recomputed(settings: Settings, seed: int) -> pd.DataFrame:
    """Return the records of the sampled images of a job, in columns.RECORD_COLUMNS, without values
    of whole data sets.

    Users' own methods and metrics run in a process of their own, so that they can't change the
    suite's values.

    Args:
        settings: The job's settings, as its manifest stores them.
        seed: The seed of the sample.

    Raises:
        BenchError: If the job can't be run on this machine.
    """
    foreign = _foreign(settings)
    ours = {
        kind: {name: entry for name, entry in _entries(settings, kind) if name not in foreign}
        for kind in KINDS
    }
    # Without a method and a metric of the suite, one process computes all values, also those of the
    # layer.
    has_ours = all(ours.values())
    tables = []
    if has_ours:
        with fresh_process() as call:
            tables.append(call(_computed, settings.model_copy(update=ours), seed, False))
    if foreign:
        with fresh_process() as call:
            tables.append(call(_computed, settings, seed, has_ours))
    records: pd.DataFrame = pd.concat(tables, ignore_index=True)
    return records


@contextmanager
def fresh_process() -> Iterator[Callable[..., Any]]:
    """Yield a function that calls another one in a new process, which has imported none of this
    one's modules.

    The call raises BenchError if that process ends.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:

        def call(function: Callable[..., object], *arguments: object) -> Any:
            try:
                return process.submit(function, *arguments).result()
            except BrokenProcessPool as error:
                raise BenchError(
                    "The process that computed the values ended early. It had too little memory, "
                    "or a method or metric of your own ended it."
                ) from error

        yield call


def recompute_jobs(
    jobs: Iterable[Settings], seed: int, share: float = SHARE, otherwise: bool = False
) -> pd.DataFrame:
    """Return what `recomputed` does for several jobs, computed in this process.

    Args:
        jobs: The settings of each job.
        seed: The seed of the sample.
        share: The share of each job's images.
        otherwise: Compute in another order, in small batches, with methods of `_in_two_copies`.
            Values that depend on other images differ in this case.
    """
    tables = [_computed(settings, seed, False, share, otherwise) for settings in jobs]
    return pd.concat(tables, ignore_index=True)


def _entries(settings: Settings, kind: str) -> Iterable[tuple[str, object]]:
    """Return (name, entry) of the methods or the metrics."""
    return (settings.method if kind == "method" else settings.metric).items()


def _foreign(settings: Settings) -> set[str]:
    """Return the names of users' own methods and metrics, without importing them."""
    names = set()
    for kind in KINDS:
        for name, entry in _entries(settings, kind):
            if any(code_settings({kind: {name: entry}})):
                names.add(name)
    return names


def _computed(
    settings: Settings,
    seed: int,
    only_foreign: bool,
    share: float = SHARE,
    otherwise: bool = False,
) -> pd.DataFrame:
    """Compute the records of the sample. only_foreign: only values of users' own methods or
    metrics.
    """
    job = fresh_job(settings)
    # at least FEWEST images, since a tenth of a small data set may be none
    count = min(len(job.indices), max(FEWEST, math.ceil(share * len(job.indices))))
    sample = random.Random(f"{seed} {job.name}").sample(job.indices, count)
    if otherwise:
        job = replace(job, batch_size=FEW_ROWS, methods=_in_two_copies(job))
    foreign = _foreign(settings)
    wanted: dict[str, dict[str, str]] = {}
    for method, keys in Keys(job).values.items():
        for metric, key in keys.items():
            if not only_foreign or {method, metric} & foreign:
                wanted.setdefault(method, {})[metric] = key
    requests = shards.requests(job, wanted)
    needs = required((*job.methods, *job.metrics))
    if otherwise:
        batches = rows(job, tuple(sample), needs)
    else:
        batches = in_original_places(job, sample, needs)
    parts = shard_rows(
        job.cut_model, batches, requests, job.batch_rows, job.normalise, notes=job.notes
    )
    table = frame(filter(holds_values, parts)).assign(**job.columns)
    return table[table["image_id"] != FILLED]


def fresh_job(settings: Settings) -> Job:
    """Return a job that reads nothing from its run folder. Its notes aren't printed, since the run
    has printed them.
    """
    add_current_folder()
    data = {**settings.data, "cache": None}
    with TemporaryDirectory() as folder:
        fresh_settings = settings.model_copy(update={"data": data, "results": folder})
        return with_chosen_images(loaded(fresh_settings))


def _in_two_copies(job: Job) -> tuple[AnyPlugin, ...]:
    """Return a job's methods so that each call goes to one of two new copies of a user's module, at
    random.

    The values of a method change if it remembers earlier images, or those on which it was proved.
    """
    copies = []
    for _ in range(2):
        for method in job.methods:
            if method.is_foreign:
                sys.modules.pop(method.target.rpartition(".")[0], None)
        copies.append(chosen("method", job.settings.method))
    methods = []
    for method, first, second in zip(job.methods, *copies, strict=True):
        call_either = partial(_call_either, (first.call, second.call), random.Random())
        methods.append(replace(method, call=call_either))
    return tuple(methods)


def _call_either(
    calls: Sequence[Callable[..., object]], generator: random.Random, trace: Trace
) -> object:
    return generator.choice(calls)(trace)


def in_original_places(
    job: Job, sample: Collection[int], needs: Collection[str]
) -> Iterator[Batch | BadImage]:
    """Yield batches of the sampled images. Each row is at the same position of its batch as in the
    run.

    The place matters, since the rounding of matrix products with few channels depends on it. All
    images of the sample's shards are read. A row with the image id FILLED fills a place that no
    sampled image has.

    Args:
        job: The job.
        sample: Positions of the sampled images in the job's data set.
        needs: The data to load in addition to the images.
    """
    sampled_ids = {job.data.ids[index] for index in sample}
    # (kind of row, {place: row}) of each batch that isn't full yet
    waiting: list[tuple[object, dict[int, Batch]]] = []
    for shard in job.shards:
        if sampled_ids.isdisjoint(job.data.ids[index] for index in shard):
            continue
        for batch in rows(job, shard, needs):
            if isinstance(batch, Batch):
                _add_rows(waiting, batch, sampled_ids)
            elif batch.image_id in sampled_ids:
                yield batch
        while len(waiting) > WAITING:
            _, row_by_place = waiting.pop(0)
            yield _filled(row_by_place)
    for _, row_by_place in waiting:
        yield _filled(row_by_place)


def _add_rows(
    waiting: list[tuple[object, dict[int, Batch]]], batch: Batch, sampled_ids: Collection[str]
) -> None:
    """Put each sampled row into the first waiting batch of its kind in which the row's place is
    free.
    """
    kind = (
        batch.images.shape[1:],
        batch.images.dtype,
        batch.interventions is None,
        batch.other_images is None,
    )
    for place, image_id in enumerate(batch.image_ids):
        if image_id not in sampled_ids:
            continue
        free = (
            waiting_rows
            for waiting_kind, waiting_rows in waiting
            if waiting_kind == kind and place not in waiting_rows
        )
        row_by_place = next(free, None)
        if row_by_place is None:
            row_by_place = {}
            waiting.append((kind, row_by_place))
        row_by_place[place] = batch[place : place + 1]


def _filled(row_by_place: Mapping[int, Batch]) -> Batch:
    """Join rows into a batch, and fill the places that have no row."""
    filler = replace(next(iter(row_by_place.values())), image_ids=(FILLED,))
    return Batch.joined([row_by_place.get(place, filler) for place in range(max(row_by_place) + 1)])
