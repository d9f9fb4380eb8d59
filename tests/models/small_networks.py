"""Small networks whose layers have to be chosen."""

import torch
from torch import Tensor, nn

from axiom_bench.models import layers


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def choose(module: nn.Module, layer: str = "default", size: int = 16) -> str:
    return layers.choose_layer(module, layer, layers.record_calls(module, (size, size)))


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]


class Residual(nn.Module):
    """A ReLU that is called twice, and whose last output is the block's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = conv(channels, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))) + x)


class Tokens(nn.Module):
    """`stem` convolutions, a patch embedding, and `tokens` linear layers over its tokens."""

    def __init__(self, stem: int, tokens: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*(conv(3, 3) for _ in range(stem)))
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.mixing = nn.Sequential(*(nn.Linear(8, 8) for _ in range(tokens)))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(self.stem(x)).flatten(2).transpose(1, 2)
        return self.fc(self.mixing(tokens).mean(1))


def resnet() -> nn.Sequential:
    blocks = nn.Sequential(Residual(4), Residual(4))
    return nn.Sequential(conv(3, 4), blocks, *head(4))


class Block(nn.Module):
    """Attention over tokens and a linear layer, each after a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.LayerNorm(8)
        self.after = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.before(x)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        x = x + attended
        return x + self.mlp(self.after(x))


class ByClassToken(nn.Module):
    """A transformer whose scores come from its class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.fc(self.norm(self.blocks(tokens))[:, 0])
