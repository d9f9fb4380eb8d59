"""The loop of the benchmark: every method explains a trace, and every metric measures each explanation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from axiom_bench.columns import LAYER, NOT_APPLICABLE
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.batch import Columns, Method, columns, explained, is_on_score_scale
from axiom_bench.evaluation.measurement import Measurement, Metric, measure_all, without_values
from axiom_bench.evaluation.purity import WATCHED_RATE, Witness, foreign, is_watched, tensors_of
from axiom_bench.evaluation.stopwatch import METHODS, METRICS, Watch, untimed
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.notes import WARNINGS, MetricsLeftOut, Notes


def rows_of(
    trace: Trace,
    batch: Batch,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    normalise: str = "maximum",
    watch: Watch = untimed,
    watched_rate: int = WATCHED_RATE,
    notes: Notes = WARNINGS,
) -> Iterator[Columns]:
    """Yield the columns of one method at a time, first those of the layer, whose method is "-".

    The user's own methods and metrics are called last. See `heatmap` for `normalise`, `purity.is_watched` for
    `watched_rate`; `watch` is called with the name of each phase, and `notes` get what is left out.

    Raises:
        BenchError: if a method or a metric returns a wrong shape, or changes what others read.
    """
    if refusals := [why for metric in metrics if (why := metric.refusal(trace.dimensions)) is not None]:
        notes.add(MetricsLeftOut(f"Metrics are left out: {' '.join(refusals)}"))
    of_layer = [metric for metric in metrics if metric.spec.of == "layer"]
    of_method = [metric for metric in metrics if metric.spec.of == "method"]
    own_methods = [method for method in methods if not method.is_foreign]
    foreign_plugins = foreign([*methods, *metrics])
    explained_classes, predicted = trace.classes_on_cpu
    annotations = batch.annotations_of(explained_classes, trace.logits.shape[1])
    columns_of = partial(columns, batch.image_ids, explained_classes.numpy(), predicted.numpy())

    # The witness remembers the trace and our own values, to find out whether the user's plug-ins change them.
    witness = None
    if foreign_plugins and is_watched(batch.image_ids, watched_rate):
        own_metrics = [metric for metric in of_method if not metric.is_foreign]
        measured = partial(_measured, trace, annotations, own_methods, own_metrics, (), normalise, notes)
        witness = Witness(trace.images.device, lambda: [*tensors_of(trace), *_values(each for _, each in measured())])

    if of_layer:
        with watch(METRICS):
            measurements = measure_all(of_layer, [(Explanation(trace=trace), True)], watch=watch)
        yield from columns_of(LAYER, measurements[0])
    for group in (own_methods, foreign(methods)):
        for name, measurement in _measured(trace, annotations, group, of_method, of_layer, normalise, notes, watch):
            yield from columns_of(name, measurement or without_values(of_method, (NOT_APPLICABLE,) * len(batch)))
    if witness is not None:
        witness.check(foreign_plugins)


def _measured(
    trace: Trace,
    annotations: Mapping[str, Any],
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    others: Sequence[Metric],
    normalise: str,
    notes: Notes,
    watch: Watch = untimed,
) -> Iterator[tuple[str, Measurement | None]]:
    """Yield the name and measurement of each method; None if it doesn't apply to the model. See `measure_all`."""
    # Contributions are as large as the activations, so only as many methods as fit into memory are explained at once.
    activation_bytes = trace.activations.numel() * trace.activations.element_size()
    group_size = max(1, trace.cut_model.ablation_memory // activation_bytes)
    for first in range(0, len(methods), group_size):
        group = methods[first : first + group_size]
        with watch(METHODS):
            explanations = [explained(trace, annotations, method, normalise, notes) for method in group]
            asked = [
                (explanation, explanation is not None and is_on_score_scale(method, trace))
                for method, explanation in zip(group, explanations, strict=True)
            ]
        with watch(METRICS):  # the metrics ask the model together, so that equal questions are answered once
            measurements = measure_all(metrics, asked, others, watch)
        for method, explanation, measurement in zip(group, explanations, measurements, strict=True):
            yield method.name, None if explanation is None else measurement


def _values(measurements: Iterable[Measurement | None]) -> list[Tensor]:
    return [values for each in measurements if each is not None for values, _ in (each.values | each.curves).values()]
