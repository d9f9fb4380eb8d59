"""Networks with random weights, cheap enough for a suite that builds all of torchvision's."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import torch
from torch import Tensor, nn

from axiom_bench.data.torchvision_import import torchvision

PERIOD = 1_000_003  # a prime: no two rows of a matrix begin alike
INITIALISERS = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]


def build(name: str, **kwargs: object) -> nn.Module:
    """Build a torchvision network without initialising its weights, which takes seconds.

    The memory of the weights isn't touched yet.
    """
    if name in ("googlenet", "inception_v3"):
        kwargs["init_weights"] = True  # torchvision warns without it
    with ExitStack() as patches:
        for initialiser in INITIALISERS:
            patches.enter_context(
                mock.patch.object(nn.init, initialiser, lambda tensor, *args, **kwargs: tensor)
            )
        return torchvision.models.get_model(name, weights=None, **kwargs).eval()


def filled(name: str, **kwargs: object) -> nn.Module:
    """Build a torchvision network with uniform weights that keep a signal's scale.

    No output is NaN, zero or the same for every image.
    """
    module = build(name, **kwargs)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 4
                fill_uniformly(tensor, generator).mul_((6 / fan_in) ** 0.5)
        for child in module.modules():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                child.reset_running_stats()
                assert isinstance(child.weight, Tensor)
                child.weight.fill_(1)
    return module


def fill_uniformly(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Fill the tensor with numbers from -1 to 1 and return it.

    A large tensor repeats its first numbers, since drawing all of them takes seconds.
    """
    first, *others = tensor.view(-1).split(PERIOD)
    first.uniform_(-1, 1, generator=generator)
    for part in others:
        part.copy_(first[: len(part)])
    return tensor
