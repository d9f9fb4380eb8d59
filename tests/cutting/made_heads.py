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

Modules = Callable[[int, int], dict[str, Any]]  # of K maps of H rows
Features = Callable[[Any, Tensor], Tensor]  # of the modules and the maps (B, K, H, W): (B, any n)
HEADS: dict[str, tuple[Modules, Features]] = {}


def no_modules(k: int, h: int) -> dict[str, Any]:
    return {}


def head(name: str, modules: Modules = no_modules) -> Callable[[Features], Features]:
    """Return a decorator that adds a head to `HEADS`."""

    def add(features: Features) -> Features:
        HEADS[name] = (modules, features)
        return features

    return add


def rows(f: Tensor) -> Tensor:
    """Return the columns of the maps as a sequence: (B, W, K H)."""
    return f.permute(0, 3, 1, 2).flatten(2)


def tokens(f: Tensor) -> Tensor:
    """Return the positions of the maps as a sequence: (B, H W, K)."""
    return f.flatten(2).transpose(1, 2)


@head("mean")
def mean(net: Any, f: Tensor) -> Tensor:
    return f.mean((2, 3))


def adaptive_pool(k: int, h: int) -> dict[str, nn.Module]:
    return {"pool": nn.AdaptiveAvgPool2d(1)}


@head("adaptive pool", adaptive_pool)
def pooled(net: Any, f: Tensor) -> Tensor:
    return net.pool(f).flatten(1)


@head("flatten")
def flat(net: Any, f: Tensor) -> Tensor:
    return f.flatten(1)


@head("view in place")
def viewed_in_place(net: Any, f: Tensor) -> Tensor:
    return f.relu_().contiguous().view(f.shape[0], -1)


def mlp(k: int, h: int) -> dict[str, nn.Module]:
    layers = [nn.Flatten(), nn.LazyLinear(8), nn.GELU(), nn.Dropout(), nn.Linear(8, 6)]
    return {"layers": nn.Sequential(*layers)}


@head("mlp", mlp)
def output_of_mlp(net: Any, f: Tensor) -> Tensor:
    return net.layers(f)


def smooth_convolution(k: int, h: int) -> dict[str, nn.Module]:
    return {"layers": nn.Sequential(nn.Conv2d(k, 5, 1), nn.Softplus())}


@head("softplus", smooth_convolution)
def mean_of_layers(net: Any, f: Tensor) -> Tensor:
    return net.layers(f).mean((2, 3))


def lstm(k: int, h: int) -> dict[str, nn.Module]:
    return {"recurrent": nn.LSTM(k * h, 6, batch_first=True)}


@head("lstm", lstm)
def last_output(net: Any, f: Tensor) -> Tensor:
    return net.recurrent(rows(f))[0][:, -1]


def two_lstm_layers(k: int, h: int) -> dict[str, nn.Module]:
    return {"recurrent": nn.LSTM(k * h, 6, num_layers=2)}


@head("lstm state", two_lstm_layers)
def mean_state(net: Any, f: Tensor) -> Tensor:
    _, (hidden, _) = net.recurrent(rows(f).transpose(0, 1))
    return hidden.mean(0)


@head("lstm packed", lstm)
def state_of_packed_sequence(net: Any, f: Tensor) -> Tensor:
    sequence = rows(f)
    lengths = [sequence.shape[1]] * sequence.shape[0]
    packed = pack_padded_sequence(sequence, lengths, batch_first=True)
    _, (hidden, _) = net.recurrent(packed)
    return hidden[-1]


def lstm_cell(k: int, h: int) -> dict[str, nn.Module]:
    return {"cell": nn.LSTMCell(k * h, 6)}


@head("lstm cells", lstm_cell)
def state_after_a_loop(net: Any, f: Tensor) -> Tensor:
    sequence = rows(f)
    hidden = state = sequence.new_zeros(sequence.shape[0], 6)
    for step in range(sequence.shape[1]):
        hidden, state = net.cell(sequence[:, step], (hidden, state))
    return hidden


