"""The properties of every metric that conf/metric names, over drawn maps.

The properties are bounds, independence of order and scale, statuses, and direction.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.columns import OK
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.preconditions import ALWAYS, PRECONDITIONS
from axiom_bench.evaluation.whole_set import aggregate
from axiom_bench.explanation.explanation import Explanation, Map
from axiom_bench.testing import exact_map, metric_checks

SIDE = 12
CLASSES = 5
CHANNELS = 6
# Parameters for fewer passes, and for fewer pixels than the object has.
LIGHT = {
    "steps": 6,
    "samples": 2,
    "stages": 2,
    "subsets": 12,
    "squares": 60,
    "k": 8,
    "fill": "zero",
}
NEAR = {"rtol": 1e-9, "atol": 1e-10, "equal_nan": True}
DRAWN = settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
OF_MAPS = [name for name in metrics.names() if metrics.get(name).spec.of == "method"]


@cache
def light(name: str, **changed: object) -> Plugin:
    """Return a metric with the LIGHT parameters that it has, and with changed ones."""
    metric = metrics.get(name)
    lighter = {key: value for key, value in LIGHT.items() if key in metric.params}
    return plugins.with_params("metric", name, metric.params | lighter | changed)


def of_images(
    metric: Plugin, explanation: Explanation
) -> Mapping[str, tuple[Tensor, tuple[str, ...]]]:
    """Return a metric's values and their statuses, without curves."""
    curves = metric.spec.curves
    values_and_statuses = {}
    for name, (values, statuses) in measure(metric, explanation, True).items():
        if name not in curves:
            values_and_statuses[name] = (values.reshape(len(explanation)), statuses)
    return values_and_statuses


def of_one_image(
    metric: Plugin, explanation: Explanation
) -> Mapping[str, tuple[Tensor, tuple[str, ...]]]:
    """Return the values of one image, and those of the data set of only that image."""
    values = dict(of_images(metric, explanation))
    if metric.spec.aggregate is None:
        return values
    curves = {}
    for name, (points, _) in measure(metric, explanation, True).items():
        if points.ndim == 2:
            curves[name] = points.numpy()
    for name, value in aggregate(metric)(curves).items():
        values[name] = (torch.tensor([value]), (OK,))
    return values


def depends_on_no_scale(metric: Plugin) -> bool:
    """Return whether a map times a factor has the same values.

    It hasn't for metrics of the axioms, and for those that their YAML exempts.
    """
    is_exempt = metric_checks.ignores_the_maps_scale.__name__ in metric.spec.exempt
    return not is_exempt and metric_checks.SCORE_SCALE not in plugins.precondition_names(metric)


@st.composite
def methods(draw: st.DrawFn) -> Callable[[ab.Trace], Tensor | Map]:
    """Draw a method: weights on gradients or activations, or a map of 3 x 2 pixels.

    The numbers have few levels of both signs, and many of them are 0.
    """
    level = st.sampled_from([-2.0, -1.0, 0.0, 0.0, 0.5, 1.0])
    levels = draw(st.lists(level, min_size=CHANNELS, max_size=CHANNELS))
    kind = draw(st.sampled_from(["gradients", "activations", "map"]))
    numbers = torch.tensor(levels, dtype=torch.float64)
    weights = numbers[:, None, None]

    def method(trace: ab.Trace) -> Tensor | Map:
        if kind == "map":
            return Map(numbers.view(3, 2).expand(len(trace), 3, 2))
        if kind == "gradients":
            return weights * trace.gradients
        return weights * torch.ones_like(trace.activations)

    return method


def times(factor: float, answer: Tensor | Map) -> Tensor | Map:
    return Map(factor * answer.raw) if isinstance(answer, Map) else factor * answer


def annotated(trace: ab.Trace, method: Callable, notes: tuple[ab.Annotation, ...]) -> Explanation:
    batch = ab.Batch(trace.images, ("",) * len(trace), trace.targets, notes)
    return Explanation.of(trace, method(trace), batch, method)


def notes_of(trace: ab.Trace) -> tuple[ab.Annotation, ...]:
    """Annotate three objects for each row: of its class, of the next class, and without a mask."""
    boxes = torch.tensor([[2.0, 3.0, 9.0, 11.0], [0.0, 0.0, 6.0, 12.0], [4.5, 1.2, 12.0, 4.0]])
    mask = torch.full((SIDE, SIDE), -1)
    mask[3:11, 2:9] = 0  # replaced by the row's class below
    annotations = []
    for target in trace.targets:
        labels = torch.stack([target, (target + 1) % CLASSES, target])
        annotations.append(ab.Annotation(labels, boxes, mask.where(mask < 0, target)))
    return tuple(annotations)


