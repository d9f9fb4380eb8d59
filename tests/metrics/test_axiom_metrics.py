"""The axiom errors against loops over numbers, brute force, and theorems; their split, what post-processing leaves of
completeness, and both axioms on other outputs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.explanation.explanation import Explanation, heatmap
from tests.metrics.build import close, tensor

EXACT = 1e-12  # float64, a few additions
numbers = st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3))


@st.composite
def axiom_numbers(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """S (1,), d (1, K), m (1, K) with S != 0 and sum |d| != 0; some m are 0 and some are negative."""
    channels = draw(st.integers(1, 6))
    row = st.lists(numbers, min_size=channels, max_size=channels)
    d = draw(row.filter(any))
    S, m = draw(numbers.filter(bool)), draw(row)
    return tensor(S), tensor(d), tensor(m)


def value(name: str, explanation: object) -> float:
    return float(metrics.get(name)(explanation))


def axiom_errors(S: float, d: list[float], m: list[float]) -> tuple[float, float]:
    """Sensitivity and conservation error, a channel at a time."""
    off = sum(abs(d_k - m_k) for d_k, m_k in zip(d, m, strict=True))
    return off / sum(map(abs, d)), abs(S - sum(m)) / abs(S)


def loops(S: float, d: list[float], m: list[float]) -> dict[str, float]:
    sensitivity, conservation = axiom_errors(S, d, m)
    size = sum(map(abs, d))
    above = sensitivity * size + conservation * abs(S) - abs(S - sum(d))
    return {
        **dict.fromkeys(("sensitivity_error", "sensitivity_error_raw"), sensitivity),
        **dict.fromkeys(("conservation_error", "conservation_error_raw"), conservation),
        "axiom_floor_distance": above / (size + abs(S)),
    }


@given(axiom_numbers())
@settings(max_examples=60)
def test_errors_equal_their_formulas(axiom_explanation, drawn):
    S, d, m = drawn
    for name, expected in loops(float(S), d[0].tolist(), m[0].tolist()).items():
        assert value(name, axiom_explanation(*drawn)) == pytest.approx(expected, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize(
    ("S", "d", "m", "expected"),
    [
        # |1-2| + |-3+2| over 1 + 3; |-4 - 0| over 4; flat from a factor of 0.5 to 1.5
        (-4, [1, -3], [2, -2], {"sensitivity_error": 2 / 4, "conservation_error": 4 / 4,
                                "axiom_floor_distance": (2 + 4 - 2) / (4 + 4), "sensitivity_error_scaled": 2 / 4}),
        (1, [1, -2, 3], [-1, 2, -3], {"sensitivity_error_scaled": 1}),  # of the opposite sign: the best factor is 0
        (1, [1, -2, 3], [0, 0, 0], {"sensitivity_error_scaled": 1}),
        # S - sum d = 4, sum |d| = 8: m = d is one end of the floor, an m that sums to S the other
        (10, [3, 4, -1], [3, 4, -1], {"sensitivity_error": 0, "conservation_error": 0.4,
                                      "axiom_floor_sensitivity": 0.5, "axiom_floor_conservation": 0.4}),
        (10, [3, 4, -1], [4, 7, -1], {"sensitivity_error": 0.5, "conservation_error": 0}),
    ],
)  # fmt: skip
def test_errors_worked_by_hand(S, d, m, expected, axiom_explanation):
    explanation = axiom_explanation(tensor(S), tensor(d), tensor(m))
    floor = metrics.get("axiom_floor")(explanation)
    actual = {name: float(floor[name]) if name in floor else value(name, explanation) for name in expected}
    assert actual == pytest.approx(expected, abs=EXACT)


@given(axiom_numbers())
@settings(max_examples=60)
def test_scaled_sensitivity_is_the_least_over_every_factor(axiom_explanation, drawn):
    S, d, m = drawn
    actual = value("sensitivity_error_scaled", axiom_explanation(S, d, m))
    corners = (d / m)[m != 0].clamp(min=0)  # a convex, piecewise linear function is least at a corner, or at 0
    factors = torch.cat([torch.zeros(1), corners, torch.linspace(0, 10, 101)]).double()
    tried = ((d - factors[:, None] * m).abs().sum(1) / d.abs().sum()).min()
    assert actual == pytest.approx(float(tried), rel=1e-9)
    assert -EXACT <= actual <= 1 + EXACT


@given(axiom_numbers(), st.floats(1e-3, 1e3))
@settings(max_examples=40)
def test_scaled_sensitivity_ignores_a_positive_factor_and_bounds_the_plain_one(axiom_explanation, drawn, factor):
    S, d, m = drawn
    scaled = value("sensitivity_error_scaled", axiom_explanation(S, d, m))
    assert value("sensitivity_error_scaled", axiom_explanation(S, d, factor * m)) == pytest.approx(scaled, rel=1e-9)
    assert scaled <= value("sensitivity_error", axiom_explanation(S, d, m)) + EXACT
    assert value("sensitivity_error_scaled", axiom_explanation(S, d, factor * d)) == pytest.approx(0, abs=1e-9)


@given(axiom_numbers(), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=6, max_size=6))
@settings(max_examples=60)
def test_floor_distance_is_zero_exactly_on_the_segment(axiom_explanation, drawn, share, split):
    S, d, m = drawn
    assert value("axiom_floor_distance", axiom_explanation(S, d, m)) >= 0
    parts = torch.tensor(split[: d.shape[1]]).double() + 0.1
    on_floor = d + share * (S - d.sum()) * parts / parts.sum()  # hand out a share of what the drops leave of S
    explanation = axiom_explanation(S, d, on_floor)
    assert value("axiom_floor_distance", explanation) == pytest.approx(0, abs=1e-10)
    rest = float((S - d.sum()).abs())
    sensitivity, conservation = (value(name, explanation) for name in ("sensitivity_error", "conservation_error"))
    assert sensitivity == pytest.approx(share * rest / float(d.abs().sum()), rel=1e-9, abs=1e-9)
    assert conservation == pytest.approx((1 - share) * rest / float(S.abs()), rel=1e-9, abs=1e-9)
    off_floor = axiom_explanation(S, d, on_floor + torch.sign(on_floor - d + 0.5) * (1 + rest))
    assert value("axiom_floor_distance", off_floor) > 1e-3


def test_guarded_channels_counts_vanishing_sums_but_no_dead_channel(axiom_explanation):
    F = torch.zeros(1, 4, 1, 2).double()
    F[0, 1:] = torch.tensor([[[1.0, -1.0]], [[1.0, -1.0 + 1e-13]], [[1.0, -0.9]]])  # the first stays dead
    explanation = axiom_explanation(torch.ones(1), torch.ones(1, 4), torch.ones(1, 4))
    explanation.trace.activations = F
    assert value("guarded_channels", explanation) == 2


small = st.floats(-8, 8).map(lambda x: round(x, 3))


def with_activations(explanation: Explanation, activations: Tensor) -> Explanation:
    explanation.trace.activations = activations  # type: ignore[union-attr, misc]
    return explanation


def test_the_split_by_hand(axiom_explanation):
    """The second channel is guarded, the last dead."""
    F = tensor([[1.0, 1.0], [1.0, -1.0], [2.0, -1.0], [0.0, 0.0]])[:, :, None]
    explanation = axiom_explanation(torch.ones(1), tensor([2.0, 1, 1, 0]), tensor([3.0, 0, 1.5, 0]))
    actual = metrics.get("sensitivity_error_split")(with_activations(explanation, F))
    assert [float(part) for part in actual.values()] == [1 / 4, 1.5 / 4]
    assert list(actual) == ["sensitivity_error_guarded", "sensitivity_error_open"]


@given(st.lists(st.tuples(small, small, st.booleans()), min_size=1).filter(lambda drawn: any(d for d, *_ in drawn)))
@settings(max_examples=60)
def test_the_parts_of_the_split_are_positive_and_add_up(axiom_explanation, channels):
    drops, totals, guarded = zip(*channels, strict=True)
    F = tensor([[[1.0, -1.0 if is_guarded else 1.0]] for is_guarded in guarded])
    explanation = with_activations(axiom_explanation(torch.ones(1), tensor(drops), tensor(totals)), F)
    split = metrics.get("sensitivity_error_split")(explanation)
    assert all(float(part) >= 0 for part in split.values())
    assert float(sum(split.values())) == pytest.approx(value("sensitivity_error", explanation), abs=1e-12)
    assert any(guarded) or float(split["sensitivity_error_guarded"]) == 0


def test_what_xgrad_cam_leaves_to_guarded_channels_is_their_whole_drop():
    """A layer norm of its own makes every channel sum to zero: all weights are 0, so the error is sum |d| / sum |d|."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm((6, 6)), nn.Flatten(), nn.Linear(144, 5), nn.Tanh())
    trace = ab.trace(net.double().eval(), "1", torch.randn(3, 3, 8, 8, dtype=torch.float64))
    of_layer = metrics.get("guarded_channels")(Explanation(trace=trace))
    assert of_layer.tolist() == [4, 4, 4]
    actual = metrics.get("sensitivity_error_split")(Explanation.of(trace, methods.get("xgrad_cam")(trace)))
    torch.testing.assert_close(actual["sensitivity_error_guarded"], torch.ones(3).double())
    assert not actual["sensitivity_error_open"].any()


