"""The order of a map's pixels against a sort of tuples; curves and counts that follow it, in loops;
fast forms.
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
    highlighted,
    numbers_of_first,
    numbers_of_parts,
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
    """The ranks in reading order, from tuples (heatmap, resized raw map, position), each map
    rounded to 1e-6.
    """
    heatmap = [[max(value, 0) for value in row] for row in raw_map]
    maps = [list(itertools.chain(*resized(lines, *size))) for lines in (heatmap, raw_map)]
    largest = [max(map(abs, pixels)) or 1 for pixels in maps]
    levels = [
        [round(value / top, 6) for value in pixels]
        for pixels, top in zip(maps, largest, strict=True)
    ]
    sign = -1 if first == "highest" else 1
    order = sorted(
        range(len(levels[0])), key=lambda i: (sign * levels[0][i], sign * levels[1][i], i)
    )
    return [order.index(pixel) for pixel in range(len(order))]


LEVELS = st.sampled_from([-3.0, -1.25, -0.5, 0.0, 0.0, 0.75, 2.0])
RAW_MAPS = st.lists(st.lists(LEVELS, min_size=3, max_size=3), min_size=2, max_size=2)


@given(RAW_MAPS, st.sampled_from(["highest", "lowest"]))
def test_ranks_equal_a_sort_of_tuples(raw_map, first):
    raw = tensor(raw_map)
    explanation = Explanation(raw_map=raw, heatmap=heatmap(raw, (5, 7)))
    assert pixel_ranks(explanation, first).flatten().tolist() == brute_force_ranks(
        raw_map, (5, 7), first
    )


SIGNED = tensor([[1.0, -2.0, 0.0, -1.0, -2.0, 0.0]])


@pytest.mark.parametrize(
    ("raw_map", "shown", "highest", "lowest"),
    # zeros of the heatmap go by the raw map and then by position; without a raw map by position,
    # after rounding
    [
        (SIGNED, SIGNED.clamp(min=0), [0, 4, 1, 3, 5, 2], [5, 0, 3, 2, 1, 4]),
        (None, tensor([[0.5, 1.0], [1.0 - 1e-8, 0.5]]), [2, 0, 1, 3], [0, 2, 3, 1]),
    ],
)
def test_ranks_by_hand(raw_map, shown, highest, lowest):
    explanation = Explanation(raw_map=raw_map, heatmap=shown)
    assert pixel_ranks(explanation).flatten().tolist() == highest
    assert pixel_ranks(explanation, "lowest").flatten().tolist() == lowest


@pytest.mark.parametrize(
    "name", ["deletion_auc", "insertion_auc", "road_lerf", "road_morf", "effective_complexity"]
)
def test_metrics_tell_maps_apart_that_differ_below_zero_alone(explanation, name):
    """Both maps have the same heatmap, of one positive pixel; below zero one is the other upside
    down.
    """
    ramp = -torch.arange(1.0, 145.0, dtype=torch.float64).view(1, 12, 12).expand(4, -1, -1)
    maps = [ramp.clone(), ramp.flip(1, 2).clone()]
    for raw_map in maps:
        raw_map[:, 6, 6] = 1
    both = [
        replace(explanation, raw_map=raw_map, heatmap=heatmap(raw_map, (12, 12)))
        for raw_map in maps
    ]
    assert torch.equal(both[0].heatmap, both[1].heatmap)
    params = {"output": "logit"} if "output" in metrics.get(name).params else {"tolerance": 0.01}
    (metric,) = functions(name)
    assert not torch.equal(*(values_of(metric(each, **params))[0] for each in both))


def test_hard_perturbation_and_counts_in_a_mask_follow_the_same_order():
    raw = tensor([[1.0, -2.0, 0.0, -1.0]])
    explanation = Explanation(
        raw_map=raw, heatmap=raw.clamp(min=0), masks=torch.tensor([[[False, True, False, True]]])
    )
    assert highlighted(explanation, "hard", 0.5).tolist() == [[[1, 0, 1, 0]]]
    for count, hits in ((3, 1), (0, 0)):
        assert highest_in_mask(explanation, np.array([count])).tolist() == [hits]


def test_rounding_swaps_pixels_that_are_nearly_equal_alone():
    """What another batch size does to a float32 map, 5e-7 of its maximum, moves a pixel past those
    within 3e-6 of it; some such pairs are in every map of 96 x 96, and no rounding of the map would
    keep all of them in order.
    """
    chance = torch.Generator().manual_seed(0)
    exact = torch.rand(1, 96, 96, generator=chance, dtype=torch.float64)
    exact = exact / exact.amax()
    noise = 1e-6 * (torch.rand(exact.shape, generator=chance, dtype=torch.float64) - 0.5)
    ranks = [
        pixel_ranks(Explanation(heatmap=map_)) for map_ in (exact, (exact + noise).clamp(0, 1))
    ]
    assert 0 < (ranks[0] != ranks[1]).sum() < 300
    in_order = exact.flatten()[ranks[1].flatten().argsort()]
    later = in_order.flip(0).cummax(0).values.flip(0)  # the highest pixel that comes later
    assert (later - in_order).max() < 3e-6


def brute_force(explanation, steps, fill, output, first, inserts):
    """Pixel after pixel, an image at a time: (B, steps + 1)."""
    trace, rows = explanation.trace, []
    for row, image in enumerate(trace.images):
        base = Filling(fill, 0.0223).pixels(trace.images)[row]
        before, after = (base, image) if inserts else (image, base)
        order = pixel_ranks(explanation, first)[row].flatten().argsort().tolist()
        copies = []
        for step in range(steps + 1):
            copy = before.clone()
            for y, x in (
                divmod(pixel, image.shape[2]) for pixel in order[: round(step * len(order) / steps)]
            ):
                copy[:, y, x] = after[:, y, x]
            copies.append(copy)
        rows.append(
            confidence(
                trace.forward(torch.stack(copies)), trace.targets[row].expand(steps + 1), output
            )
        )
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
    """A heatmap of one row of pixels."""
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
    """A loop over single images, pixels and steps."""
    steps, tolerance = 6, 0.02
    actual = effective_complexity(explanation, tolerance, steps)
    rounded = replace(explanation, raw_map=None, heatmap=explanation.heatmap)
    kept = brute_force(rounded, steps, "mean", "probability", "highest", inserts=True)
    for row, curve in enumerate(kept.tolist()):
        enough = [
            step / steps
            for step, probability in enumerate(curve)
            if abs(curve[-1] - probability) < tolerance
        ]
        close(actual[row], next(share for share in enough if share > 0))


def test_effective_complexity_of_tied_pixels_and_wrong_steps(explanation):
    flat = replace(explanation, heatmap=torch.ones_like(explanation.heatmap))
    nearly = replace(flat, heatmap=flat.heatmap - 1e-8 * torch.rand(4, 12, 12, dtype=torch.float64))
    assert torch.equal(effective_complexity(flat), effective_complexity(nearly))
    assert (effective_complexity(explanation, steps=1) == 1).all()
    assert (
        effective_complexity(explanation, 0.0) == 1
    ).all()  # no loss is below zero: all pixels are needed
    assert (
        effective_complexity(explanation, 1.0) == 1 / 20
    ).all()  # any loss but a whole probability


FAST = [name for name in metrics.names() if metrics.get(name).spec.fast_form_of]
FORMS = {metrics.get(name).spec.fast_form_of: name for name in FAST}


def area_of(curve: torch.Tensor, passes: int) -> torch.Tensor:
    """The area under curves (B, steps + 1) by few points."""
    steps = curve.shape[1] - 1
    at = few_points(steps, passes)
    return curve[:, [0, *at.tolist(), steps]] @ area_weights(at, steps)


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
    """As an interpolation through many equal steps would; an area of values from 0 to 1 is off by a
    tenth at most.
    """
    at = few_points(steps, passes).tolist()
    assert at == sorted(set(at))
    assert all(0 < point < steps for point in at)
    assert 0.7 * min(passes, steps - 1) <= len(at) <= passes
    counted = area_weights(torch.tensor(at, dtype=torch.long), steps)
    assert float(counted.sum()) == pytest.approx(1)
    assert float(counted.clamp(max=0).sum()) > -0.1
    if steps % 2 == 0 or len(at) % 2 == 0:  # else the point in the middle lies between two
        torch.testing.assert_close(counted, counted.flip(0), rtol=0, atol=1e-12)


SHORT = [
    (f"{name}_fast", {"steps": steps})
    for name in ("insertion_auc", "deletion_auc")
    for steps in (1, 2, 3)
]


@pytest.mark.parametrize(
    ("name", "params"), [*((name, metrics.get(name).spec.equal_at) for name in FAST), *SHORT]
)
def test_a_fast_form_that_asks_as_much_is_the_metric(name, params, explanation):
    assert params, (
        f"conf/metric/{name}.yaml has no `equal_at`: parameters at which it equals the metric"
    )
    metric = metrics.get(metrics.get(name).spec.fast_form_of)
    metric_params = {key: value for key, value in params.items() if key in metric.params}
    published = plugins.with_params("metric", metric.name, metric_params)(explanation)
    fast = plugins.with_params("metric", name, params)(explanation)
    torch.testing.assert_close(
        fast, values_of(published)[0], rtol=1e-10, atol=1e-12, equal_nan=True
    )


@pytest.mark.parametrize("name", FAST)
def test_a_fast_form_is_judged_as_its_metric(name):
    fast, metric = metrics.get(name).spec, metrics.get(metrics.get(name).spec.fast_form_of).spec
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


def test_randomisations_that_are_equal_are_made_once(trace):
    """Whatever the order of the metrics: the whole model's, and all stages where they are as many
    as layers.
    """
    kinds = ("", "_three_stages", "_efficient")
    names = [f"model_parameter_randomisation{kind}" for kind in kinds]
    layers = number_of_layers(trace.cut_model.model)
    assert layers == 3
    for order in (names, names[::-1]):
        of_trace = replace(trace)
        before = of_trace.passes.trunk_forward
        explanation = Explanation.of(
            of_trace, of_trace.gradients, method=lambda other: other.gradients
        )
        measure_all([metrics.get(name) for name in order], [(explanation, True)])
        assert of_trace.passes.trunk_forward - before == layers * len(trace)
