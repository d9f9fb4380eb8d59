"""Heads as people write them: recurrent, with attention, pools of all kinds; and some of more than
the image.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint


def rows(f: Tensor) -> Tensor:
    """Columns of maps as a sequence: (B, W, K H)."""
    return f.permute(0, 3, 1, 2).flatten(2)


def tokens(f: Tensor) -> Tensor:
    """Positions of maps as a sequence: (B, H W, K)."""
    return f.flatten(2).transpose(1, 2)


def cells(net: Any, f: Tensor) -> Tensor:
    sequence = rows(f)
    hidden = state = sequence.new_zeros(sequence.shape[0], 6)
    for step in range(sequence.shape[1]):
        hidden, state = net.r(sequence[:, step], (hidden, state))
    return hidden


def packed(net: Any, f: Tensor) -> Tensor:
    sequence = rows(f)
    lengths = [sequence.shape[1]] * sequence.shape[0]
    return net.r(pack_padded_sequence(sequence, lengths, batch_first=True))[1][0][-1]


def flattened_gru(net: Any, f: Tensor) -> Tensor:
    net.r.flatten_parameters()
    _, state = net.r(rows(f))
    return torch.cat((state[-2], state[-1]), 1)


def stopped_gate(net: Any, f: Tensor) -> Tensor:
    with torch.no_grad():
        gate = f.mean((2, 3), keepdim=True).sigmoid()
    return (f * gate).mean((2, 3))


def experts(net: Any, f: Tensor) -> Tensor:
    """Each image's own of two, which its maps choose."""
    of_both = torch.stack([expert(f.mean((2, 3))) for expert in net.m], 1)
    chosen = (f.mean((1, 2, 3)) > 0).long()
    return of_both.gather(1, chosen[:, None, None].expand(-1, 1, 5))[:, 0]


