"""The checks of users' own methods and metrics on a job's first rows, before the job computes
anything. A run and `axiom_bench.evaluate` call `proved`.

A plug-in that changes data that others read is refused. If a plug-in's answers for an image depend
on more than this image, the plug-in gets a mark: tables show the mark, and the gate refuses the
plug-in. The suite's own plug-ins aren't checked, since their tests prove them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from axiom_bench.columns import NOT_FINITE
from axiom_bench.cutting.trace import Trace, compute_trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import plural
from axiom_bench.evaluation.batch import (
    CHECKED_ROWS,
    TOLERANCE,
    explained,
    holds_values,
    method_answer,
    note_non_finite,
    with_score_scale,
)
from axiom_bench.evaluation.loop import columns_by_method
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import AnyPlugin, Method, Metric
from axiom_bench.evaluation.purity import WITNESS, Interference, Witness, foreign, public_tensors
from axiom_bench.explanation.explanation import Explanation, Map
from axiom_bench.notes import WARNINGS, Notes, NotFiniteMaps

DRAWS = (
    "draws from a global random state, so its values can't be reproduced; seed a generator of its "
    "own"
)
KEEPS_STATE = (
    "gives other values when it is called again on the same images, because it keeps something "
    "between the calls"
)
OF_THE_BATCH = (
    "gives an image other values in a batch than by itself; its values depend on the batch"
)
# A plug-in's answer for a number of first rows, (rows, values, n); None if it has no answer.
Answer = Callable[[AnyPlugin, int], Tensor | None]


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a plug-in."""

    answer: Tensor | None
    state_before: tuple[object, ...]
    """The global random state before the call."""
    state_after: tuple[object, ...]
    """The global random state after the call."""


def proved(
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    trace: Trace,
    batch: Batch,
    notes: Notes = WARNINGS,
) -> tuple[list[Method], list[Metric]]:
    """Return the methods and metrics with unstable ones marked and `on_score_scale` decided.

    Args:
        methods: the methods of a job.
        metrics: its metrics.
        trace: the trace of the job's first images, of which at most CHECKED_ROWS are explained.
        batch: these images.
        notes: get the methods that are left out, and those whose maps aren't finite.

    Raises:
        Interference: if a plug-in of a user's own changes data that others read.
    """
    if not foreign([*methods, *metrics]):
        return with_score_scale(methods, trace, notes), list(metrics)
    own_methods = [method for method in methods if not method.is_foreign]
    own_metrics = [metric for metric in metrics if not metric.is_foreign]
    first = replace(batch[:1], images=batch[:1].images.clone())
    targets = trace.targets[:1].clone()

    def own_values() -> Iterator[object]:
        """Yield the values of this project's own plug-ins for the first image, computed from the
        image.
        """
        fresh_trace = compute_trace(
            trace.cut_model,
            first.images,
            targets,
            interventions=first.interventions,
            other_images=first.other_images,
            others=first.other_inputs,
        )
        fresh_trace = replace(fresh_trace, image_ids=first.image_ids)
        # The loop over the shards adds the same notes, so these are dropped.
        for part in columns_by_method(fresh_trace, first, own_methods, own_metrics, notes=Notes()):
            yield from [part["value"]] if holds_values(part) else part["points"]

    witness = trace.cut_model.once(WITNESS, lambda: Witness(trace.images.device, own_values))
    count = min(CHECKED_ROWS, trace.num_valid)

    def fresh_rows(count: int) -> Trace:
        """Return the first rows of the trace, without results that were computed on use."""
        return replace(trace[:count])

    marked_methods = _marked(methods, partial(_method_answer, fresh_rows, notes), count, witness)
    proved_methods = with_score_scale(marked_methods, trace, notes)
    marked_metrics = _marked(
        metrics, partial(_metric_answer, fresh_rows, proved_methods, batch, notes), count, witness
    )
    return proved_methods, marked_metrics


def _marked(
    plugins: Sequence[AnyPlugin], answer: Answer, count: int, witness: Witness
) -> list[AnyPlugin]:
    """Return the plug-ins. An unstable one is marked with the reason why its answer depends on more
    than the image.

    Each plug-in is called twice, with calls of all others between the two, and then for one row.
    """
    unproved = [plugin for plugin in foreign(plugins) if not plugin.spec.unstable]
    calls: dict[str, list[_Call]] = {}
    # forth and back, so that the calls of all others lie between the two of a plug-in
    for plugin in (*unproved, *reversed(unproved)):
        state_before = _random_state()
        plugin_answer = answer(plugin, count)
        call = _Call(plugin_answer, state_before, state_after=_random_state())
        calls.setdefault(plugin.name, []).append(call)
        witness.check([plugin])
    reasons = {
        plugin.name: _reason(plugin, calls[plugin.name], partial(answer, plugin, 1))
        for plugin in unproved
    }
    marked = []
    for plugin in plugins:
        if plugin.name in reasons:
            plugin = replace(plugin, spec=replace(plugin.spec, unstable=reasons[plugin.name]))
        marked.append(plugin)
    return marked


