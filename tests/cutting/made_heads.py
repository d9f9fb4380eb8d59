"""Heads as people write them: recurrent, with attention, pools of all kinds, and some whose scores
depend on more than the image.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint


def rows(f: Tensor) -> Tensor:
    """Return the columns of the maps as a sequence: (B, W, K H)."""
    return f.permute(0, 3, 1, 2).flatten(2)


def tokens(f: Tensor) -> Tensor:
    """Return the positions of the maps as a sequence: (B, H W, K)."""
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
    _, (hidden, _) = net.r(pack_padded_sequence(sequence, lengths, batch_first=True))
    return hidden[-1]


def flattened_gru(net: Any, f: Tensor) -> Tensor:
    net.r.flatten_parameters()
    _, state = net.r(rows(f))
    return torch.cat((state[-2], state[-1]), 1)


def stopped_gate(net: Any, f: Tensor) -> Tensor:
    with torch.no_grad():
        gate = f.mean((2, 3), keepdim=True).sigmoid()
    return (f * gate).mean((2, 3))


def experts(net: Any, f: Tensor) -> Tensor:
    """Return the features of one of two experts, which an image's maps choose."""
    features = torch.stack([expert(f.mean((2, 3))) for expert in net.m], 1)
    chosen = (f.mean((1, 2, 3)) > 0).long()
    return features.gather(1, chosen[:, None, None].expand(-1, 1, 5))[:, 0]


def attention_pooling(net: Any, f: Tensor) -> Tensor:
    query = net.q.expand(f.shape[0], -1, -1)
    pooled, _ = net.a(query, tokens(f), tokens(f))
    return pooled[:, 0]


def attention_over_time(net: Any, f: Tensor) -> Tensor:
    sequence = tokens(f).transpose(0, 1)
    return net.a(sequence, sequence, sequence)[0].mean(0)


def cosine_similarity(net: Any, f: Tensor) -> Tensor:
    features = functional.normalize(f.mean((2, 3)), dim=1)
    return features @ functional.normalize(net.w, dim=1).t()


def rows_in_the_batch(net: Any, f: Tensor) -> Tensor:
    features = net.m(tokens(f).reshape(-1, f.shape[1])).relu()
    return features.view(f.shape[0], -1, 5).mean(1)


def pyramid(net: Any, f: Tensor) -> Tensor:
    pools = [functional.adaptive_max_pool2d(f, size).flatten(1) for size in (1, 2)]
    return torch.cat(pools, 1)


def enlarged(net: Any, f: Tensor) -> Tensor:
    larger = functional.interpolate(f, scale_factor=2, mode="bilinear")
    return larger.square().mean((2, 3))


def mlp(k: int, h: int) -> dict[str, nn.Module]:
    layers = [nn.Flatten(), nn.LazyLinear(8), nn.GELU(), nn.Dropout(), nn.Linear(8, 6)]
    return {"m": nn.Sequential(*layers)}


def query_and_attention(k: int, h: int) -> dict[str, Any]:
    attention = nn.MultiheadAttention(k, 1, batch_first=True)
    return {"a": attention, "q": nn.Parameter(torch.randn(1, 1, k))}


def nearest_code(net: Any, f: Tensor) -> Tensor:
    pooled = f.mean((2, 3))
    return net.w[torch.cdist(pooled, net.w).argmin(1)] + pooled


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


Modules = Callable[[int, int], dict[str, Any]]  # of K maps of H rows
Features = Callable[[Any, Tensor], Tensor]  # of the modules and the maps (B, K, H, W): (B, any n)
HEADS: dict[str, tuple[Modules, Features]] = {}


def add_head(name: str, features: Features, modules: Modules = none) -> None:
    HEADS[name] = (modules, features)


