"""Closed forms: where the score is linear in the maps the gradient methods satisfy both axioms, and coincide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods
from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.testing import CASES

EXACT_ON_POOLED_HEAD = {"cam", "grad_cam", "xgrad_cam", "hires_cam", "ablation_cam_axiomatic", "shapley_cam"}
EXACT_ON_FLATTENED_HEAD = {"xgrad_cam", "hires_cam", "ablation_cam_axiomatic"}
OFF_THE_SCALE = {"grad_cam_pp", "ablation_cam", "uniform", "random", "lift_cam"}
WEIGHTINGS = sorted(EXACT_ON_POOLED_HEAD | OFF_THE_SCALE)
ROUNDING = 1e-12  # float64, sums of some hundred terms


@pytest.fixture
def maps() -> Tensor:
    """(3, 3, 4, 5), of both signs, no channel summing to about zero."""
    return torch.randn(3, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.3


@pytest.fixture
def pooled(maps, readout) -> Trace:
    return readout(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(3)), maps, target=1)


@pytest.fixture
def flattened(maps, readout) -> Trace:
    return readout(nn.Sequential(nn.Flatten(), linear(60)), maps, target=1)


def linear(inputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, 2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(2, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))
    return layer


def contributions(name: str, trace: Trace) -> Tensor:
    return methods.get(name)(trace) * trace.activations


def axiom_errors(name: str, trace: Trace) -> tuple[float, float]:
    """The worst image's sensitivity and conservation error, from their definitions."""
    m, d, S = contributions(name, trace).sum(XY), trace.ablation_drops, trace.scores
    sensitivity = (d - m).abs().sum(1) / d.abs().sum(1)
    conservation = (S - m.sum(1)).abs() / S.abs()
    return sensitivity.max().item(), conservation.max().item()


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_both_axioms_on_global_average_pooling(name, pooled):
    holds = max(axiom_errors(name, pooled)) < ROUNDING
    assert holds == (name in EXACT_ON_POOLED_HEAD), axiom_errors(name, pooled)


@pytest.mark.parametrize("name", sorted(set(WEIGHTINGS) - {"cam"}))  # this head isn't CAM's
def test_both_axioms_on_flattened_maps(name, flattened):
    holds = max(axiom_errors(name, flattened)) < ROUNDING
    assert holds == (name in EXACT_ON_FLATTENED_HEAD), axiom_errors(name, flattened)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_negative_controls_have_large_errors(name, pooled):
    sensitivity, _ = axiom_errors(name, pooled)
    assert (sensitivity > 0.1) == (name not in EXACT_ON_POOLED_HEAD)


@pytest.mark.parametrize("name", sorted(EXACT_ON_POOLED_HEAD - {"cam"}))
def test_maps_equal_cam_on_global_average_pooling(name, pooled):
    expected = contributions("cam", pooled).sum(1)
    torch.testing.assert_close(contributions(name, pooled).sum(1), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_xgrad_cam_errors_equal_the_normalised_residuals(case):
    """zeta_k = (S - S_k) - sum g_k F_k, epsilon = S - sum_k sum g_k F_k, on networks with biases and hidden ReLUs."""
    trace = case.trace()
    gF = (trace.gradients * trace.activations).sum(XY)
    zeta = (trace.ablation_drops - gF).abs().sum(1) / trace.ablation_drops.abs().sum(1)
    epsilon = (trace.scores - gF.sum(1)).abs() / trace.scores.abs()
    assert epsilon.min() > 1e-3  # a bias is at work, so that equal doesn't mean zero
    assert axiom_errors("xgrad_cam", trace) == pytest.approx((zeta.max().item(), epsilon.max().item()), rel=1e-10)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_hires_cam_and_xgrad_cam_have_equal_channel_totals(case):
    trace = case.trace()
    hires, xgrad = (contributions(name, trace).sum(XY) for name in ("hires_cam", "xgrad_cam"))
    torch.testing.assert_close(hires, xgrad, rtol=1e-10, atol=1e-14)
