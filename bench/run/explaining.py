"""Explain one trace: compute every method's heatmap, the explained and the top classes, axiom
errors and notes.

`axiom_bench.explain` and the command `explain` both call `explained_trace`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import pandas as pd
from torch import Tensor

from axiom_bench.cutting.silent import only_zeros
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import (
    is_on_score_scale,
    method_answer,
    note_non_finite,
    note_silence,
    with_score_scale,
)
from axiom_bench.evaluation.measurement import measure_all
from axiom_bench.evaluation.plugins import Method, Metric
from axiom_bench.evaluation.purity import Witness, public_tensors
from axiom_bench.explanation.explanation import Explanation, heatmap
from axiom_bench.explanation.heatmaps import ERROR_COLUMNS, ClassScore, Heatmaps
from axiom_bench.explanation.overlay import Pixels
from axiom_bench.notes import Note, Notes, ZeroMaps
from axiom_bench.run.progress import Step, show_step
from axiom_bench.run.shards import show_method

TOP = 5  # the number of classes that are listed
# the step's name on the progress bar
ERRORS = "axiom errors, which report.figures.plane=[] leaves out"


def explained_trace(
    trace: Trace,
    methods: Sequence[Method],
    metrics: Sequence[Metric] = (),
    size: Sequence[int] | None = None,
    normalise: str = "maximum",
    classes: Sequence[str] | None = None,
    pictures: Pixels | None = None,
    scores: Sequence[ClassScore] = (),
    top: Sequence[Sequence[ClassScore]] = (),
    max_passes: float = math.inf,
) -> Heatmaps:
    """Return the heatmaps of all methods that apply to the model, with what is known about them.

    The notes of the heatmaps are about methods that don't apply, zero maps and costly metrics. The
    caller warns about them.

    Args:
        trace: The trace of a batch.
        methods: The methods. The user's own are called last, and checked for changes of the trace.
        metrics: Metrics that are measured on every map.
        size: The size of the heatmaps in pixels; None for the images' size.
        normalise: How heatmaps are normalised; see `heatmap`.
        classes: The names of all classes of the network, if they are known.
        pictures: The images before they were normalised (B, H, W, 3), if they are known.
        scores: The score of each row, if a row isn't a class of an image but an object in it.
        top: Every object of each row's image, if rows are objects.
        max_passes: Metrics whose ablation drops cost more forward passes are left out, unless a
            method has needed the drops.

    Raises:
        BenchError: if a method or metric returns a wrong shape or changes the trace.
    """
    notes = Notes()
    if metrics:
        methods = with_score_scale(methods, trace, notes)
    is_silent = note_silence(trace, notes)
    explanations = _explanations(trace, methods, normalise, notes)
    maps: dict[str, Tensor] = {}
    # the heatmap has the images' size already; another size is made from the raw map, in one resize
    for method, explanation in explanations:
        if size is None:
            maps[method.name] = explanation.required_heatmap
        else:
            maps[method.name] = heatmap(explanation.required_raw_map, size, normalise)
    has_heat = any(heat.any() for heat in maps.values())
    if maps and not has_heat and not is_silent:
        notes.add(ZeroMaps(only_zeros(trace)))
    errors = None
    if metrics and has_heat:
        show_step(Step(ERRORS))
        on_scale = [is_on_score_scale(method, trace) for method, _ in explanations]
        costly = _costly_metrics(trace, metrics, max_passes) if any(on_scale) else []
        if costly:
            notes.add(Note(_cost_note(trace, costly, max_passes)))
        cheap = [metric for metric in metrics if metric not in costly]
        errors = _errors(cheap, explanations, on_scale)
    titles = {method.name: method.spec.title for method in methods}
    titles |= {metric.name: metric.spec.title for metric in metrics}
    if trace.has_probability:
        values = trace.logits.detach().softmax(1)
    else:
        values = trace.network.explained(trace.logits)
    if not scores:
        # names of other classes than the output's would be shown next to the wrong scores
        names = classes if classes and len(classes) == values.shape[1] else None

        def class_score(row: int, index: int) -> ClassScore:
            value = float(values[row, index])
            return ClassScore(index, class_name(names, index), value, trace.has_probability)

        scores = [class_score(row, index) for row, index in enumerate(trace.targets.tolist())]
        ranked = values.argsort(dim=1, descending=True, stable=True)[:, :TOP].tolist()
        top = [[class_score(row, index) for index in indices] for row, indices in enumerate(ranked)]
    return Heatmaps(
        maps,
        trace.images,
        trace.targets,
        values if trace.has_probability else None,
        layer=trace.layer,
        classes=classes,
        pictures=pictures,
        scores=scores,
        top=top,
        errors=errors,
        notes=list(notes),
        titles=titles,
    )


def _explanations(
    trace: Trace,
    methods: Sequence[Method],
    normalise: str,
    notes: Notes,
) -> list[tuple[Method, Explanation]]:
    """Return the explanations of the methods that apply, in the methods' order. The user's own are
    called last.
    """
    batch = Batch(trace.images, ("",) * len(trace), trace.targets)
    explanation_by_method: dict[str, Explanation] = {}
    # a user's method that changes the trace can't change the suite's maps, which exist by then
    for method in sorted(methods, key=lambda method: method.is_foreign):
        witness = None
        if method.is_foreign:
            witness = Witness(trace.images.device, partial(public_tensors, trace))
        with show_method(method, trace):
            answer = method_answer(method, trace, notes)
        if answer is not None:
            note_non_finite(method, trace, answer, notes)
            explanation_by_method[method.name] = Explanation.of(
                trace, answer, batch, method, normalise
            )
        if witness is not None:
            witness.check([method])
    return [
        (method, explanation_by_method[method.name])
        for method in methods
        if method.name in explanation_by_method
    ]


def _costly_metrics(trace: Trace, metrics: Sequence[Metric], max_passes: float) -> list[Metric]:
    """Return the metrics whose ablation drops no method has needed, and that cost more than
    `max_passes`.
    """
    if "drops" in vars(trace):
        return []
    need_drops = [
        metric for metric in metrics if plugins.NEEDS_DROPS in plugins.precondition_names(metric)
    ]
    return need_drops if need_drops and trace.drops_cost > max_passes else []


def _cost_note(trace: Trace, costly: Sequence[Metric], max_passes: float) -> str:
    """Return a sentence that says why the costly metrics are left out, and how to estimate them."""
    # half, since the first channel costs more than the others
    share = max_passes / trace.drops_cost / 2
    channels = max(1, int(share * trace.activations.shape[1]))
    titles = " and ".join((metric.spec.title or metric.name).lower() for metric in costly)
    return (
        f"No {titles}: its ablation drops would cost about {trace.drops_cost:,.0f} forward passes "
        f"({trace.capture}). To estimate it from fewer channels, set "
        f"device.ablation_channels={channels}."
    )


def _errors(
    metrics: Sequence[Metric],
    explanations: Sequence[tuple[Method, Explanation]],
    on_scale: Sequence[bool],
) -> pd.DataFrame:
    """Measure the metrics. Return one line per metric, method and row, in the columns of
    `Heatmaps.errors`.

    on_scale: whether each explanation is on the score scale.
    """
    requests = [
        (explanation, is_on_scale)
        for (_, explanation), is_on_scale in zip(explanations, on_scale, strict=True)
    ]
    measurements = measure_all(metrics, requests)
    lines = []
    for (method, _), measurement in zip(explanations, measurements, strict=True):
        for metric, (values, statuses) in measurement.values.items():
            for row, (value, status) in enumerate(zip(values.tolist(), statuses, strict=True)):
                lines.append((row, method.name, metric, value, status))
    return pd.DataFrame(lines, columns=list(ERROR_COLUMNS))


def class_name(classes: Sequence[str] | None, index: int) -> str:
    """Return the name of a class, or a text such as "class 7" if names aren't known."""
    return classes[index] if classes else f"class {index}"
