"""The check of the head's graph tolerates rounding of large logits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.ablation.graph import HeadGraph


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_head_graph_is_read_for_logits_of_any_scale(scale):
    """Among a thousand classes some logit is nearly 0, where rounding is large beside it, not beside the others."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 2048, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)
    ).eval()
    with torch.no_grad():
        net[4].weight *= scale * 30
        net[4].bias *= scale * 30
        trace = ab.trace(net, "1", torch.randn(4, 3, 7, 7), torch.arange(4))
        assert isinstance(trace.cut_model.head_graph(trace.activations, trace.network.sides), HeadGraph)
        pooled = trace.activations.double().mean((2, 3)) * net[4].weight[trace.targets].double()
    torch.testing.assert_close(trace.ablation_drops.double(), pooled, rtol=1e-5, atol=1e-6 * float(pooled.abs().max()))
