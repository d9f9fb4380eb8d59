"""SaCo: closed forms, the published algorithm in float64, and what doesn't count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.saco import coefficient, saco
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.testing import answered

saco = answered(saco)


def algorithm(salience: list[float], drops: list[float]) -> float:
    """Algorithm 1, pair by pair."""
    total, weights = 0.0, 0.0
    for i in range(len(salience) - 1):
        for j in range(i + 1, len(salience)):
            weight = salience[i] - salience[j]
            total += weight if drops[i] >= drops[j] else -weight
            weights += abs(weight)
    return total / weights


def of(trace: ab.Trace, raw: Tensor) -> Explanation:
    return Explanation.of(trace, ab.Map(raw.expand(len(trace), -1, -1)))


@pytest.mark.parametrize(("salience", "drops", "expected"), [
    ([3, 2, 1], [0.3, 0.2, 0.1], 1),
    ([3, 2, 1], [0.1, 0.2, 0.3], -1),
    ([3, 2, 1], [0.2, 0.3, 0.1], (-1 + 2 + 1) / 4),
    ([3, 2, 1], [0.2, 0.2, 0.2], 1),  # equal drops are in order
    ([1, 1, 0], [0.1, 0.3, 0.2], (0 - 1 + 1) / 2),  # groups of equal salience weigh nothing
    ([3, 2, 1], [0.2, 0.2 * (1 + 1e-9), 0.1], 1),  # equal to 1e-6
])  # fmt: skip
def test_coefficient_by_hand(salience, drops, expected):
    actual = coefficient(*(torch.tensor([each], dtype=torch.float64) for each in (salience, drops)))
    assert actual.item() == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=7),
    st.floats(0.01, 100),
    st.floats(-5, 5),
)
def test_coefficient_is_the_algorithm_whatever_the_maps_scale_and_offset(pairs, factor, offset):
    salience, drops = (list(each) for each in zip(*sorted(pairs, reverse=True), strict=True))
    actual = coefficient(*(torch.tensor([each], dtype=torch.float64) for each in (salience, drops)))
    if len(set(salience)) == 1:
        assert actual.isnan().all()
        return
    assert actual.item() == pytest.approx(algorithm(salience, drops), abs=1e-12)
    moved = factor * torch.tensor([salience], dtype=torch.float64) + offset
    assert coefficient(moved, torch.tensor([drops], dtype=torch.float64)).item() == pytest.approx(
        actual.item(), abs=1e-9
    )


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


def test_exact_shares_are_faithful_and_upside_down_unfaithful():
    """S is the sum of the red pixels, and each pixel's share is what removing it takes away."""
    net = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
        net[2].weight.copy_(torch.tensor([[0.1], [0.0]]).expand(2, 64))
    image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    image[0, 0] = torch.rand(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    trace = ab.trace(net.double().eval(), "0", image, torch.tensor([0]))
    for factor, expected in ((1, 1), (-1, -1)):
        assert saco(of(trace, factor * image[:, 0]), groups=8, fill="zero").item() == pytest.approx(expected, abs=1e-12)


def test_a_constant_map_has_no_value(trace):
    actual = measure(metrics.get("saco"), of(trace, torch.ones(1, 3, 3).double()), True)
    assert actual["saco"][1] == ("constant_map",) * 4
