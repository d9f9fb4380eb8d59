"""A seeded sample of a job's values, computed from scratch in fresh processes: what `axiom-bench verify` compares."""

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
from axiom_bench.evaluation.plugins import Plugin, required
from axiom_bench.evaluation.shard import shard_rows
from axiom_bench.run import shards
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.images import rows
from axiom_bench.run.job import Job, chosen
from axiom_bench.run.keys import Keys
from axiom_bench.run.own_code import code_of
from axiom_bench.run.worker import loaded, on_its_images

KINDS = ("method", "metric")
SHARE, FEWEST = 0.1, 3  # of a job's images
FEW_ROWS = 2  # of a batch, in the place of a job's own
WAITING = 4  # batches that are held while they have free places
FILLED = ""  # the name of a row in a place that no drawn image has


def recomputed(settings: Settings, seed: int) -> pd.DataFrame:
    """Return the records of the sampled images of a job, in columns.RECORD_COLUMNS, but for values of whole data sets.

    settings: the job's, as its manifest has them. Users' own methods and metrics run in a process of their own, so that
    none can touch the values of the suite's. Raises BenchError where the job can't be run here.
    """
    foreign = _foreign(settings)
    ours = {kind: {name: entry for name, entry in _entries(settings, kind) if name not in foreign} for kind in KINDS}
    has_ours = all(ours.values())
    tables = []
    # Without a method or a metric of the suite's all values are computed beside the user's, those of the layer too.
    if has_ours:
        with fresh_process() as call:
            tables.append(call(_computed, settings.model_copy(update=ours), seed, False))
    if foreign:
        with fresh_process() as call:
            tables.append(call(_computed, settings, seed, has_ours))
    return pd.concat(tables, ignore_index=True)


@contextmanager
def fresh_process() -> Iterator[Callable[..., Any]]:
    """Yield a function that calls another one in a new process, which has imported none of this one's modules.

    The call raises BenchError if that process ends.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:

        def call(function: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return process.submit(function, *arguments).result()
            except BrokenProcessPool as error:
                raise BenchError(
                    "The process that computed the values ended early. It had too little memory, or a method or metric "
                    "of your own ended it."
                ) from error

        yield call


def computed_alone(jobs: Iterable[Settings], seed: int, share: float = SHARE, otherwise: bool = False) -> pd.DataFrame:
    """Return what `recomputed` does for several jobs, computed in this process.

    Args:
        jobs: The settings of each job.
        seed: The seed of the sample.
        share: The share of each job's images.
        otherwise: Compute in another order, in small batches, and see `_in_two_copies`. Values that depend on other
            images differ then.
    """
    tables = [_computed(settings, seed, False, share, otherwise) for settings in jobs]
    return pd.concat(tables, ignore_index=True)


def _entries(settings: Settings, kind: str) -> Iterable[tuple[str, Any]]:
    return (settings.method if kind == "method" else settings.metric).items()


def _foreign(settings: Settings) -> set[str]:
    """Return the names of users' own methods and metrics, which aren't imported for that."""
    return {name for kind in KINDS for name, entry in _entries(settings, kind) if any(code_of({kind: {name: entry}}))}


def _computed(
    settings: Settings, seed: int, of_foreign: bool, share: float = SHARE, otherwise: bool = False
) -> pd.DataFrame:
    """of_foreign: the values alone that a user's own method or metric has a part in."""
    job = fresh_job(settings)
    count = min(len(job.indices), max(FEWEST, math.ceil(share * len(job.indices))))
    sample = random.Random(f"{seed} {job.name}").sample(job.indices, count)
    if otherwise:
        job = replace(job, batch_size=FEW_ROWS, methods=_in_two_copies(job))
    foreign = _foreign(settings)
    wanted = {
        method: {metric: key for metric, key in keys.items() if not of_foreign or {method, metric} & foreign}
        for method, keys in Keys(job).values.items()
    }
    requests = shards.requests(job, {method: keys for method, keys in wanted.items() if keys})
    needs = required((*job.methods, *job.metrics))
    batches = rows(job, tuple(sample), needs) if otherwise else in_their_places(job, sample, needs)
    parts = shard_rows(job.cut_model, batches, requests, job.batch_rows, job.normalise, notes=job.notes)
    table = frame(filter(holds_values, parts)).assign(**job.columns)
    return table[table["image_id"] != FILLED]


def fresh_job(settings: Settings) -> Job:
    """Return a job that uses nothing of its run folder. Nobody reads its notes: the run has printed them."""
    add_current_folder()
    data = {**settings.data, "cache": None}
    with TemporaryDirectory() as folder:
        return on_its_images(loaded(settings.model_copy(update={"data": data, "results": folder})))


def _in_two_copies(job: Job) -> tuple[Plugin, ...]:
    """Return a job's methods. One of two new copies of a user's module, drawn at random, answers each call.

    A method that keeps something of earlier images, or of those on which it was proved, then has other values.
    """
    copies = []
    for _ in range(2):
        for method in job.methods:
            if method.is_foreign:
                sys.modules.pop(method.target.rpartition(".")[0], None)
        copies.append(chosen("method", job.settings.method))
    methods = []
    for method, first, second in zip(job.methods, *copies, strict=True):
        methods.append(replace(method, call=partial(_either, (first.call, second.call), random.Random())))
    return tuple(methods)


def _either(calls: Sequence[Callable[..., Any]], generator: random.Random, trace: Trace) -> Any:
    return generator.choice(calls)(trace)


def in_their_places(job: Job, sample: Collection[int], needs: Collection[str]) -> Iterator[Batch | BadImage]:
    """Batches of these images, whose rows have the places that they have in the run's batches: products of few channels
    round by a row's place. All images of their shards are read. A place that none of them has is filled by a row named
    FILLED."""
    drawn = {job.data.ids[index] for index in sample}
    waiting: list[tuple[object, dict[int, Batch]]] = []  # rows that one batch can hold, by their places
    for shard in job.shards:
        if drawn.isdisjoint(job.data.ids[index] for index in shard):
            continue
        for batch in rows(job, shard, needs):
            if isinstance(batch, Batch):
                _hold(waiting, batch, drawn)
            elif batch.image_id in drawn:
                yield batch
        while len(waiting) > WAITING:
            yield _filled(waiting.pop(0)[1])
    for _, group in waiting:
        yield _filled(group)


def _hold(waiting: list[tuple[object, dict[int, Batch]]], batch: Batch, drawn: Collection[str]) -> None:
    """Puts each drawn row into the first group of its kind whose place is free."""
    kind = batch.images.shape[1:], batch.images.dtype, batch.interventions is None, batch.other_images is None
    for place in (place for place, name in enumerate(batch.image_ids) if name in drawn):
        group = next((each for of, each in waiting if of == kind and place not in each), None)
        if group is None:
            waiting.append((kind, group := {}))
        group[place] = batch[place : place + 1]


def _filled(group: Mapping[int, Batch]) -> Batch:
    filler = replace(next(iter(group.values())), image_ids=(FILLED,))
    return Batch.joined([group.get(place, filler) for place in range(max(group) + 1)])
