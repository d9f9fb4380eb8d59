"""The metrics that change pixels in the map's order, against loops from their definitions.

Each step changes the same number of pixels.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from axiom_bench.metrics.irof import superpixels
from axiom_bench.metrics.pixel_steps import shuffled
from tests.metrics.build import additive, close, confidence_of, functions, of_map, resized, status
from tests.metrics.test_drops import groups

monotonicity_correlation, monotonicity, irof = functions(
    "monotonicity_correlation", "monotonicity", "irof"
)


@pytest.mark.parametrize("output", ["probability", "logit"])
def test_monotonicity_correlation_is_a_loop_over_groups_and_draws(explanation, trace, output):
    actual = monotonicity_correlation(explanation, 8, 3, output, seed=4)
    draws = [shuffled(explanation, f"4 shuffled {sample}") for sample in range(3)]
    sorted_pixels = trace.images.flatten(2).sort(2)[0]
    for images in draws:
        assert torch.equal(images.flatten(2).sort(2)[0], sorted_pixels)
    assert not torch.equal(draws[0], draws[1])

    for row, raw in enumerate(resized(explanation.raw_map).abs()):
        image = trace.images[row]
        sums = []
        losses = []
        before = confidence_of(trace, row, image, output)
        for part in groups(raw, 8):
            sums.append(float(raw[part].sum()))
            after = []
            for images in draws:
                changed = torch.where(part, images[row], image)
                after.append(confidence_of(trace, row, changed, output))
            losses.append(np.square(np.array(after) - before).mean())
        close(actual[row], stats.spearmanr(sums, losses).statistic, atol=1e-9)


def test_a_map_that_says_nothing_has_no_correlation(trace):
    """Check a constant map, and one of 1 and -1 whose magnitude is the same everywhere."""
    halves = torch.ones(12, 12)
    halves[:6] = -1
    assert status("faithfulness_estimate", of_map(trace, torch.ones(3, 3))) == {"no_variation"}
    assert status("monotonicity_correlation", of_map(trace, halves)) == {"no_variation"}


@pytest.mark.parametrize("output", ["probability", "logit"])
def test_monotonicity_is_a_loop_that_adds_pixels_lowest_first(trace, output):
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(9, 12, 12, generator=generator, dtype=torch.float64)
    rates = []
    for raw in maps:
        actual = monotonicity(of_map(trace, raw), 3, output=output)
        for row, image in enumerate(trace.images):
            partial_image = torch.zeros_like(image)
            curve = []
            for part in groups(-raw, 3):
                partial_image = torch.where(part, image, partial_image)
                curve.append(confidence_of(trace, row, partial_image, output))
            rates.append(float(np.all(np.diff(curve) >= 0)))
            assert float(actual[row]) == rates[-1]
    assert 0 < np.mean(rates) < 1


def test_monotonicity_sees_no_order_of_pixels_that_all_add():
    """Check that every order is monotone if each pixel raises the score.

    If some pixels lower the score, the true order falls first.
    """
    red = torch.arange(1, 65, dtype=torch.float64).view(8, 8)
    for raw in (red, -red):
        close(monotonicity(of_map(additive(red), raw), output="logit"), 1)
    close(monotonicity(of_map(additive(red - 32), red - 32), output="logit"), 0)


def test_superpixels_follow_an_edge_that_no_cell_does():
    """Check an image of 2 x 2 cells with a bright stripe, 4 of 12 columns from the third on."""
    stripe = torch.zeros(3, 12, 12, dtype=torch.float64)
    stripe[:, :, 2:6] = 1
    cells = (torch.arange(12)[:, None] // 6) * 2 + torch.arange(12) // 6
    found = superpixels(stripe, cells, 10.0)
    assert set(found[stripe[0] == 1].tolist()).isdisjoint(found[stripe[0] == 0].tolist())
    assert torch.equal(superpixels(torch.zeros_like(stripe), cells, 10.0), cells)


@pytest.mark.parametrize("compactness", [10.0, 0.0])
def test_irof_is_a_loop_over_superpixels(explanation, trace, compactness):
    """Check natural images and images of eight colours.

    With eight colours, most of the 16 cells lose all their pixels to others.
    """
    if not compactness:
        trace = trace.again(images=(trace.images > 0).double())
    actual = irof(of_map(trace, explanation.raw_map), 4, compactness, "zero")
    places = torch.arange(12) // 3
    cells = places[:, None] * 4 + places
    num_segments = []
    for row, raw in enumerate(resized(explanation.raw_map)):
        segments = superpixels(trace.images[row], cells, compactness)
        mean_by_number = {}
        for number in segments.unique().tolist():
            mean_by_number[number] = float(raw[segments == number].mean())
        order = sorted(mean_by_number, key=lambda number: -mean_by_number[number])
        remaining = trace.images[row].clone()
        curve = [confidence_of(trace, row, remaining)]
        for number in order:
            remaining[:, segments == number] = 0
            curve.append(confidence_of(trace, row, remaining))
        area = np.trapezoid(curve, dx=1 / len(order))
        close(actual[row], 1 - area / curve[0], atol=1e-9)
        num_segments.append(len(order))
    assert max(num_segments) == (16 if compactness else 8)


def test_aopc_of_region_perturbation_is_irof_of_squares_in_other_units(explanation, trace):
    """Check AOPC as in Samek et al. 2017, Eq. 12, over all L regions.

    AOPC is the mean of p(x) - p(x without the first k regions) for k from 0 to L.
    """
    squares = irof(of_map(trace, explanation.raw_map), 4, 1e6, "zero")
    places = torch.arange(12) // 3
    numbers = places[:, None] * 4 + places
    for row, raw in enumerate(resized(explanation.raw_map)):
        order = sorted(range(16), key=lambda number: -float(raw[numbers == number].sum()))
        remaining = trace.images[row].clone()
        curve = [confidence_of(trace, row, remaining)]
        for number in order:
            remaining[:, numbers == number] = 0
            curve.append(confidence_of(trace, row, remaining))
        first = curve[0]
        last = curve[-1]
        aopc = np.mean([first - probability for probability in curve])
        close((16 * first * squares[row] + (first - last) / 2) / 17, aopc, atol=1e-9)