add_head("mean", lambda net, f: f.mean((2, 3)))
add_head(
    "adaptive pool",
    lambda net, f: net.p(f).flatten(1),
    modules=lambda k, h: {"p": nn.AdaptiveAvgPool2d(1)},
)
add_head("flatten", lambda net, f: f.flatten(1))
add_head("view in place", lambda net, f: f.relu_().contiguous().view(f.shape[0], -1))
add_head("mlp", lambda net, f: net.m(f), modules=mlp)
add_head(
    "softplus",
    lambda net, f: net.m(f).mean((2, 3)),
    modules=lambda k, h: {"m": nn.Sequential(nn.Conv2d(k, 5, 1), nn.Softplus())},
)
add_head(
    "lstm",
    lambda net, f: net.r(rows(f))[0][:, -1],
    modules=lambda k, h: lstm(k, h, batch_first=True),
)
add_head(
    "lstm state",
    lambda net, f: net.r(rows(f).transpose(0, 1))[1][0].mean(0),
    modules=lambda k, h: lstm(k, h, num_layers=2),
)
add_head("lstm packed", packed, modules=lambda k, h: lstm(k, h, batch_first=True))
add_head("lstm cells", cells, modules=lambda k, h: {"r": nn.LSTMCell(k * h, 6)})
add_head(
    "gru both ways",
    flattened_gru,
    modules=lambda k, h: {"r": nn.GRU(k * h, 6, batch_first=True, bidirectional=True)},
)
add_head(
    "rnn",
    lambda net, f: net.r(rows(f).transpose(0, 1))[0].amax(0),
    modules=lambda k, h: {"r": nn.RNN(k * h, 6)},
)
add_head(
    "attention",
    lambda net, f: net.a(tokens(f), tokens(f), tokens(f), need_weights=False)[0].mean(1),
    modules=lambda k, h: {"a": nn.MultiheadAttention(k, 1, batch_first=True)},
)
add_head(
    "attention, time first",
    attention_over_time,
    modules=lambda k, h: {"a": nn.MultiheadAttention(k, 1)},
)
add_head("attention pooling", attention_pooling, modules=query_and_attention)
add_head(
    "encoder",
    lambda net, f: net.e(tokens(f)).mean(1),
    modules=lambda k, h: {"e": nn.TransformerEncoderLayer(k, 1, 8, batch_first=True)},
)
add_head(
    "convolution",
    lambda net, f: net.m(f).relu().amax((2, 3)),
    modules=lambda k, h: {"m": nn.Conv2d(k, 5, 3, 2, 1)},
)
add_head(
    "transposed",
    lambda net, f: net.m(f).relu().mean((2, 3)),
    modules=lambda k, h: {"m": nn.ConvTranspose2d(k, 5, 2, 2)},
)
add_head(
    "depthwise",
    lambda net, f: net.m(f).mean((2, 3)),
    modules=lambda k, h: {"m": nn.Sequential(nn.Conv2d(k, k, 3, 1, 1, groups=k), nn.ReLU6())},
)
add_head(
    "batch norm",
    lambda net, f: functional.silu(net.b(f)).mean((2, 3)),
    modules=lambda k, h: {"b": nn.BatchNorm2d(k)},
)
add_head(
    "layer norm",
    lambda net, f: net.b(f.permute(0, 2, 3, 1)).mean((1, 2)),
    modules=lambda k, h: {"b": nn.LayerNorm(k)},
)
add_head(
    "layer norm of the pool",
    lambda net, f: net.b(f.mean((2, 3))),
    modules=lambda k, h: {"b": nn.LayerNorm(k)},
)
add_head(
    "group norm",
    lambda net, f: net.b(f).relu().mean((2, 3)),
    modules=lambda k, h: {"b": nn.GroupNorm(1, k)},
)
add_head(
    "instance norm",
    lambda net, f: net.b(f).relu().mean((2, 3)),
    modules=lambda k, h: {"b": nn.InstanceNorm2d(k)},
)
add_head(
    "residual",
    lambda net, f: (f + net.m(f)).relu_().mean((2, 3)),
    modules=lambda k, h: {"m": nn.Conv2d(k, k, 3, 1, 1)},
)
add_head(
    "dense",
    lambda net, f: torch.cat((f, net.m(f)), 1).relu().mean((2, 3)),
    modules=lambda k, h: {"m": nn.Conv2d(k, 4, 1)},
)
add_head("pools", lambda net, f: torch.cat((f.mean((2, 3)), f.amax((2, 3)), f.std((2, 3))), 1))
add_head("pyramid", pyramid)
add_head(
    "einsum",
    lambda net, f: torch.einsum("bkhw,nk->bn", f, net.w),
    modules=lambda k, h: {"w": nn.Parameter(torch.randn(5, k))},
)
add_head("bilinear", lambda net, f: torch.bmm(f.flatten(2), tokens(f)).flatten(1))
add_head(
    "nn.Bilinear",
    lambda net, f: net.m(f.mean((2, 3)), f.amax((2, 3))),
    modules=lambda k, h: {"m": nn.Bilinear(k, k, 5)},
)
add_head(
    "cosine",
    cosine_similarity,
    modules=lambda k, h: {"w": nn.Parameter(torch.randn(5, k))},
)
add_head(
    "gate",
    lambda net, f: (f * net.m(f.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3)),
    modules=lambda k, h: {"m": nn.Conv2d(k, k, 1)},
)
add_head("log-sum-exp", lambda net, f: f.flatten(2).logsumexp(2))
add_head("top places", lambda net, f: f.flatten(2).topk(2, 2).values.mean(2))
add_head("generalised mean", lambda net, f: f.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3))
add_head("enlarged", enlarged)
add_head("patches", lambda net, f: functional.unfold(f, 2).tanh().mean(2))
add_head("prelu", lambda net, f: net.m(f).mean((2, 3)), modules=lambda k, h: {"m": nn.PReLU(k)})
add_head("rows in the batch", rows_in_the_batch, modules=lambda k, h: {"m": nn.Linear(k, 5)})
add_head("vmap", lambda net, f: torch.vmap(lambda one: one.relu().mean((1, 2)))(f))
add_head("branch", lambda net, f: f.mean((2, 3)) if f.sum() > 0 else f.amax((2, 3)))
add_head(
    "checkpoint",
    lambda net, f: checkpoint(net.m, f, use_reentrant=False).mean((2, 3)),
    modules=lambda k, h: {"m": nn.Conv2d(k, 5, 1)},
)
add_head("own gradient", lambda net, f: Straight.apply(f).mean((2, 3)))
add_head("no_grad", stopped_gate)
add_head("codes", nearest_code, modules=lambda k, h: {"w": nn.Parameter(torch.randn(4, k))})
add_head(
    "experts", experts, modules=lambda k, h: {"m": nn.ModuleList(nn.Linear(k, 5) for _ in range(2))}
)
PURE_HEADS = list(HEADS)

# The scores of these heads aren't those of one image: they run one image at a time, or one sentence
# says why they can't.
add_head("dropout", lambda net, f: functional.dropout(f.mean((2, 3)), 0.5))
add_head("noise", lambda net, f: (f + 0.1 * torch.randn_like(f)).mean((2, 3)))
add_head(
    "state",
    lambda net, f: f.mean((2, 3)) * net.calls.add_(1),
    modules=lambda k, h: {"calls": torch.zeros(1)},
)
add_head(
    "batch's statistics",
    lambda net, f: net.b(f).relu().mean((2, 3)),
    modules=lambda k, h: {"b": nn.BatchNorm2d(k, track_running_stats=False)},
)
add_head("batch's maximum", lambda net, f: f.mean((2, 3)) / (1 + f.abs().max()))
add_head(
    "images as steps", lambda net, f: net.r(rows(f))[0][:, -1], modules=lambda k, h: lstm(k, h)
)
IMPURE_HEADS = [name for name in HEADS if name not in PURE_HEADS]
