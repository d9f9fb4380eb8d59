"""Methods of channel weights: closed forms worked on paper, where both axioms hold, and Axiom-CAM's
guards.
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
    """Of a negative score all drops change sign with it, so the published weights don't; of a zero
    score they are NaN. The last channel is dead.
    """
    maps = torch.tensor([2.0, 1.0, 0.0]).view(1, 3, 1, 1)
    for weights, published, axiomatic in (([-3.0, 1.0, 9.0], [6 / 5, -1 / 5, 0], [-3, 1, 0]),
                                          ([1.0, -2.0, 9.0], [math.nan] * 3, [1, -2, 0])):  # fmt: skip
        trace = readout(linear(weights), maps)
        assert methods.get("ablation_cam")(trace).flatten().tolist() == pytest.approx(
            published, nan_ok=True
        )
        assert methods.get("ablation_cam_axiomatic")(trace).flatten().tolist() == pytest.approx(
            axiomatic
        )


POSITIONS = [float(position) for position in range(1, 13)]


@pytest.mark.parametrize(
    ("names", "weights", "maps", "expected"),
    [
        # S = the sum over 12 positions of (position + 1) F. A guarded channel's weight would be 4 /
        # 0 or -4 / 1e-14; three public epsilons would make it about 1e7
        (("xgrad_cam", "ablation_cam_axiomatic"), POSITIONS,
         [[[1, -1], [2, -2]], [[1, -1], [-1, 1 + 1e-14]], [[1, 1], [1, 1]]], [0, 0, (9 + 10 + 11 + 12) / 4]),
        # a negative sum
        (("xgrad_cam", "ablation_cam_axiomatic"), POSITIONS,
         [[[-1, -1], [-1, -1]], [[0, 0], [-3, 1]], [[0, 0], [0, 0]]], [(1 + 2 + 3 + 4) / 4, (-3 * 7 + 8) / -2, 0]),
        # g = 2 everywhere: 2 g^2 + g^3 sum F = 0 for sum F = -1 (weight 0), and alpha = 1/4 for sum
        # F = 1 (4 * 2 / 4)
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


@pytest.mark.parametrize("is_linear", [False, True])
def test_methods_behind_global_average_pooling(readout, is_linear):
    """The lemma of methods.md: with p the channels' means, gradient methods weigh map k by
    (dS/dp_k) / 16.

    Their errors are those of linearising the head. The head is linear where every unit of its ReLU
    is on.
    """
    generator = torch.Generator().manual_seed(8)
    A, v = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((6, 5), (2, 6))
    )
    b = torch.full((6,), 50.0 if is_linear else 0.3, dtype=torch.float64)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 6),
        nn.ReLU(),
        nn.Linear(6, 2, bias=False),
    )
    head.double().load_state_dict({"2.weight": A, "2.bias": b, "4.weight": v})
    F = hard_maps()  # channel 0 is dead, channel 1 guarded
    trace = readout(head, F, 1)
    p = F.mean(XY)

    def score(p: Tensor) -> Tensor:
        return (p @ A.T + b).clamp(min=0) @ v[1]

    slope = ((p @ A.T + b > 0) * v[1]) @ A  # dS/dp
    drops = torch.stack(
        [score(p) - score(p.index_fill(1, torch.tensor(k), 0)) for k in range(5)], 1
    )
    common = (slope / 16)[..., None, None] * F
    for name in ("grad_cam", "xgrad_cam", "hires_cam"):
        explanation = Explanation.of(trace, methods.get(name)(trace))
        leaves_out = [1] if name == "xgrad_cam" else []
        expected = common.index_fill(1, torch.tensor(leaves_out, dtype=torch.long), 0)
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
ROUNDING = 1e-12  # float64, sums of some hundred terms
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
    """Weight 0 and no share. What the guard leaves out of the drops joins the gap: conservation is
    exact at t = 1, and the distance to the floor is what no choice of one weight a channel could
    undercut.
    """
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
    return seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(5 * 4 * 4, 8), nn.ReLU(), nn.Linear(8, 2))
    )


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
    """A score that only falls by its maps has no positive drop; one that ignores them has no drop
    and no gradient.
    """
    trace = readout(linear([weight] * 12, bias=3.0), uniform(1, 3, 2, 2, seed=9))
    assert torch.equal(axiom_cam(trace, 1, split), axiom_cam(trace, 1, "uniform"))
    assert explained(trace, 1, split).channel_totals.sum().item() == pytest.approx(
        trace.scores.item()
    )