def _reason(
    plugin: AnyPlugin, calls: Sequence[_Call], answer_for_one_row: Callable[[], Tensor | None]
) -> str | None:
    """Return why the answers depend on more than the image; None if they don't, or if there are
    none.
    """
    first, second = calls
    if first.answer is None or second.answer is None:
        return None
    if first.state_before != first.state_after == second.state_after:
        raise Interference(
            f"{plugin.name!r} ({plugin.target}) sets a global random seed, which others draw "
            "from; draw from a torch.Generator or a numpy.random.Generator of its own."
        )
    if first.state_before != first.state_after or second.state_before != second.state_after:
        return DRAWS
    if not torch.equal(first.answer.nan_to_num(), second.answer.nan_to_num()):
        return KEEPS_STATE
    scale = first.answer.nan_to_num().abs().amax((0, 2), keepdim=True)
    is_independent = _is_close(first.answer[:1], answer_for_one_row(), scale)
    return None if is_independent else OF_THE_BATCH


def _random_state() -> tuple[object, ...]:
    """Return the global random states of torch, numpy and random, as values that can be
    compared.
    """
    torch_state = torch.get_rng_state().numpy().tobytes()
    kind, keys, *numbers = np.random.get_state()
    return torch_state, kind, np.asarray(keys).tobytes(), tuple(numbers), random.getstate()


def _is_close(actual: Tensor, expected: Tensor | None, scale: Tensor) -> bool:
    """Return True if answers are equal up to rounding, relative to `scale`, a value's largest
    magnitude.

    The rounding may depend on the number of rows.
    """
    if expected is None or actual.shape != expected.shape:
        return False
    error = (actual.nan_to_num() - expected.nan_to_num()).abs()
    return bool((error <= TOLERANCE * scale).all())


def _method_answer(
    rows: Callable[[int], Trace], notes: Notes, method: Method, count: int
) -> Tensor | None:
    """Return a method's weights, expanded as they broadcast, or its map: (count, 1, n)."""
    trace = rows(count)
    witness = Witness(trace.images.device, partial(public_tensors, trace))
    answer = method_answer(method, trace, notes)
    witness.check([method])
    if answer is None:
        return None
    note_non_finite(method, trace, answer, notes)
    values = answer.raw if isinstance(answer, Map) else answer.expand(count, *answer.shape[1:])
    return values.reshape(count, 1, -1).double()  # weights may be integers, or true and false


def _tensors_of_both(trace: Trace, argument: Explanation) -> list[Tensor]:
    """Return the public tensors of a trace and of the explanation that a metric gets."""
    return [*public_tensors(trace), *public_tensors(argument)]


def _metric_answer(
    rows: Callable[[int], Trace],
    methods: Sequence[Method],
    batch: Batch,
    notes: Notes,
    metric: Metric,
    count: int,
) -> Tensor | None:
    """Return a metric's values and points of curves, (count, n, 1), for the first method that
    applies to the model.

    The suite's own methods are tried first.
    """
    trace = rows(count)
    # one method suffices: the question is whether the metric's values are of each image alone
    for method in sorted(methods, key=lambda method: method.is_foreign):
        explanation = explained(trace, batch[:count], method, notes=notes)
        if explanation is None:
            continue
        argument = Explanation(trace=trace) if metric.spec.of == "layer" else explanation
        witness = Witness(trace.images.device, partial(_tensors_of_both, trace, argument))
        measured = measure(metric, argument, bool(method.spec.on_score_scale))
        witness.check([metric])
        has_no_value = all({*statuses} == {NOT_FINITE} for _, statuses in measured.values())
        if measured and has_no_value:
            text = (
                f"The values of the metric {metric.name!r} aren't finite for any of the first "
                f"{plural(count, 'image')}."
            )
            notes.add(NotFiniteMaps(text))
        columns = [values.reshape(count, -1) for values, _ in measured.values()]
        return torch.cat(columns, 1)[..., None] if columns else None
    return None