def mapped(S: float, raw_map: list[list[float]], size: tuple[int, int] = (4, 4)) -> Explanation:
    """One image whose one channel's contributions are the raw map."""
    R = torch.tensor([raw_map], dtype=torch.float64)
    trace = type("Trace", (), {"scores": torch.tensor([S], dtype=torch.float64)})()
    return Explanation(trace=trace, contributions=R[:, None], raw_map=R, heatmap=heatmap(R, size))


@pytest.mark.parametrize(
    ("S", "raw_map", "conservation", "relu", "heatmap", "negative"),
    [
        (4.0, [[3.0, -1.0], [0.0, 2.0]], 0, 1 / 4, (4 - 5 / 3) / 4, 1 / 6),  # sum 4; after ReLU 5; the heatmap 1 + 2/3
        (3.0, [[1.0, 0.5], [0.0, 2.0]], 0.5 / 3, 0.5 / 3, (3 - 1.75) / 3, 0),  # nothing negative: ReLU changes nothing
    ],
)
def test_completeness_by_hand(S, raw_map, conservation, relu, heatmap, negative):
    explanation = mapped(S, raw_map, size=(2, 2))
    actual = metrics.get("completeness")(explanation)
    assert {name: float(error) for name, error in actual.items()} == pytest.approx(
        {"completeness_error_relu": relu, "completeness_error_heatmap": heatmap}, abs=1e-15
    )
    assert value("conservation_error", explanation) == pytest.approx(conservation, abs=1e-15)
    assert value("negative_share", explanation) == pytest.approx(negative, abs=1e-15)


