"""Axioms beyond the paper: the split of the sensitivity error, what post-processing leaves of completeness, and both
axioms on a probability and on a margin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods, metrics
from axiom_bench.explanation.explanation import Explanation, heatmap

numbers = st.floats(-8, 8).map(lambda x: round(x, 3))


def axiom_errors(S: float, d: list[float], m: list[float]) -> tuple[float, float]:
    """Sensitivity and conservation error, a channel at a time."""
    off = sum(abs(d_k - m_k) for d_k, m_k in zip(d, m, strict=True))
    return off / sum(map(abs, d)), abs(S - sum(m)) / abs(S)


def with_activations(explanation: Explanation, activations: Tensor) -> Explanation:
    explanation.trace.activations = activations  # type: ignore[union-attr, misc]
    return explanation


def test_the_split_by_hand(axiom_explanation):
    """d = (2, 1, 1, 0), m = (3, 0, 1.5, 0): the second channel is guarded, the last dead."""
    F = torch.tensor([[1.0, 1.0], [1.0, -1.0], [2.0, -1.0], [0.0, 0.0]]).double()[None, :, None]
    d, m = torch.tensor([[2.0, 1, 1, 0]]).double(), torch.tensor([[3.0, 0, 1.5, 0]]).double()
    actual = metrics.get("sensitivity_error_split")(with_activations(axiom_explanation(torch.ones(1), d, m), F))
    assert float(actual["sensitivity_error_guarded"]) == 1 / 4
    assert float(actual["sensitivity_error_open"]) == 1.5 / 4


@given(st.lists(st.tuples(numbers, numbers, st.booleans()), min_size=1, max_size=6))
@settings(max_examples=60)
def test_the_parts_of_the_split_are_positive_and_add_up(axiom_explanation, channels):
    drops, totals, guarded = zip(*channels, strict=True)
    d, m = torch.tensor([drops]).double(), torch.tensor([totals]).double()
    if not d.any():
        return
    F = torch.tensor([[[[1.0, -1.0 if is_guarded else 1.0]] for is_guarded in guarded]]).double()
    explanation = with_activations(axiom_explanation(torch.ones(1), d, m), F)
    split = metrics.get("sensitivity_error_split")(explanation)
    assert all(float(part) >= 0 for part in split.values())
    assert float(sum(split.values())) == pytest.approx(float(metrics.get("sensitivity_error")(explanation)), abs=1e-12)
    if not any(guarded):
        assert float(split["sensitivity_error_guarded"]) == 0


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


def test_completeness_by_hand():
    """S = 4, R = ((3, -1), (0, 2)): the sum is 4, exactly S; after ReLU 5; the heatmap at its own size 1 + 2/3."""
    explanation = mapped(4.0, [[3.0, -1.0], [0.0, 2.0]], size=(2, 2))
    actual = metrics.get("completeness")(explanation)
    assert float(metrics.get("conservation_error")(explanation)) == 0
    assert float(actual["completeness_error_relu"]) == pytest.approx(1 / 4, abs=1e-15)
    assert float(actual["completeness_error_heatmap"]) == pytest.approx((4 - 5 / 3) / 4, abs=1e-15)
    assert float(metrics.get("negative_share")(explanation)) == pytest.approx(1 / 6, abs=1e-15)


maps = st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=2)


@given(maps, st.floats(0.5, 9), st.sampled_from([-1, 1]))
@settings(max_examples=60)
def test_relu_moves_the_total_by_the_negative_part(raw_map, S, sign):
    explanation = mapped(S * sign, raw_map)
    flat = [value for row in raw_map for value in row]
    negative = sum(-value for value in flat if value < 0)
    actual = metrics.get("completeness")(explanation)
    assert float(actual["completeness_error_relu"]) == pytest.approx(
        abs(S * sign - sum(flat) - negative) / S, abs=1e-12
    )
    moved = abs(float(actual["completeness_error_relu"]) - float(metrics.get("conservation_error")(explanation)))
    assert moved <= negative / S + 1e-12
    share = metrics.get("negative_share")(explanation)
    if any(flat):
        assert float(share) == pytest.approx(negative / sum(map(abs, flat)), abs=1e-12)
        assert float(metrics.get("negative_share")(mapped(S, [[-3 * v for v in row] for row in raw_map]))) == (
            pytest.approx(1 - float(share), abs=1e-12)
        )
    else:
        assert share.isnan().all()


@given(maps, st.floats(0.5, 9))
@settings(max_examples=40)
def test_a_heatmap_forgets_the_maps_unit(raw_map, factor):
    """Twice the contributions give the same picture, so its completeness error can't tell them apart."""
    here = metrics.get("completeness")(mapped(2.0, raw_map))["completeness_error_heatmap"]
    scaled = mapped(2.0, [[factor * value for value in row] for row in raw_map])
    assert float(metrics.get("completeness")(scaled)["completeness_error_heatmap"]) == pytest.approx(
        float(here), abs=1e-9
    )


def test_a_map_without_negative_values_keeps_its_conservation_error():
    explanation = mapped(3.0, [[1.0, 0.5], [0.0, 2.0]])
    actual = metrics.get("completeness")(explanation)["completeness_error_relu"]
    assert float(actual) == float(metrics.get("conservation_error")(explanation))


@pytest.fixture(scope="module")
def network() -> nn.Sequential:
    torch.manual_seed(3)
    head = nn.Sequential(nn.Flatten(), nn.Linear(216, 16), nn.ReLU(), nn.Linear(16, 5))
    return nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), head).double().eval()


def explained(logits: Tensor, target: int, output: str) -> Tensor:
    """The output written out, for one image's logits (1, C)."""
    others = [c for c in range(logits.shape[1]) if c != target]
    if output == "margin":
        return logits[0, target] - logits[0, others].max()
    return 1 / (1 + (logits[0, others] - logits[0, target]).exp().sum())


@pytest.mark.parametrize("output", ["probability", "margin"])
@pytest.mark.parametrize("method", ["xgrad_cam", "hires_cam", "grad_cam", "ablation_cam_axiomatic"])
def test_both_axioms_on_another_output_equal_loops(network, output, method):
    """The head run anew for every channel, the gradient of the output written out."""
    images, targets = torch.randn(3, 3, 12, 12, dtype=torch.float64), [0, 3, 1]
    trace = ab.trace(network, "1", images, torch.tensor(targets), output=output)
    explanation = Explanation.of(trace, methods.get(method)(trace))
    for row, target in enumerate(targets):
        maps = network[:2](images[row : row + 1]).detach().requires_grad_()
        score = explained(network[2](maps), target, output)
        (g,) = torch.autograd.grad(score, maps)
        S, d = float(score.detach()), []
        for k in range(6):
            ablated = maps.detach().clone()
            ablated[:, k] = 0
            d.append(S - float(explained(network[2](ablated).detach(), target, output)))
        F, g = maps.detach()[0], g[0]
        m = {
            "xgrad_cam": [float((g[k] * F[k]).sum()) for k in range(6)],
            "hires_cam": [float((g[k] * F[k]).sum()) for k in range(6)],
            "grad_cam": [float(g[k].mean() * F[k].sum()) for k in range(6)],
            "ablation_cam_axiomatic": d,
        }[method]
        sensitivity, conservation = axiom_errors(S, d, m)
        actual = float(metrics.get("sensitivity_error")(explanation)[row])
        assert actual == pytest.approx(sensitivity, rel=1e-9, abs=1e-9)
        assert float(metrics.get("conservation_error")(explanation)[row]) == pytest.approx(conservation, rel=1e-9)


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