class Straight(torch.autograd.Function):
    """Its gradient isn't its function's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign() * x.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def lstm(k: int, h: int, **options: Any) -> dict[str, nn.Module]:
    return {"r": nn.LSTM(k * h, 6, **options)}


def none(k: int, h: int) -> dict[str, Any]:
    return {}


# name: (modules for K maps of H rows, a function of these and the maps (B, K, H, W) to features (B,
# n) of any n)
HEADS: dict[str, tuple[Callable[[int, int], dict[str, Any]], Callable[[Any, Tensor], Tensor]]] = {
    "mean": (none, lambda net, f: f.mean((2, 3))),
    "adaptive pool": (
        lambda k, h: {"p": nn.AdaptiveAvgPool2d(1)},
        lambda net, f: net.p(f).flatten(1),
    ),
    "flatten": (none, lambda net, f: f.flatten(1)),
    "view in place": (none, lambda net, f: f.relu_().contiguous().view(f.shape[0], -1)),
    "mlp": (
        lambda k, h: {
            "m": nn.Sequential(
                nn.Flatten(), nn.LazyLinear(8), nn.GELU(), nn.Dropout(), nn.Linear(8, 6)
            )
        },
        lambda net, f: net.m(f),
    ),
    "softplus": (
        lambda k, h: {"m": nn.Sequential(nn.Conv2d(k, 5, 1), nn.Softplus())},
        lambda net, f: net.m(f).mean((2, 3)),
    ),
    "lstm": (lambda k, h: lstm(k, h, batch_first=True), lambda net, f: net.r(rows(f))[0][:, -1]),
    "lstm state": (
        lambda k, h: lstm(k, h, num_layers=2),
        lambda net, f: net.r(rows(f).transpose(0, 1))[1][0].mean(0),
    ),
    "lstm packed": (lambda k, h: lstm(k, h, batch_first=True), packed),
    "lstm cells": (lambda k, h: {"r": nn.LSTMCell(k * h, 6)}, cells),
    "gru both ways": (
        lambda k, h: {"r": nn.GRU(k * h, 6, batch_first=True, bidirectional=True)},
        flattened_gru,
    ),
    "rnn": (
        lambda k, h: {"r": nn.RNN(k * h, 6)},
        lambda net, f: net.r(rows(f).transpose(0, 1))[0].amax(0),
    ),
    "attention": (
        lambda k, h: {"a": nn.MultiheadAttention(k, 1, batch_first=True)},
        lambda net, f: net.a(tokens(f), tokens(f), tokens(f), need_weights=False)[0].mean(1),
    ),
    "attention, time first": (
        lambda k, h: {"a": nn.MultiheadAttention(k, 1)},
        lambda net, f: (lambda t: net.a(t, t, t)[0].mean(0))(tokens(f).transpose(0, 1)),
    ),
    "attention pooling": (
        lambda k, h: {
            "a": nn.MultiheadAttention(k, 1, batch_first=True),
            "q": nn.Parameter(torch.randn(1, 1, k)),
        },
        lambda net, f: net.a(net.q.expand(f.shape[0], -1, -1), tokens(f), tokens(f))[0][:, 0],
    ),
    "encoder": (
        lambda k, h: {"e": nn.TransformerEncoderLayer(k, 1, 8, batch_first=True)},
        lambda net, f: net.e(tokens(f)).mean(1),
    ),
    "convolution": (
        lambda k, h: {"m": nn.Conv2d(k, 5, 3, 2, 1)},
        lambda net, f: net.m(f).relu().amax((2, 3)),
    ),
    "transposed": (
        lambda k, h: {"m": nn.ConvTranspose2d(k, 5, 2, 2)},
        lambda net, f: net.m(f).relu().mean((2, 3)),
    ),
    "depthwise": (
        lambda k, h: {"m": nn.Sequential(nn.Conv2d(k, k, 3, 1, 1, groups=k), nn.ReLU6())},
        lambda net, f: net.m(f).mean((2, 3)),
    ),
    "batch norm": (
        lambda k, h: {"b": nn.BatchNorm2d(k)},
        lambda net, f: functional.silu(net.b(f)).mean((2, 3)),
    ),
    "layer norm": (
        lambda k, h: {"b": nn.LayerNorm(k)},
        lambda net, f: net.b(f.permute(0, 2, 3, 1)).mean((1, 2)),
    ),
    "layer norm of the pool": (
        lambda k, h: {"b": nn.LayerNorm(k)},
        lambda net, f: net.b(f.mean((2, 3))),
    ),
    "group norm": (
        lambda k, h: {"b": nn.GroupNorm(1, k)},
        lambda net, f: net.b(f).relu().mean((2, 3)),
    ),
    "instance norm": (
        lambda k, h: {"b": nn.InstanceNorm2d(k)},
        lambda net, f: net.b(f).relu().mean((2, 3)),
    ),
    "residual": (
        lambda k, h: {"m": nn.Conv2d(k, k, 3, 1, 1)},
        lambda net, f: (f + net.m(f)).relu_().mean((2, 3)),
    ),
    "dense": (
        lambda k, h: {"m": nn.Conv2d(k, 4, 1)},
        lambda net, f: torch.cat((f, net.m(f)), 1).relu().mean((2, 3)),
    ),
    "pools": (none, lambda net, f: torch.cat((f.mean((2, 3)), f.amax((2, 3)), f.std((2, 3))), 1)),
    "pyramid": (
        none,
        lambda net, f: torch.cat(
            [functional.adaptive_max_pool2d(f, n).flatten(1) for n in (1, 2)], 1
        ),
    ),
    "einsum": (
        lambda k, h: {"w": nn.Parameter(torch.randn(5, k))},
        lambda net, f: torch.einsum("bkhw,nk->bn", f, net.w),
    ),
    "bilinear": (none, lambda net, f: torch.bmm(f.flatten(2), tokens(f)).flatten(1)),
    "nn.Bilinear": (
        lambda k, h: {"m": nn.Bilinear(k, k, 5)},
        lambda net, f: net.m(f.mean((2, 3)), f.amax((2, 3))),
    ),
    "cosine": (
        lambda k, h: {"w": nn.Parameter(torch.randn(5, k))},
        lambda net, f: (
            functional.normalize(f.mean((2, 3)), dim=1) @ functional.normalize(net.w, dim=1).t()
        ),
    ),
    "gate": (
        lambda k, h: {"m": nn.Conv2d(k, k, 1)},
        lambda net, f: (f * net.m(f.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3)),
    ),
    "log-sum-exp": (none, lambda net, f: f.flatten(2).logsumexp(2)),
    "top places": (none, lambda net, f: f.flatten(2).topk(2, 2).values.mean(2)),
    "generalised mean": (none, lambda net, f: f.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)),
    "enlarged": (
        none,
        lambda net, f: (
            functional.interpolate(f, scale_factor=2, mode="bilinear").square().mean((2, 3))
        ),
    ),
    "patches": (none, lambda net, f: functional.unfold(f, 2).tanh().mean(2)),
    "prelu": (lambda k, h: {"m": nn.PReLU(k)}, lambda net, f: net.m(f).mean((2, 3))),
    "rows in the batch": (
        lambda k, h: {"m": nn.Linear(k, 5)},
        lambda net, f: (
            net.m(tokens(f).reshape(-1, f.shape[1])).relu().view(f.shape[0], -1, 5).mean(1)
        ),
    ),
    "vmap": (none, lambda net, f: torch.vmap(lambda one: one.relu().mean((1, 2)))(f)),
    "branch": (none, lambda net, f: f.mean((2, 3)) if f.sum() > 0 else f.amax((2, 3))),
    "checkpoint": (
        lambda k, h: {"m": nn.Conv2d(k, 5, 1)},
        lambda net, f: checkpoint(net.m, f, use_reentrant=False).mean((2, 3)),
    ),
    "own gradient": (none, lambda net, f: Straight.apply(f).mean((2, 3))),
    "no_grad": (none, stopped_gate),
    "codes": (
        lambda k, h: {"w": nn.Parameter(torch.randn(4, k))},
        lambda net, f: net.w[torch.cdist(f.mean((2, 3)), net.w).argmin(1)] + f.mean((2, 3)),
    ),
    "experts": (lambda k, h: {"m": nn.ModuleList(nn.Linear(k, 5) for _ in range(2))}, experts),
}
# Heads whose scores aren't those of an image alone: they run one image at a time, or one sentence
# says why.
OF_NO_IMAGE = {
    "dropout": (none, lambda net, f: functional.dropout(f.mean((2, 3)), 0.5)),
    "noise": (none, lambda net, f: (f + 0.1 * torch.randn_like(f)).mean((2, 3))),
    "state": (
        lambda k, h: {"calls": torch.zeros(1)},
        lambda net, f: f.mean((2, 3)) * net.calls.add_(1),
    ),
    "batch's statistics": (
        lambda k, h: {"b": nn.BatchNorm2d(k, track_running_stats=False)},
        lambda net, f: net.b(f).relu().mean((2, 3)),
    ),
    "batch's maximum": (none, lambda net, f: f.mean((2, 3)) / (1 + f.abs().max())),
    "images as steps": (lambda k, h: lstm(k, h), lambda net, f: net.r(rows(f))[0][:, -1]),
}
HEADS |= OF_NO_IMAGE
