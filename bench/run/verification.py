"""A seeded sample of a job's values, computed from scratch in fresh processes: what `axiom-bench verify` compares."""

from __future__ import annotations

import math
import multiprocessing
import random
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from axiom_bench.data.base import BadImage
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.batch import MethodLeftOut, ZeroMaps, frame, holds_values, shard_rows
from axiom_bench.evaluation.plugins import required
from axiom_bench.run import shards
from axiom_bench.run.composing.settings import add_current_folder, code_of
from axiom_bench.run.images import rows
from axiom_bench.run.isolated import chosen_methods
from axiom_bench.run.job import Job
from axiom_bench.run.keys import Keys
from axiom_bench.run.worker import loaded, on_its_images

KINDS = ("method", "metric")
SHARE, FEWEST = 0.1, 3  # of a job's images
FEW_ROWS = 2  # of a batch, in the place of a job's own
WAITING = 4  # batches that are held while they have free places
FILLED = ""  # the name of a row in a place that no drawn image has


def recomputed(config: Mapping[str, Any], seed: int) -> pd.DataFrame:
    """The records of the sampled images of a job, in columns.RECORD_COLUMNS, but for values of whole data sets.

    config: the job's, as its manifest has it. Users' own methods are isolated, and users' own metrics run in a process
    of their own, so that none can touch the values of the suite's. Raises BenchError where the job can't be run here.
    """
    foreign = _foreign(config)
    suite = {kind: {name: each for name, each in config[kind].items() if name not in foreign} for kind in KINDS}
    parts = [{**config, **suite}] if all(suite.values()) else []
    context, tables = multiprocessing.get_context("spawn"), []
    # Without a method or a metric of the suite's all values are computed beside the user's, those of the layer too.
    for part, of_foreign in [(part, False) for part in parts] + ([(dict(config), bool(parts))] if foreign else []):
        with ProcessPoolExecutor(1, context) as process:
            tables.append(process.submit(_computed, part, seed, of_foreign).result())
    return pd.concat(tables, ignore_index=True)


def computed_alone(
    configs: Iterable[Mapping[str, Any]], seed: int, share: float = SHARE, otherwise: bool = False
) -> pd.DataFrame:
    """As `recomputed`, of several jobs whose metrics are the suite's: users' own methods are isolated, so that no code
    of theirs runs in this process. share: of each job's images. otherwise: in another order and in small batches, and
    each request of a method goes at random to one of two processes. An answer that depends on others' isn't the same
    then."""
    tables = [_computed(dict(config), seed, False, share, otherwise) for config in configs]
    return pd.concat(tables, ignore_index=True)


def _foreign(config: Mapping[str, Any]) -> set[str]:
    """The names of users' own methods and metrics, which aren't imported for that."""
    entries = ((kind, name, each) for kind in KINDS for name, each in config[kind].items())
    return {name for kind, name, each in entries if any(code_of({kind: {name: each}}))}


def _computed(
    config: dict[str, Any], seed: int, of_foreign: bool, share: float = SHARE, otherwise: bool = False
) -> pd.DataFrame:
    """of_foreign: the values alone that a user's own method or metric has a part in."""
    add_current_folder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MethodLeftOut)  # which the run itself has told
        warnings.simplefilter("ignore", ZeroMaps)
        config = {**config, "data": {**config["data"], "cache": None}}
        with TemporaryDirectory() as folder:
            job = on_its_images(loaded({**config, "results": folder}, isolate=True))
        count = min(len(job.indices), max(FEWEST, math.ceil(share * len(job.indices))))
        sample = random.Random(f"{seed} {job.name}").sample(job.indices, count)
        if otherwise:  # by processes that the proof on the first images has taught nothing
            specs = {method.name: method.spec for method in job.methods}
            methods = (replace(method, spec=specs[method.name]) for method in chosen_methods(config, workers=2))
            job = replace(job, batch_size=FEW_ROWS, methods=tuple(methods))
        foreign = _foreign(config)
        wanted = {
            method: {metric: key for metric, key in keys.items() if not of_foreign or {method, metric} & foreign}
            for method, keys in Keys(job).values.items()
        }
        requests = shards.requests(job, {method: keys for method, keys in wanted.items() if keys})
        needs = required((*job.methods, *job.metrics))
        batches = rows(job, tuple(sample), needs) if otherwise else in_their_places(job, sample, needs)
        parts = shard_rows(job.cut_model, batches, requests, job.batch_rows, job.normalise)
        table = frame(filter(holds_values, parts)).assign(**job.columns)
        return table[table["image_id"] != FILLED]


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
