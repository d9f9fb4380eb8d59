"""Axiom-CAM: the formula in loops, closed forms on the axiom floor, dead and guarded channels."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from axiom_bench import methods, metrics
from axiom_bench.cutting.numerics import XY
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.axiom_cam import SPLITS, axiom_cam
from axiom_bench.testing import CASES, Case, check_method

STEPS = (0.0, 0.3, 1.0)
ROUNDING = 1e-12  # float64, sums of some hundred terms
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_split = pytest.mark.parametrize("split", SPLITS)
each_step = pytest.mark.parametrize("t", STEPS)


def explained(trace: Trace, t: float, split: str) -> Explanation:
    return Explanation.of(trace, axiom_cam(trace, t, split))


def weights_in_loops(case: Case, row: int, t: float, split: str) -> list[float]:
    """The formula, a channel at a time, on the network run without the engine."""
    model = case.model()
    steps = list(model.features) + list(model.head)
    cut = int(case.layer.split(".")[1]) + 1
    trunk, head = nn.Sequential(*steps[:cut]), nn.Sequential(*steps[cut:])
    maps = trunk(case.images()[row : row + 1]).detach().clone().requires_grad_()
    score = head(maps.clone())[0, row % 3]
    (gradient,) = torch.autograd.grad(score, maps)
    F, g = maps[0].detach(), gradient[0]
    drops = []
    for k in range(case.channels):
        without = F.clone()
        without[k] = 0
        drops.append(score.item() - head(without[None])[0, row % 3].item())
    parts = []
    for k, drop in enumerate(drops):
        products = sum(a * b for a, b in zip(g[k].flatten().tolist(), F[k].flatten().tolist(), strict=True))
        parts.append(
            {
                "positive_drops": max(drop, 0.0),
                "drops": abs(drop),
                "gradients": abs(products),
                "activations": abs(sum(F[k].flatten().tolist())),
                "uniform": 1.0,
            }[split]
        )
    gap = score.item() - sum(drops)
    totals = [drop + t * part / sum(parts) * gap for drop, part in zip(drops, parts, strict=True)]
    return [total / sum(F[k].flatten().tolist()) for k, total in enumerate(totals)]


@each_case
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


@each_case
@each_split
@each_step
def test_errors_on_the_floor_follow_t(case, split, t):
    """sensitivity = t s0 and conservation = (1 - t) c0, s0 and c0 the floor's ends; so the distance to it is 0."""
    explanation = explained(case.trace(), t, split)
    floor = metrics.get("axiom_floor")(explanation)
    actual = {name: metrics.get(f"{name}_error")(explanation) for name in ("sensitivity", "conservation")}
    expected = {
        "sensitivity": t * floor["axiom_floor_sensitivity"],
        "conservation": (1 - t) * floor["axiom_floor_conservation"],
    }
    for name, errors in actual.items():
        torch.testing.assert_close(errors, expected[name], rtol=ROUNDING, atol=ROUNDING)
    assert metrics.get("axiom_floor_distance")(explanation).max() < ROUNDING
    assert floor["axiom_floor_conservation"].min() > 1e-3  # there is a gap to share, so that 0 isn't trivial


@each_case
@each_split
def test_t_zero_equals_ablation_cam_axiomatic(case, split):
    trace = case.trace()
    assert torch.equal(axiom_cam(trace, 0, split), methods.get("ablation_cam_axiomatic")(trace))


@each_case
@each_split
def test_weights_are_linear_in_t(case, split):
    trace = case.trace()
    start, middle, end = (axiom_cam(trace, t, split) for t in (0, 0.5, 1))
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        return nn.Sequential(nn.Flatten(), nn.Linear(5 * 4 * 4, 8), nn.ReLU(), nn.Linear(8, 2))


def hard_maps() -> Tensor:
    """(2, 5, 4, 4): a dead channel, one whose values cancel, and three plain ones."""
    maps = torch.rand(2, 5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    maps[:, 0] = 0
    maps[:, 1, 2:] = -maps[:, 1, :2]
    return maps


@each_split
@each_step
def test_weights_are_zero_without_an_open_channel(readout, split, t):
    maps = hard_maps()
    maps[:, 2:] = maps[:, 1:2]
    assert not axiom_cam(readout(relu_head(), maps), t, split).any()


def test_shares_are_uniform_where_all_parts_are_zero(readout):
    """A score that only falls by its maps has no positive drop; one that ignores them has no drop and no gradient."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    maps = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        head[1].bias.fill_(3.0)
        for weight, splits in ((-1.0, ("positive_drops",)), (0.0, ("positive_drops", "drops", "gradients"))):
            head[1].weight.fill_(weight)
            trace = readout(head, maps)
            for split in splits:
                assert torch.equal(axiom_cam(trace, 1, split), axiom_cam(trace, 1, "uniform"))
                assert explained(trace, 1, split).channel_totals.sum().item() == pytest.approx(trace.scores.item())


@each_split
@each_step
def test_equals_cam_where_the_gap_is_zero(readout, split, t):
    """Global average pooling and a linear layer without bias: S = sum d_k."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2, bias=False))
    maps = torch.randn(3, 3, 4, 5, generator=torch.Generator().manual_seed(3)) + 0.3
    trace = readout(head, maps, 1)
    for name in ("cam", "grad_cam", "xgrad_cam", "ablation_cam_axiomatic"):
        torch.testing.assert_close(axiom_cam(trace, t, split), methods.get(name)(trace), rtol=0, atol=ROUNDING)


@each_split
def test_bias_is_distributed_over_the_channels(readout, split):
    """With a bias b behind global average pooling S - sum d_k = b: at t = 1 the channels carry it."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    trace = readout(head, torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(3)))
    before, after = (explained(trace, t, split).channel_totals.sum(1) for t in (0, 1))
    torch.testing.assert_close(after - before, head[2].bias[0].expand(3), rtol=0, atol=ROUNDING)


@each_case
@each_split
@each_step
def test_contributions_follow_the_units_of_score_and_activations(case, split, t):
    """Contributions are c times as large with the score, and the same whatever the activations are measured in."""
    trace = case.trace()
    contributions = axiom_cam(trace, t, split) * trace.activations
    for output, inputs in ((3.7, 1.0), (1.0, 0.013)):
        other = trace.scaled(output=output, inputs=inputs)
        actual = axiom_cam(other, t, split) * other.activations
        torch.testing.assert_close(actual, output * contributions, rtol=1e-9, atol=ROUNDING)


@each_case
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
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
    with torch.no_grad():
        head[2].weight.copy_(torch.tensor([[1.0, 2.0, 5.0]]))
        head[2].bias.fill_(4.0)
    trace = readout(head, torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(3)))
    start, end = (explained(trace, t, split).heatmap for t in (0, 1))
    moved = (end - start).abs().max().item()
    assert (moved < ROUNDING) == (split in ("positive_drops", "drops", "gradients")), moved


def test_float32_conservation():
    trace = Case(dtype=torch.float32).trace()
    for split in SPLITS:
        assert metrics.get("conservation_error")(explained(trace, 1.0, split)).max() < 1e-5


@pytest.mark.parametrize("t", [-0.1, 1.5, float("nan")])
def test_invalid_t(t):
    with pytest.raises(BenchError, match=r"Invalid t=.* of axiom_cam; give 0"):
        axiom_cam(CASES["dense"].trace(), t)


def test_unknown_split():
    with pytest.raises(BenchError, match="no split of axiom_cam 'positive_drop'; did you mean 'positive_drops'"):
        axiom_cam(CASES["dense"].trace(), split="positive_drop")
