"""The loop of the benchmark: every method explains a trace, and every metric measures each
explanation.

A run calls it for each batch (`evaluation.shard`), and so does `axiom_bench.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from torch import Tensor

from axiom_bench.columns import LAYER, NOT_APPLICABLE
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation.batch import Columns, columns, explained, is_on_score_scale
from axiom_bench.evaluation.measurement import Measurement, measure_all, without_values
from axiom_bench.evaluation.plugins import Method, Metric
from axiom_bench.evaluation.purity import WATCHED_RATE, Witness, foreign, is_watched, public_tensors
from axiom_bench.evaluation.stopwatch import METHODS, METRICS, Watch, untimed
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.notes import WARNINGS, MetricsLeftOut, Notes

# A function whose context manager shows that a method explains a trace.
ShowMethod = Callable[[Method, Trace], AbstractContextManager[None]]


def unshown(method: Method, trace: Trace) -> AbstractContextManager[None]:
    """Return a context manager that shows nothing: the `show_method` of most callers."""
    return nullcontext()


def columns_by_method(
    trace: Trace,
    batch: Batch,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    normalise: str = "maximum",
    watch: Watch = untimed,
    watched_rate: int = WATCHED_RATE,
    notes: Notes = WARNINGS,
    show_method: ShowMethod = unshown,
) -> Iterator[Columns]:
    """Yield the columns of one method at a time, first those of the layer, whose method is "-".

    The user's own methods and metrics are called last. See `heatmap` for `normalise` and
    `purity.is_watched` for `watched_rate`. `watch` is called with the name of each phase, and
    `show_method` with each method. `notes` get what is left out.

    Raises:
        BenchError: if a method or a metric returns a wrong shape, or changes what others read.
    """
    refusals = [
        refusal for metric in metrics if (refusal := metric.refusal(trace.dimensions)) is not None
    ]
    if refusals:
        notes.add(MetricsLeftOut(f"Metrics are left out: {' '.join(refusals)}"))
    layer_metrics = [metric for metric in metrics if metric.spec.of == "layer"]
    method_metrics = [metric for metric in metrics if metric.spec.of == "method"]
    own_methods = [method for method in methods if not method.is_foreign]
    foreign_plugins = foreign([*methods, *metrics])
    explained_classes, predicted = trace.classes_on_cpu
    annotations = batch.annotations_of(explained_classes, trace.logits.shape[1])
    columns_of = partial(columns, batch.image_ids, explained_classes.numpy(), predicted.numpy())

    # The witness remembers the trace and our own values, to find out whether the user's plug-ins
    # change them.
    witness = None
    if foreign_plugins and is_watched(batch.image_ids, watched_rate):
        own_metrics = [metric for metric in method_metrics if not metric.is_foreign]

        def trace_and_own_values() -> list[Tensor]:
            tensors = public_tensors(trace)
            measurements = _measured(
                trace, annotations, own_methods, own_metrics, (), normalise, notes
            )
            for _, measurement in measurements:
                if measurement is not None:
                    measured = measurement.values | measurement.curves
                    tensors.extend(values for values, _ in measured.values())
            return tensors

        witness = Witness(trace.images.device, trace_and_own_values)

    if layer_metrics:
        with watch(METRICS):
            measurements = measure_all(
                layer_metrics, [(Explanation(trace=trace), True)], watch=watch
            )
        yield from columns_of(LAYER, measurements[0])
    # a map that no metric reads isn't computed
    groups = (own_methods, foreign(methods)) if method_metrics else ()
    for group in groups:
        measurements_by_method = _measured(
            trace,
            annotations,
            group,
            method_metrics,
            other_metrics=layer_metrics,
            normalise=normalise,
            notes=notes,
            watch=watch,
            show_method=show_method,
        )
        for name, measurement in measurements_by_method:
            if measurement is None:
                measurement = without_values(method_metrics, (NOT_APPLICABLE,) * len(batch))
            yield from columns_of(name, measurement)
    if witness is not None:
        witness.check(foreign_plugins)


def _measured(
    trace: Trace,
    annotations: Mapping[str, object],
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    other_metrics: Sequence[Metric],
    normalise: str,
    notes: Notes,
    watch: Watch = untimed,
    show_method: ShowMethod = unshown,
) -> Iterator[tuple[str, Measurement | None]]:
    """Yield each method's name and measurement, which is None if the method doesn't apply. See
    `measure_all`.
    """
    # Contributions are as large as the activations, so only as many methods as fit into memory are
    # explained at once.
    activation_bytes = trace.activations.numel() * trace.activations.element_size()
    group_size = max(1, trace.cut_model.ablation_memory // activation_bytes)
    for first in range(0, len(methods), group_size):
        group = methods[first : first + group_size]
        with watch(METHODS):
            explanations = []
            for method in group:
                with show_method(method, trace):
                    explanation = explained(trace, annotations, method, normalise, notes)
                explanations.append(explanation)
            scaled_explanations: list[tuple[Explanation | None, bool]] = []
            for method, explanation in zip(group, explanations, strict=True):
                on_score_scale = explanation is not None and is_on_score_scale(method, trace)
                scaled_explanations.append((explanation, on_score_scale))
        # the metrics ask the model together, so that equal questions are answered once
        with watch(METRICS):
            measurements = measure_all(metrics, scaled_explanations, other_metrics, watch)
        for method, explanation, measurement in zip(group, explanations, measurements, strict=True):
            yield method.name, None if explanation is None else measurement