@pytest.mark.parametrize("name", OF_MAPS)
@DRAWN
@given(
    method=methods(),
    order=st.permutations(range(4)),
    factor=st.sampled_from([2.0**-20, 0.5, 3.0, 1e6]),
)
def test_values_have_bounds_and_change_with_neither_order_nor_unit(
    name, method, order, factor, trace
):
    """Check that values lie within their unit's bounds.

    They are the same in a batch of another order, and for a map times a positive factor.
    """
    metric = light(name)
    notes = notes_of(trace)
    before = of_images(metric, annotated(trace, method, notes))

    parts = [trace.interventions[row] for row in order]
    shuffled = trace.cut_model.trace(trace.images[order], trace.targets[order], interventions=parts)
    shuffled_notes = tuple(notes[row] for row in order)
    reordered = of_images(metric, annotated(shuffled, method, shuffled_notes))

    def scaled_method(trace):
        return times(factor, method(trace))

    scaled = before
    if depends_on_no_scale(metric):
        scaled = of_images(metric, annotated(trace, scaled_method, notes))

    for value, (actual, statuses) in before.items():
        metric_checks.assert_within_bounds(metric, value, actual)
        reordered_values, reordered_statuses = reordered[value]
        torch.testing.assert_close(reordered_values, actual[order], **NEAR)
        assert reordered_statuses == tuple(statuses[row] for row in order)
        scaled_values, scaled_statuses = scaled[value]
        torch.testing.assert_close(scaled_values, actual, **NEAR)
        assert scaled_statuses == statuses


@st.composite
def spoilt(draw: st.DrawFn) -> Callable[[Explanation], Explanation]:
    """Draw a change of an explanation that spoils each row in some way."""
    kinds = draw(st.lists(st.sampled_from(list(SPOILS)), min_size=4, max_size=4))

    def spoil(explanation: Explanation) -> Explanation:
        for row, kind in enumerate(kinds):
            explanation = SPOILS[kind](explanation, row)
        return explanation

    return spoil


def _with(explanation: Explanation, row: int, number: float) -> Explanation:
    fields = {}
    for key in ("contributions", "raw_map", "heatmap"):
        maps = getattr(explanation, key)
        if maps is not None:
            fields[key] = maps.index_fill(0, torch.tensor([row]), number)
    return replace(explanation, **fields)


def _without_objects(explanation: Explanation, row: int) -> Explanation:
    boxes = list(explanation.boxes)
    boxes[row] = torch.zeros(0, 4)
    others = list(explanation.others)
    others[row] = ab.Annotation.none()
    masks = explanation.masks.index_fill(0, torch.tensor([row]), False)
    return replace(explanation, boxes=tuple(boxes), others=tuple(others), masks=masks)


SPOILS = {
    "nothing": lambda explanation, row: explanation,
    "zeros": lambda explanation, row: _with(explanation, row, 0.0),
    "constant": lambda explanation, row: _with(explanation, row, 1.0),
    "NaN": lambda explanation, row: _with(explanation, row, math.nan),
    "no objects": _without_objects,
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", OF_MAPS)
@DRAWN
@given(method=methods(), spoil=spoilt())
def test_every_image_has_a_value_or_a_named_status(name, method, spoil, trace):
    metric = light(name)
    known_statuses = {need.status for need in (*ALWAYS, *PRECONDITIONS.values())}
    known_statuses.add(metric.spec.undefined)
    explanation = spoil(annotated(trace, method, notes_of(trace)))
    for values, statuses in of_images(metric, explanation).values():
        for number, status in zip(values.tolist(), statuses, strict=True):
            if status == OK:
                assert math.isfinite(number)
            else:
                assert math.isnan(number)
                assert status in known_statuses


def unmoved(trace: ab.Trace) -> Map:
    """Return a map that no image changes."""
    return Map(torch.eye(exact_map.SIDE, dtype=torch.float64).expand(len(trace), -1, -1))


AGAINST_A_MOVING_MAP = ("explanation_sensitivity", "local_lipschitz", "relative_stability")


@pytest.mark.parametrize("name", AGAINST_A_MOVING_MAP)
def test_a_map_that_no_image_changes_is_the_most_stable(name):
    assert exact_map.is_better(exact_map.gains(light(name), unmoved, exact_map.exact_weights))


# The parameters at which a metric prefers the exact map. At its defaults, the metric prefers the
# exact map by little or nothing.
OTHER_PARAMETERS = {
    "effective_complexity": {"fill": "zero"},
    "f_fidelity": {"output": "probability"},
    "pointing_game": {"tolerance": 0.0},
    "top_k_intersection": {"k": 8},
}


@pytest.mark.parametrize(("name", "params"), OTHER_PARAMETERS.items())
def test_an_exact_map_is_better_at_other_parameters(name, params):
    metric = plugins.with_params("metric", name, {**metrics.get(name).params, **params})
    gains = exact_map.gains(metric, exact_map.exact_weights, exact_map.wrong_weights)
    assert exact_map.is_better(gains)


def test_energies_are_the_same_on_any_number_of_threads():
    generator = torch.Generator().manual_seed(6)
    heatmap = torch.rand(2, 224, 224, generator=generator, dtype=torch.float64)
    boxes = (torch.tensor([[9.0, 9, 200, 180]]),) * 2
    threads_before = torch.get_num_threads()
    energies = []
    accuracies = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        explanation = Explanation(heatmap=heatmap, boxes=boxes, masks=heatmap < 0.9)
        energies.append(metrics.get("energy_pointing_game")(explanation))
        accuracies.append(metrics.get("mass_accuracy")(explanation)["mass_accuracy"])
        assert torch.get_num_threads() == threads
    torch.set_num_threads(threads_before)
    assert torch.equal(*energies)
    assert torch.equal(*accuracies)
