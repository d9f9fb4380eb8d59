"""Networks small enough to be worked by hand: the layer is the identity, so that the image is the
activations.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.cutting.trace import Trace


class Readout(nn.Module):
    """Images -> layer (the identity) -> head -> logits."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer(images))


@pytest.fixture
def readout() -> Callable[..., Trace]:
    """(head, activations (B, 3, H, W), target) -> the float64 Trace whose activations are exactly
    these.
    """

    def make(head: nn.Module, activations: Tensor, target: int = 0) -> Trace:
        targets = torch.full((len(activations),), target)
        return ab.trace(Readout(head.double()), "layer", activations.double(), targets)

    return make
