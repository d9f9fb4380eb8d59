"""The values of a shard: batches of one size, each traced and passed to the loop.

A run's fingerprint of its code starts here and follows the imports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np

from axiom_bench.columns import LAYER, UNKNOWN_CLASS
from axiom_bench.cutting.passes import by_halves
from axiom_bench.cutting.trace import CutModel
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.answers import KEPT, KeptAnswers
from axiom_bench.evaluation.batch import Columns, columns, traced
from axiom_bench.evaluation.loop import rows_of
from axiom_bench.evaluation.measurement import without_values
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.purity import WATCHED_RATE, WITNESS, Witness, foreign
from axiom_bench.evaluation.stopwatch import LOADING, TRACE, Watch, untimed
from axiom_bench.notes import WARNINGS, Notes


class UnreadableImage(Protocol):
    """An image that couldn't be read, such as the data's `BadImage`: its id, and the reason as a status."""

    image_id: str
    status: str


@dataclass(frozen=True)
class MethodsByMetrics:
    """Values to compute: each metric of each method; `methods` is empty for metrics of the layer."""

    methods: tuple[Plugin, ...]
    metrics: tuple[Plugin, ...]


def shard_rows(
    cut_model: CutModel,
    batches: Iterable[Batch | UnreadableImage],
    requests: Sequence[MethodsByMetrics],
    batch_rows: int,
    normalise: str = "maximum",
    watch: Watch = untimed,
    watched_rate: int = WATCHED_RATE,
    kept: KeptAnswers | None = None,
    notes: Notes = WARNINGS,
) -> Iterator[Columns]:
    """The records' columns of what is requested, batch after batch, as `rows_of` yields them.

    batch_rows: the number of rows to which every batch is filled up, with its last one, unless that many don't fit into
    memory (see cutting.passes). A product's rounding may depend on it; so a value is the same bit by bit however the
    images are cut into shards. A bad image has a row with its status for each value. watch: is told of the parts; what
    the batches keep the loop waiting is time of loading. watched_rate: see `purity.is_watched`. kept: the model's
    answers that need not be computed; new ones are added. notes: get what is left out.
    """

    def rows(part: Batch, size: int) -> list[Columns]:
        with watch(TRACE):
            full = part.repeated(size)
            trace = replace(traced(cut_model, full), num_padding=len(full) - len(part))
            if kept is not None:
                trace.once(KEPT, lambda: kept)
        values: list[Columns] = []
        for request in requests:
            parts = rows_of(
                trace,
                full,
                request.methods,
                request.metrics,
                normalise=normalise,
                watch=watch,
                watched_rate=watched_rate,
                notes=notes,
            )
            values.extend(trimmed(columns, len(full), len(part)) for columns in parts)
        return values

    upcoming = iter(batches)
    while True:
        with watch(LOADING):
            batch = next(upcoming, None)
        if batch is None:
            break
        if isinstance(batch, Batch):
            for of_part in by_halves(batch, batch_rows, cut_model.limits, rows, notes):
                yield from of_part
        else:
            yield from _bad_image(batch, requests)
    of_users = foreign(
        {each.target: each for request in requests for each in (*request.methods, *request.metrics)}.values()
    )
    if of_users and cut_model.holds(WITNESS):
        cast(Witness, cut_model.once(WITNESS, object)).check(of_users)


def trimmed(part: Columns, size: int, count: int) -> Columns:
    """The first `count` of every `size` rows; the axes of curves stay as they are."""
    keep = np.arange(len(part["image_id"])) % size < count
    return {name: values if name == "axes" else values[keep] for name, values in part.items()}


def _bad_image(image: UnreadableImage, requests: Sequence[MethodsByMetrics]) -> Iterator[Columns]:
    """A row for each value of a method: NaN, with the reason as status."""
    nothing = np.array([UNKNOWN_CLASS])
    for request in requests:
        names = [method.name for method in request.methods] or [LAYER]
        for name in names:
            measurement = without_values(request.metrics, (image.status,))
            yield from columns((image.image_id,), nothing, nothing, name, measurement)
