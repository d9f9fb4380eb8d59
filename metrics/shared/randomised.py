"""Copies of a model with the parameters of some layers re-initialised; the model itself is never
changed.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.model_copy import parts_with_hooks, shared_copy
from axiom_bench.cutting.passes import users_device
from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import unknown

ORDERS = ("cascading", "independent")


def randomised(
    model: nn.Module, image: Tensor, order: str, stages: int, seed: int
) -> list[nn.Module]:
    """One copy of the model for each stage of the randomisation, the first stage at the top of the
    network.

    The layers (modules with parameters of their own), last executed first, are split into `stages`
    groups of nearly equal size, at most one per layer. order "cascading": copy i has groups 0 to i
    re-initialised; "independent": group i alone. image: (1, 3, H', W'), run once to find the order
    of execution. Copies share memory with the model, and share re-initialised layers with each
    other. Raises BenchError for another order.
    """
    if order not in ORDERS:
        raise unknown("order of randomisation", order, ORDERS)
    names = layers_top_down(model, image)
    groups = [
        list(group)
        for group in np.array_split(np.array(names, dtype=object), min(stages, len(names)))
    ]
    random_model = reinitialised(model, names, seed)
    if order == "cascading":
        groups = [[name for group in groups[: i + 1] for name in group] for i in range(len(groups))]
    return [_with_layers_of(random_model, model, group) for group in groups]


def fully_randomised(trace: Trace, seed: int) -> SplitModel:
    """The last stage of a cascading randomisation, cut where the trace's model is; made once for a
    cut.
    """

    def cut() -> SplitModel:
        with bound(trace.cut_model.model, trace[:1].other_inputs):
            (copy,) = randomised(trace.cut_model.model, trace.images[:1], "cascading", 1, seed)
        return trace.cut_model.on(copy)

    return trace.cut_model.once(("fully randomised", seed), cut)


def randomised_trace(trace: Trace, seed: int) -> Trace:
    """The images and classes of a trace in its `fully_randomised` model; equal requests have
    `randomised_key`.
    """
    return trace.again(model=fully_randomised(trace, seed))


def randomised_key(seed: int) -> tuple[str, int]:
    """Names the `randomised_trace` of a seed among other traces."""
    return "fully randomised", seed


def layers_top_down(model: nn.Module, image: Tensor) -> list[str]:
    """Names of the modules that have parameters of their own, last executed first.

    A module that isn't called itself, because its parent reads its parameters, takes its parent's
    position.
    """
    hooked = shared_copy(model)
    calls: list[str] = []
    for name, module in parts_with_hooks(hooked):
        module.register_forward_pre_hook(_recording(calls, name))
    with torch.no_grad(), users_device():
        hooked(image.clone())
    last_call = {name: position for position, name in enumerate(calls)}

    def position(name: str) -> int:
        while name not in last_call:
            name = name.rpartition(".")[0]
        return last_call[name]

    names = [
        name for name, module in hooked.named_modules() if list(module.parameters(recurse=False))
    ]
    return sorted(names, key=position)[::-1]


def number_of_layers(model: nn.Module) -> int:
    """The number of modules that have parameters of their own."""
    return sum(bool(list(module.parameters(recurse=False))) for module in model.modules())


def reinitialised(model: nn.Module, names: list[str], seed: int) -> nn.Module:
    """A deep copy of the model whose named modules are initialised again, as before training.

    A module is initialised by its own `reset_parameters`, with the statistics that this resets.
    Parameters that this doesn't change, or all where a module has no such method, are drawn from a
    normal distribution with their own mean and standard deviation. They are those of weight_norm
    and spectral_norm, and what a subclass adds. Constant parameters stay constant. Drawn on the CPU
    in float32, seeded by `seed` and the module's name, so that device, precision and the other
    modules don't matter.
    """
    random_model = copy.deepcopy(shared_copy(model))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name in names:
            module = random_model.get_submodule(name)
            digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
            torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big"))
            _reinitialise(module)
    return random_model


def _reinitialise(module: nn.Module) -> None:
    """Initialise a module's own parameters again, in place."""
    plain = {
        name: value for name, value in vars(module).items() if isinstance(value, Tensor)
    }  # as weight_norm has
    tensors = {**module._parameters, **module._buffers, **plain}
    types = {
        name: (tensor.device, tensor.dtype)
        for name, tensor in tensors.items()
        if tensor is not None
    }
    _move(module, {name: (torch.device("cpu"), torch.float32) for name in types})
    before = {name: parameter.clone() for name, parameter in module.named_parameters(recurse=False)}
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()
    for name, parameter in module.named_parameters(recurse=False):
        if torch.equal(parameter, before[name]):
            parameter.normal_(float(parameter.mean()), float(parameter.std(correction=0)))
    _move(module, types)


def _move(module: nn.Module, types: dict[str, tuple[torch.device, torch.dtype]]) -> None:
    """Move a module's own tensors to their devices, and floating-point ones to their types."""
    for name, (device, dtype) in types.items():
        tensor = getattr(module, name)
        moved = (
            tensor.data.to(device, dtype) if tensor.is_floating_point() else tensor.data.to(device)
        )
        setattr(
            module,
            name,
            nn.Parameter(moved, requires_grad=False) if isinstance(tensor, nn.Parameter) else moved,
        )


def _with_layers_of(source_model: nn.Module, model: nn.Module, names: list[str]) -> nn.Module:
    """A copy of the model with the named modules' own parameters and buffers taken from
    `source_model`.
    """
    changed = shared_copy(model)
    for name in names:
        target = changed.get_submodule(name)
        source = source_model.get_submodule(name)
        for key, tensor in (*source._parameters.items(), *source._buffers.items()):
            setattr(target, key, tensor)
    return changed


def _recording(calls: list[str], name: str) -> Callable[[nn.Module, Any], None]:
    """A forward hook that appends the module's name to `calls`."""
    return lambda module, inputs: calls.append(name)