def gru_both_ways(k: int, h: int) -> dict[str, nn.Module]:
    return {"recurrent": nn.GRU(k * h, 6, batch_first=True, bidirectional=True)}


@head("gru both ways", gru_both_ways)
def states_of_both_ways(net: Any, f: Tensor) -> Tensor:
    net.recurrent.flatten_parameters()
    _, state = net.recurrent(rows(f))
    return torch.cat((state[-2], state[-1]), 1)


def rnn(k: int, h: int) -> dict[str, nn.Module]:
    return {"recurrent": nn.RNN(k * h, 6)}


@head("rnn", rnn)
def largest_output(net: Any, f: Tensor) -> Tensor:
    outputs, _ = net.recurrent(rows(f).transpose(0, 1))
    return outputs.amax(0)


def attention(k: int, h: int) -> dict[str, nn.Module]:
    return {"attention": nn.MultiheadAttention(k, 1, batch_first=True)}


@head("attention", attention)
def mean_attended_token(net: Any, f: Tensor) -> Tensor:
    attended, _ = net.attention(tokens(f), tokens(f), tokens(f), need_weights=False)
    return attended.mean(1)


def attention_time_first(k: int, h: int) -> dict[str, nn.Module]:
    return {"attention": nn.MultiheadAttention(k, 1)}


@head("attention, time first", attention_time_first)
def attention_over_time(net: Any, f: Tensor) -> Tensor:
    sequence = tokens(f).transpose(0, 1)
    attended, _ = net.attention(sequence, sequence, sequence)
    return attended.mean(0)


def query_and_attention(k: int, h: int) -> dict[str, Any]:
    return attention(k, h) | {"query": nn.Parameter(torch.randn(1, 1, k))}


@head("attention pooling", query_and_attention)
def attention_pooling(net: Any, f: Tensor) -> Tensor:
    query = net.query.expand(f.shape[0], -1, -1)
    pooled, _ = net.attention(query, tokens(f), tokens(f))
    return pooled[:, 0]


def encoder(k: int, h: int) -> dict[str, nn.Module]:
    return {"encoder": nn.TransformerEncoderLayer(k, 1, 8, batch_first=True)}


@head("encoder", encoder)
def mean_encoded_token(net: Any, f: Tensor) -> Tensor:
    return net.encoder(tokens(f)).mean(1)


def strided_convolution(k: int, h: int) -> dict[str, nn.Module]:
    return {"conv": nn.Conv2d(k, 5, 3, 2, 1)}


@head("convolution", strided_convolution)
def largest_convolved(net: Any, f: Tensor) -> Tensor:
    return net.conv(f).relu().amax((2, 3))


def transposed_convolution(k: int, h: int) -> dict[str, nn.Module]:
    return {"conv": nn.ConvTranspose2d(k, 5, 2, 2)}


@head("transposed", transposed_convolution)
def mean_convolved(net: Any, f: Tensor) -> Tensor:
    return net.conv(f).relu().mean((2, 3))


def depthwise_convolution(k: int, h: int) -> dict[str, nn.Module]:
    conv = nn.Conv2d(k, k, 3, 1, 1, groups=k)
    return {"layers": nn.Sequential(conv, nn.ReLU6())}


head("depthwise", depthwise_convolution)(mean_of_layers)


def batch_norm(k: int, h: int) -> dict[str, nn.Module]:
    return {"norm": nn.BatchNorm2d(k)}


@head("batch norm", batch_norm)
def mean_silu_of_norm(net: Any, f: Tensor) -> Tensor:
    return functional.silu(net.norm(f)).mean((2, 3))


def layer_norm(k: int, h: int) -> dict[str, nn.Module]:
    return {"norm": nn.LayerNorm(k)}


@head("layer norm", layer_norm)
def norm_of_places(net: Any, f: Tensor) -> Tensor:
    return net.norm(f.permute(0, 2, 3, 1)).mean((1, 2))


