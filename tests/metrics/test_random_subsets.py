"""Metrics over random subsets of pixels: a linear model's own attributions are perfect, and loops agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.cutting.numerics import generators
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import with_params
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.faithfulness_correlation import faithfulness_correlation
from axiom_bench.metrics.infidelity import infidelity
from axiom_bench.metrics.sensitivity_n import sensitivity_n
from axiom_bench.metrics.shared.random_subsets import pixels_at_random, square_at_random
from axiom_bench.testing import answered

faithfulness_correlation = answered(faithfulness_correlation)
infidelity = answered(infidelity)
sensitivity_n = answered(sensitivity_n)


@pytest.fixture(scope="module")
def linear() -> tuple[ab.Trace, torch.Tensor]:
    """A linear model of 8 x 8 pixels, and what each pixel adds to the score: (2, 8, 8)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(128, 4)).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64).requires_grad_()
    targets = torch.tensor([1, 3])
    scores = net(images).gather(1, targets[:, None])
    (gradients,) = torch.autograd.grad(scores.sum(), images)
    return ab.trace(net.eval(), "0", images.detach(), targets), (gradients * images).sum(1).detach()


def of_map(trace: ab.Trace, raw_map: torch.Tensor) -> Explanation:
    return Explanation.of(trace, ab.Map(raw_map))


@given(st.floats(1e-3, 1e3), st.floats(-5, 5))
@settings(max_examples=10)
def test_what_pixels_add_to_a_linear_model_is_perfect_at_any_scale(linear, factor, shift):
    trace, added = linear
    scaled = of_map(trace, factor * added)
    few = {"fractions": (0.1, 0.5), "subsets": 9}
    torch.testing.assert_close(sensitivity_n(scaled, **few)["sensitivity_n_by_size"], torch.ones(2, 2).double())
    torch.testing.assert_close(faithfulness_correlation(scaled, 0.2, 9), torch.ones(2).double())
    torch.testing.assert_close(infidelity(scaled, (0.25, 0.5), 5), torch.zeros(2).double(), rtol=0, atol=1e-18)
    # Subsets of n pixels add n times a shift, which no correlation sees; a map upside down turns its sign.
    upside_down = of_map(trace, shift - factor * added)
    torch.testing.assert_close(faithfulness_correlation(upside_down, 0.2, 9), -torch.ones(2).double())


