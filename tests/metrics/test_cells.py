"""The metrics of cells and random subsets of the image.

They are checked against closed forms, float64 loops, and values that the authors' code printed on a
case without randomness. The authors' code and its settings:

visinf/idsds, single_deletion.py at commit 8e84200, `--grid_rows_and_cols 4 --sd_baseline zeros`,
one image at a time. adreamwu/SaCo, compute_SaCo.py at commit b293527, with the groups' salience and
drops filled in as the paper says. bluecher31/pixel-flipping, pixel_flipping.py at commit 2c6af4f,
on 25 squares, `scale_spacing=linear n_measurements=25`, zeros: the area between both of its curves
by trapezoids. Its own, by adaptive quadrature, differs by up to 2e-5.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.cutting.numerics import generators
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.saco import coefficient
from axiom_bench.metrics.shared import random_subsets
from axiom_bench.metrics.shared.perturbation import Perturbation
from axiom_bench.metrics.shared.random_subsets import (
    Subsets,
    pixels_at_random,
    square_at_random,
    subset_drops,
)
from axiom_bench.testing import answered
from tests.every_copy import every_copy_is_classified
from tests.metrics.build import (
    additive,
    close,
    explained,
    functions,
    of_map,
    resized,
    status,
    tensor,
    values_of,
    with_fewer,
)
from tests.metrics.test_drops import algorithm

(srg,) = functions("srg")
RED = torch.arange(1, 65, dtype=torch.float64).view(8, 8) / 640


@pytest.fixture(scope="module")
def ramp() -> ab.Trace:
    return additive(RED)


def test_what_varies_nowhere_has_no_value(ramp):
    constant = torch.ones(2, 2)
    black = ramp.again(images=torch.zeros_like(ramp.images))
    assert status("single_deletion", of_map(ramp, constant)) == {"no_variation"}
    assert status("single_deletion", of_map(black, RED)) == {"no_variation"}
    for name in ("srg", "saco"):
        assert status(name, of_map(ramp, constant)) == {"constant_map"}


def test_an_order_that_says_nothing_gains_nothing(ramp):
    """Check cells of equal mean, which have the same order in both curves.

    The map isn't constant, so there is a value.
    """
    # Every cell of 4 x 4 has as many ones as zeros.
    checked = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    assert srg(of_map(ramp, checked), grid=2)["srg"].item() == 0


def test_drops_that_are_equal_to_a_millionth_are_in_order():
    close(coefficient(tensor([3, 2, 1]), tensor([0.2, 0.2 * (1 + 1e-9), 0.1])), 1)


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=7),
    st.floats(0.01, 100),
    st.floats(-5, 5),
)
def test_coefficient_is_the_algorithm_whatever_the_maps_scale_and_offset(pairs, factor, offset):
    pairs = sorted(pairs, reverse=True)
    salience = [first for first, _ in pairs]
    drops = [second for _, second in pairs]
    actual = coefficient(tensor(salience), tensor(drops))
    if len(set(salience)) == 1:
        assert actual.isnan().all()
        return
    assert actual.item() == pytest.approx(algorithm(salience, drops, [1.0] * len(drops)), abs=1e-12)
    close(coefficient(factor * tensor(salience) + offset, tensor(drops)), actual, atol=1e-9, rtol=0)


PRINTED = {
    "single_deletion": [0.2588235294117647, 0.023529411764705882, -0.19117647058823528],
    "saco": [0.299128562650115, -0.33581752298059914, -0.10745181092414931],
    "srg": [-0.20948445662040927, -0.4005290120943317, -0.0906893862924612],
}


def wave(*shape: int, step: float) -> Tensor:
    """Return sin(step), sin(2 step), ... in reading order."""
    places = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.sin(step * places).view(shape)


def smooth_case() -> Explanation:
    """Explain three images of 20 x 20 pixels by maps without two pixels that are equal to 1e-6."""
    convolution = nn.Conv2d(3, 4, 3, stride=5, padding=1)
    net = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double().eval()
    steps = {net[0].weight: 1.3, net[0].bias: 0.7, net[3].weight: 2.1, net[3].bias: 0.0}
    with torch.no_grad():
        for parameter, step in steps.items():
            parameter.copy_(wave(*parameter.shape, step=step))
    trace = ab.trace(net, "1", wave(3, 3, 20, 20, step=0.9), torch.tensor([0, 1, 2]))
    return of_map(trace, wave(3, 4, 4, step=1.9) ** 3)


@pytest.mark.parametrize("name", PRINTED)
def test_values_are_those_that_the_authors_code_printed(name):
    close(values_of(metrics.get(name)(smooth_case()))[0], PRINTED[name], atol=1e-13, rtol=0)


sensitivity_n, faithfulness_correlation, mu_fidelity, infidelity, local_completeness = functions(
    "sensitivity_n", "faithfulness_correlation", "mu_fidelity", "infidelity", "local_completeness"
)


@pytest.fixture(scope="module")
def linear() -> tuple[ab.Trace, torch.Tensor]:
    """A linear model of 8 x 8 pixels, and each pixel's share of the score (2, 8, 8)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Flatten(), nn.Linear(128, 4)).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64).requires_grad_()
    targets = torch.tensor([1, 3])
    scores = net(images).gather(1, targets[:, None])
    (gradients,) = torch.autograd.grad(scores.sum(), images)
    added = (gradients * images).sum(1).detach()
    return ab.trace(net.eval(), "0", images.detach(), targets), added