@head("layer norm of the pool", layer_norm)
def norm_of_the_pool(net: Any, f: Tensor) -> Tensor:
    return net.norm(f.mean((2, 3)))


def group_norm(k: int, h: int) -> dict[str, nn.Module]:
    return {"norm": nn.GroupNorm(1, k)}


@head("group norm", group_norm)
def mean_relu_of_norm(net: Any, f: Tensor) -> Tensor:
    return net.norm(f).relu().mean((2, 3))


def instance_norm(k: int, h: int) -> dict[str, nn.Module]:
    return {"norm": nn.InstanceNorm2d(k)}


head("instance norm", instance_norm)(mean_relu_of_norm)


def convolution(k: int, h: int) -> dict[str, nn.Module]:
    return {"conv": nn.Conv2d(k, k, 3, 1, 1)}


@head("residual", convolution)
def residual(net: Any, f: Tensor) -> Tensor:
    return (f + net.conv(f)).relu_().mean((2, 3))


def four_more_maps(k: int, h: int) -> dict[str, nn.Module]:
    return {"conv": nn.Conv2d(k, 4, 1)}


@head("dense", four_more_maps)
def dense(net: Any, f: Tensor) -> Tensor:
    both = torch.cat((f, net.conv(f)), 1)
    return both.relu().mean((2, 3))


@head("pools")
def three_pools(net: Any, f: Tensor) -> Tensor:
    pools = (f.mean((2, 3)), f.amax((2, 3)), f.std((2, 3)))
    return torch.cat(pools, 1)


@head("pyramid")
def pyramid(net: Any, f: Tensor) -> Tensor:
    pools = [functional.adaptive_max_pool2d(f, size).flatten(1) for size in (1, 2)]
    return torch.cat(pools, 1)


def five_vectors(k: int, h: int) -> dict[str, Any]:
    return {"vectors": nn.Parameter(torch.randn(5, k))}


@head("einsum", five_vectors)
def summed_products(net: Any, f: Tensor) -> Tensor:
    return torch.einsum("bkhw,nk->bn", f, net.vectors)


@head("bilinear")
def bilinear_pooling(net: Any, f: Tensor) -> Tensor:
    return torch.bmm(f.flatten(2), tokens(f)).flatten(1)


def bilinear(k: int, h: int) -> dict[str, nn.Module]:
    return {"bilinear": nn.Bilinear(k, k, 5)}


@head("nn.Bilinear", bilinear)
def bilinear_of_two_pools(net: Any, f: Tensor) -> Tensor:
    return net.bilinear(f.mean((2, 3)), f.amax((2, 3)))


@head("cosine", five_vectors)
def cosine_similarity(net: Any, f: Tensor) -> Tensor:
    features = functional.normalize(f.mean((2, 3)), dim=1)
    return features @ functional.normalize(net.vectors, dim=1).t()


def pointwise_convolution(k: int, h: int) -> dict[str, nn.Module]:
    return {"conv": nn.Conv2d(k, k, 1)}


@head("gate", pointwise_convolution)
def gated(net: Any, f: Tensor) -> Tensor:
    gate = net.conv(f.mean((2, 3), keepdim=True)).sigmoid()
    return (f * gate).mean((2, 3))


@head("log-sum-exp")
def log_sum_exp(net: Any, f: Tensor) -> Tensor:
    return f.flatten(2).logsumexp(2)


@head("top places")
def mean_of_two_largest(net: Any, f: Tensor) -> Tensor:
    return f.flatten(2).topk(2, 2).values.mean(2)


@head("generalised mean")
def generalised_mean(net: Any, f: Tensor) -> Tensor:
    return f.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)


@head("enlarged")
def enlarged(net: Any, f: Tensor) -> Tensor:
    larger = functional.interpolate(f, scale_factor=2, mode="bilinear")
    return larger.square().mean((2, 3))


@head("patches")
def mean_patch(net: Any, f: Tensor) -> Tensor:
    return functional.unfold(f, 2).tanh().mean(2)


def prelu(k: int, h: int) -> dict[str, nn.Module]:
    return {"layers": nn.PReLU(k)}


