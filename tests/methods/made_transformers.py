"""A tiny transformer on the maps of a convolution, for methods that read attentions."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from axiom_bench.cutting.trace import Trace, cut
from axiom_bench.testing.cases import CLASSES, Case, TinyNetwork


class Tokens(nn.Module):
    """Maps (B, K, H, W) -> a class token and the positions (B, 1 + H W, 8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(channels, 8)
        self.first = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, maps: Tensor) -> Tensor:
        tokens = self.embedding(maps.flatten(2).mT)
        return torch.cat([self.first.expand(len(tokens), -1, -1), tokens], 1)


class Block(nn.Module):
    """Two heads, by torch's layer or, fused, by its function; then a layer with GELU."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.attention = nn.Linear(8, 24) if fused else nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm, self.mlp, self.fused = nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 8), nn.GELU()), fused

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm(tokens)
        if self.fused:
            q, k, v = self.attention(normed).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        else:
            mixed, _ = self.attention(normed, normed, normed, need_weights=False)
        tokens = tokens + mixed
        return tokens + self.mlp(self.norm(tokens))


class Transformer(TinyNetwork):
    """Two blocks, read at the class token."""

    def __init__(self, case: "AttentionCase") -> None:
        super().__init__("pooled", case.channels, case.size)
        blocks = nn.Sequential(Block(case.fused), Block(case.fused))
        self.head = nn.Sequential(Tokens(case.channels), blocks, First(), nn.Linear(8, CLASSES))

    @property
    def readout(self) -> Tensor:
        return self.head[0].embedding.weight


class First(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


@dataclass(frozen=True)
class AttentionCase(Case):
    """fused: whether the blocks call scaled_dot_product_attention, else nn.MultiheadAttention."""

    fused: bool = True

    def model(self) -> Transformer:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return Transformer(self).to(self.dtype).eval()

    def trace(self, model=None, device=None) -> Trace:
        images, others, targets = self.images(), self.other_images(), torch.arange(self.rows) % CLASSES
        model = model or self.model()
        if device is not None:
            device.put(*model.parameters(), *model.buffers(), images, others, targets)
        return replace(cut(model, self.layer, reshape="tokens").trace(images, targets), other_images=others)


FUSED, LAYERED = AttentionCase(), AttentionCase(fused=False)
