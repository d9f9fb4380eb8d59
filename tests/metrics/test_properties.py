"""Properties of every metric that conf/metric names, over drawn maps: bounds, order, scale,
statuses, direction.
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

SIDE, CLASSES, CHANNELS = 12, 5, 6
# Fewer passes, and less than the object.
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
DRAWN = settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
OF_MAPS = [name for name in metrics.names() if metrics.get(name).spec.of == "method"]


@cache
def light(name: str, **changed: object) -> Plugin:
    """A metric with LIGHT parameters, where it has such, and changed ones."""
    metric = metrics.get(name)
    params = {
        **metric.params,
        **{key: value for key, value in LIGHT.items() if key in metric.params},
        **changed,
    }
    return plugins.with_params("metric", name, params)


def of_images(
    metric: Plugin, explanation: Explanation
) -> Mapping[str, tuple[Tensor, tuple[str, ...]]]:
    """Its values and their statuses, without curves."""
    curves = metric.spec.curves
    actual = measure(metric, explanation, True)
    return {
        name: (values.reshape(len(explanation)), why)
        for name, (values, why) in actual.items()
        if name not in curves
    }


def of_one_image(
    metric: Plugin, explanation: Explanation
) -> Mapping[str, tuple[Tensor, tuple[str, ...]]]:
    """The values of one image, and those of the data set of that image alone."""
    values = of_images(metric, explanation)
    if metric.spec.aggregate is None:
        return values
    curves = {
        name: points.numpy()
        for name, (points, _) in measure(metric, explanation, True).items()
        if points.ndim == 2
    }
    return {
        **values,
        **{
            name: (torch.tensor([value]), (OK,))
            for name, value in aggregate(metric)(curves).items()
        },
    }


def depends_on_no_scale(metric: Plugin) -> bool:
    """Return whether a map times a factor has the same values: not of the axioms, nor of what its
    YAML exempts.
    """
    is_exempt = metric_checks.ignores_the_maps_scale.__name__ in metric.spec.exempt
    return not is_exempt and metric_checks.SCORE_SCALE not in plugins.needs_of(metric)


@st.composite
def methods(draw: st.DrawFn) -> Callable[[ab.Trace], Tensor | Map]:
    """Few levels of both signs, many of them 0: weights on gradients or activations, or a map of 3
    x 2 pixels.
    """
    levels = st.lists(
        st.sampled_from([-2.0, -1.0, 0.0, 0.0, 0.5, 1.0]), min_size=CHANNELS, max_size=CHANNELS
    )
    drawn, kind = (
        torch.tensor(draw(levels), dtype=torch.float64),
        draw(st.sampled_from(["g", "F", "map"])),
    )
    if kind == "map":
        return lambda trace: Map(drawn.view(3, 2).expand(len(trace), 3, 2))
    weights = drawn[:, None, None]
    return lambda trace: (
        weights * (trace.gradients if kind == "g" else torch.ones_like(trace.activations))
    )


def times(factor: float, answer: Tensor | Map) -> Tensor | Map:
    return Map(factor * answer.raw) if isinstance(answer, Map) else factor * answer


def annotated(trace: ab.Trace, method: Callable, notes: tuple[ab.Annotation, ...]) -> Explanation:
    batch = ab.Batch(trace.images, ("",) * len(trace), trace.targets, notes)
    return Explanation.of(trace, method(trace), batch, method)


def notes_of(trace: ab.Trace) -> tuple[ab.Annotation, ...]:
    """For each row an object of its class, an object of the next class, and a third object without
    a mask.
    """
    boxes = torch.tensor([[2.0, 3.0, 9.0, 11.0], [0.0, 0.0, 6.0, 12.0], [4.5, 1.2, 12.0, 4.0]])
    mask = torch.full((SIDE, SIDE), -1)
    mask[3:11, 2:9] = 0  # plus the class
    return tuple(
        ab.Annotation(
            torch.stack([target, (target + 1) % CLASSES, target]),
            boxes,
            mask.where(mask < 0, target),
        )
        for target in trace.targets
    )


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
    """Within their unit's bounds; the same in a batch of another order, and for a map times a
    positive factor.
    """
    metric, notes = light(name), notes_of(trace)
    before = of_images(metric, annotated(trace, method, notes))
    parts = [trace.interventions[row] for row in order]
    shuffled = trace.cut_model.trace(trace.images[order], trace.targets[order], interventions=parts)
    reordered = of_images(metric, annotated(shuffled, method, tuple(notes[row] for row in order)))
    scaled = before
    if depends_on_no_scale(metric):
        scaled = of_images(
            metric, annotated(trace, lambda trace: times(factor, method(trace)), notes)
        )
    for value, (actual, why) in before.items():
        metric_checks.assert_within_bounds(metric, value, actual)
        torch.testing.assert_close(reordered[value][0], actual[order], **NEAR)
        assert reordered[value][1] == tuple(why[row] for row in order)
        torch.testing.assert_close(scaled[value][0], actual, **NEAR)
        assert scaled[value][1] == why


@st.composite
def spoilt(draw: st.DrawFn) -> Callable[[Explanation], Explanation]:
    """A change of an explanation that spoils each row in a drawn way."""
    kinds = draw(st.lists(st.sampled_from(list(SPOILS)), min_size=4, max_size=4))

    def spoil(explanation: Explanation) -> Explanation:
        for row, kind in enumerate(kinds):
            explanation = SPOILS[kind](explanation, row)
        return explanation

    return spoil


def _with(explanation: Explanation, row: int, number: float) -> Explanation:
    def put(maps: Tensor) -> Tensor:
        return maps.index_fill(0, torch.tensor([row]), number)

    keys = [
        key
        for key in ("contributions", "raw_map", "heatmap")
        if getattr(explanation, key) is not None
    ]
    return replace(explanation, **{key: put(getattr(explanation, key)) for key in keys})


def _without_objects(explanation: Explanation, row: int) -> Explanation:
    boxes, others = list(explanation.boxes), list(explanation.others)
    boxes[row], others[row] = torch.zeros(0, 4), ab.Annotation.none()
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
    statuses = {
        *(need.status for need in (*ALWAYS, *PRECONDITIONS.values())),
        metric.spec.undefined,
    }
    for actual, why in of_images(metric, spoil(annotated(trace, method, notes_of(trace)))).values():
        for number, status in zip(actual.tolist(), why, strict=True):
            assert (
                math.isfinite(number)
                if status == OK
                else (math.isnan(number) and status in statuses)
            )


def unmoved(trace: ab.Trace) -> Map:
    """A map that no image changes."""
    return Map(torch.eye(exact_map.SIDE, dtype=torch.float64).expand(len(trace), -1, -1))


AGAINST_A_MOVING_MAP = ("explanation_sensitivity", "local_lipschitz", "relative_stability")


@pytest.mark.parametrize("name", AGAINST_A_MOVING_MAP)
def test_a_map_that_no_image_changes_is_the_most_stable(name):
    assert exact_map.is_better(exact_map.gains(light(name), unmoved, exact_map.exact_weights))


# Parameters at which a metric that prefers the exact map by nothing at its defaults, or by little,
# prefers it.
OTHER_PARAMETERS = {
    "effective_complexity": {"fill": "zero"},
    "f_fidelity": {"output": "probability"},
    "pointing_game": {"tolerance": 0.0},
    "top_k_intersection": {"k": 8},
}


@pytest.mark.parametrize(("name", "params"), OTHER_PARAMETERS.items())
def test_an_exact_map_is_better_at_other_parameters(name, params):
    metric = plugins.with_params("metric", name, {**metrics.get(name).params, **params})
    assert exact_map.is_better(
        exact_map.gains(metric, exact_map.exact_weights, exact_map.wrong_weights)
    )


def test_energies_are_the_same_on_any_number_of_threads():
    heatmap = torch.rand(
        2, 224, 224, generator=torch.Generator().manual_seed(6), dtype=torch.float64
    )
    explanation = {
        "heatmap": heatmap,
        "boxes": (torch.tensor([[9.0, 9, 200, 180]]),) * 2,
        "masks": heatmap < 0.9,
    }
    before, energies = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        values = Explanation(**explanation)
        energies.append(
            [
                metrics.get("energy_pointing_game")(values),
                metrics.get("mass_accuracy")(values)["mass_accuracy"],
            ]
        )
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    for first, second in zip(*energies, strict=True):
        assert torch.equal(first, second)
