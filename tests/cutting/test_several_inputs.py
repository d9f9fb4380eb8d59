"""Networks with several inputs, against networks of images alone into which each image's other inputs are built."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from tests.metrics import build

ROWS, CLASSES, SIZE = 3, 4, 12


class TwoBranches(nn.Module):
    """Images, scaled behind the cut layer as metadata say, and joined with them; `hard`: as torch.fx can't follow."""

    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hard = hard
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3), nn.ReLU())
        self.film, self.words = nn.Linear(2, 5), nn.Embedding(7, 3)
        self.fc, self.out = nn.Linear(5 * 9 + 2 + 3, 8), nn.Linear(8, CLASSES)

    def forward(self, image: Tensor, metadata: Tensor, word: Tensor) -> Tensor:
        maps = self.features(image) * (1 + self.film(metadata))[:, :, None, None]
        if self.hard and maps.sum() > 1e9:
            return maps.flatten(1)[:, :CLASSES]
        joined = torch.cat([maps.flatten(1), metadata, self.words(word)], 1)
        return self.out(self.fc(joined).relu())


class OfDict(TwoBranches):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["image"], batch["metadata"], batch["word"])


class BuiltIn(nn.Module):
    """A network of images: that of others with these other inputs of one image."""

    def __init__(self, network: nn.Module, *others: Tensor) -> None:
        super().__init__()
        self.network = network
        self.names = [f"other_{place}" for place in range(len(others))]
        for name, each in zip(self.names, others, strict=True):
            self.register_buffer(name, each)

    def forward(self, image: Tensor) -> Tensor:
        others = (getattr(self, name) for name in self.names)
        return self.network(image, *(each.expand(image.shape[0], *each.shape[1:]) for each in others))


class Siamese(nn.Module):
    """One encoder for two images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU())
        self.out = nn.Linear(15, CLASSES)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        one, other = self.encoder(first).mean((2, 3)), self.encoder(second).mean((2, 3))
        return self.out(torch.cat([one, other, one * other], 1))


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(ROWS, 3, SIZE, SIZE).double(), torch.randn(ROWS, 2).double(), torch.tensor([4, 0, 6])
