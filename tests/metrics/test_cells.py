"""Single deletion and symmetric relevance gain: closed forms, a loop over cells in float64, and their passes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from scipy import stats
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import measure, measure_all
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.cells import cell_numbers, cell_sums, enlarged
from axiom_bench.metrics.single_deletion import single_deletion
from axiom_bench.metrics.srg import srg
from axiom_bench.testing import answered

single_deletion, srg = answered(single_deletion), answered(srg)


def of(trace: ab.Trace, raw: Tensor) -> Explanation:
    def method(trace: ab.Trace) -> ab.Map:
        return ab.Map(raw.expand(len(trace), -1, -1))

    return Explanation.of(trace, method(trace), method=method)


@pytest.fixture(scope="module")
def additive() -> ab.Trace:
    """S is the sum of the red pixels of a ramp of 8 x 8 pixels: each pixel's share is what removing it takes away."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
        net[2].weight.copy_(torch.tensor([[1.0], [0.0]]).expand(2, 64))
    image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    image[0, 0] = torch.arange(1, 65).view(8, 8) / 640
    return ab.trace(net.double().eval(), "0", image, torch.tensor([0]))


def test_cells_are_rectangles_in_reading_order():
    explanation = Explanation(heatmap=torch.zeros(1, 5, 6), images=torch.zeros(1, 3, 5, 6))
    numbers = cell_numbers(explanation, 2)
    assert numbers.tolist() == [[0, 0, 0, 1, 1, 1]] * 3 + [[2, 2, 2, 3, 3, 3]] * 2
    maps = torch.arange(60, dtype=torch.float64).view(2, 5, 6)
    expected = [[part.sum().item() for half in (each[:3], each[3:]) for part in (half[:, :3], half[:, 3:])]
                for each in maps]  # fmt: skip
    assert cell_sums(maps, numbers, 4).tolist() == expected
    for grid in (1, 6):
        with pytest.raises(BenchError, match="2 to 5 cells"):
            cell_numbers(explanation, grid)


def test_a_resized_map_is_signed_and_of_the_images_size(explanation):
    expected = functional.interpolate(explanation.raw_map[:, None], (12, 12), mode="bilinear", align_corners=False)
    assert torch.equal(enlarged(explanation), expected[:, 0])
    assert (enlarged(explanation) < 0).any()


def test_exact_shares_have_correlation_one_and_upside_down_minus_one(additive):
    shares = additive.images[:, 0]
    for raw, expected in ((shares, 1), (-shares, -1), (3 * shares - 7, 1)):
        assert single_deletion(of(additive, raw)).item() == pytest.approx(expected, abs=1e-12)


def test_two_cells_the_wrong_way_round_by_hand(additive):
    """1 - 6 sum d^2 / (n (n^2 - 1)) of 16 ranks of which two neighbours are exchanged: d^2 = 1 twice."""
    numbers = cell_numbers(of(additive, additive.images[:, 0]), 4)
    ranks = torch.arange(16, dtype=torch.float64)
    ranks[[5, 6]] = ranks[[6, 5]]
    expected = 1 - 6 * 2 / (16 * 255)
    assert single_deletion(of(additive, ranks[numbers][None])).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("grid", "fill", "output"), [(4, "zero", "logit"), (5, "mean", "probability")])
