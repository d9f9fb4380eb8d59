"""Methods of channel weights: against their definitions in loops, and closed forms worked on paper."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods
from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.random import random as random_weights
from axiom_bench.testing import CASES, Case
from tests.methods.plain import EACH_CASE, gradient_of, head_of, linear, maps_of, model_of, normal


@dataclass(frozen=True)
class Row:
    """One image, its maps F[k][y][x], gradients g, score S, the scores S_k, and the class's row of a linear head."""

    image: Tensor
    F: list
    g: list
    S: float
    S_k: list[float]
    weights: list[float] | None

    def pixels(self) -> Iterator[tuple[int, int]]:
        return ((y, x) for y in range(len(self.F[0])) for x in range(len(self.F[0][0])))


def rows_of(case: Case) -> Iterator[Row]:
    """Autograd on the plain network, an image and a channel at a time."""
    for i, (image, maps) in enumerate(zip(case.images(), maps_of(case), strict=True)):
        target = i % 3
        ablated = [maps.index_fill(0, torch.tensor(k), 0) for k in range(case.channels)]
        with torch.no_grad():
            score, *without = (head_of(case)(each[None].clone())[0, target].item() for each in (maps, *ablated))
        gradient = gradient_of(case, maps_of(case), i, target)
        weights = model_of(case).head[-1].weight[target].tolist() if case.head == "pooled" else None
        yield Row(image, maps.tolist(), gradient.tolist(), score, without, weights)


def total(map_k: list) -> float:
    return sum(sum(line) for line in map_k)


def grad_cam(row: Row, k: int) -> float:
    return total(row.g[k]) / sum(1 for _ in row.pixels())


def grad_cam_pp(row: Row, k: int) -> float:
    weight = 0.0
    for y, x in row.pixels():
        g = row.g[k][y][x]
        denominator = 2 * g**2 + g**3 * total(row.F[k])
        alpha = g**2 / denominator if denominator != 0 else 0.0
        weight += alpha * max(g, 0.0)
    return weight


def xgrad_cam(row: Row, k: int) -> float:
    return sum(row.g[k][y][x] * row.F[k][y][x] for y, x in row.pixels()) / total(row.F[k])


def ablation_cam(row: Row, k: int) -> float:
    return (row.S - row.S_k[k]) / row.S


def ablation_cam_axiomatic(row: Row, k: int) -> float:
    return (row.S - row.S_k[k]) / total(row.F[k])


def cam(row: Row, k: int) -> float:
    assert row.weights is not None
    return row.weights[k] / sum(1 for _ in row.pixels())


def uniform(row: Row, k: int) -> float:
    return 1.0


def random(row: Row, k: int) -> float:
    numbers = row.image.flatten().tolist()
    pixels = b"".join(torch.tensor(number, dtype=torch.float32).numpy().tobytes() for number in numbers)
    seed = int(hashlib.sha256(b"0 " + pixels).hexdigest()[:16], 16)
    return torch.randn(len(row.F), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)[k].item()


CHANNEL_WEIGHTS = (grad_cam, grad_cam_pp, xgrad_cam, ablation_cam, ablation_cam_axiomatic, uniform, random)
PAIRS = [(replica, name) for replica in CHANNEL_WEIGHTS for name in CASES] + [(cam, "pooled")]


@pytest.mark.parametrize(("replica", "name"), PAIRS, ids=lambda value: getattr(value, "__name__", value))
def test_channel_weights_equal_loops(replica: Callable[[Row, int], float], name: str):
    case = CASES[name]
    weights = methods.get(replica.__name__)(case.trace())
    for actual, row in zip(weights, rows_of(case), strict=True):
        expected = [replica(row, k) for k in range(case.channels)]
        # Drops are differences of two scores: their rounding is that of the score, 1e-16, over sums of about 0.1.
        assert actual.flatten().tolist() == pytest.approx(expected, rel=1e-11, abs=1e-13)


@EACH_CASE
def test_hires_cam_equals_loops(case):
    expected = torch.tensor([row.g for row in rows_of(case)], dtype=torch.float64)
    torch.testing.assert_close(methods.get("hires_cam")(case.trace()), expected, rtol=1e-12, atol=1e-15)


def test_centered_equals_loops():
    raw = methods.get("centered")(CASES["dense"].trace()).raw
    height, width = CASES["dense"].size
    for y in range(height):
        for x in range(width):
            across, down = (x - (width - 1) / 2) / width, (y - (height - 1) / 2) / height
            expected = math.exp(-(across**2) / (2 * 0.25**2)) * math.exp(-(down**2) / (2 * 0.25**2))
            assert raw[:, y, x].tolist() == pytest.approx([expected] * 3, rel=1e-12)


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
    assert worked.gradients[0].tolist() == methods.get("hires_cam")(worked)[0].tolist() == GRADIENTS
    assert worked.ablation_drops.tolist() == [[6, -3, 0]]


