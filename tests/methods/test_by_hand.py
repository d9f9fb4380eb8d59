"""One 2x2 case, worked on paper: S = 2 h1 - h2 + 4 h3 + 1/2 with h = relu(z) and

    z1 = F1(0,0) + F1(1,1) + F2(1,0) - 3 = 4        F1 = 1 2    F2 = -1 1    F3 = 0 0
    z2 = -F1(0,1) + 2 F2(1,1) + 1        = 3             1 4          2 2         0 0
    z3 = -F1(1,0) + F2(0,0) + F3(0,0) + 5 = 3       S = 8 - 3 + 12 + 1/2 = 17.5

so that g1 = 2 1 / -4 2, g2 = 4 0 / 2 -2, g3 = 4 0 / 0 0.
Without F1: z = -1, 5, 4 and S_1 = 11.5. Without F2: z = 2, -1, 4 and S_2 = 20.5. Without F3 nothing changes.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from axiom_bench import methods
from axiom_bench.cutting.trace import Trace

MAPS = torch.tensor([[[[1, 2], [1, 4]], [[-1, 1], [2, 2]], [[0, 0], [0, 0]]]])
WEIGHTS = {
    "grad_cam": [1 / 4, 1, 1],
    "xgrad_cam": [(2 + 2 - 4 + 8) / 8, (-4 + 4 - 4) / 4, 0],
    "grad_cam_pp": [2 * 2 / (2 + 2 * 8) + 1 / (2 + 8), 4 / (2 + 4 * 4) + 2 / (2 + 2 * 4), 4 / 2],
    "ablation_cam": [6 / 17.5, -3 / 17.5, 0],
    "ablation_cam_axiomatic": [6 / 8, -3 / 4, 0],
    "uniform": [1, 1, 1],
}
GRADIENTS = [[[2, 1], [-4, 2]], [[4, 0], [2, -2]], [[4, 0], [0, 0]]]


@pytest.fixture
def worked(readout) -> Trace:
    """Class 1 is the score above, class 0 its negative, class 2 always zero."""
    hidden, scores = nn.Linear(12, 3), nn.Linear(3, 3)
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor([[1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0],
                                          [0, -1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0],
                                          [0, 0, -1, 0, 1, 0, 0, 0, 1, 0, 0, 0]]))  # fmt: skip
        hidden.bias.copy_(torch.tensor([-3, 1, 5]))
        scores.weight.copy_(torch.tensor([[-2, 1, -4], [2, -1, 4], [0, 0, 0]]))
        scores.bias.copy_(torch.tensor([-0.5, 0.5, 0]))
    return readout(nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), scores), MAPS, target=1)


def test_trace_by_hand(worked):
    assert worked.scores.tolist() == [17.5]
    assert worked.gradients[0].tolist() == GRADIENTS
    assert worked.ablation_drops.tolist() == [[6, -3, 0]]


@pytest.mark.parametrize("name", WEIGHTS)
def test_channel_weights(name, worked):
    weights = methods.get(name)(worked)
    assert weights.shape == (1, 3, 1, 1)
    assert weights.flatten().tolist() == pytest.approx(WEIGHTS[name], abs=1e-14)


def test_hires_cam_by_hand(worked):
    assert methods.get("hires_cam")(worked)[0].tolist() == GRADIENTS


def test_ablation_cam_of_a_negative_score(worked):
    """S and all drops change sign, so the published weights don't: what lowers class 0 is shown as its reason."""
    other = worked.again(targets=torch.tensor([0]))
    assert other.scores.tolist() == [-17.5]
    assert other.ablation_drops.tolist() == [[-6, 3, 0]]
    assert methods.get("ablation_cam")(other).flatten().tolist() == pytest.approx(WEIGHTS["ablation_cam"])
    assert methods.get("ablation_cam_axiomatic")(other).flatten().tolist() == pytest.approx([-6 / 8, 3 / 4, 0])


def test_ablation_cam_of_a_zero_score(worked):
    """NaN, never a quiet 0 or an infinity."""
    other = worked.again(targets=torch.tensor([2]))
    assert other.scores.tolist() == [0]
    assert methods.get("ablation_cam")(other).isnan().all()
    assert methods.get("ablation_cam_axiomatic")(other).flatten().tolist() == [0, 0, 0]


def test_cam_by_hand(readout):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        head[-1].weight.copy_(torch.tensor([[1, 2, 3], [4, -8, 12]]))
    trace = readout(head, MAPS, target=1)
    assert methods.get("cam")(trace).flatten().tolist() == [1, -2, 3]
