"""Cells of the image: single deletion, symmetric relevance gain and SaCo in closed forms and float64 loops, and beside
the values that the authors' own code printed, on a case without randomness.

visinf/idsds, single_deletion.py at commit 8e84200, `--grid_rows_and_cols 4 --sd_baseline zeros`, one image at a time.
adreamwu/SaCo, compute_SaCo.py at commit b293527, with the groups' salience and drops filled in as the paper says.
bluecher31/pixel-flipping, pixel_flipping.py at commit 2c6af4f, on 25 squares, `scale_spacing=linear
n_measurements=25`, zeros: the area between both of its curves by trapezoids. Its own, by adaptive quadrature, differs
by up to 2e-5.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import measure_all
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.saco import coefficient
from axiom_bench.metrics.shared.cells import cell_numbers, cell_sums, enlarged
from tests.metrics.build import additive, close, functions, of_map, status, tensor, values_of

single_deletion, srg, saco = functions("single_deletion", "srg", "saco")
RED = torch.arange(1, 65, dtype=torch.float64).view(8, 8) / 640


@pytest.fixture(scope="module")
def ramp() -> ab.Trace:
    return additive(RED)


def test_cells_are_rectangles_in_reading_order():
    explanation = Explanation(heatmap=torch.zeros(1, 5, 6), images=torch.zeros(1, 3, 5, 6))
    numbers = cell_numbers(explanation, 2)
    assert numbers.tolist() == [[0, 0, 0, 1, 1, 1]] * 3 + [[2, 2, 2, 3, 3, 3]] * 2
    maps = torch.arange(60, dtype=torch.float64).view(2, 5, 6)
    rows = [half for each in maps for half in (each[:3], each[3:])]
    expected = [part.sum().item() for half in rows for part in (half[:, :3], half[:, 3:])]
    assert cell_sums(maps, numbers, 4).flatten().tolist() == expected
    for grid in (1, 6):
        with pytest.raises(BenchError, match="2 to 5 cells"):
            cell_numbers(explanation, grid)


def test_a_resized_map_is_signed_and_of_the_images_size(explanation):
    expected = functional.interpolate(explanation.raw_map[:, None], (12, 12), mode="bilinear", align_corners=False)
    assert torch.equal(enlarged(explanation), expected[:, 0])
    assert (enlarged(explanation) < 0).any()


def test_single_deletion_and_saco_by_hand(ramp):
    """Exact shares are right, their opposite wrong, and a factor or an offset changes nothing."""
    for raw, expected in ((RED, 1), (-RED, -1), (3 * RED - 7, 1)):
        close(single_deletion(of_map(ramp, raw)), expected)
        close(saco(of_map(ramp, raw), groups=8, fill="zero"), expected)
    # 1 - 6 sum d^2 / (n (n^2 - 1)) of 16 ranks of which two neighbours are exchanged: d^2 = 1 twice
    ranks = torch.arange(16, dtype=torch.float64)
    ranks[[5, 6]] = ranks[[6, 5]]
    exchanged = ranks[cell_numbers(of_map(ramp, RED), 4)]
    close(single_deletion(of_map(ramp, exchanged)), 1 - 6 * 2 / (16 * 255))


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
    first = explain(replace(trace))
    second = replace(first, raw_map=-first.raw_map)
    before = first.trace.passes.trunk_forward
    measured = measure_all([metrics.get("single_deletion")], [(first, True), (second, True)])
    assert first.trace.passes.trunk_forward - before == 16 * len(first)
    values, opposite = (each.values["single_deletion"][0] for each in measured)
    close(values, -opposite)


def test_what_varies_nowhere_has_no_value(ramp):
    constant, black = torch.ones(2, 2), ramp.again(images=torch.zeros_like(ramp.images))
    assert status("single_deletion", of_map(ramp, constant)) == {"no_variation"}
    assert status("single_deletion", of_map(black, RED)) == {"no_variation"}
    for name in ("srg", "saco"):
        assert status(name, of_map(ramp, constant)) == {"constant_map"}


def test_gain_of_exact_shares_by_hand(ramp):
    """Cells of 4 x 4 pixels hold a, b, c and d of S; p is replaced by S, a sum, so that the areas are sums too."""
    a, b, c, d = sorted(float(part.sum()) for half in RED.split(4) for part in half.split(4, dim=1))
    gains = np.subtract((b + c + d, c + d, d), (a + b + c, a + b, a))  # the lowest removed first, the highest
    for sign in (1, -1):
        answer = srg(of_map(ramp, sign * RED), grid=2, output="logit")
        close(answer["srg"], sign * sum(gains) / 4)
        close(answer["relevance_gain"][0], [0, *(sign * gains), 0])


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


def test_an_order_that_says_nothing_gains_nothing(ramp):
    """Cells of equal mean go in the same order in both curves; the map isn't constant, so there is a value."""
    checked = (torch.arange(8)[:, None] + torch.arange(8)) % 2  # every cell of 4 x 4 has as many ones as zeros
    assert srg(of_map(ramp, checked), grid=2)["srg"].item() == 0


