"""The order of a map's pixels, and the curves and counts that follow it.

The order is checked against a sort of tuples, and curves and counts against loops. Other tests
check fast forms of metrics.
"""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from axiom_bench import metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure_all
from axiom_bench.explanation.explanation import Explanation, heatmap
from axiom_bench.metrics.entropy import entropy
from axiom_bench.metrics.gini import gini
from axiom_bench.metrics.road_fast import weights
from axiom_bench.metrics.shared.perturbation import (
    Filling,
    confidence,
    first_set_numbers,
    highlighted,
    part_set_numbers,
)
from axiom_bench.metrics.shared.pixel_curves import area_weights, few_points
from axiom_bench.metrics.shared.pixel_order import pixel_ranks
from axiom_bench.metrics.shared.randomised import number_of_layers
from axiom_bench.metrics.shared.threshold_sweep import highest_in_mask
from tests.methods.plain import resized
from tests.metrics.build import close, functions, tensor, values_of

deletion_auc, insertion_auc, insertion_minus_deletion, effective_complexity = functions(
    "deletion_auc", "insertion_auc", "insertion_minus_deletion", "effective_complexity"
)


def brute_force_ranks(raw_map: list[list[float]], size: tuple[int, int], first: str) -> list[int]:
    """Return the ranks in reading order, from tuples (heatmap, resized raw map, position).

    Each map is rounded to 1e-6.
    """

    def rounded_pixels(lines: list[list[float]]) -> list[float]:
        pixels = list(itertools.chain(*resized(lines, *size)))
        largest = max(map(abs, pixels)) or 1
        return [round(value / largest, 6) for value in pixels]

    heat = rounded_pixels([[max(value, 0) for value in row] for row in raw_map])
    raw = rounded_pixels(raw_map)
    sign = -1 if first == "highest" else 1
    order = sorted(range(len(heat)), key=lambda i: (sign * heat[i], sign * raw[i], i))
    return [order.index(pixel) for pixel in range(len(order))]


LEVELS = st.sampled_from([-3.0, -1.25, -0.5, 0.0, 0.0, 0.75, 2.0])
RAW_MAPS = st.lists(st.lists(LEVELS, min_size=3, max_size=3), min_size=2, max_size=2)


@given(RAW_MAPS, st.sampled_from(["highest", "lowest"]))
def test_ranks_equal_a_sort_of_tuples(raw_map, first):
    raw = tensor(raw_map)
    explanation = Explanation(raw_map=raw, heatmap=heatmap(raw, (5, 7)))
    expected = brute_force_ranks(raw_map, (5, 7), first)
    assert pixel_ranks(explanation, first).flatten().tolist() == expected


SIGNED = tensor([[1.0, -2.0, 0.0, -1.0, -2.0, 0.0]])


@pytest.mark.parametrize(
    ("raw_map", "heat", "highest", "lowest"),
    [
        # Zeros of the heatmap are ordered by the raw map, and then by position.
        (SIGNED, SIGNED.clamp(min=0), [0, 4, 1, 3, 5, 2], [5, 0, 3, 2, 1, 4]),
        # Without a raw map they are ordered by position, after rounding.
        (None, tensor([[0.5, 1.0], [1.0 - 1e-8, 0.5]]), [2, 0, 1, 3], [0, 2, 3, 1]),
    ],
)
def test_ranks_by_hand(raw_map, heat, highest, lowest):
    explanation = Explanation(raw_map=raw_map, heatmap=heat)
    assert pixel_ranks(explanation).flatten().tolist() == highest
    assert pixel_ranks(explanation, "lowest").flatten().tolist() == lowest


