"""Networks with random weights, cheap enough for a suite that builds all of torchvision's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from axiom_bench.data.torchvision_import import torchvision

PERIOD = 1_000_003  # a prime: no two rows of a matrix begin alike
INITIALISERS = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]


def build(name: str) -> nn.Module:
    """A torchvision classifier without its initialisation, which takes seconds; its memory isn't touched yet."""
    kwargs = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}  # torchvision warns without it
    with ExitStack() as patches:
        for initialiser in INITIALISERS:
            patches.enter_context(mock.patch.object(nn.init, initialiser, lambda tensor, *args, **kwargs: tensor))
        return torchvision.models.get_model(name, weights=None, **kwargs).eval()


def fill(module: nn.Module) -> nn.Module:
    """Uniform weights that keep a signal's scale, so that no output is NaN, zero or the same for every image."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 4
                _uniform(tensor, generator).mul_((6 / fan_in) ** 0.5)
        for child in module.modules():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                child.reset_running_stats()
                assert isinstance(child.weight, Tensor)
                child.weight.fill_(1)
    return module


def _uniform(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers from -1 to 1; of a large tensor the first ones again and again, since to draw all takes seconds."""
    first, *others = tensor.view(-1).split(PERIOD)
    first.uniform_(-1, 1, generator=generator)
    for part in others:
        part.copy_(first[: len(part)])
    return tensor


@pytest.fixture(scope="session")
def unfilled() -> Callable[[str], nn.Module]:
    """build(name)."""
    return build


@pytest.fixture(scope="session")
def filled() -> Callable[[str], nn.Module]:
    """fill(build(name)): random weights, not torchvision's distribution."""
    return lambda name: fill(build(name))


@pytest.fixture(autouse=True, scope="session")
def _single_thread() -> Iterator[None]:
    """Small networks gain nothing from threads, and test workers with several threads each slow each other down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