maps = st.lists(st.lists(small, min_size=3, max_size=3), min_size=2, max_size=2)


@given(maps, st.floats(0.5, 9), st.sampled_from([-1, 1]))
@settings(max_examples=60)
def test_relu_moves_the_total_by_the_negative_part(raw_map, S, sign):
    explanation = mapped(S * sign, raw_map)
    flat = [number for row in raw_map for number in row]
    negative = sum(-number for number in flat if number < 0)
    error = float(metrics.get("completeness")(explanation)["completeness_error_relu"])
    assert error == pytest.approx(abs(S * sign - sum(flat) - negative) / S, abs=1e-12)
    assert abs(error - value("conservation_error", explanation)) <= negative / S + 1e-12
    share = value("negative_share", explanation)
    if any(flat):
        assert share == pytest.approx(negative / sum(map(abs, flat)), abs=1e-12)
        flipped = mapped(S, [[-3 * number for number in row] for row in raw_map])
        assert value("negative_share", flipped) == pytest.approx(1 - share, abs=1e-12)
    else:
        assert math.isnan(share)


@given(maps, st.floats(0.5, 9))
@settings(max_examples=40)
def test_a_heatmap_forgets_the_maps_unit(raw_map, factor):
    """Twice the contributions give the same picture, so its completeness error can't tell them apart."""
    scaled = [[factor * number for number in row] for row in raw_map]
    here, there = (metrics.get("completeness")(mapped(2.0, each)) for each in (raw_map, scaled))
    close(there["completeness_error_heatmap"], here["completeness_error_heatmap"], atol=1e-9, rtol=0)


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(3)
    head = nn.Sequential(nn.Flatten(), nn.Linear(216, 16), nn.ReLU(), nn.Linear(16, 5))
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), head).double().eval()