@given(st.floats(1e-3, 1e3), st.floats(-5, 5))
@settings(max_examples=10)
def test_what_pixels_add_to_a_linear_model_is_perfect_at_any_scale(linear, factor, shift):
    trace, added = linear
    scaled = of_map(trace, factor * added)
    close(sensitivity_n(scaled, **FEW)["sensitivity_n_by_size"], 1, atol=1e-7, rtol=0)
    close(faithfulness_correlation(scaled, 0.2, 9), 1, atol=1e-7, rtol=0)
    close(mu_fidelity(scaled, 4, 0.3, 9), 1, atol=1e-7, rtol=0)
    close(infidelity(scaled, (0.25, 0.5), 5), 0, atol=1e-18)
    close(local_completeness(scaled, (0.25, 0.5), 6), 0, atol=1e-18)
    # Subsets of n pixels add n times a shift, which no correlation sees; a map upside down turns
    # its sign.
    inverted = of_map(trace, shift - factor * added)
    close(faithfulness_correlation(inverted, 0.2, 9), -1, atol=1e-7, rtol=0)


def test_a_constant_map_has_no_correlation_and_a_zero_map_no_infidelity(linear):
    """Check a constant map also with rounding, which doesn't correlate either."""
    trace, added = linear
    constant = of_map(trace, torch.full((4, 4), 0.1))
    with_rounding = Explanation.of(trace, ab.Map(torch.where(added > 0, 1 + 3e-7, 1.0).float()))
    assert with_rounding.raw_map.std() > 0
    for name in ("sensitivity_n", "faithfulness_correlation", "mu_fidelity"):
        assert status(name, constant) <= {"no_variation", "not_finite"}
        assert status(name, with_rounding) == {"no_variation"}
    assert status("infidelity", of_map(trace, torch.zeros(4, 4))) == {"zero_raw_map"}


def test_squares_follow_from_the_generators_own_numbers():
    """Check the squares against the numbers of MT19937, which numpy has, too.

    So no version of torch draws other squares.
    """
    numbers = np.random.RandomState(7).randint(0, 2**32, 50, dtype=np.uint64) % 26
    generator = torch.Generator().manual_seed(7)
    draw_square = square_at_random([1, 3])
    for number in numbers.tolist():
        # There are 4 x 5 squares of 1 pixel, and then 2 x 3 squares of 3 x 3 pixels.
        if number < 20:
            side = 1
            top, left = divmod(number, 5)
        else:
            side = 3
            top, left = divmod(number - 20, 3)
        expected = torch.zeros(4, 5, dtype=torch.bool)
        expected[top : top + side, left : left + side] = True
        assert torch.equal(draw_square(generator, (4, 5)), expected)