@pytest.mark.parametrize(
    "name", ["deletion_auc", "insertion_auc", "road_lerf", "road_morf", "effective_complexity"]
)
def test_metrics_tell_maps_apart_that_differ_below_zero_alone(explanation, name):
    """Check two maps with the same heatmap, which has one positive pixel.

    Below zero, one map is the other upside down.
    """
    params = {"output": "logit"} if "output" in metrics.get(name).params else {"tolerance": 0.01}
    (metric,) = functions(name)
    ramp = -torch.arange(1.0, 145.0, dtype=torch.float64).view(1, 12, 12).expand(4, -1, -1)
    heatmaps = []
    values = []
    for raw_map in (ramp.clone(), ramp.flip(1, 2).clone()):
        raw_map[:, 6, 6] = 1
        explained = replace(explanation, raw_map=raw_map, heatmap=heatmap(raw_map, (12, 12)))
        heatmaps.append(explained.heatmap)
        values.append(values_of(metric(explained, **params))[0])
    assert torch.equal(*heatmaps)
    assert not torch.equal(*values)


def test_hard_perturbation_and_counts_in_a_mask_follow_the_same_order():
    raw = tensor([[1.0, -2.0, 0.0, -1.0]])
    masks = torch.tensor([[[False, True, False, True]]])
    explanation = Explanation(raw_map=raw, heatmap=raw.clamp(min=0), masks=masks)
    assert highlighted(explanation, "hard", 0.5).tolist() == [[[1, 0, 1, 0]]]
    for count, hits in ((3, 1), (0, 0)):
        assert highest_in_mask(explanation, np.array([count])).tolist() == [hits]


def test_rounding_swaps_pixels_that_are_nearly_equal_alone():
    """Check that rounding moves a pixel only past those within 3e-6 of it.

    Another batch size changes a float32 map by 5e-7 of its maximum. Every map of 96 x 96 has some
    such pairs, and no rounding of the map would keep all of them in order.
    """
    generator = torch.Generator().manual_seed(0)
    exact = torch.rand(1, 96, 96, generator=generator, dtype=torch.float64)
    exact = exact / exact.amax()
    noise = 1e-6 * (torch.rand(exact.shape, generator=generator, dtype=torch.float64) - 0.5)

    ranks = pixel_ranks(Explanation(heatmap=exact))
    noisy_ranks = pixel_ranks(Explanation(heatmap=(exact + noise).clamp(0, 1)))

    assert 0 < (ranks != noisy_ranks).sum() < 300
    in_order = exact.flatten()[noisy_ranks.flatten().argsort()]
    highest_later = in_order.flip(0).cummax(0).values.flip(0)
    assert (highest_later - in_order).max() < 3e-6


def brute_force(explanation, steps, fill, output, first, inserts):
    """Return curves (B, steps + 1), computed pixel after pixel, one image at a time."""
    trace = explanation.trace
    rows = []
    for row, image in enumerate(trace.images):
        base = Filling(fill, 0.0223).pixels(trace.images)[row]
        before, after = (base, image) if inserts else (image, base)
        order = pixel_ranks(explanation, first)[row].flatten().argsort().tolist()
        copies = []
        for step in range(steps + 1):
            copy = before.clone()
            for pixel in order[: round(step * len(order) / steps)]:
                y, x = divmod(pixel, image.shape[2])
                copy[:, y, x] = after[:, y, x]
            copies.append(copy)
        logits = trace.forward(torch.stack(copies))
        rows.append(confidence(logits, trace.targets[row].expand(steps + 1), output))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("steps", "output", "first"), [(9, "probability", "highest"), (7, "logit", "lowest")]
)
def test_curves_equal_pixel_after_pixel(explanation, steps, output, first):
    options = {"steps": steps, "output": output, "first": first}
    for metric, kind, fill in (
        (insertion_auc, "insertion", "rise"),
        (deletion_auc, "deletion", "zero"),
    ):
        actual = metric(explanation, **options)
        expected = brute_force(explanation, steps, fill, output, first, kind == "insertion")
        close(actual[kind], expected)
        close(actual[f"{kind}_auc"], np.trapezoid(expected.numpy(), dx=1 / steps, axis=1))


def one_row(*values: float) -> Explanation:
    """Return an explanation by a heatmap of one row of pixels."""
    return Explanation(heatmap=tensor([values]))


