"""Copies of a model with some layers' parameters drawn anew; the model itself is never touched."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from axiom_bench.cutting.shared_copy import shared_copy
from axiom_bench.errors import unknown

ORDERS = ("cascading", "independent")


def randomised(model: nn.Module, image: Tensor, order: str, stages: int, seed: int) -> list[nn.Module]:
    """One copy of the model for each stage of the randomisation, the first stage at the top.

    The layers (modules with parameters of their own), last executed first, are cut into `stages` groups of nearly equal
    count, at most one for each layer. order "cascading": copy i has groups 0 to i drawn anew; "independent": group i
    alone. image: (1, 3, H', W'), what is executed for the order. Copies share all memory with the model but what was
    drawn, which they share with each other. Raises BenchError for another order.
    """
    if order not in ORDERS:
        raise unknown("order of randomisation", order, ORDERS)
    names = layers_top_down(model, image)
    groups = [list(group) for group in np.array_split(np.array(names, dtype=object), min(stages, len(names)))]
    drawn = redrawn(model, names, seed)
    if order == "cascading":
        groups = [[name for group in groups[: i + 1] for name in group] for i in range(len(groups))]
    return [_with_layers_of(drawn, model, group) for group in groups]


def layers_top_down(model: nn.Module, image: Tensor) -> list[str]:
    """Names of the modules that have parameters of their own, last executed first.

    One that isn't called itself, since its owner reads its parameters, has its owner's place.
    """
    watched = shared_copy(model)
    calls: list[str] = []
    for name, module in watched.named_modules():
        module.register_forward_pre_hook(_noting(calls, name))
    with torch.no_grad():
        watched(image.clone())
    last = {name: place for place, name in enumerate(calls)}

    def place(name: str) -> int:
        while name not in last:
            name = name.rpartition(".")[0]
        return last[name]

    owners = [name for name, module in watched.named_modules() if list(module.parameters(recurse=False))]
    return sorted(owners, key=place)[::-1]


def number_of_layers(model: nn.Module) -> int:
    """The number of modules that have parameters of their own."""
    return sum(bool(list(module.parameters(recurse=False))) for module in model.modules())


def redrawn(model: nn.Module, names: list[str], seed: int) -> nn.Module:
    """A copy with memory of its own, whose named modules are as before any training.

    A module draws its parameters with its own `reset_parameters`, and resets statistics as that does. Parameters that
    this leaves as they were, or all where there is none, get normal draws with their own mean and standard deviation:
    those of weight_norm and spectral_norm, and what a subclass adds. Constant ones stay. Drawn on the CPU in float32,
    seeded by `seed` and the module's name: device, precision and the other modules change nothing.
    """
    drawn = copy.deepcopy(shared_copy(model))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name in names:
            module = drawn.get_submodule(name)
            digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
            torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big"))
            _redraw(module)
    return drawn


def _redraw(module: nn.Module) -> None:
    """Draw a module's own parameters anew, in place."""
    plain = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}  # as of weight_norm
    own = {**module._parameters, **module._buffers, **plain}
    kinds = {name: (tensor.device, tensor.dtype) for name, tensor in own.items() if tensor is not None}
    _move(module, {name: (torch.device("cpu"), torch.float32) for name in kinds})
    before = {name: parameter.clone() for name, parameter in module.named_parameters(recurse=False)}
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()
    for name, parameter in module.named_parameters(recurse=False):
        if torch.equal(parameter, before[name]):
            parameter.normal_(float(parameter.mean()), float(parameter.std(correction=0)))
    _move(module, kinds)


def _move(module: nn.Module, kinds: dict[str, tuple[torch.device, torch.dtype]]) -> None:
    """Bring a module's own floating-point tensors to their device and type."""
    for name, (device, dtype) in kinds.items():
        tensor = getattr(module, name)
        moved = tensor.data.to(device, dtype) if tensor.is_floating_point() else tensor.data.to(device)
        setattr(module, name, nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved)


def _with_layers_of(drawn: nn.Module, model: nn.Module, names: list[str]) -> nn.Module:
    """A copy of the model with the named modules' own parameters and buffers taken from `drawn`."""
    changed = shared_copy(model)
    for name in names:
        target, source = changed.get_submodule(name), drawn.get_submodule(name)
        for key, tensor in (*source._parameters.items(), *source._buffers.items()):
            setattr(target, key, tensor)
    return changed


def _noting(calls: list[str], name: str) -> Callable[[nn.Module, Any], None]:
    """A hook that notes a call."""
    return lambda module, inputs: calls.append(name)
