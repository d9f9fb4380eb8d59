"""Methods of channel weights: closed forms worked on paper, where both axioms hold, and Axiom-CAM's guards."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods, metrics
from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.axiom_cam import SPLITS, axiom_cam
from axiom_bench.methods.equal_shares import equal_shares
from axiom_bench.methods.random import random as random_weights
from axiom_bench.testing import CASES, check_method
from tests.methods.plain import linear, seeded, uniform

MAPS = torch.tensor([[[[1, 2], [1, 4]], [[-1, 1], [2, 2]], [[0, 0], [0, 0]]]])
# One 2x2 case, worked on paper: S = 2 h1 - h2 + 4 h3 + 1/2 with h = relu(z) and
#
#     z1 = F1(0,0) + F1(1,1) + F2(1,0) - 3 = 4        F1 = 1 2    F2 = -1 1    F3 = 0 0
#     z2 = -F1(0,1) + 2 F2(1,1) + 1        = 3             1 4          2 2         0 0
#     z3 = -F1(1,0) + F2(0,0) + F3(0,0) + 5 = 3       S = 8 - 3 + 12 + 1/2 = 17.5
#
# so that g1 = 2 1 / -4 2, g2 = 4 0 / 2 -2, g3 = 4 0 / 0 0.
# Without F1: z = -1, 5, 4 and S_1 = 11.5. Without F2: z = 2, -1, 4 and S_2 = 20.5. Without F3 nothing changes.
WEIGHTS = {
    "grad_cam": [1 / 4, 1, 1],
    "xgrad_cam": [(2 + 2 - 4 + 8) / 8, (-4 + 4 - 4) / 4, 0],
    "grad_cam_pp": [2 * 2 / (2 + 2 * 8) + 1 / (2 + 8), 4 / (2 + 4 * 4) + 2 / (2 + 2 * 4), 4 / 2],
    "ablation_cam": [6 / 17.5, -3 / 17.5, 0],
    "ablation_cam_axiomatic": [6 / 8, -3 / 4, 0],
    "uniform": [1, 1, 1],
    "equal_shares": [17.5 / 2 / 8, 17.5 / 2 / 4, 0],  # F3 is dead
}


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


@pytest.mark.parametrize("name", WEIGHTS)
def test_channel_weights(name, worked):
    weights = methods.get(name)(worked)
    assert weights.shape == (1, 3, 1, 1)
    assert weights.flatten().tolist() == pytest.approx(WEIGHTS[name], abs=1e-14)


@pytest.mark.parametrize("shares", ["equal", "activation", "random"])
def test_shares_conserve_the_score_without_dead_and_guarded_channels(readout, shares):
    trace = readout(relu_head(), hard_maps(), 1)
    weights = equal_shares(trace, shares)
    totals = (weights * trace.activations).sum(XY)
    assert not weights[:, :2].any()
    assert (totals[:, 2:] != 0).all()
    torch.testing.assert_close(totals.sum(1), trace.scores, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("target", "score", "drops", "published", "axiomatic"),
    [  # of a negative score S and all drops change sign, so the published weights don't; of a zero score they are NaN
        (0, -17.5, [-6, 3, 0], WEIGHTS["ablation_cam"], [-6 / 8, 3 / 4, 0]),
        (2, 0, [0, 0, 0], [math.nan] * 3, [0, 0, 0]),
    ],
)
def test_ablation_cam_of_a_negative_and_of_a_zero_score(worked, target, score, drops, published, axiomatic):
    other = worked.again(targets=torch.tensor([target]))
    assert (other.scores.tolist(), other.ablation_drops.tolist()) == ([score], [drops])
    assert methods.get("ablation_cam")(other).flatten().tolist() == pytest.approx(published, nan_ok=True)
    assert methods.get("ablation_cam_axiomatic")(other).flatten().tolist() == pytest.approx(axiomatic)


def test_cam_by_hand(readout):
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), linear([1, 2, 3], [4, -8, 12]))
    assert methods.get("cam")(readout(head, MAPS, target=1)).flatten().tolist() == [1, -2, 3]


POSITIONS = [float(position) for position in range(1, 13)]


@pytest.mark.parametrize(
    ("names", "weights", "maps", "expected"),
    [
        # S = the sum over 12 positions of (position + 1) F. A guarded channel's weight would be 4 / 0 or -4 / 1e-14;
        # three public epsilons would make it about 1e7
        (("xgrad_cam", "ablation_cam_axiomatic"), POSITIONS,
         [[[1, -1], [2, -2]], [[1, -1], [-1, 1 + 1e-14]], [[1, 1], [1, 1]]], [0, 0, (9 + 10 + 11 + 12) / 4]),
        # a negative sum
        (("xgrad_cam", "ablation_cam_axiomatic"), POSITIONS,
         [[[-1, -1], [-1, -1]], [[0, 0], [-3, 1]], [[0, 0], [0, 0]]], [(1 + 2 + 3 + 4) / 4, (-3 * 7 + 8) / -2, 0]),
        # g = 2 everywhere: 2 g^2 + g^3 sum F = 0 for sum F = -1 (weight 0), and alpha = 1/4 for sum F = 1 (4 * 2 / 4)
        (("grad_cam_pp",), [2.0] * 12,
         [[[-1, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], [0, 4 * 2 / 4, 4 * 2 / 2]),
        # alpha tends to 1/2: with g = 1e-170 its square is zero in float64
        (("grad_cam_pp",), [1e-170] * 12, [[[1, 1], [1, 1]]] * 3, [4 * 1e-170 / 2] * 3),
    ],
    ids=["guarded", "negative sum", "zero denominator", "tiny gradients"],
)  # fmt: skip
def test_divisions_by_hand(names, weights, maps, expected, readout):
    for name in names:
        trace = readout(linear(weights), torch.tensor([maps], dtype=torch.float64))
        assert methods.get(name)(trace).flatten().tolist() == pytest.approx(expected, abs=0)


def test_random_weights_in_float32_equal_float64():
    """The pixels are hashed as float32, on the CPU: neither precision nor device changes the weights."""
    images = CASES["dense"].images().float()
    single = replace(CASES["dense"], dtype=torch.float32).trace().again(images=images)
    double = CASES["dense"].trace().again(images=images.double())
    torch.testing.assert_close(random_weights(single).double(), random_weights(double), rtol=1e-6, atol=0)


STEPS = (0.0, 0.3, 1.0)
ROUNDING = 1e-12  # float64, sums of some hundred terms
each_split = pytest.mark.parametrize("split", SPLITS)
each_step = pytest.mark.parametrize("t", STEPS)


def explained(trace: Trace, t: float, split: str) -> Explanation:
    return Explanation.of(trace, axiom_cam(trace, t, split))


@pytest.mark.slow
@pytest.mark.parametrize("split", [split for split in SPLITS if split != "positive_drops"])
def test_every_split_passes_the_common_suite(split):
    """The default split passes it by its YAML."""
    check_method(partial(axiom_cam, t=0.5, split=split))


def test_yaml_parameters_are_the_defaults():
    assert methods.get("axiom_cam").params == {"t": 1.0, "split": "positive_drops"}
    trace = CASES["dense"].trace()
    assert torch.equal(methods.get("axiom_cam")(trace), axiom_cam(trace))


@each_split
@each_step
def test_dead_and_guarded_channels(readout, split, t):
    """Weight 0 and no share. What the guard leaves out of the drops joins the gap: conservation is exact at t = 1, and
    the distance to the floor is what no choice of one weight a channel could undercut."""
    trace = readout(relu_head(), hard_maps(), 1)
    weights = axiom_cam(trace, t, split)
    assert not weights[:, :2].any()
    d, S = trace.ablation_drops, trace.scores
    assert d[:, 1].abs().min() > 1e-3  # the guarded channel matters to the score
    explanation = explained(trace, t, split)
    m = explanation.channel_totals
    left = S - d[:, 2:].sum(1)
    torch.testing.assert_close((S - m.sum(1)).abs(), (1 - t) * left.abs(), rtol=0, atol=ROUNDING)
    forced = d[:, 1].abs() + left.abs() - (S - d.sum(1)).abs()
    expected = forced / (d.abs().sum(1) + S.abs())
    distance = metrics.get("axiom_floor_distance")
    torch.testing.assert_close(distance(explanation), expected, rtol=0, atol=ROUNDING)
    generator = torch.Generator().manual_seed(6)
    for _ in range(20):
        other = torch.randn(weights.shape, generator=generator, dtype=weights.dtype)
        assert (distance(Explanation.of(trace, other)) >= expected - ROUNDING).all()


def relu_head() -> nn.Module:
    """Flatten, linear, ReLU, linear, for maps of `hard_maps`, with biases."""
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(5 * 4 * 4, 8), nn.ReLU(), nn.Linear(8, 2)))


def hard_maps() -> Tensor:
    """(2, 5, 4, 4): a dead channel, one whose values cancel, and three plain ones."""
    maps = uniform(2, 5, 4, 4, seed=7)
    maps[:, 0] = 0
    maps[:, 1, 2:] = -maps[:, 1, :2]
    return maps


@each_split
@each_step
def test_weights_are_zero_without_an_open_channel(readout, split, t):
    maps = hard_maps()
    maps[:, 2:] = maps[:, 1:2]
    assert not axiom_cam(readout(relu_head(), maps), t, split).any()
    assert not equal_shares(readout(relu_head(), maps)).any()


@pytest.mark.parametrize(
    ("weight", "split"),
    [(-1.0, "positive_drops"), (0.0, "positive_drops"), (0.0, "drops"), (0.0, "gradients")],
)
def test_shares_are_uniform_where_all_parts_are_zero(readout, weight, split):
    """A score that only falls by its maps has no positive drop; one that ignores them has no drop and no gradient."""
    trace = readout(linear([weight] * 12, bias=3.0), uniform(1, 3, 2, 2, seed=9))
    assert torch.equal(axiom_cam(trace, 1, split), axiom_cam(trace, 1, "uniform"))
    assert explained(trace, 1, split).channel_totals.sum().item() == pytest.approx(trace.scores.item())


@each_split
def test_float32_conservation(split):
    explanation = explained(replace(CASES["dense"], dtype=torch.float32).trace(), 1.0, split)
    assert metrics.get("conservation_error")(explanation).max() < 1e-5
