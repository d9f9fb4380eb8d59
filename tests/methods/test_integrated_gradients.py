"""Integrated gradients at the layer: a midpoint sum by hand, completeness, closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods
from axiom_bench.methods.integrated_gradients import integrated_gradients
from axiom_bench.testing import CASES


class Cube(nn.Module):
    """S_c = sum_k a_ck (mean F_k)^3: a polynomial, whose integral the rule takes exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]]))

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3)) ** 3 @ self.a.T


def head_of(case) -> nn.Sequential:
    return case.model().head if case.layer == "features.3" else nn.Sequential(nn.ReLU(), case.model().head)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_mean_gradient_along_the_path(name):
    """Against many midpoints: both rules see the jumps of a ReLU head within one step of each."""
    case = CASES[name]
    trace = case.trace()
    actual = methods.get("integrated_gradients")(trace)
    head, many = head_of(case), 500
    expected = torch.zeros_like(actual)
    for step in range(many):
        leaf = ((step + 0.5) / many * trace.activations).requires_grad_()
        score = head(leaf.clone()).gather(1, trace.targets[:, None]).sum()
        expected += torch.autograd.grad(score, leaf)[0] / many
    torch.testing.assert_close(actual, expected, rtol=0, atol=0.05 * expected.abs().max().item())


@pytest.mark.parametrize("name", CASES)
def test_completeness(name):
    trace = CASES[name].trace()
    zero = trace.head(torch.zeros_like(trace.activations)).gather(1, trace.targets[:, None])[:, 0]
    expected = trace.scores - zero
    errors = []
    for steps in (50, 400):
        total = (integrated_gradients(trace, steps) * trace.activations).sum((1, 2, 3))
        errors.append(((total - expected).abs() / expected.abs()).max().item())
    assert errors[0] < 0.05
    assert errors[1] < 0.01


def test_polynomial_is_integrated_exactly(readout):
    """d/dF of a m^3 is 3 a m^2 / HW, and its mean over t^2 a third of it: w = a m^2 / HW, from two points on."""
    maps = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    trace = readout(Cube(), maps, target=1)
    a = torch.tensor([0.5, 4.0, -1.0], dtype=torch.float64)
    expected = (a * maps.mean((2, 3)) ** 2 / 6)[..., None, None].expand_as(maps)
    for steps in (2, 50):
        torch.testing.assert_close(integrated_gradients(trace, steps), expected, rtol=1e-12, atol=1e-14)


def test_one_step_equals_the_gradient_at_the_midpoint(readout):
    maps = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    trace = readout(Cube(), maps)
    half = readout(Cube(), maps / 2)
    torch.testing.assert_close(integrated_gradients(trace, 1), half.gradients, rtol=1e-12, atol=1e-14)


def test_equals_the_gradient_of_a_linear_score():
    """So it coincides with HiResCAM on global average pooling and one linear layer."""
    trace = CASES["pooled"].trace()
    torch.testing.assert_close(integrated_gradients(trace), trace.gradients, rtol=1e-12, atol=1e-15)
