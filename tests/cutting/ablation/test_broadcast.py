"""Drops of a head in which a changed value broadcasts to the shape of an unchanged one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import axiom_bench as ab
from tests.cutting.ablation.heads import naive_drops


class GateOnSkip(nn.Module):
    """A gate (B, 3, 1, 1) of the layer's maps is added to a skip connection (B, 3, H, W) and a size, and convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.mix = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        self.conv, self.fc = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5 * 36, 7)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.mix(self.maps(x).mean((2, 3), keepdim=True))
        return self.fc(torch.relu(self.conv(gate + x + gate.size(1))).flatten(1))


def test_drops_of_a_gate_added_to_a_skip_connection():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    trace = ab.trace(GateOnSkip().double(), "maps", images)
    assert trace.cut_model.head_graph(trace.activations, trace.network.sides) is not None
    # Brute force subtracts two scores near 1, so it rounds at about 1e-16.
    torch.testing.assert_close(trace.ablation_drops, naive_drops(trace), rtol=0, atol=1e-14)
