"""The values of a shard: one trace per batch, and the requested values of it.

A run's fingerprint of its code starts at this module and follows its imports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol, cast

import numpy as np

from axiom_bench.columns import LAYER, UNKNOWN_CLASS
from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel, Trace
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.batch import Columns, rows_of, trace_of_batch
from axiom_bench.evaluation.plugins import Plugin, value_names
from axiom_bench.evaluation.purity import WATCHED_RATE, WITNESS, Witness, foreign
from axiom_bench.evaluation.stopwatch import LOADING, TRACE, UNTIMED, Watch


class UnreadableImage(Protocol):
    """An image that couldn't be read, such as the data's `BadImage`: its id, and the reason as a status."""

    image_id: str
    status: str


@dataclass(frozen=True)
class MethodsByMetrics:
    """Values to compute: each metric of each method; `methods` is empty for metrics of the layer."""

    methods: tuple[Plugin, ...]
    metrics: tuple[Plugin, ...]

    @property
    def method_names(self) -> tuple[str, ...]:
        """The names in the records' column `method`."""
        return tuple(method.name for method in self.methods) or (LAYER,)


def shard_rows(
    cut_model: CutModel,
    batches: Iterable[Batch | UnreadableImage],
    requests: Sequence[MethodsByMetrics],
    batch_rows: int,
    normalise: str = "maximum",
    watch: Watch = UNTIMED,
    watched_rate: int = WATCHED_RATE,
) -> Iterator[Columns]:
    """The records' columns of what is requested, batch after batch, as `rows_of` yields them.

    batch_rows: the number of rows that every batch is padded to, unless that many don't fit into memory (see
    cutting.passes). A bad image has a row with its status for each value. watch: is told of the parts; what the batches
    keep the loop waiting is time of loading. watched_rate: see `purity.is_watched`.
    """

    def rows(part: Batch, size: int) -> list[Columns]:
        return list(_rows(cut_model, part, requests, size, normalise, watch, watched_rate))

    upcoming = iter(batches)
    while True:
        with watch.part(LOADING):
            batch = next(upcoming, None)
        if batch is None:
            break
        if isinstance(batch, Batch):
            yield from chain.from_iterable(by_halves(batch, batch_rows, cut_model.limits, rows))
        else:
            yield from _bad_batch(batch, requests)
    plugins = {plugin.target: plugin for each in requests for plugin in (*each.methods, *each.metrics)}
    of_users = foreign(plugins.values())
    if of_users and cut_model.holds(WITNESS):
        cast(Witness, cut_model.once(WITNESS, object)).check(of_users)


def _rows(
    cut_model: CutModel,
    batch: Batch,
    requests: Sequence[MethodsByMetrics],
    batch_rows: int,
    normalise: str,
    watch: Watch,
    watched_rate: int,
) -> Iterator[Columns]:
    with watch.part(TRACE):
        full = padded(batch, batch_rows)
        trace = replace(traced(cut_model, full), num_padding=len(full) - len(batch))
    for request in requests:
        for part in rows_of(trace, full, request.methods, request.metrics, normalise, watch, watched_rate):
            yield trimmed(part, len(full), len(batch))


def traced(cut_model: CutModel, batch: Batch) -> Trace:
    """The batch's trace; an error of the network itself gets a note, since its input's size is the usual cause."""
    try:
        return trace_of_batch(cut_model, batch)
    except RuntimeError as error:
        height, width = batch.images.shape[-2:]
        error.add_note(f"raised by the network on images of {height} x {width} pixels; model.resize sets their size")
        raise


def padded(batch: Batch, size: int) -> Batch:
    """The batch with its last row repeated up to `size` rows.

    A product's rounding may depend on how many rows it has; with all batches of one size, a value is the same bit by
    bit however the images are cut into shards.
    """
    return batch.repeated(size)


def trimmed(part: Columns, size: int, count: int) -> Columns:
    """The first `count` of every `size` rows; the axes of curves stay as they are."""
    keep = np.arange(len(part["image_id"])) % size < count
    return {name: values if name == "axes" else values[keep] for name, values in part.items()}


def _bad_batch(image: UnreadableImage, requests: Sequence[MethodsByMetrics]) -> Iterator[Columns]:
    """The rows of an image that can't be read, one for each value of a method: NaN, with the reason as status."""
    for request in requests:
        names = [name for metric in request.metrics for name in value_names(metric)]
        for method in request.method_names:
            texts = {"image_id": image.image_id, "method": method, "status": image.status}
            yield {
                **{column: np.full(len(names), text, dtype=object) for column, text in texts.items()},
                **{column: np.full(len(names), UNKNOWN_CLASS) for column in ("target_class", "predicted_class")},
                "metric": np.array(names, dtype=object),
                "value": np.full(len(names), np.nan),
            }