@pytest.mark.parametrize(
    ("pixels", "sparseness", "nats"),
    [
        ((1, 1, 1, 1), 0, math.log(4)),
        ((0, 0, 1, 0), 3 / 4, 0),  # 1 - 1/n
        # sorted 1 2 5 fifths, sum 8: 1 - 2 (1/8 * 2.5/3 + 2/8 * 1.5/3 + 5/8 * 0.5/3) = 1/3
        ((0.4, 1, 0.2), 1 / 3, -sum(share * math.log(share) for share in (1 / 8, 2 / 8, 5 / 8))),
        ((1, 0.5, 0.5, 0), 3 / 8, 1.5 * math.log(2)),
        ((0, 0), math.nan, math.nan),
    ],
)
def test_gini_and_entropy_by_hand(pixels, sparseness, nats):
    assert float(gini(one_row(*pixels))) == pytest.approx(sparseness, abs=1e-15, nan_ok=True)
    assert float(entropy(one_row(*pixels))) == pytest.approx(nats, abs=1e-15, nan_ok=True)


def test_effective_complexity_is_the_first_step_that_is_enough(trace, explanation):
    """Check the first step by a loop over single images, pixels and steps."""
    steps = 6
    tolerance = 0.02
    actual = effective_complexity(explanation, tolerance, steps)
    rounded = replace(explanation, raw_map=None, heatmap=explanation.heatmap)
    kept = brute_force(rounded, steps, "mean", "probability", "highest", inserts=True)
    for row, curve in enumerate(kept.tolist()):
        is_enough = [abs(curve[-1] - probability) < tolerance for probability in curve]
        first_step = is_enough.index(True, 1)
        close(actual[row], first_step / steps)


def test_effective_complexity_of_tied_pixels_and_wrong_steps(explanation):
    flat = replace(explanation, heatmap=torch.ones_like(explanation.heatmap))
    noise = 1e-8 * torch.rand(4, 12, 12, dtype=torch.float64)
    nearly_flat = replace(flat, heatmap=flat.heatmap - noise)
    assert torch.equal(effective_complexity(flat), effective_complexity(nearly_flat))

    assert (effective_complexity(explanation, steps=1) == 1).all()
    # No loss is below 0, so all pixels are needed.
    assert (effective_complexity(explanation, 0.0) == 1).all()
    # Any loss except a whole probability is below 1.
    assert (effective_complexity(explanation, 1.0) == 1 / 20).all()


FAST = [name for name in metrics.names() if metrics.get(name).spec.fast_form_of]
FORMS = {metrics.get(name).spec.fast_form_of: name for name in FAST}


def area_of(curve: torch.Tensor, passes: int) -> torch.Tensor:
    """Return the area under curves (B, steps + 1) by few points."""
    steps = curve.shape[1] - 1
    at = few_points(steps, passes)
    return curve[:, [0, *at.tolist(), steps]] @ area_weights(at, steps)


@pytest.mark.parametrize("passes", [1, 6, 10])
@pytest.mark.parametrize("steps", [25, 224])
def test_the_area_of_a_polynomial_is_that_of_all_its_points(steps, passes):
    x = torch.linspace(-1, 1, steps + 1, dtype=torch.float64)
    polynomials = torch.stack([x**power for power in range(passes + 2)])
    expected = torch.trapezoid(polynomials, dx=1 / steps)
    torch.testing.assert_close(area_of(polynomials, passes), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 9, 25, 224])
@pytest.mark.parametrize("passes", [1, 3, 6, 10, 28, 60, 150])
def test_points_differ_and_no_weight_makes_noise_larger(steps, passes):
    """Check the weights: an interpolation through many equal steps would make noise larger.

    An area of values from 0 to 1 is off by at most a tenth.
    """
    at = few_points(steps, passes).tolist()
    assert at == sorted(set(at))
    assert all(0 < point < steps for point in at)
    assert 0.7 * min(passes, steps - 1) <= len(at) <= passes
    point_weights = area_weights(torch.tensor(at, dtype=torch.long), steps)
    assert float(point_weights.sum()) == pytest.approx(1)
    assert float(point_weights.clamp(max=0).sum()) > -0.1
    if steps % 2 == 0 or len(at) % 2 == 0:  # otherwise the middle point lies between two
        torch.testing.assert_close(point_weights, point_weights.flip(0), rtol=0, atol=1e-12)