def test_infidelity_unscaled_is_the_squared_error_of_the_sums(linear):
    trace, added = linear
    exact = infidelity(of_map(trace, added), (0.5,), 6, scaled=False)
    torch.testing.assert_close(exact, torch.zeros(2).double(), rtol=0, atol=1e-18)
    doubled, (draw,) = infidelity(of_map(trace, 2 * added), (0.5,), 6, scaled=False), generators(trace.images[:1], 0)
    squares = [square_at_random([4])(draw, (8, 8)) for _ in range(6)]
    expected = np.mean([float(added[0][square].sum()) ** 2 for square in squares])
    assert float(doubled[0]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_sensitivity_n_equals_a_loop_over_subsets(trace, explanation, output):
    actual = sensitivity_n(explanation, (0.05, 0.4), 7, output=output, seed=3)
    maps = functional.interpolate(explanation.raw_map[:, None], size=(12, 12), mode="bilinear")[:, 0]
    for row, target in enumerate(trace.targets.tolist()):

        def confidence(image: torch.Tensor, target: int = target) -> float:
            logits = trace.forward(image[None])
            return float((logits.softmax(1) if output == "probability" else logits)[0, target])

        image, (draw,) = trace.images[row], generators(trace.images[row : row + 1], 3)
        expected = []
        for count in (7, 58):
            subsets = [pixels_at_random(count)(draw, (12, 12)) for _ in range(7)]
            assert all(int(subset.sum()) == count for subset in subsets)
            lost = [confidence(image) - confidence(image * ~subset) for subset in subsets]
            sums = [float(maps[row][subset].sum()) for subset in subsets]
            expected.append(np.corrcoef(sums, lost)[0, 1])
        np.testing.assert_allclose(actual["sensitivity_n_by_size"][row], expected, rtol=0, atol=1e-9)
        assert float(actual["sensitivity_n"][row]) == pytest.approx(np.mean(expected), abs=1e-9)


def test_all_methods_share_an_images_passes(linear):
    trace, added = linear
    few = {"fractions": (0.1, 0.5), "subsets": 9}
    fresh = replace(trace)
    before = replace(fresh.passes)
    sensitivity_n(of_map(fresh, added), **few)
    assert fresh.passes.trunk_forward - before.trunk_forward == 2 * 18
    sensitivity_n(of_map(fresh, -added), **few)
    assert fresh.passes.trunk_forward - before.trunk_forward == 2 * 18
    sensitivity_n(of_map(fresh, added), **few, seed=1)
    assert fresh.passes.trunk_forward - before.trunk_forward == 4 * 18


def test_a_constant_map_has_no_correlation_and_a_zero_map_no_infidelity(linear):
    trace, _ = linear
    constant, zero = (of_map(trace, torch.full((2, 4, 4), value).double()) for value in (0.1, 0.0))
    for name in ("sensitivity_n", "faithfulness_correlation"):
        for _, statuses in measure(metrics.get(name), constant, True).values():
            assert set(statuses) <= {"no_variation", "not_finite"}
    assert measure(metrics.get("infidelity"), zero, True)["infidelity"][1] == ("zero_raw_map",) * 2


def test_what_rounding_leaves_of_a_constant_map_has_no_correlation(linear):
    trace, added = linear
    flat = of_map(trace, torch.where(added > 0, 1 + 3e-7, 1.0).float())
    assert flat.raw_map is not None
    assert flat.raw_map.std() > 0
    for name in ("sensitivity_n", "faithfulness_correlation"):
        for values, statuses in measure(metrics.get(name), flat, True).values():
            assert statuses == ("no_variation",) * 2
            assert values.isnan().all()


def test_squares_lie_in_the_image_and_reach_every_corner():
    draw, seen = torch.Generator().manual_seed(0), torch.zeros(5, 7, dtype=torch.bool)
    for _ in range(200):
        square = square_at_random([3])(draw, (5, 7))
        assert int(square.sum()) == 9
        seen |= square
    assert seen.all()
    assert square_at_random([9])(draw, (5, 7)).all()


def test_all_squares_are_equally_likely():
    """Of sides 1 and 3 in 4 x 5 pixels there are 20 and 6: of 5200 draws each square has 200, within 5 deviations."""
    draw, counts = torch.Generator().manual_seed(0), Counter()
    subset = square_at_random([1, 3])
    for _ in range(5200):
        counts[tuple(subset(draw, (4, 5)).flatten().tolist())] += 1
    assert len(counts) == 26
    assert all(abs(count - 200) < 5 * 200**0.5 for count in counts.values())


def test_squares_follow_from_the_generators_own_numbers():
    """Those of MT19937, which numpy has too: no draw of another version of torch comes out differently."""
    raw = np.random.RandomState(7).randint(0, 2**32, 50, dtype=np.uint64)
    draw, subset = torch.Generator().manual_seed(7), square_at_random([1, 3])
    for number in (raw % 26).tolist():
        side, number, across = (1, number, 5) if number < 20 else (3, number - 20, 3)
        expected = torch.zeros(4, 5, dtype=torch.bool)
        expected[number // across : number // across + side, number % across : number % across + side] = True
        assert torch.equal(subset(draw, (4, 5)), expected)


def test_infidelity_approaches_the_mean_over_all_squares(linear):
    """The authors' code takes every square of each side, and one best factor; 4000 draws come within 5 % of it."""
    trace, added = linear
    maps = added + 0.3 * torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    drawn = infidelity(of_map(trace, maps), (0.125, 0.375), 4000)
    for row in range(2):
        sums, drops = [], []
        for side in (1, 3):
            for top in range(8 - side + 1):
                for left in range(8 - side + 1):
                    square = (slice(top, top + side), slice(left, left + side))
                    sums.append(float(maps[row][square].sum()))
                    drops.append(float(added[row][square].sum()))
        sums, drops = np.array(sums), np.array(drops)
        factor = (drops * sums).mean() / (sums * sums).mean()
        assert float(drawn[row]) == pytest.approx(np.square(drops - factor * sums).mean(), rel=0.05)


def test_infidelity_of_a_map_that_no_square_meets_is_the_mean_squared_drop(linear):
    """One draw of a single pixel, and a map that is zero there: no factor changes the sum of 0."""
    trace, added = linear
    draws = generators(trace.images, 0)
    squares = torch.stack([square_at_random([1])(draw, (8, 8)) for draw in draws])
    values, statuses = measure(
        with_params("metric", "infidelity", {"sides": [0.125], "squares": 1}), of_map(trace, (~squares).double()), True
    )["infidelity"]
    assert statuses == ("ok", "ok")
    torch.testing.assert_close(values, (added * squares).sum((1, 2)).square())


def test_wrong_settings_are_named(linear):
    explanation = of_map(*linear)
    with pytest.raises(BenchError, match="between 0 and 1"):
        sensitivity_n(explanation, fractions=(0.5, 1.0))
    with pytest.raises(BenchError, match="2 subsets or more"):
        faithfulness_correlation(explanation, subsets=1)
    with pytest.raises(BenchError, match=r"sides in \(0, 1\]"):
        infidelity(explanation, sides=(0.0,))
