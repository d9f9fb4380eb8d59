"""A fixture of networks small enough to be worked by hand. Their target layer is the identity, so
the image equals the activations.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.trace import Trace


class Readout(nn.Module):
    """A network of an identity as the target layer, and a head that returns logits."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer(images))


@pytest.fixture
def readout() -> Callable[..., Trace]:
    """A function of a head, activations (B, 3, H, W) and a target. It returns a float64 trace that
    has exactly these activations.
    """

    def make(head: nn.Module, activations: Tensor, target: int = 0) -> Trace:
        targets = torch.full((len(activations),), target)
        return ab.trace(Readout(head.double()), "layer", activations.double(), targets)

    return make
