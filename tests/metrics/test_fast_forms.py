"""Fast forms: what they stand for where they may ask as much, and close to it on known curves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from axiom_bench import metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure_all
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.road_fast import weights
from axiom_bench.metrics.shared.perturbation import numbers_of_first, numbers_of_parts
from axiom_bench.metrics.shared.pixel_curves import area_weights, few_points
from axiom_bench.metrics.shared.randomised import number_of_layers
from tests.metrics.build import tensor, values_of

FAST = [name for name in metrics.names() if metrics.get(name).spec.fast_form_of]
FORMS = {metrics.get(name).spec.fast_form_of: name for name in FAST}
STEPS = 224


def area_of(curve: torch.Tensor, passes: int) -> torch.Tensor:
    """The area under curves (B, steps + 1) by few points."""
    steps = curve.shape[1] - 1
    at = few_points(steps, passes)
    return curve[:, [0, *at.tolist(), steps]] @ area_weights(at, steps)


def curves() -> torch.Tensor:
    """A line, a step, a steep rise at either end, a dip."""
    x = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    return torch.stack([x, (x > 0.337).double(), 1 - torch.exp(-30 * x), x**20, (x - 0.4).abs()])


def test_areas_of_known_curves():
    trapezoids = torch.trapezoid(curves(), dx=1 / STEPS)
    off = (area_of(curves(), 10) - trapezoids).abs()
    assert (off < tensor(1e-12, 0.05, 1e-3, 1e-3, 0.01)).all()  # the widest piece between points is 0.14
    at = torch.linspace(0, STEPS, 12).round().long()
    even = (torch.trapezoid(curves()[:, at], at / STEPS) - trapezoids).abs()
    assert even[[2, 3]].gt(10 * off[[2, 3]]).all()  # the steep rises


@pytest.mark.parametrize("passes", [1, 6, 10])
@pytest.mark.parametrize("steps", [25, 224])
def test_the_area_of_a_polynomial_is_that_of_all_its_points(steps, passes):
    x = torch.linspace(-1, 1, steps + 1, dtype=torch.float64)
    polynomials = torch.stack([x**power for power in range(passes + 2)])
    torch.testing.assert_close(
        area_of(polynomials, passes), torch.trapezoid(polynomials, dx=1 / steps), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("steps", [1, 2, 9, 25, 224])
@pytest.mark.parametrize("passes", [1, 3, 6, 10, 28, 60, 150])
def test_points_differ_and_no_weight_makes_noise_larger(steps, passes):
    """As an interpolation through many equal steps would; an area of values from 0 to 1 is off by a tenth at most."""
    at = few_points(steps, passes).tolist()
    assert at == sorted(set(at))
    assert all(0 < point < steps for point in at)
    assert 0.7 * min(passes, steps - 1) <= len(at) <= passes
    counted = area_weights(torch.tensor(at, dtype=torch.long), steps)
    assert float(counted.sum()) == pytest.approx(1)
    assert float(counted.clamp(max=0).sum()) > -0.1
    if steps % 2 == 0 or len(at) % 2 == 0:  # else the point in the middle lies between two
        torch.testing.assert_close(counted, counted.flip(0), rtol=0, atol=1e-12)


def test_where_every_point_may_be_asked_for_the_area_is_the_curves():
    few = curves()[:, ::28]
    assert few_points(8, 7).tolist() == few_points(8, 100).tolist() == list(range(1, 8))
    torch.testing.assert_close(area_of(few, 7), torch.trapezoid(few, dx=1 / 8))
    with pytest.raises(BenchError, match="at least one pass"):
        area_of(few, 0)


CURVE, ROAD = ({"steps": 9}, {"steps": 9, "passes": 8}), {"fractions": [0.2, 0.5]}
SAME = {  # parameters at which a fast form asks all that its metric asks
    **dict.fromkeys(("insertion_auc", "deletion_auc", "insertion_minus_deletion"), CURVE),
    **dict.fromkeys(("road_morf", "road_lerf"), (ROAD, {**ROAD, "measured": [0.2, 0.5]})),
    "srg": ({"grid": 3}, {"grid": 3, "passes": 8}),
}
SHORT = [(name, ({"steps": steps},) * 2) for name in ("insertion_auc", "deletion_auc") for steps in (1, 2, 3)]


@pytest.mark.parametrize(("name", "params"), [*sorted(SAME.items()), *SHORT], ids=str)
def test_a_fast_form_that_asks_as_much_is_the_metric(name, params, explanation):
    forms = zip((name, FORMS[name]), params, strict=True)
    published, fast = (plugins.with_params("metric", form, chosen)(explanation) for form, chosen in forms)
    torch.testing.assert_close(fast, values_of(published)[0], rtol=1e-10, atol=1e-12, equal_nan=True)
    assert set(FORMS) == set(SAME)


@pytest.mark.parametrize("name", FAST)
def test_a_fast_form_is_judged_as_its_metric(name):
    fast, metric = metrics.get(name).spec, metrics.get(metrics.get(name).spec.fast_form_of).spec
    for field in ("unit", "better", "tolerance", "needs", "undefined", "of", "definition", "reference"):
        assert getattr(fast, field) == getattr(metric, field), field


def test_weights_are_those_of_the_interpolated_curve():
    measured, curve = (0.1, 0.2, 0.5, 0.9), np.array([3.0, 1.0, 4.0, 1.0])
    fractions = (0.1, 0.3, 0.7, 0.9)
    assert float(weights(fractions, measured).numpy() @ curve) == pytest.approx(
        np.interp(fractions, measured, curve).mean()
    )
    assert weights(measured, measured).tolist() == pytest.approx([0.25] * 4)
    with pytest.raises(BenchError, match="must lie within rising measured ones"):
        weights((0.05,), measured)


def test_numbers_tell_sets_of_pixels_apart():
    ranks = torch.tensor([[[0, 1], [2, 3]], [[1, 0], [2, 3]]])
    numbers = numbers_of_first(ranks, torch.tensor([[0, 1, 2, 4], [0, 1, 2, 4]]))
    assert numbers[0, [0, 2, 3]].tolist() == numbers[1, [0, 2, 3]].tolist()
    assert numbers[0, 1] != numbers[1, 1]
    assert len(set(numbers.flatten().tolist())) == 5
    parts = numbers_of_parts(torch.tensor([[[0, 1], [1, 1]]]), 2)[0]
    assert parts[0] == numbers[0, 1]
    assert int(parts.sum()) == int(numbers[0, 3])  # modulo 2^64


def test_methods_with_equal_maps_are_measured_once_and_not_a_bit_differs(trace):
    """In float32; the third map differs in one pixel."""
    weights_ = trace.gradients.mean((2, 3), keepdim=True)
    other = weights_.expand_as(trace.activations).clone()
    other[:, :, 0, 0] += 1
    fresh, alone = replace(trace), replace(trace)
    names = ("srg", "saco", "road_morf", "effective_complexity", "deletion_auc_fast")
    chosen = [metrics.get(name) for name in names]

    def passes_of(answers, of_trace):
        before = of_trace.passes.trunk_forward
        measured = measure_all(chosen, [(Explanation.of(of_trace, answer), True) for answer in answers])
        return of_trace.passes.trunk_forward - before, [each.values for each in measured]

    one, (first,) = passes_of([weights_], fresh)
    two, (again,) = passes_of([weights_], fresh)
    assert (two, one > 0) == (0, True)
    part, _ = passes_of([weights_[1:3]], fresh[1:3])
    assert one / 3 < part < one
    third, (third_values,) = passes_of([other], fresh)
    assert 0 < third <= one
    by_itself, (expected,) = passes_of([other], alone)
    assert third <= by_itself
    for name in expected:
        assert torch.equal(first[name][0], again[name][0])
        assert torch.equal(third_values[name][0].nan_to_num(), expected[name][0].nan_to_num())


def test_randomisations_that_are_equal_are_made_once(trace):
    """Whatever the order of the metrics: the whole model's, and all stages where they are as many as layers."""
    kinds = ("", "_three_stages", "_efficient")
    names = [f"model_parameter_randomisation{kind}" for kind in kinds]
    layers = number_of_layers(trace.cut_model.model)
    assert layers == 3
    for order in (names, names[::-1]):
        of_trace = replace(trace)
        before = of_trace.passes.trunk_forward
        explanation = Explanation.of(of_trace, of_trace.gradients, method=lambda other: other.gradients)
        measure_all([metrics.get(name) for name in order], [(explanation, True)])
        assert of_trace.passes.trunk_forward - before == layers * len(trace)