# Fast forms with parameters at which they equal their metrics.
EQUAL_FORMS = [(name, metrics.get(name).spec.equal_at) for name in FAST]
EQUAL_FORMS += [("insertion_auc_fast", {"steps": steps}) for steps in (1, 2, 3)]
EQUAL_FORMS += [("deletion_auc_fast", {"steps": steps}) for steps in (1, 2, 3)]


@pytest.mark.parametrize(("name", "params"), EQUAL_FORMS)
def test_a_fast_form_that_asks_as_much_is_the_metric(name, params, explanation):
    assert params, (
        f"conf/metric/{name}.yaml has no `equal_at`: parameters at which it equals the metric"
    )
    metric = metrics.get(metrics.get(name).spec.fast_form_of)
    metric_params = {key: value for key, value in params.items() if key in metric.params}
    published = plugins.with_params("metric", metric.name, metric_params)(explanation)
    fast = plugins.with_params("metric", name, params)(explanation)
    expected = values_of(published)[0]
    torch.testing.assert_close(fast, expected, rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", FAST)
def test_a_fast_form_is_judged_as_its_metric(name):
    fast = metrics.get(name).spec
    metric = metrics.get(fast.fast_form_of).spec
    for field in (
        "unit",
        "better",
        "tolerance",
        "needs",
        "undefined",
        "of",
        "definition",
        "reference",
    ):
        assert getattr(fast, field) == getattr(metric, field), field


def test_weights_are_those_of_the_interpolated_curve():
    measured = (0.1, 0.2, 0.5, 0.9)
    curve = np.array([3.0, 1.0, 4.0, 1.0])
    fractions = (0.1, 0.3, 0.7, 0.9)
    expected = np.interp(fractions, measured, curve).mean()
    assert float(weights(fractions, measured).numpy() @ curve) == pytest.approx(expected)
    assert weights(measured, measured).tolist() == pytest.approx([0.25] * 4)
    with pytest.raises(BenchError, match="must lie within rising measured ones"):
        weights((0.05,), measured)


def test_numbers_tell_sets_of_pixels_apart():
    ranks = torch.tensor([[[0, 1], [2, 3]], [[1, 0], [2, 3]]])
    numbers = first_set_numbers(ranks, torch.tensor([[0, 1, 2, 4], [0, 1, 2, 4]]))
    assert numbers[0, [0, 2, 3]].tolist() == numbers[1, [0, 2, 3]].tolist()
    assert numbers[0, 1] != numbers[1, 1]
    assert len(set(numbers.flatten().tolist())) == 5
    parts = part_set_numbers(torch.tensor([[[0, 1], [1, 1]]]), 2)[0]
    assert parts[0] == numbers[0, 1]
    assert int(parts.sum()) == int(numbers[0, 3])  # modulo 2^64


def test_randomisations_that_are_equal_are_made_once(trace):
    """Check metrics in both orders.

    They share the randomisation of the whole model, and all stages if these are as many as the
    layers.
    """
    kinds = ("", "_three_stages", "_efficient")
    names = [f"model_parameter_randomisation{kind}" for kind in kinds]
    layers = number_of_layers(trace.cut_model.model)
    assert layers == 3
    for order in (names, names[::-1]):
        new_trace = replace(trace)
        before = new_trace.passes.trunk_forward
        explanation = Explanation.of(
            new_trace, new_trace.gradients, method=lambda trace: trace.gradients
        )
        measure_all([metrics.get(name) for name in order], [(explanation, True)])
        assert new_trace.passes.trunk_forward - before == layers * len(trace)
