"""Sparseness, entropy and effective complexity: closed forms, loops, and bounds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.effective_complexity import effective_complexity
from axiom_bench.metrics.entropy import entropy
from axiom_bench.metrics.gini import gini
from axiom_bench.testing import answered

effective_complexity = answered(effective_complexity)


def explained(*values: float) -> Explanation:
    """A heatmap of one row of pixels."""
    return Explanation(heatmap=torch.tensor([[values]], dtype=torch.float64))


def test_gini_by_hand():
    assert float(gini(explained(1, 1, 1, 1))) == pytest.approx(0, abs=1e-15)
    assert float(gini(explained(0, 0, 1, 0))) == pytest.approx(3 / 4, abs=1e-15)  # 1 - 1/n
    # Sorted 1 2 5 fifths, sum 8: 1 - 2 (1/8 * 2.5/3 + 2/8 * 1.5/3 + 5/8 * 0.5/3) = 1/3
    assert float(gini(explained(0.4, 1, 0.2))) == pytest.approx(1 / 3, abs=1e-15)


def test_gini_is_half_the_relative_mean_difference():
    h = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for actual, pixels in zip(gini(Explanation(heatmap=h)).tolist(), h.flatten(1).tolist(), strict=True):
        pairs = sum(abs(a - b) for a in pixels for b in pixels)
        assert actual == pytest.approx(pairs / (2 * len(pixels) * sum(pixels)), abs=1e-14)


def test_entropy_by_hand():
    assert float(entropy(explained(1, 1, 1, 1))) == pytest.approx(math.log(4), abs=1e-15)
    assert float(entropy(explained(0, 0, 1, 0))) == 0
    assert float(entropy(explained(1, 0.5, 0.5, 0))) == pytest.approx(1.5 * math.log(2), abs=1e-15)


@given(st.integers(0, 2**16), st.floats(1e-3, 1))
def test_bounds_and_invariances(seed, factor):
    h = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).relu()
    for metric, highest in ((gini, 1 - 1 / 30), (entropy, math.log(30))):
        actual = metric(Explanation(heatmap=h))
        assert ((actual >= 0) & (actual <= highest + 1e-12)).all()
        for same in (factor * h, h.flip(1), h.transpose(1, 2)):
            torch.testing.assert_close(metric(Explanation(heatmap=same)), actual, rtol=1e-10, atol=1e-12)


@given(st.integers(0, 2**16))
def test_a_sharper_map_is_sparser_and_simpler(seed):
    h = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    blunt, sharp = Explanation(heatmap=h), Explanation(heatmap=h**3)
    assert (gini(sharp) > gini(blunt)).all()
    assert (entropy(sharp) < entropy(blunt)).all()


def test_a_zero_map_has_neither():
    assert gini(explained(0, 0)).isnan().all()
    assert entropy(explained(0, 0)).isnan().all()


def linear_explanation(weights: Tensor, heatmap: Tensor, image: Tensor) -> Explanation:
    """Of a model whose probability is the sigmoid of sum(weights x image): logits (that, 0)."""
    linear = nn.Linear(weights.numel(), 2, bias=False, dtype=torch.float64)
    linear.weight.data = torch.stack([weights.flatten(), torch.zeros(weights.numel(), dtype=torch.float64)])
    model = nn.Sequential(nn.Identity(), nn.Flatten(), linear)
    trace = ab.trace(model.eval(), "0", image, torch.zeros(len(image), dtype=torch.long))
    return Explanation(trace=trace, heatmap=heatmap, images=image)


def test_effective_complexity_by_hand():
    """Ten pixels in a row, of which the last three carry all of the score, 6 = 3 + 2 + 1."""
    image = torch.ones(1, 3, 1, 10, dtype=torch.float64)
    weights = torch.zeros(1, 3, 1, 10, dtype=torch.float64)
    weights[0, 0, 0, 7:] = torch.tensor([3.0, 2.0, 1.0])
    right = torch.arange(10.0, dtype=torch.float64)[None, None] / 9
    probability = {kept: 1 / (1 + math.exp(-score)) for kept, score in ((0, 0), (1, 1), (2, 3), (3, 6))}
    for tolerance in (0.04, 0.05, 0.27, 0.6):
        first = next(kept for kept in (1, 2, 3) if probability[3] - probability[kept] < tolerance)
        actual = effective_complexity(linear_explanation(weights, right, image), tolerance, steps=10, fill="zero")
        assert float(actual) == pytest.approx(first / 10, abs=1e-15)
    wrong = effective_complexity(linear_explanation(weights, right.flip(2), image), steps=10, fill="zero")
    assert float(wrong) == pytest.approx(0.8, abs=1e-15)  # seven idle pixels, and the 3 is enough


def test_effective_complexity_is_the_first_step_that_is_enough(trace, explanation):
    """A loop over single images, pixels and steps."""
    steps, tolerance = 6, 0.02
    for row in range(len(trace)):
        before = trace.logits[row].softmax(0)[trace.targets[row]]
        order = sorted(range(144), key=lambda i: -round(float(explanation.heatmap[row].flatten()[i]), 6))
        enough = 1.0
        for step in range(1, steps):
            image = trace.images[row].mean((1, 2), keepdim=True).expand(3, 12, 12).clone()
            for pixel in order[: round(step / steps * 144)]:
                image[:, pixel // 12, pixel % 12] = trace.images[row, :, pixel // 12, pixel % 12]
            after = trace.forward(image[None])[0].softmax(0)[trace.targets[row]]
            if abs(float(before - after)) < tolerance:
                enough = step / steps
                break
        assert float(effective_complexity(explanation, tolerance, steps)[row]) == pytest.approx(enough, abs=1e-12)


def test_more_tolerance_needs_no_more_pixels(explanation):
    actual = [effective_complexity(explanation, tolerance) for tolerance in (0.0, 0.01, 0.1, 0.5, 1.0)]
    assert (torch.stack(actual).diff(dim=0) <= 0).all()
    assert (actual[0] == 1).all()  # no loss is below zero: all pixels are needed
    assert (actual[-1] == 1 / 20).all()  # any loss but a whole probability


def test_effective_complexity_of_tied_pixels_and_wrong_steps(explanation):
    flat = replace(explanation, heatmap=torch.ones_like(explanation.heatmap))
    nearly = replace(flat, heatmap=flat.heatmap - 1e-8 * torch.rand(4, 12, 12, dtype=torch.float64))
    assert torch.equal(effective_complexity(flat), effective_complexity(nearly))
    assert (effective_complexity(explanation, steps=1) == 1).all()
    with pytest.raises(BenchError, match="at least one step"):
        effective_complexity(explanation, steps=0)
