"""A budget of ablations: exact drops of the most important channels, and the error of the
others.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.ablation.drops import SAMPLE, within
from axiom_bench.cutting.numerics import XY
from axiom_bench.errors import BenchError
from tests.cutting.ablation.heads import behind_maps, brute_force, head_graph, naive_drops

CHANNELS = 96


def curved(channels: int = CHANNELS) -> nn.Module:
    """A head whose drops aren't their first-order terms."""
    torch.manual_seed(1)
    first = [nn.Conv2d(channels, 20, 3), nn.ReLU()]
    second = [nn.Conv2d(20, 16, 3), nn.SiLU()]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(64, 7))


def decide(net, x):
    """The forward pass of a network whose code reads its data, so that no graph describes the
    head.
    """
    maps = net.maps(x)
    return net.head(maps if maps.sum() < 1e9 else 2 * maps)


def traces(
    rows: int, budget: int | None, head: nn.Module | None = None, decides: bool = False
) -> ab.Trace:
    torch.manual_seed(2)
    model = behind_maps(head or curved(), channels=CHANNELS).double()
    if decides:
        model.function = decide
    images = torch.randn(
        rows, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    return ab.cut(model, "maps", ablation_channels=budget).trace(images)


def first_order(trace: ab.Trace) -> Tensor:
    return (trace.gradients * trace.activations).sum(XY)


@pytest.mark.parametrize("budget", [1, 8, 40])
def test_exact_drops_are_those_of_the_double_loop(budget):
    trace = traces(3, budget)
    expected = naive_drops(trace)
    linear = first_order(trace)
    drops = trace.drops
    dead = ~trace.activations.any(-1).any(-1)
    assert (drops.exact & ~dead).sum(1).tolist() == [budget + SAMPLE] * 3
    torch.testing.assert_close(drops.values[drops.exact], expected[drops.exact], rtol=0, atol=1e-12)
    assert torch.equal(drops.values[~drops.exact], linear[~drops.exact])
    for row, exact in enumerate(drops.exact):
        chosen = linear[row].abs().topk(budget).indices
        assert exact[chosen].all()
        sample = (exact & ~dead[row]).index_fill(0, chosen, False)
        rest = int((~exact).sum())
        errors = (expected - linear)[row, sample].abs()
        # Cantelli: beyond it in one case of 20
        reach = (19 * errors.var() * (rest + rest**2 / SAMPLE)) ** 0.5
        torch.testing.assert_close(
            drops.error[row], rest * errors.mean() + reach, rtol=1e-9, atol=0
        )
    assert torch.equal(trace.ablation_drops, drops.values)


def test_the_error_is_below_its_bound():
    """The errors of this head are skewed: by Student's t 11 % of the bounds would be too low."""
    trace = traces(200, 8)
    errors = (trace.ablation_drops - traces(200, None).ablation_drops).abs().sum(1)
    assert errors.min() > 0
    assert (errors <= trace.drops.error).double().mean() >= 0.95
    assert 1 < (trace.drops.error / errors).median() < 2.5


@pytest.mark.parametrize("budget", [CHANNELS - SAMPLE, CHANNELS, 1000])
def test_a_budget_that_covers_all_is_exact(budget):
    trace = traces(2, budget)
    assert trace.drops.exact.all()
    assert not trace.drops.error.any()
    torch.testing.assert_close(
        trace.ablation_drops, traces(2, None).ablation_drops, rtol=0, atol=1e-14
    )


def test_no_budget_is_needed_behind_global_average_pooling():
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 7))
    trace = traces(2, 1, head)
    assert trace.drops.exact.all()
    assert not trace.drops.error.any()
    assert torch.equal(trace.ablation_drops, traces(2, None, head).ablation_drops)


def test_rows_do_not_depend_on_their_batch():
    trace = traces(3, 8)
    alone = traces(3, 8)[1:2]
    torch.testing.assert_close(alone.ablation_drops, trace.ablation_drops[1:2], rtol=0, atol=1e-13)
    part = trace[1:2]
    assert torch.equal(part.drops.exact, alone.drops.exact)
    torch.testing.assert_close(part.drops.error, alone.drops.error, rtol=1e-9, atol=0)


def test_dead_channels_are_exact_and_no_part_of_the_budget():
    trace = traces(1, 8)
    maps = trace.activations.clone()
    maps[:, ::2] = 0
    other = replace(trace, activations=maps, gradients=trace.gradients)
    dead = ~maps.any(-1).any(-1)
    generators = other.generators(0)
    drops = within(8, first_order(other), dead, generators, lambda channels: channels * 2.0)
    assert drops.exact[:, ::2].all()
    assert not drops.values[:, ::2].any()
    assert drops.exact.sum() == CHANNELS // 2 + 8 + SAMPLE


def test_passes_through_an_unknown_head_keep_to_the_budget():
    trace = traces(2, 8, decides=True)
    assert head_graph(trace) is None
    before = trace.passes.head_forward
    drops = trace.drops
    assert trace.passes.head_forward - before == 2 + 2 * (8 + SAMPLE)  # and the images themselves
    expected = brute_force(trace)[drops.exact]
    torch.testing.assert_close(drops.values[drops.exact], expected, rtol=0, atol=1e-12)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(BenchError, match="Invalid ablation_channels=0"):
        ab.cut(curved(), "0", ablation_channels=0)
