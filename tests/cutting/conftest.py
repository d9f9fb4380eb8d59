"""Small networks that are hard to cut: in-place operations, skip connections, data-dependent
branches.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class Network(nn.Module):
    """Modules and parameters by name; a function of the network and its input is the forward
    pass.
    """

    def __init__(
        self, function: Callable[[nn.Module, Tensor], Tensor], **modules: nn.Module | nn.Parameter
    ) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def conv(maps: int = 3) -> nn.Conv2d:
    return nn.Conv2d(maps, 4, 3, padding=1)


def in_place_head() -> Network:
    """Build a network with an in-place ReLU after the layer, which would overwrite the
    activations.
    """

    def forward(net, x):
        maps = net.relu(net.conv(x))
        return net.fc(net.drop(torch.flatten(maps, 1)))

    fc = nn.Linear(4 * 36, 5)
    return Network(forward, conv=conv(), relu=nn.ReLU(inplace=True), drop=nn.Dropout(0.9), fc=fc)


def crossing() -> Network:
    """Build a network whose skip connection and batch size both cross the cut."""

    def forward(net, x):
        batch = x.size(0)
        skip = net.first(x)
        out = net.conv(torch.relu(skip))
        out += skip
        return net.fc(torch.relu(out).view(batch, -1))

    return Network(forward, first=conv(), conv=conv(4), fc=nn.Linear(4 * 36, 5))


def deciding() -> Network:
    """Build a network that calls its layer once or twice, depending on its data, so that torch.fx
    can't trace it.
    """

    def forward(net, x):
        x = torch.relu(net.conv(functional.relu(net.first(x))))
        if x.mean() > 0.09:
            x = torch.relu(net.conv(x)) * 2
        return net.fc(x.flatten(1) if x.max() > 0.5 else x.flatten(1).cos())

    return Network(forward, first=conv(), conv=conv(4), fc=nn.Linear(4 * 36, 5))


class TwoInputs(nn.Module):
    """Its other argument has a default that decides a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor, features: bool = False) -> Tensor:
        x = functional.relu(self.conv(x), inplace=True)
        return x if features else self.fc(x.mean((2, 3)))


NETWORKS = {
    "in_place_head": in_place_head,
    "crossing": crossing,
    "deciding": deciding,
    "two_inputs": TwoInputs,
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[nn.Module, str]:
    """(model in training mode, its target layer)."""
    torch.manual_seed(1)
    return NETWORKS[request.param]().double(), "conv"


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