def test_what_any_removal_does_cancels(trace, explanation):
    """Both curves hold the same images where all cells but one are equal in the map: all but the first cell's place."""
    raw = torch.zeros(1, 12, 12, dtype=torch.float64)
    raw[:, :6, :6] = 1
    actual = srg(of_map(trace, raw), grid=2)["relevance_gain"]
    model, targets = trace.cut_model.model, trace.targets

    def probability(kept: list[int]) -> Tensor:
        numbers = cell_numbers(explanation, 2)
        shown = torch.isin(numbers, torch.tensor(kept))
        return model(trace.images * shown).softmax(1).gather(1, targets[:, None])[:, 0]

    lowest = [probability(kept) for kept in ([0, 2, 3], [0, 3], [0])]  # equal cells go in reading order: 1, 2, 3
    highest = [probability(kept) for kept in ([1, 2, 3], [2, 3], [3])]
    expected = torch.stack([first - second for first, second in zip(lowest, highest, strict=True)], dim=1)
    torch.testing.assert_close(actual[:, 1:-1], expected, rtol=0, atol=1e-12)


def algorithm(salience: list[float], drops: list[float]) -> float:
    """Algorithm 1, pair by pair."""
    total, weights = 0.0, 0.0
    for i in range(len(salience) - 1):
        for j in range(i + 1, len(salience)):
            weight = salience[i] - salience[j]
            total += weight if drops[i] >= drops[j] else -weight
            weights += abs(weight)
    return total / weights


@pytest.mark.parametrize(("salience", "drops", "expected"), [
    ([3, 2, 1], [0.3, 0.2, 0.1], 1),
    ([3, 2, 1], [0.1, 0.2, 0.3], -1),
    ([3, 2, 1], [0.2, 0.3, 0.1], (-1 + 2 + 1) / 4),
    ([3, 2, 1], [0.2, 0.2, 0.2], 1),  # equal drops are in order
    ([1, 1, 0], [0.1, 0.3, 0.2], (0 - 1 + 1) / 2),  # groups of equal salience weigh nothing
    ([3, 2, 1], [0.2, 0.2 * (1 + 1e-9), 0.1], 1),  # equal to 1e-6
])  # fmt: skip
def test_coefficient_by_hand(salience, drops, expected):
    close(coefficient(tensor(salience), tensor(drops)), expected)


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=7),
    st.floats(0.01, 100),
    st.floats(-5, 5),
)
def test_coefficient_is_the_algorithm_whatever_the_maps_scale_and_offset(pairs, factor, offset):
    salience, drops = (list(each) for each in zip(*sorted(pairs, reverse=True), strict=True))
    actual = coefficient(tensor(salience), tensor(drops))
    if len(set(salience)) == 1:
        assert actual.isnan().all()
        return
    assert actual.item() == pytest.approx(algorithm(salience, drops), abs=1e-12)
    close(coefficient(factor * tensor(salience) + offset, tensor(drops)), actual, atol=1e-9, rtol=0)


@pytest.mark.parametrize(("groups", "fill", "output"), [(10, "mean", "probability"), (7, "zero", "logit")])
def test_groups_are_equal_shares_of_the_pixels_in_the_maps_order(explanation, trace, groups, fill, output):
    actual, model = saco(explanation, groups, fill, output=output), trace.cut_model.model
    for row, raw in enumerate(enlarged(explanation).flatten(1).numpy()):
        image, target = trace.images[row : row + 1], int(trace.targets[row])
        order = np.argsort(-raw, kind="stable")
        groups_of = [order[np.arange(144) * groups // 144 == group] for group in range(groups)]
        scores = []
        for places in [np.array([], dtype=int), *groups_of]:
            removed = torch.zeros(144, dtype=torch.bool)
            removed[places] = True
            colour = torch.zeros(()) if fill == "zero" else image.mean((2, 3), keepdim=True)
            logits = model(torch.where(removed.view(12, 12), colour, image))[0]
            scores.append(float((logits if output == "logit" else logits.softmax(0))[target]))
        drops = [scores[0] - score for score in scores[1:]]
        expected = algorithm([float(raw[places].mean()) for places in groups_of], drops)
        assert float(actual[row]) == pytest.approx(expected, abs=1e-9)


PRINTED = {
    "single_deletion": [0.2588235294117647, 0.023529411764705882, -0.19117647058823528],
    "saco": [0.299128562650115, -0.33581752298059914, -0.10745181092414931],
    "srg": [-0.20948445662040927, -0.4005290120943317, -0.0906893862924612],
}


def wave(*shape: int, step: float) -> Tensor:
    """sin(step), sin(2 step), ... in reading order."""
    return torch.sin(step * torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)).view(shape)


def smooth_case() -> Explanation:
    """Three images of 20 x 20 pixels, of which no two pixels of a resized map are equal to 1e-6."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=5, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    net = net.double().eval()
    steps = {net[0].weight: 1.3, net[0].bias: 0.7, net[3].weight: 2.1, net[3].bias: 0.0}
    with torch.no_grad():
        for parameter, step in steps.items():
            parameter.copy_(wave(*parameter.shape, step=step))
    trace = ab.trace(net, "1", wave(3, 3, 20, 20, step=0.9), torch.tensor([0, 1, 2]))
    return of_map(trace, wave(3, 4, 4, step=1.9) ** 3)


@pytest.mark.parametrize("name", PRINTED)
def test_values_are_those_that_the_authors_code_printed(name):
    close(values_of(metrics.get(name)(smooth_case()))[0], PRINTED[name], atol=1e-13, rtol=0)
