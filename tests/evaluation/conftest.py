"""A tiny float64 network and four annotated images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import axiom_bench as ab


@pytest.fixture
def net() -> nn.Module:
    """A network with six channels at layer "1" and a ReLU in its head, so `cam` doesn't apply."""
    torch.manual_seed(5)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 36, 16),
        nn.ReLU(),
        nn.Linear(16, 5),
    )
    return network.double().eval()


@pytest.fixture
def batch() -> ab.Batch:
    """A batch of the images a, b, c and d; c has no object of its class."""
    generator = torch.Generator().manual_seed(5)
    targets = torch.tensor([0, 1, 2, 3])
    box = torch.tensor([[2.0, 3.0, 9.0, 11.0]])
    notes = [ab.Annotation(torch.tensor([label]), box) for label in (0, 1, 4, 3)]
    images = torch.randn(4, 3, 12, 12, generator=generator, dtype=torch.float64)
    return ab.Batch(images, ("a", "b", "c", "d"), targets, tuple(notes))


@pytest.fixture
def trace(net: nn.Module, batch: ab.Batch) -> ab.Trace:
    return ab.trace(net, "1", batch.images, batch.targets)
