"""A head that keeps one token is computed for that token alone, with equal results."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.ablation.drops import brute_force_drops


class Block(nn.Module):
    """A transformer's block behind maps of 4 channels.

    over: the dimensions of the last norm. take: what is left of tokens (B, 9, 4).
    """

    def __init__(self, take: Callable[[Tensor], Tensor], over: tuple[int, ...]) -> None:
        super().__init__()
        self.maps, self.take = nn.Conv2d(3, 4, 1), take
        self.norm, self.mixing = nn.LayerNorm(4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 4))
        self.last, self.fc = nn.LayerNorm(over), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maps(x).flatten(2).transpose(1, 2)
        normed = self.norm(x)
        x = x + self.mixing(normed, normed, normed, need_weights=False)[0]
        return self.fc(self.take(self.last(x + self.mlp(x))))


HEADS = {
    "class_token": (lambda x: x[:, 0], (4,), True),
    "a_later_token": (lambda x: x[:, 3], (4,), True),
    "the_last_token": (lambda x: x[:, -1], (4,), False),  # which one that is depends on their number
    "two_tokens": (lambda x: x[:, 0] + x[:, 1], (4,), False),
    "the_mean": (lambda x: x.mean(1), (4,), False),
    "a_norm_over_tokens": (lambda x: x[:, 0], (9, 4), False),
}


@pytest.mark.parametrize("name", HEADS)
def test_logits_gradients_and_drops_equal_the_full_head(name: str):
    torch.manual_seed(0)
    take, over, early = HEADS[name]
    model, images = Block(take, over).double().eval(), torch.randn(2, 3, 3, 3, dtype=torch.float64)
    trace = ab.trace(model, "maps", images, torch.tensor([2, 0]))
    head = trace.cut_model.head_graph(trace.activations, trace.network.sides)
    values = head.evaluate(trace.activations, trace.network.sides)
    is_early = (2, 1, 8) in [tuple(value.shape) for value in values.values() if isinstance(value, Tensor)]
    assert is_early == early

    maps = trace.activations.clone().requires_grad_()
    logits = trace.cut_model.trunk_and_head.parts.head(maps, trace.network.sides)  # of all tokens
    (gradients,) = torch.autograd.grad(logits.gather(1, trace.targets[:, None]).sum(), maps)
    # Other kernels for other shapes: float64 rounds at 1e-16 of values near 1.
    torch.testing.assert_close(trace.logits, logits.detach(), rtol=0, atol=1e-14)
    torch.testing.assert_close(trace.gradients, gradients, rtol=0, atol=1e-14)
    cut, kinds = trace.cut_model, trace.cut_model.trunk_and_head.side_kinds
    expected = brute_force_drops(cut.head, kinds, trace.activations, trace.network.sides, trace.targets, 2**20)
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=0, atol=1e-14)