def test_infidelity_of_a_map_that_no_square_meets_is_the_mean_squared_drop(linear):
    """Check one draw of a single pixel at which the map is zero: no factor changes the sum of 0."""
    trace, added = linear
    draw_pixel = square_at_random([1])
    pixels = [draw_pixel(generator, (8, 8)) for generator in generators(trace.images, 0)]
    squares = torch.stack(pixels)
    explanation = of_map(trace, ~squares)
    assert status("infidelity", explanation, sides=[0.125], squares=1) == {"ok"}
    squared_drops = (added * squares).sum((1, 2)).square()
    close(infidelity(explanation, (0.125,), 1), squared_drops, rtol=1e-7)


FEW = {"fractions": (0.1, 0.5), "subsets": 9}
BY_IMAGE = (
    "deletion_auc",
    "insertion_auc",
    "road_combined",
    "sensitivity_n",
    "infidelity",
    "local_completeness",
    "effective_complexity",
)


@pytest.fixture
def filled_up(trace) -> tuple[ab.Trace, ab.Trace]:
    """Two traces of five rows, the last three of which repeat the second row.

    The repeats are padding in the first trace, and images in the second.
    """
    index = [0, 1, 1, 1, 1]
    # The memory is for one image's copies per pass.
    cut_model = ab.cut(trace.cut_model.model, trace.layer, ablation_memory=2**18)
    unpadded = cut_model.trace(trace.images[index], trace.targets[index])
    return replace(unpadded, num_padding=3), unpadded


@pytest.mark.parametrize("name", BY_IMAGE)
def test_repeats_cost_no_pass_and_change_no_value(filled_up, name):
    costs = []
    answers = []
    for trace in filled_up:
        before = trace.passes.trunk_forward
        with every_copy_is_classified():
            explanation = explained(trace, methods.get("grad_cam"))
            answers.append(values_of(with_fewer(name)(explanation)))
        costs.append(trace.passes.trunk_forward - before)
    padded_cost, unpadded_cost = costs
    assert padded_cost == 2 / 5 * unpadded_cost > 0
    assert all(torch.equal(padded, unpadded) for padded, unpadded in zip(*answers, strict=True))


@pytest.mark.parametrize("method", ["score_cam", "group_cam", "ss_cam", "recipro_cam"])
def test_methods_that_mask_image_by_image_leave_repeats_out_too(filled_up, method):
    padded, unpadded = (explained(trace, methods.get(method)) for trace in filled_up)
    assert torch.equal(padded.raw_map, unpadded.raw_map)


def test_sums_over_subsets_are_those_of_the_resized_map(filled_up, monkeypatch):
    monkeypatch.setattr(random_subsets, "KEPT_PIXELS", 12)
    small = torch.randn(5, 3, 4, dtype=torch.float64)[[0, 1, 1, 1, 1]]
    large = resized(small)
    padded, _ = filled_up
    draws = [pixels_at_random(count) for count in (1, 40, 140)]
    subsets = Subsets("test", draws, Perturbation(output="logit"), 0)

    small_sums, _ = answered(subset_drops)(of_map(padded, small), subsets)
    large_sums, _ = answered(subset_drops)(of_map(padded, large), subsets)

    close(small_sums, large_sums)


def test_subsets_are_drawn_once_for_all_rows_of_an_image(filled_up):
    subsets_drawn = []
    maps = torch.randn(5, 3, 4, dtype=torch.float64)[[0, 1, 2, 2, 2]]

    def draw(generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        subset = pixels_at_random(40)(generator, size)
        subsets_drawn.append(subset)
        return subset

    _, unpadded = filled_up
    subsets = Subsets("test", [draw] * 3, Perturbation(output="logit"), 0)
    sums, _ = answered(subset_drops)(of_map(unpadded, maps), subsets)

    assert len(subsets_drawn) == 2 * 3
    subsets_by_image = torch.stack(subsets_drawn).view(2, 3, 12, 12)
    subsets_by_row = subsets_by_image[[0, 1, 1, 1, 1]]
    close(sums, (subsets_by_row * resized(maps)[:, None]).sum((2, 3)))