def explained(logits: Tensor, target: int, output: str) -> Tensor:
    """The output written out, for one image's logits (1, C)."""
    others = [c for c in range(logits.shape[1]) if c != target]
    if output == "logits":
        return logits[0, target]
    if output == "margin":
        return logits[0, target] - logits[0, others].max()
    return 1 / (1 + (logits[0, others] - logits[0, target]).exp().sum())


@pytest.mark.parametrize("output", ["logits", "probability", "margin"])
def test_both_axioms_equal_loops(network, output):
    """The head run anew for every channel, the gradient of the output written out; zeta and epsilon are the errors of
    XGrad-CAM and HiResCAM."""
    images, targets = torch.randn(3, 3, 12, 12, dtype=torch.float64), [0, 3, 1]
    trace = ab.trace(network, "1", images, torch.tensor(targets), output=output)
    for row, target in enumerate(targets):
        maps = network[:2](images[row : row + 1]).detach().requires_grad_()
        score = explained(network[2](maps), target, output)
        (gradient,) = torch.autograd.grad(score, maps)
        S, d = float(score.detach()), []
        for k in range(6):
            ablated = maps.detach().clone()
            ablated[:, k] = 0
            d.append(S - float(explained(network[2](ablated).detach(), target, output)))
        F, g = maps.detach()[0], gradient[0]
        products = (g * F).sum((1, 2)).tolist()
        expected = {
            "xgrad_cam": products, "hires_cam": products, "ablation_cam_axiomatic": d,
            "grad_cam": (g.mean((1, 2)) * F.sum((1, 2))).tolist(),
        }  # fmt: skip
        for method, m in expected.items():
            explanation, errors = Explanation.of(trace, methods.get(method)(trace)), axiom_errors(S, d, m)
            assert method == "ablation_cam_axiomatic" or min(errors) > 1e-4  # or equal would show nothing
            for names in (("sensitivity_error", "conservation_error"), ("zeta", "epsilon")):
                if names[0] == "sensitivity_error" or m is products:
                    actual = [float(metrics.get(name)(explanation)[row]) for name in names]
                    assert actual == pytest.approx(errors, rel=1e-9, abs=1e-9), (method, names)


def test_a_linear_head_keeps_the_margin_axioms_only_while_the_runner_up_stays():
    """Two classes: the margin is linear in the logits, so behind pooling and a linear layer XGrad-CAM is exact in its
    sensitivity, while a probability bends."""
    torch.manual_seed(1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), head).double().eval()
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    for output, exact in (("margin", True), ("probability", False)):
        trace = ab.trace(net, "1", images, output=output)
        error = metrics.get("zeta")(Explanation(trace=trace))
        assert (error < 1e-12).all() if exact else (error > 1e-4).all()
