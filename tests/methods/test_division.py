"""The two methods that divide by sum F_k: where the sum vanishes, and where it is negative."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from axiom_bench import methods

DIVIDING = ["xgrad_cam", "ablation_cam_axiomatic"]


@pytest.fixture
def linear_head():
    """S = the sum over 12 positions of (position + 1) F."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False))
    with torch.no_grad():
        head[1].weight.copy_(torch.arange(1, 13)[None])
    return head


@pytest.mark.parametrize("name", DIVIDING)
def test_guarded_channel_has_zero_weight(name, linear_head, readout):
    """Its weight would be 4 / 0 or -4 / 1e-14; three public epsilons would make it about 1e7."""
    maps = torch.tensor([[[[1, -1], [2, -2]], [[1, -1], [-1, 1 + 1e-14]], [[1, 1], [1, 1]]]], dtype=torch.float64)
    weights = methods.get(name)(readout(linear_head, maps)).flatten()
    assert weights.tolist() == pytest.approx([0, 0, (9 + 10 + 11 + 12) / 4])


@pytest.mark.parametrize("name", DIVIDING)
def test_negative_sum(name, linear_head, readout):
    maps = torch.tensor([[[[-1, -1], [-1, -1]], [[0, 0], [-3, 1]], [[0, 0], [0, 0]]]])
    weights = methods.get(name)(readout(linear_head, maps)).flatten()
    assert weights.tolist() == pytest.approx([(1 + 2 + 3 + 4) / 4, (-3 * 7 + 8) / -2, 0])


def test_grad_cam_pp_with_zero_denominator(readout):
    """g = 2 everywhere: 2 g^2 + g^3 sum F = 0 for sum F = -1 (weight 0), and alpha = 1/4 for sum F = 1 (4 * 2 / 4)."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False))
    nn.init.constant_(head[1].weight, 2)
    maps = torch.tensor([[[[-1, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]]])
    weights = methods.get("grad_cam_pp")(readout(head, maps)).flatten()
    assert weights.tolist() == pytest.approx([0, 4 * 2 / 4, 4 * 2 / 2])


def test_grad_cam_pp_with_tiny_gradients(readout):
    """alpha tends to 1/2: with g = 1e-170 its square is zero in float64."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False)).double()
    nn.init.constant_(head[1].weight, 1e-170)
    weights = methods.get("grad_cam_pp")(readout(head, torch.ones(1, 3, 2, 2))).flatten()
    assert weights.tolist() == pytest.approx([4 * 1e-170 / 2] * 3)