def test_single_deletion_is_a_loop_over_cells(explanation, trace, grid, fill, output):
    actual, model = single_deletion(explanation, grid, fill, output=output), trace.cut_model.model
    maps = enlarged(explanation)
    edges = [-(-cell * 12 // grid) for cell in range(grid + 1)]
    for row in range(len(trace)):
        image, target = trace.images[row : row + 1], int(trace.targets[row])

        def score(image: Tensor, target: int = target) -> float:
            logits = model(image)[0]
            return float((logits if output == "logit" else logits.softmax(0))[target])

        colour = 0.0 if fill == "zero" else image.mean((2, 3), keepdim=True)
        sums, drops = [], []
        for top, bottom in pairwise(edges):
            for left, right in pairwise(edges):
                without = image.clone()
                without[:, :, top:bottom, left:right] = colour
                sums.append(float(maps[row, top:bottom, left:right].sum()))
                drops.append(score(image) - score(without))
        assert float(actual[row]) == pytest.approx(stats.spearmanr(sums, drops).statistic, abs=1e-9)


def test_all_methods_share_the_images_without_a_cell(trace, explain):
    first, second = explain(replace(trace)), None
    second = replace(first, raw_map=-first.raw_map)
    before = first.trace.passes.trunk_forward
    values = [
        measured.values["single_deletion"][0]
        for measured in measure_all([metrics.get("single_deletion")], [(first, True), (second, True)])
    ]
    assert first.trace.passes.trunk_forward - before == 16 * len(first)
    torch.testing.assert_close(values[0], -values[1], rtol=0, atol=1e-12)


def test_nothing_varies_and_nothing_correlates(additive):
    actual = measure(metrics.get("single_deletion"), of(additive, torch.ones(1, 2, 2).double()), True)
    assert actual["single_deletion"][1] == ("no_variation",)
    black = additive.again(images=torch.zeros_like(additive.images))
    assert measure(metrics.get("single_deletion"), of(black, additive.images[:, 0]), True)["single_deletion"][1] == (
        "no_variation",
    )


def test_gain_of_exact_shares_by_hand(additive):
    """Cells of 4 x 4 pixels hold a, b, c and d of S; p is replaced by S, a sum, so that the areas are sums too."""
    red = additive.images[0, 0]
    a, b, c, d = sorted(float(part.sum()) for half in red.split(4) for part in half.split(4, dim=1))
    lowest, highest = (b + c + d, c + d, d), (a + b + c, a + b, a)
    expected = sum(np.subtract(lowest, highest)) / 4
    answer = srg(of(additive, additive.images[:, 0]), grid=2, output="logit")
    assert answer["srg"].item() == pytest.approx(expected, abs=1e-12)
    assert answer["relevance_gain"][0].tolist() == pytest.approx([0, *np.subtract(lowest, highest), 0], abs=1e-12)
    upside_down = srg(of(additive, -additive.images[:, 0]), grid=2, output="logit")
    assert upside_down["srg"].item() == pytest.approx(-expected, abs=1e-12)


def test_gain_is_the_difference_of_two_curves_of_a_loop(explanation, trace):
    actual, model = srg(explanation, grid=3), trace.cut_model.model
    maps = enlarged(explanation)
    for row in range(len(trace)):
        image, target = trace.images[row : row + 1], int(trace.targets[row])
        cells = [(4 * (cell // 3), 4 * (cell % 3)) for cell in range(9)]
        means = [float(maps[row, y : y + 4, x : x + 4].mean()) for y, x in cells]
        areas = []
        for order in (np.argsort(means), np.argsort(means)[::-1]):
            left, curve = image.clone(), [float(trace.logits[row].softmax(0)[target])]
            for cell in order:
                y, x = cells[cell]
                left[:, :, y : y + 4, x : x + 4] = 0
                curve.append(float(model(left)[0].softmax(0)[target]))
            areas.append(np.trapezoid(curve, dx=1 / 9))
        assert float(actual["srg"][row]) == pytest.approx(areas[0] - areas[1], abs=1e-12)


def test_an_order_that_says_nothing_gains_nothing(additive):
    """Cells of equal mean go in the same order in both curves; the map isn't constant, so there is a value."""
    checked = (torch.arange(8)[:, None] + torch.arange(8)) % 2  # every cell of 4 x 4 has as many ones as zeros
    assert srg(of(additive, checked[None].double()), grid=2)["srg"].item() == 0
    constant = measure(metrics.get("srg"), of(additive, torch.ones(1, 2, 2).double()), True)
    assert constant["srg"][1] == constant["relevance_gain"][1] == ("constant_map",)


def test_what_any_removal_does_cancels(trace, explanation):
    """Both curves hold the same images where all cells but one are equal in the map: all but the first cell's place."""
    raw = torch.zeros(1, 12, 12, dtype=torch.float64)
    raw[:, :6, :6] = 1
    actual = srg(of(trace, raw), grid=2)["relevance_gain"]
    model, targets = trace.cut_model.model, trace.targets

    def probability(kept: list[int]) -> Tensor:
        numbers = cell_numbers(explanation, 2)
        shown = torch.isin(numbers, torch.tensor(kept))
        return model(trace.images * shown).softmax(1).gather(1, targets[:, None])[:, 0]

    lowest = [probability(kept) for kept in ([0, 2, 3], [0, 3], [0])]  # equal cells go in reading order: 1, 2, 3
    highest = [probability(kept) for kept in ([1, 2, 3], [2, 3], [3])]
    expected = torch.stack([first - second for first, second in zip(lowest, highest, strict=True)], dim=1)
    torch.testing.assert_close(actual[:, 1:-1], expected, rtol=0, atol=1e-12)
