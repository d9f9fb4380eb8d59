"""Proof of users' own methods and metrics on a job's first rows, before anything is computed beside them.

A plug-in that changes what others read is refused. One whose answers aren't of each image alone has a mark, by which
tables show it and the gate refuses it. The suite's own plug-ins are proved by their tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from axiom_bench.columns import NOT_FINITE
from axiom_bench.cutting.trace import Trace, trace_of
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.batch import (
    CHECKED_ROWS,
    TOLERANCE,
    Method,
    answer_of,
    explained,
    holds_values,
    note_non_finite,
    with_score_scale,
)
from axiom_bench.evaluation.loop import rows_of
from axiom_bench.evaluation.measurement import Metric, measure
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.purity import WITNESS, Interference, Witness, foreign, tensors_of
from axiom_bench.explanation.explanation import Explanation, Map
from axiom_bench.notes import WARNINGS, Notes, NotFiniteMaps

DRAWS = "draws from a global random state, so that its answers aren't the same again; seed a generator of its own"
KEEPS_STATE = "answers otherwise when it is called again on the same images; something is kept between the calls"
OF_THE_BATCH = "answers otherwise for an image alone than beside others; its values depend on the batch"
Call = tuple[Tensor | None, tuple[object, ...], tuple[object, ...]]  # answer, global random states before and after
Answer = Callable[[Plugin, int], Tensor | None]  # of so many first rows: (rows, values, n); None where it has none


def proved(
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    trace: Trace,
    batch: Batch,
    notes: Notes = WARNINGS,
) -> tuple[list[Method], list[Metric]]:
    """Return the methods and metrics, the unstable ones marked, and `on_score_scale` decided.

    trace, batch: of a job's first images, of which CHECKED_ROWS at most are explained. notes: get what is left out or
    isn't finite. Raises Interference where a plug-in of a user's own changes what others read.
    """
    if not foreign([*methods, *metrics]):
        return with_score_scale(methods, trace, notes), list(metrics)
    own_methods = [method for method in methods if not method.is_foreign]
    own_metrics = [metric for metric in metrics if not metric.is_foreign]
    first, targets = replace(batch[:1], images=batch[:1].images.clone()), trace.targets[:1].clone()

    def values() -> Iterator[Any]:
        """The suite's own, of one image, computed from it."""
        extras = first.interventions, first.other_images
        fresh = trace_of(trace.cut_model, first.images, targets, *extras, others=first.other_inputs)
        fresh = replace(fresh, image_ids=first.image_ids)
        # The loop over the shards adds the same notes, so these are dropped.
        for part in rows_of(fresh, first, own_methods, own_metrics, notes=Notes()):
            yield from [part["value"]] if holds_values(part) else part["points"]

    witness = trace.cut_model.once(WITNESS, lambda: Witness(trace.images.device, values))
    count = min(CHECKED_ROWS, trace.num_valid)

    def rows(count: int) -> Trace:
        """With nothing that was computed on use."""
        return replace(trace[:count])

    methods = with_score_scale(_marked(methods, partial(_answer, rows, notes), count, witness), trace, notes)
    return methods, _marked(metrics, partial(_values, rows, methods, batch, notes), count, witness)


def _marked(plugins: Sequence[Plugin], answer: Answer, count: int, witness: Witness) -> list[Plugin]:
    """The plug-ins, with the sentence why answers aren't of the image alone. Each is called twice, all others between
    its calls, and then for one row. Raises Interference."""
    unproved = [plugin for plugin in foreign(plugins) if not plugin.spec.unstable]
    calls: dict[str, list[Call]] = {}
    for plugin in (*unproved, *reversed(unproved)):
        before = _random_state()
        calls.setdefault(plugin.name, []).append((answer(plugin, count), before, _random_state()))
        witness.check([plugin])
    reasons = {plugin.name: _reason(plugin, calls[plugin.name], partial(answer, plugin, 1)) for plugin in unproved}
    return [
        replace(plugin, spec=replace(plugin.spec, unstable=reasons[plugin.name])) if plugin.name in reasons else plugin
        for plugin in plugins
    ]


def _reason(plugin: Plugin, calls: Sequence[Call], alone: Callable[[], Tensor | None]) -> str | None:
    """Why the answers aren't of the image alone; None where they are, or where there is none."""
    (first, before, after), (again, before_again, after_again) = calls
    if first is None or again is None:
        return None
    if before != after == after_again:
        raise Interference(
            f"{plugin.name!r} ({plugin.target}) sets a global random seed, which others draw from; draw from a "
            "torch.Generator or a numpy.random.Generator of its own."
        )
    if before != after or before_again != after_again:
        return DRAWS
    if not torch.equal(first.nan_to_num(), again.nan_to_num()):
        return KEEPS_STATE
    scale = first.nan_to_num().abs().amax((0, 2), keepdim=True)
    return None if _close(first[:1], alone(), scale) else OF_THE_BATCH


def _random_state() -> tuple[object, ...]:
    kind, keys, *numbers = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), kind, np.asarray(keys).tobytes(), tuple(numbers), random.getstate()


def _close(actual: Tensor, expected: Tensor | None, scale: Tensor) -> bool:
    """Up to rounding, which may depend on the number of rows, relative to a value's largest magnitude."""
    if expected is None or actual.shape != expected.shape:
        return False
    return bool(((actual.nan_to_num() - expected.nan_to_num()).abs() <= TOLERANCE * scale).all())


def _answer(rows: Callable[[int], Trace], notes: Notes, method: Method, count: int) -> Tensor | None:
    """Return weights as they broadcast, or a Map: (count, 1, n)."""
    trace = rows(count)
    witness = Witness(trace.images.device, partial(tensors_of, trace))
    answer = answer_of(method, trace, notes)
    witness.check([method])
    if answer is None:
        return None
    note_non_finite(method, trace, answer, notes)
    values = answer.raw if isinstance(answer, Map) else answer.expand(count, *answer.shape[1:])
    return values.reshape(count, 1, -1).double()  # weights may be integers, or true and false


def _values(
    rows: Callable[[int], Trace],
    methods: Sequence[Method],
    batch: Batch,
    notes: Notes,
    metric: Metric,
    count: int,
) -> Tensor | None:
    """Return values and points of curves, (count, n, 1), of the first method that applies: the suite's come first."""
    trace = rows(count)
    for method in sorted(methods, key=lambda method: method.is_foreign):
        explanation = explained(trace, batch[:count], method, notes=notes)
        if explanation is not None:
            read = Explanation(trace=trace) if metric.spec.of == "layer" else explanation
            witness = Witness(trace.images.device, lambda: [*tensors_of(trace), *tensors_of(read)])  # noqa: B023
            measured = measure(metric, read, bool(method.spec.on_score_scale))
            witness.check([metric])
            if measured and all({*statuses} == {NOT_FINITE} for _, statuses in measured.values()):
                text = f"The values of the metric {metric.name!r} aren't finite for any of the first {count} images."
                notes.add(NotFiniteMaps(text))
            columns = [values.reshape(count, -1) for values, _ in measured.values()]
            return torch.cat(columns, 1)[..., None] if columns else None
    return None
