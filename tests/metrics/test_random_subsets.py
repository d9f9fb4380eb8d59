"""Metrics over random subsets of pixels: exact on a linear model, and loops agree; padded rows."""

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
from axiom_bench import methods
from axiom_bench.cutting.numerics import generators
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared import random_subsets
from axiom_bench.metrics.shared.random_subsets import Subsets, pixels_at_random, square_at_random, subset_drops
from axiom_bench.testing import answered
from tests.metrics.build import close, explained, functions, of_map, status, values_of, with_fewer

sensitivity_n, faithfulness_correlation, infidelity = functions(
    "sensitivity_n", "faithfulness_correlation", "infidelity"
)


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


@given(st.floats(1e-3, 1e3), st.floats(-5, 5))
@settings(max_examples=10)
def test_what_pixels_add_to_a_linear_model_is_perfect_at_any_scale(linear, factor, shift):
    trace, added = linear
    scaled = of_map(trace, factor * added)
    close(sensitivity_n(scaled, **FEW)["sensitivity_n_by_size"], 1, atol=1e-7, rtol=0)
    close(faithfulness_correlation(scaled, 0.2, 9), 1, atol=1e-7, rtol=0)
    close(infidelity(scaled, (0.25, 0.5), 5), 0, atol=1e-18)
    # Subsets of n pixels add n times a shift, which no correlation sees; a map upside down turns its sign.
    close(faithfulness_correlation(of_map(trace, shift - factor * added), 0.2, 9), -1, atol=1e-7, rtol=0)


def test_infidelity_unscaled_is_the_squared_error_of_the_sums(linear):
    trace, added = linear
    close(infidelity(of_map(trace, added), (0.5,), 6, scaled=False), 0, atol=1e-18)
    doubled, (draw,) = infidelity(of_map(trace, 2 * added), (0.5,), 6, scaled=False), generators(trace.images[:1], 0)
    squares = [square_at_random([4])(draw, (8, 8)) for _ in range(6)]
    assert float(doubled[0]) == pytest.approx(np.mean([float(added[0][each].sum()) ** 2 for each in squares]), rel=1e-9)


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
    trace, added = replace(linear[0]), linear[1]
    before = trace.passes.trunk_forward
    for raw_map, seed, passes in ((added, 0, 36), (-added, 0, 36), (added, 1, 72)):
        sensitivity_n(of_map(trace, raw_map), **FEW, seed=seed)
        assert trace.passes.trunk_forward - before == passes


def test_a_constant_map_has_no_correlation_and_a_zero_map_no_infidelity(linear):
    """Nor does what rounding leaves of a constant map correlate."""
    trace, added = linear
    flat = Explanation.of(trace, ab.Map(torch.where(added > 0, 1 + 3e-7, 1.0).float()))
    assert flat.raw_map.std() > 0
    for name in ("sensitivity_n", "faithfulness_correlation"):
        assert status(name, of_map(trace, torch.full((4, 4), 0.1))) <= {"no_variation", "not_finite"}
        assert status(name, flat) == {"no_variation"}
    assert status("infidelity", of_map(trace, torch.zeros(4, 4))) == {"zero_raw_map"}


def test_all_squares_are_equally_likely():
    """Of sides 1 and 3 in 4 x 5 pixels there are 20 and 6: of 5200 draws each square has 200, within 5 deviations."""
    draw, counts = torch.Generator().manual_seed(0), Counter()
    subset = square_at_random([1, 3])
    for _ in range(5200):
        counts[tuple(subset(draw, (4, 5)).flatten().tolist())] += 1
    assert len(counts) == 26
    assert square_at_random([9])(draw, (4, 5)).all()  # cut to the image
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
    places = [(slice(y, y + side), slice(x, x + side))
              for side in (1, 3) for y in range(9 - side) for x in range(9 - side)]  # fmt: skip
    for row in range(2):
        sums, drops = (np.array([float(each[row][place].sum()) for place in places]) for each in (maps, added))
        factor = (drops * sums).mean() / (sums * sums).mean()
        assert float(drawn[row]) == pytest.approx(np.square(drops - factor * sums).mean(), rel=0.05)


def test_infidelity_of_a_map_that_no_square_meets_is_the_mean_squared_drop(linear):
    """One draw of a single pixel, and a map that is zero there: no factor changes the sum of 0."""
    trace, added = linear
    squares = torch.stack([square_at_random([1])(draw, (8, 8)) for draw in generators(trace.images, 0)])
    explanation = of_map(trace, ~squares)
    assert status("infidelity", explanation, sides=[0.125], squares=1) == {"ok"}
    close(infidelity(explanation, (0.125,), 1), (added * squares).sum((1, 2)).square(), rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("sensitivity_n", {"fractions": (0.5, 1.0)}, "between 0 and 1"),
        ("faithfulness_correlation", {"subsets": 1}, "2 subsets or more"),
        ("infidelity", {"sides": (0.0,)}, r"sides in \(0, 1\]"),
    ],
)
def test_wrong_settings_are_named(linear, name, params, message):
    with pytest.raises(BenchError, match=message):
        status(name, of_map(*linear), **params)


FEW = {"fractions": (0.1, 0.5), "subsets": 9}
BY_IMAGE = ("deletion_auc", "insertion_auc", "road_combined", "sensitivity_n", "infidelity", "effective_complexity")


@pytest.fixture
def filled_up(trace) -> tuple[ab.Trace, ab.Trace]:
    """A trace of five rows, the last three of which repeat the second: as padding, and as images."""
    index = [0, 1, 1, 1, 1]
    cut = ab.cut(trace.cut_model.model, trace.layer, ablation_memory=2**18)  # a pass for each image's copies
    unpadded = cut.trace(trace.images[index], trace.targets[index])
    return replace(unpadded, num_padding=3), unpadded


@pytest.mark.parametrize("name", BY_IMAGE)
def test_repeats_cost_no_pass_and_change_no_value(filled_up, name):
    costs, answers = [], []
    for trace in filled_up:
        before = trace.passes.trunk_forward
        answers.append(values_of(with_fewer(name)(explained(trace, methods.get("grad_cam")))))
        costs.append(trace.passes.trunk_forward - before)
    assert costs[0] == 2 / 5 * costs[1] > 0
    assert all(torch.equal(padded, unpadded) for padded, unpadded in zip(*answers, strict=True))


@pytest.mark.parametrize("method", ["score_cam", "group_cam", "ss_cam", "recipro_cam"])
def test_methods_that_mask_image_by_image_leave_repeats_out_too(filled_up, method):
    assert torch.equal(*(explained(trace, methods.get(method)).raw_map for trace in filled_up))


def test_sums_over_subsets_are_those_of_the_resized_map(filled_up, monkeypatch):
    monkeypatch.setattr(random_subsets, "KEPT_PIXELS", 12)
    small = torch.randn(5, 3, 4, dtype=torch.float64)[[0, 1, 1, 1, 1]]
    large = functional.interpolate(small[:, None], (12, 12), mode="bilinear", align_corners=False)[:, 0]
    subsets = Subsets("test", [pixels_at_random(count) for count in (1, 40, 140)], "zero", 0.05, "logit", 0)
    close(*(answered(subset_drops)(of_map(filled_up[0], maps), subsets)[0] for maps in (small, large)))
