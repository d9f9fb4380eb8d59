"""Tests of methods that compute channel weights: closed forms worked on paper, networks on which
both axioms hold, and Axiom-CAM's guards.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods, metrics
from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.axiom_cam import SPLITS, axiom_cam
from axiom_bench.methods.equal_shares import equal_shares
from axiom_bench.testing import CASES
from tests.methods.plain import linear, seeded, uniform


@pytest.mark.parametrize("shares", ["equal", "activation", "random"])
def test_shares_conserve_the_score_without_dead_and_guarded_channels(readout, shares):
    trace = readout(relu_head(), hard_maps(), 1)
    weights = equal_shares(trace, shares)
    totals = (weights * trace.activations).sum(XY)
    assert not weights[:, :2].any()
    assert (totals[:, 2:] != 0).all()
    torch.testing.assert_close(totals.sum(1), trace.scores, rtol=0, atol=ROUNDING)


def test_ablation_cam_of_a_negative_and_of_a_zero_score(readout):
    """Check two scores by hand; the last channel is dead.

    If the score is negative, all drops change sign with it, so the published weights don't. If the
    score is zero, the published weights are NaN.
    """
    maps = torch.tensor([2.0, 1.0, 0.0]).view(1, 3, 1, 1)

    def weights_of(name: str, trace: Trace) -> list[float]:
        return methods.get(name)(trace).flatten().tolist()

    negative = readout(linear([-3.0, 1.0, 9.0]), maps)
    assert weights_of("ablation_cam", negative) == pytest.approx([6 / 5, -1 / 5, 0])
    assert weights_of("ablation_cam_axiomatic", negative) == pytest.approx([-3, 1, 0])

    zero = readout(linear([1.0, -2.0, 9.0]), maps)
    published = weights_of("ablation_cam", zero)
    assert published == pytest.approx([math.nan] * 3, nan_ok=True)
    assert weights_of("ablation_cam_axiomatic", zero) == pytest.approx([1, -2, 0])


POSITIONS = [float(position) for position in range(1, 13)]


@pytest.mark.parametrize(
    ("names", "weights", "maps", "expected"),
    [
        # S is the sum over 12 positions of position x F. Without a guard, the first two weights
        # would be 4 / 0 and -4 / 1e-14. Three public epsilons would make them about 1e7.
        pytest.param(
            ("xgrad_cam", "ablation_cam_axiomatic"),
            POSITIONS,
            [[[1, -1], [2, -2]], [[1, -1], [-1, 1 + 1e-14]], [[1, 1], [1, 1]]],
            [0, 0, (9 + 10 + 11 + 12) / 4],
            id="guarded",
        ),
        pytest.param(
            ("xgrad_cam", "ablation_cam_axiomatic"),
            POSITIONS,
            [[[-1, -1], [-1, -1]], [[0, 0], [-3, 1]], [[0, 0], [0, 0]]],
            [(1 + 2 + 3 + 4) / 4, (-3 * 7 + 8) / -2, 0],
            id="negative sum",
        ),
        # g = 2 everywhere. If sum F = -1, 2 g^2 + g^3 sum F is 0, and so is the weight. If
        # sum F = 1, alpha is 1/4. If sum F = 0, alpha is 1/2.
        pytest.param(
            ("grad_cam_pp",),
            [2.0] * 12,
            [[[-1, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]],
            [0, 4 * 2 / 4, 4 * 2 / 2],
            id="zero denominator",
        ),
        # Alpha tends to 1/2. The square of g = 1e-170 is zero in float64.
        pytest.param(
            ("grad_cam_pp",),
            [1e-170] * 12,
            [[[1, 1], [1, 1]]] * 3,
            [4 * 1e-170 / 2] * 3,
            id="tiny gradients",
        ),
    ],
)
def test_divisions_by_hand(names, weights, maps, expected, readout):
    for name in names:
        trace = readout(linear(weights), torch.tensor([maps], dtype=torch.float64))
        actual = methods.get(name)(trace).flatten().tolist()
        assert actual == pytest.approx(expected, abs=0)


@pytest.mark.parametrize("is_linear", [False, True])
def test_methods_behind_global_average_pooling(readout, is_linear):
    """Check the lemma of methods.md. With p the channels' means, gradient methods weigh map k by
    (dS/dp_k) / 16.

    Their errors are those of linearising the head. If every unit of its ReLU is on, the head is
    linear.
    """
    generator = torch.Generator().manual_seed(8)
    A = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    v = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    b = torch.full((6,), 50.0 if is_linear else 0.3, dtype=torch.float64)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = nn.Sequential(*pool, nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2, bias=False))
    head.double().load_state_dict({"2.weight": A, "2.bias": b, "4.weight": v})
    F = hard_maps()  # channel 0 is dead, channel 1 guarded
    trace = readout(head, F, 1)
    p = F.mean(XY)

    def score(p: Tensor) -> Tensor:
        return (p @ A.T + b).clamp(min=0) @ v[1]

    slope = ((p @ A.T + b > 0) * v[1]) @ A  # dS/dp
    drops = torch.zeros(len(F), 5, dtype=torch.float64)
    for k in range(5):
        drops[:, k] = score(p) - score(p.index_fill(1, torch.tensor(k), 0))
    contributions = (slope / 16)[..., None, None] * F
    for name in ("grad_cam", "xgrad_cam", "hires_cam"):
        explanation = Explanation.of(trace, methods.get(name)(trace))

        expected = contributions.clone()
        if name == "xgrad_cam":
            expected[:, 1] = 0  # the guarded channel has weight 0
        torch.testing.assert_close(explanation.contributions, expected, rtol=0, atol=ROUNDING)

        sensitivity = metrics.get("sensitivity_error")(explanation)
        expected = (drops - p * slope).abs().sum(1) / drops.abs().sum(1)
        torch.testing.assert_close(sensitivity, expected, rtol=0, atol=ROUNDING)
        assert sensitivity.max() < ROUNDING if is_linear else sensitivity.min() > 0.01

        conservation = metrics.get("conservation_error")(explanation)
        expected = (score(p) - (p * slope).sum(1)).abs() / score(p).abs()
        torch.testing.assert_close(conservation, expected, rtol=0, atol=ROUNDING)

    weights = methods.get("ablation_cam_axiomatic")(trace)[:, 2:, 0, 0]
    torch.testing.assert_close(weights, drops[:, 2:] / (16 * p[:, 2:]), rtol=0, atol=ROUNDING)
    assert torch.allclose(weights, slope[:, 2:] / 16, rtol=0, atol=1e-9) == is_linear
    with pytest.raises(BenchError, match="not global average pooling and one linear layer"):
        methods.get("cam")(trace)


STEPS = (0.0, 0.3, 1.0)
ROUNDING = 1e-12  # float64, sums of a few hundred terms
each_split = pytest.mark.parametrize("split", SPLITS)
each_step = pytest.mark.parametrize("t", STEPS)


def explained(trace: Trace, t: float, split: str) -> Explanation:
    return Explanation.of(trace, axiom_cam(trace, t, split))


def test_yaml_parameters_are_the_defaults():
    assert methods.get("axiom_cam").params == {"t": 1.0, "split": "positive_drops"}
    trace = CASES["dense"].trace()
    assert torch.equal(methods.get("axiom_cam")(trace), axiom_cam(trace))


@each_split
@each_step
def test_dead_and_guarded_channels(readout, split, t):
    """Check that dead and guarded channels have weight 0 and no share.

    The guarded channel's drop joins the gap, so conservation is exact at t = 1. No choice of one
    weight per channel has a smaller distance to the floor.
    """
    trace = readout(relu_head(), hard_maps(), 1)
    weights = axiom_cam(trace, t, split)
    assert not weights[:, :2].any()
    d = trace.ablation_drops
    S = trace.scores
    assert d[:, 1].abs().min() > 1e-3  # the guarded channel matters to the score
    explanation = explained(trace, t, split)
    m = explanation.channel_totals
    gap = S - d[:, 2:].sum(1)
    conservation_gap = (S - m.sum(1)).abs()
    expected_gap = (1 - t) * gap.abs()
    torch.testing.assert_close(conservation_gap, expected_gap, rtol=0, atol=ROUNDING)

    forced = d[:, 1].abs() + gap.abs() - (S - d.sum(1)).abs()
    expected = forced / (d.abs().sum(1) + S.abs())
    distance = metrics.get("axiom_floor_distance")
    torch.testing.assert_close(distance(explanation), expected, rtol=0, atol=ROUNDING)
    generator = torch.Generator().manual_seed(6)
    for _ in range(20):
        other_weights = torch.randn(weights.shape, generator=generator, dtype=weights.dtype)
        other_distance = distance(Explanation.of(trace, other_weights))
        assert (other_distance >= expected - ROUNDING).all()


def relu_head() -> nn.Module:
    """Return a head of two linear layers with biases and a ReLU, for maps of `hard_maps`."""

    def build() -> nn.Module:
        first = nn.Linear(5 * 4 * 4, 8)
        last = nn.Linear(8, 2)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)

    return seeded(build)


def hard_maps() -> Tensor:
    """Return maps (2, 5, 4, 4): a dead channel, one whose values cancel, and three plain ones."""
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
    """Check two scores: one that its maps only lower has no positive drop, and one that ignores the
    maps has no drop and no gradient.
    """
    trace = readout(linear([weight] * 12, bias=3.0), uniform(1, 3, 2, 2, seed=9))
    assert torch.equal(axiom_cam(trace, 1, split), axiom_cam(trace, 1, "uniform"))
    total = explained(trace, 1, split).channel_totals.sum().item()
    assert total == pytest.approx(trace.scores.item())
