"""Relevance-CAM: the rules in loops over units, and conservation of relevance."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.relevance_cam import relevances
from axiom_bench.testing import Case
from tests.methods.plain import EACH_CASE, linear, seeded, uniform


def z_plus(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """R_j = sum_i (x_j w_ij)+ / sum_j' (x_j' w_ij')+ R_i."""
    shared = torch.zeros_like(x)
    for row, R in zip(weight, relevance, strict=True):
        parts = (x * row).clamp(min=0)
        if parts.any():
            shared = shared + parts / parts.sum() * R
    return shared


def by_hand(case: Case, maps: Tensor, target: int) -> list[float]:
    """w_k of one image: relevance unit by unit, down to maps (K, H, W)."""
    head, behind_relu = case.model().head, maps.clamp(min=0)
    start = torch.full((3,), -0.5, dtype=torch.float64).index_fill(0, torch.tensor(target), 1.0)
    if case.head == "pooled":  # what a mean gets is shared among its positions, and adds up to it
        return z_plus(behind_relu.mean((1, 2)), head[2].weight, start).tolist()
    x = behind_relu.flatten()
    hidden = (head[1].weight @ x + head[1].bias).clamp(min=0)
    at_hidden = z_plus(hidden, head[3].weight, start)
    return z_plus(x, head[1].weight, at_hidden).view(len(maps), -1).sum(1).tolist()


@pytest.fixture
def positive() -> Tensor:
    """Maps without a negative value."""
    return uniform(2, 3, 4, 6, seed=7)


@EACH_CASE
def test_weights_equal_relevance_in_loops(case):
    trace = case.trace()
    weights = methods.get("relevance_cam")(trace)
    for i, maps in enumerate(trace.activations):
        assert weights[i].flatten().tolist() == pytest.approx(by_hand(case, maps, i % 3), rel=1e-9, abs=1e-12)


def test_z_plus_rule_with_signed_inputs(readout):
    """x w = (-2)(-3), 1 (-1), 2 (1) = 6, -1, 2: shares 6/8, 0, 2/8. A bias takes no relevance."""
    trace = readout(linear([-3.0, -1.0, 1.0], bias=100.0), torch.tensor([-2.0, 1.0, 2.0]).view(1, 3, 1, 1))
    assert relevances(trace, torch.ones(1, 1)).flatten().tolist() == pytest.approx([0.75, 0, 0.25])


def test_convolution_equals_a_sparse_linear_layer(positive, readout):
    convolution = seeded(lambda: nn.Conv2d(3, 2, 3, stride=2, padding=1))
    basis = torch.eye(72, dtype=torch.float64).view(72, 3, 4, 6)
    linear = nn.Linear(72, 12).double()
    with torch.no_grad():
        linear.weight.copy_(functional.conv2d(basis, convolution.weight, stride=2, padding=1).flatten(1).T)
        linear.bias.copy_(convolution.bias.repeat_interleave(6))
    last = seeded(lambda: nn.Linear(12, 2))
    sparse = readout(nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), last), positive)
    dense = readout(nn.Sequential(nn.Flatten(), linear, nn.ReLU(), last), positive)
    torch.testing.assert_close(sparse.logits, dense.logits, rtol=0, atol=1e-13)
    expected = methods.get("relevance_cam")(dense)
    torch.testing.assert_close(methods.get("relevance_cam")(sparse), expected, rtol=0, atol=1e-13)


class Mixed(nn.Module):
    """Every kind of rule: residual sum, batch norm, concatenation, pooling, clipped and curved activations."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1, bias=False)
        self.up = nn.ConvTranspose2d(8, 2, 2, stride=2)
        self.last = nn.Linear(2, 3)

    def forward(self, maps: Tensor) -> Tensor:
        x = functional.relu6(4 * self.norm(self.first(maps)), inplace=True)
        x = torch.cat([functional.max_pool2d(x, 2), functional.avg_pool2d(x, 2)], 1)
        left, right = x.chunk(2, 1)
        left = left + functional.silu(self.second(right))
        x = functional.hardswish(self.up(torch.cat([left, right], 1))).relu_()
        return self.last(x.mean((2, 3)).view(len(x), 2))


def test_relevance_is_conserved(positive, readout):
    """What one class starts with arrives at the layer, through every rule, where each unit has a positive input."""
    head = seeded(Mixed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.abs_()
    trace = readout(head, positive)
    start = torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(relevances(trace, start).sum((1, 2, 3)), start.sum(1), rtol=0, atol=1e-12)


def test_relevance_common_to_all_classes_cancels(positive, readout):
    trace = readout(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 4))), positive)
    weights = methods.get("relevance_cam")(trace)
    assert weights.sum(1).abs().max() < 1e-13
    assert weights.abs().max() > 0.01


def test_unit_without_positive_input_passes_no_relevance(readout):
    trace = readout(linear([-1.0] * 3, [-1.0] * 3), torch.ones(1, 3, 1, 1))
    assert not methods.get("relevance_cam")(trace).any()


class Gated(nn.Module):
    """Squeeze and excitation: a product of two values, which has no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 2)

    def forward(self, maps: Tensor) -> Tensor:
        x = maps.mean((2, 3))
        return self.last(x * x.sigmoid())


def test_operation_without_a_rule_error_message(positive, readout):
    with pytest.raises(BenchError, match="no rule for 'sigmoid'"):
        methods.get("relevance_cam")(readout(seeded(Gated), positive))