head("prelu", prelu)(mean_of_layers)


def linear(k: int, h: int) -> dict[str, nn.Module]:
    return {"linear": nn.Linear(k, 5)}


@head("rows in the batch", linear)
def rows_in_the_batch(net: Any, f: Tensor) -> Tensor:
    features = net.linear(tokens(f).reshape(-1, f.shape[1])).relu()
    return features.view(f.shape[0], -1, 5).mean(1)


@head("vmap")
def vmapped(net: Any, f: Tensor) -> Tensor:
    return torch.vmap(lambda one: one.relu().mean((1, 2)))(f)


@head("branch")
def branch(net: Any, f: Tensor) -> Tensor:
    return f.mean((2, 3)) if f.sum() > 0 else f.amax((2, 3))


def five_maps(k: int, h: int) -> dict[str, nn.Module]:
    return {"conv": nn.Conv2d(k, 5, 1)}


@head("checkpoint", five_maps)
def checkpointed(net: Any, f: Tensor) -> Tensor:
    return checkpoint(net.conv, f, use_reentrant=False).mean((2, 3))


class Straight(torch.autograd.Function):
    """Its gradient isn't its function's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign() * x.square()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


@head("own gradient")
def own_gradient(net: Any, f: Tensor) -> Tensor:
    return Straight.apply(f).mean((2, 3))


@head("no_grad")
def stopped_gate(net: Any, f: Tensor) -> Tensor:
    with torch.no_grad():
        gate = f.mean((2, 3), keepdim=True).sigmoid()
    return (f * gate).mean((2, 3))


def codebook(k: int, h: int) -> dict[str, Any]:
    return {"codes": nn.Parameter(torch.randn(4, k))}


@head("codes", codebook)
def nearest_code(net: Any, f: Tensor) -> Tensor:
    pooled = f.mean((2, 3))
    nearest = torch.cdist(pooled, net.codes).argmin(1)
    return net.codes[nearest] + pooled


def two_experts(k: int, h: int) -> dict[str, nn.Module]:
    return {"experts": nn.ModuleList(nn.Linear(k, 5) for _ in range(2))}


@head("experts", two_experts)
def chosen_expert(net: Any, f: Tensor) -> Tensor:
    """Return the features of one of two experts, which an image's maps choose."""
    features = torch.stack([expert(f.mean((2, 3))) for expert in net.experts], 1)
    chosen = (f.mean((1, 2, 3)) > 0).long()
    return features.gather(1, chosen[:, None, None].expand(-1, 1, 5))[:, 0]


PURE_HEADS = list(HEADS)

# The scores of these heads aren't those of one image: they run one image at a time, or one sentence
# says why they can't.


@head("dropout")
def always_dropped(net: Any, f: Tensor) -> Tensor:
    return functional.dropout(f.mean((2, 3)), 0.5)


@head("noise")
def noisy(net: Any, f: Tensor) -> Tensor:
    noise = 0.1 * torch.randn_like(f)
    return (f + noise).mean((2, 3))


def counter(k: int, h: int) -> dict[str, Any]:
    return {"calls": torch.zeros(1)}


@head("state", counter)
def multiplied_by_calls(net: Any, f: Tensor) -> Tensor:
    return f.mean((2, 3)) * net.calls.add_(1)


def norm_without_running_statistics(k: int, h: int) -> dict[str, nn.Module]:
    return {"norm": nn.BatchNorm2d(k, track_running_stats=False)}


head("batch's statistics", norm_without_running_statistics)(mean_relu_of_norm)


@head("batch's maximum")
def divided_by_maximum(net: Any, f: Tensor) -> Tensor:
    return f.mean((2, 3)) / (1 + f.abs().max())


def lstm_time_first(k: int, h: int) -> dict[str, nn.Module]:
    return {"recurrent": nn.LSTM(k * h, 6)}


head("images as steps", lstm_time_first)(last_output)
IMPURE_HEADS = [name for name in HEADS if name not in PURE_HEADS]
