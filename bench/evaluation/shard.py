"""The values of a shard, some images of a job: its batches are filled up to one size, traced and
passed to the loop.

A run's fingerprint of its code starts in this module and follows the imports.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, cast

import numpy as np

from axiom_bench.columns import LAYER, UNKNOWN_CLASS
from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.cutting.passes import halve_until_it_fits
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.answers import KEPT, KeptAnswers
from axiom_bench.evaluation.batch import Columns, columns, traced
from axiom_bench.evaluation.loop import ShowMethod, columns_by_method, unshown
from axiom_bench.evaluation.measurement import without_values
from axiom_bench.evaluation.plugins import AnyPlugin, Method, Metric
from axiom_bench.evaluation.purity import WATCHED_RATE, WITNESS, Witness, foreign
from axiom_bench.evaluation.stopwatch import LOADING, TRACE, Watch, untimed
from axiom_bench.notes import WARNINGS, Notes


class UnreadableImage(Protocol):
    """An image that couldn't be read, such as the data's `BadImage`."""

    image_id: str
    status: str
    """The reason, as a status of values."""


@dataclass(frozen=True)
class MethodsByMetrics:
    """The values to compute: each of these metrics for each of these methods."""

    methods: tuple[Method, ...]
    """The methods; empty for metrics of the layer."""
    metrics: tuple[Metric, ...]


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
    show_method: ShowMethod = unshown,
) -> Iterator[Columns]:
    """Yield the records' columns of the requested values, batch after batch, as `columns_by_method`
    yields them.

    A bad image has a row with its status for each value.

    Args:
        cut_model: the model, at its target layer.
        batches: the images of the shard.
        requests: the values to compute.
        batch_rows: the number of rows to which every batch is filled up by repeating its last row,
            unless that many rows don't fit into memory (see cutting.passes). The rounding of a
            product may depend on this number. With a fixed number a value is the same bit by bit,
            however the images are divided into shards.
        normalise: see `heatmap`.
        watch: called with the name of each phase. Time spent waiting for a batch counts as loading.
        watched_rate: see `purity.is_watched`.
        kept: answers of the model that needn't be computed; new ones are added.
        notes: get the methods and metrics that are left out.
        show_method: called with each method and its trace. The context manager that it returns
            shows the method.
    """

    def rows_of_part(part: Batch, size: int) -> list[Columns]:
        with watch(TRACE):
            full = part.repeated(size)
            trace = replace(traced(cut_model, full), num_padding=len(full) - len(part))
            if kept is not None:
                trace.once(KEPT, lambda: kept)
        values: list[Columns] = []
        for request in requests:
            parts = columns_by_method(
                trace,
                full,
                request.methods,
                request.metrics,
                normalise=normalise,
                watch=watch,
                watched_rate=watched_rate,
                notes=notes,
                show_method=show_method,
            )
            values.extend(trimmed(columns, len(full), len(part)) for columns in parts)
        return values

    upcoming = iter(batches)
    # a `for` loop would leave no place to time the waiting for the next batch
    while True:
        with watch(LOADING):
            batch = next(upcoming, None)
        if batch is None:
            break
        if isinstance(batch, Batch):
            parts = halve_until_it_fits(batch, batch_rows, cut_model.limits, rows_of_part, notes)
            for part_columns in parts:
                yield from part_columns
        else:
            yield from _bad_image_columns(batch, requests)
    plugins_by_target: dict[str, AnyPlugin] = {}
    for request in requests:
        plugins: tuple[AnyPlugin, ...] = (*request.methods, *request.metrics)
        plugins_by_target.update({plugin.target: plugin for plugin in plugins})
    foreign_plugins = foreign(plugins_by_target.values())
    if foreign_plugins and cut_model.holds(WITNESS):
        witness = cast(Witness, cut_model.once(WITNESS, object))
        witness.check(foreign_plugins)


def trimmed(part: Columns, size: int, count: int) -> Columns:
    """Return the first `count` of every `size` rows. The axes of curves stay as they are."""
    keep = np.arange(len(part["image_id"])) % size < count
    return {name: values if name == "axes" else values[keep] for name, values in part.items()}


def _bad_image_columns(
    image: UnreadableImage, requests: Sequence[MethodsByMetrics]
) -> Iterator[Columns]:
    """Yield a row for each value of a method: NaN, with the reason as its status."""
    unknown_class = np.array([UNKNOWN_CLASS])
    for request in requests:
        names = [method.name for method in request.methods] or [LAYER]
        for name in names:
            measurement = without_values(request.metrics, (image.status,))
            yield from columns((image.image_id,), unknown_class, unknown_class, name, measurement)