@pytest.mark.parametrize("name", WEIGHTS)
def test_channel_weights(name, worked):
    weights = methods.get(name)(worked)
    assert weights.shape == (1, 3, 1, 1)
    assert weights.flatten().tolist() == pytest.approx(WEIGHTS[name], abs=1e-14)


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


def test_random_weights_differ_by_image_and_seed():
    trace = CASES["dense"].trace()
    weights = torch.cat([random_weights(trace), random_weights(trace, seed=1)])
    assert len({round(value, 9) for value in weights.flatten().tolist()}) == weights.numel()


def test_random_weights_in_float32_equal_float64():
    """The pixels are hashed as float32, on the CPU: neither precision nor device changes the weights."""
    images = CASES["dense"].images().float()
    single = replace(CASES["dense"], dtype=torch.float32).trace().again(images=images)
    double = CASES["dense"].trace().again(images=images.double())
    torch.testing.assert_close(random_weights(single).double(), random_weights(double), rtol=1e-6, atol=0)


def test_random_weights_are_standard_normal():
    """Of 2,000 draws, mean and variance within four standard errors: 4 / sqrt(2000) and 4 sqrt(2 / 2000)."""
    weights = random_weights(Case(channels=400, size=(2, 2), rows=5).trace()).flatten()
    assert abs(weights.mean()) < 0.09
    assert abs(weights.var() - 1) < 0.13


EXACT_ON_POOLED_HEAD = {"cam", "grad_cam", "xgrad_cam", "hires_cam", "ablation_cam_axiomatic", "shapley_cam"}
EXACT_ON_FLATTENED_HEAD = {"xgrad_cam", "hires_cam", "ablation_cam_axiomatic"}
OFF_THE_SCALE = {"grad_cam_pp", "ablation_cam", "uniform", "random", "lift_cam"}
WEIGHTINGS = sorted(EXACT_ON_POOLED_HEAD | OFF_THE_SCALE)
ROUNDING = 1e-12  # float64, sums of some hundred terms


def behind(readout, pooling: nn.Module, inputs: int) -> Trace:
    """Maps (3, 3, 4, 5), of both signs, no channel summing to about zero, and a linear layer without bias."""
    head = nn.Sequential(pooling, linear(*normal(2, inputs, seed=4).tolist()))
    return readout(head, normal(3, 3, 4, 5) + 0.3, target=1)


@pytest.fixture
def pooled(readout) -> Trace:
    return behind(readout, nn.AdaptiveAvgPool2d(1), 3)


@pytest.fixture
def flattened(readout) -> Trace:
    return behind(readout, nn.Identity(), 60)


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
    errors = axiom_errors(name, pooled)
    assert (max(errors) < ROUNDING) == (name in EXACT_ON_POOLED_HEAD), errors
    assert (errors[0] > 0.1) == (name not in EXACT_ON_POOLED_HEAD)  # negative controls have large errors


@pytest.mark.parametrize("name", sorted(set(WEIGHTINGS) - {"cam"}))  # this head isn't CAM's
def test_both_axioms_on_flattened_maps(name, flattened):
    errors = axiom_errors(name, flattened)
    assert (max(errors) < ROUNDING) == (name in EXACT_ON_FLATTENED_HEAD), errors


@pytest.mark.parametrize("name", sorted(EXACT_ON_POOLED_HEAD - {"cam"}))
def test_maps_equal_cam_on_global_average_pooling(name, pooled):
    expected = contributions("cam", pooled).sum(1)
    torch.testing.assert_close(contributions(name, pooled).sum(1), expected, rtol=0, atol=ROUNDING)


@EACH_CASE
def test_xgrad_cam_errors_equal_the_normalised_residuals(case):
    """zeta_k = (S - S_k) - sum g_k F_k, epsilon = S - sum_k sum g_k F_k, on networks with biases and hidden ReLUs; and
    HiResCAM has the same channel totals."""
    trace = case.trace()
    gF = (trace.gradients * trace.activations).sum(XY)
    zeta = (trace.ablation_drops - gF).abs().sum(1) / trace.ablation_drops.abs().sum(1)
    epsilon = (trace.scores - gF.sum(1)).abs() / trace.scores.abs()
    assert epsilon.min() > 1e-3  # a bias is at work, so that equal doesn't mean zero
    assert axiom_errors("xgrad_cam", trace) == pytest.approx((zeta.max().item(), epsilon.max().item()), rel=1e-10)
    for name in ("hires_cam", "xgrad_cam"):
        torch.testing.assert_close(contributions(name, trace).sum(XY), gF, rtol=1e-10, atol=1e-14)
