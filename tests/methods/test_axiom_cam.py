"""Axiom-CAM: the formula in loops, closed forms on the axiom floor, dead and guarded channels."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods, metrics
from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.axiom_cam import SPLITS, axiom_cam
from axiom_bench.testing import CASES, Case, check_method
from tests.methods.plain import EACH_CASE, gradient_of, head_of, linear, maps_of, normal, seeded, uniform

STEPS = (0.0, 0.3, 1.0)
ROUNDING = 1e-12  # float64, sums of some hundred terms
each_split = pytest.mark.parametrize("split", SPLITS)
each_step = pytest.mark.parametrize("t", STEPS)


def explained(trace: Trace, t: float, split: str) -> Explanation:
    return Explanation.of(trace, axiom_cam(trace, t, split))


def weights_in_loops(case: Case, row: int, t: float, split: str) -> list[float]:
    """The formula, a channel at a time, on the network run without the engine."""
    maps, target = maps_of(case), row % 3
    F, g = maps[row].flatten(1).tolist(), gradient_of(case, maps, row, target).flatten(1).tolist()
    ablated = [maps[row].index_fill(0, torch.tensor(k), 0) for k in range(case.channels)]
    with torch.no_grad():
        score, *without = (head_of(case)(each[None].clone())[0, target].item() for each in (maps[row], *ablated))
    drops = [score - each for each in without]
    parts = {
        "positive_drops": [max(drop, 0.0) for drop in drops],
        "drops": list(map(abs, drops)),
        "gradients": [abs(sum(a * b for a, b in zip(*both, strict=True))) for both in zip(g, F, strict=True)],
        "activations": [abs(sum(values)) for values in F],
        "uniform": [1.0] * len(F),
    }[split]
    gap = score - sum(drops)
    totals = [drop + t * part / sum(parts) * gap for drop, part in zip(drops, parts, strict=True)]
    return [total / sum(values) for total, values in zip(totals, F, strict=True)]


@EACH_CASE
@each_split
@each_step
def test_weights_equal_the_formula(case, split, t):
    actual = axiom_cam(case.trace(), t, split)
    for row in range(case.rows):
        # The loops' drops are differences of two scores: their rounding is that of the score, over sums of about 0.1.
        expected = weights_in_loops(case, row, t, split)
        assert actual[row].flatten().tolist() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("split", [split for split in SPLITS if split != "positive_drops"])
def test_every_split_passes_the_common_suite(split):
    """The default split passes it by its YAML."""
    check_method(partial(axiom_cam, t=0.5, split=split))


def test_yaml_parameters_are_the_defaults():
    assert methods.get("axiom_cam").params == {"t": 1.0, "split": "positive_drops"}
    trace = CASES["dense"].trace()
    assert torch.equal(methods.get("axiom_cam")(trace), axiom_cam(trace))


@EACH_CASE
@each_split
@each_step
def test_errors_on_the_floor_follow_t(case, split, t):
    """sensitivity = t s0 and conservation = (1 - t) c0, s0 and c0 the floor's ends; so the distance to it is 0."""
    explanation = explained(case.trace(), t, split)
    floor = metrics.get("axiom_floor")(explanation)
    for name, share in (("sensitivity", t), ("conservation", 1 - t)):
        expected = share * floor[f"axiom_floor_{name}"]
        torch.testing.assert_close(metrics.get(f"{name}_error")(explanation), expected, rtol=ROUNDING, atol=ROUNDING)
    assert metrics.get("axiom_floor_distance")(explanation).max() < ROUNDING
    assert floor["axiom_floor_conservation"].min() > 1e-3  # there is a gap to share, so that 0 isn't trivial


@EACH_CASE
@each_split
def test_weights_are_linear_in_t_from_ablation_cam_axiomatic(case, split):
    trace = case.trace()
    start, middle, end = (axiom_cam(trace, t, split) for t in (0, 0.5, 1))
    assert torch.equal(start, methods.get("ablation_cam_axiomatic")(trace))
    torch.testing.assert_close(middle, (start + end) / 2, rtol=ROUNDING, atol=ROUNDING)


def test_only_axiom_cam_totals_lie_on_the_floor():
    """Totals m = d + e are on the floor exactly where all of e has the gap's sign, and no more than the gap."""
    trace = CASES["dense"].trace()
    d, F = trace.ablation_drops, trace.activations
    gap = (trace.scores - d.sum(1))[:, None]
    generator = torch.Generator().manual_seed(5)
    seen = set()
    for _ in range(50):
        e = gap * torch.randn(d.shape, generator=generator, dtype=d.dtype).add(0.8).div(d.shape[1])
        totals = (d + e) / F.sum(XY)
        distance = metrics.get("axiom_floor_distance")(Explanation.of(trace, totals[..., None, None]))
        point = ((e * gap >= 0).all(1) & (e.sum(1).abs() <= gap[:, 0].abs())).tolist()
        assert (distance < ROUNDING).tolist() == point
        seen.update(point)
    assert seen == {True, False}


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


def pooled_head(classes: int, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes, bias=bias))


@each_split
@each_step
def test_weights_are_zero_without_an_open_channel(readout, split, t):
    maps = hard_maps()
    maps[:, 2:] = maps[:, 1:2]
    assert not axiom_cam(readout(relu_head(), maps), t, split).any()


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
@each_step
def test_equals_cam_where_the_gap_is_zero(readout, split, t):
    """Global average pooling and a linear layer without bias: S = sum d_k."""
    trace = readout(pooled_head(2, bias=False), normal(3, 3, 4, 5) + 0.3, 1)
    for name in ("cam", "grad_cam", "xgrad_cam", "ablation_cam_axiomatic"):
        torch.testing.assert_close(axiom_cam(trace, t, split), methods.get(name)(trace), rtol=0, atol=ROUNDING)


@each_split
def test_bias_is_distributed_over_the_channels(readout, split):
    """With a bias b behind global average pooling S - sum d_k = b: at t = 1 the channels carry it."""
    head = pooled_head(2)
    trace = readout(head, uniform(3, 3, 4, 5))
    before, after = (explained(trace, t, split).channel_totals.sum(1) for t in (0, 1))
    torch.testing.assert_close(after - before, head[2].bias[0].expand(3), rtol=0, atol=ROUNDING)


@EACH_CASE
def test_positive_drops_keep_the_sign_of_each_channel(case):
    """m_k keeps the sign of d_k while S >= -sum |d_k| over the negative drops; no drop, no share."""
    trace = case.trace()
    d = trace.ablation_drops
    checked = 0
    for t in STEPS:
        m = explained(trace, t, "positive_drops").channel_totals
        for row, score in enumerate(trace.scores):
            if score >= d[row].clamp(max=0).sum():
                assert (m[row] * d[row] >= 0).all()
                checked += 1
        torch.testing.assert_close(m[d < 0], d[d < 0], rtol=ROUNDING, atol=0)
    assert checked


@each_split
def test_splits_proportional_to_drops_keep_the_heatmap(readout, split):
    """Where all drops are positive, a share proportional to them is one factor for the whole map."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), linear([1.0, 2.0, 5.0], bias=4.0))
    trace = readout(head, uniform(1, 3, 4, 5))
    start, end = (explained(trace, t, split).heatmap for t in (0, 1))
    moved = (end - start).abs().max().item()
    assert (moved < ROUNDING) == (split in ("positive_drops", "drops", "gradients")), moved


@each_split
def test_float32_conservation(split):
    explanation = explained(Case(dtype=torch.float32).trace(), 1.0, split)
    assert metrics.get("conservation_error")(explanation).max() < 1e-5
