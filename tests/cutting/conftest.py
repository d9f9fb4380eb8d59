"""Small networks that are hard to cut: in-place operations, skip connections, data-dependent branches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class InPlaceHead(nn.Module):
    """The layer is followed by an in-place ReLU, which would overwrite the activations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.9)
        self.fc = nn.Linear(4 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(torch.flatten(self.relu(self.conv(x)), 1)))


class Crossing(nn.Module):
    """A skip connection and the batch size both cross the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.size(0)
        skip = self.first(x)
        out = self.conv(torch.relu(skip))
        out += skip
        return self.fc(torch.relu(out).view(batch, -1))


class Deciding(Crossing):
    """Decides by its data which way to go, so that torch.fx can't trace it; calls its layer once or twice."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv(functional.relu(self.first(x))))
        if x.mean() > 0.09:
            x = torch.relu(self.conv(x)) * 2
        return self.fc(x.flatten(1) if x.max() > 0.5 else x.flatten(1).cos())


class TwoInputs(nn.Module):
    """Its other argument has a default that decides a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor, features: bool = False) -> Tensor:
        x = functional.relu(self.conv(x), inplace=True)
        return x if features else self.fc(x.mean((2, 3)))


NETWORKS = {
    "in_place_head": (InPlaceHead, "conv"),
    "crossing": (Crossing, "conv"),
    "deciding": (Deciding, "conv"),
    "two_inputs": (TwoInputs, "conv"),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, str]:
    """(model in training mode, its target layer)."""
    torch.manual_seed(1)
    build, layer = NETWORKS[request.param]
    return build().double(), layer


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
