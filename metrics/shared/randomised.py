"""Copies of a model with the parameters of some layers re-initialised.

The model itself is never changed.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.model_copy import parts_with_hooks, shared_copy
from axiom_bench.cutting.passes import users_device
from axiom_bench.cutting.split_model import SplitModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import unknown_name

ORDERS = ("cascading", "independent")


def randomised(
    model: nn.Module, image: Tensor, order: str, stages: int, seed: int
) -> list[nn.Module]:
    """Return one copy of the model for each stage of the randomisation.

    The layers, modules with parameters of their own, are split into groups of nearly equal size,
    the last executed first. The first stage is therefore at the top of the network. Copies share
    memory with the model, and share re-initialised layers with each other.

    Args:
        model: The model.
        image: One image, (1, 3, H', W'). The model runs once with it, to find the order of
            execution.
        order: "cascading" if copy i has groups 0 to i re-initialised, "independent" if it has only
            group i.
        stages: The number of groups. There are at most as many groups as layers.
        seed: The seed of the parameters.

    Returns:
        The copies, one for each stage.

    Raises:
        BenchError: If the order is unknown.
    """
    if order not in ORDERS:
        raise unknown_name("order of randomisation", order, ORDERS)
    names = layers_top_down(model, image)
    # All copies take layers from one model, so a layer has the same parameters in each stage.
    random_model = reinitialised(model, names, seed)
    copies = []
    changed_names: list[str] = []
    for group in np.array_split(np.array(names, dtype=object), min(stages, len(names))):
        changed_names = [*changed_names, *group] if order == "cascading" else list(group)
        copies.append(_with_layers_of(random_model, model, changed_names))
    return copies


def fully_randomised(trace: Trace, seed: int) -> SplitModel:
    """Return the last stage of a cascading randomisation, cut where the trace's model is.

    Args:
        trace: The trace, whose cut model makes the copy once.
        seed: The seed of the parameters.

    Returns:
        The cut copy.
    """

    def cut() -> SplitModel:
        with bound(trace.cut_model.model, trace[:1].other_inputs):
            (copy,) = randomised(trace.cut_model.model, trace.images[:1], "cascading", 1, seed)
        return trace.cut_model.on(copy)

    return trace.cut_model.once(("fully randomised", seed), cut)


def randomised_trace(trace: Trace, seed: int) -> Trace:
    """Return a trace of the same images and classes in the `fully_randomised` model.

    Args:
        trace: The trace of the model itself.
        seed: The seed of the parameters.

    Returns:
        The trace. Requests for equal ones have `randomised_key`.
    """
    return trace.again(model=fully_randomised(trace, seed))


def randomised_key(seed: int) -> tuple[str, int]:
    """Return the key of the `randomised_trace` of a seed among other traces."""
    return "fully randomised", seed


def layers_top_down(model: nn.Module, image: Tensor) -> list[str]:
    """Return the names of the modules that have parameters of their own, last executed first.

    A module isn't called itself if its parent reads its parameters. It then takes its parent's
    position.

    Args:
        model: The model.
        image: One image, (1, 3, H', W'), with which the model runs once.

    Returns:
        The names.
    """
    hooked = shared_copy(model)
    calls: list[str] = []
    for name, module in parts_with_hooks(hooked):
        module.register_forward_pre_hook(_recording(calls, name))
    with torch.no_grad(), users_device():
        hooked(image.clone())
    # Of a module that is called several times, the last call counts.
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
    """Return the number of modules that have parameters of their own."""
    return sum(bool(list(module.parameters(recurse=False))) for module in model.modules())


def reinitialised(model: nn.Module, names: list[str], seed: int) -> nn.Module:
    """Return a deep copy of the model whose named modules are initialised as before training.

    A module is initialised by its own `reset_parameters`, with the statistics that this resets.
    Other parameters are drawn from a normal distribution with their own mean and standard
    deviation. These are all parameters of a module without such a method, those of weight_norm and
    spectral_norm, and what a subclass adds. Constant parameters stay constant. The parameters are
    drawn on the CPU in float32, seeded by the seed and the module's name. They therefore don't
    depend on device, precision or other modules.

    Args:
        model: The model.
        names: The names of the modules.
        seed: The seed of the parameters.

    Returns:
        The copy.
    """
    random_model = copy.deepcopy(shared_copy(model))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name in names:
            module = random_model.get_submodule(name)
            # A digest, because Python's own hash of a text differs from process to process.
            digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
            torch.default_generator.manual_seed(int.from_bytes(digest[:8], "big"))
            _reinitialise(module)
    return random_model


def _reinitialise(module: nn.Module) -> None:
    """Initialise a module's own parameters again, in place."""
    # weight_norm keeps a tensor that is neither parameter nor buffer.
    plain = {name: value for name, value in vars(module).items() if isinstance(value, Tensor)}
    types = {}
    for name, tensor in {**module._parameters, **module._buffers, **plain}.items():
        if tensor is not None:
            types[name] = (tensor.device, tensor.dtype)
    _move(module, {name: (torch.device("cpu"), torch.float32) for name in types})
    before = {name: parameter.clone() for name, parameter in module.named_parameters(recurse=False)}
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()
    for name, parameter in module.named_parameters(recurse=False):
        if torch.equal(parameter, before[name]):  # the module doesn't reset it
            parameter.normal_(float(parameter.mean()), float(parameter.std(correction=0)))
    _move(module, types)


def _move(module: nn.Module, types: dict[str, tuple[torch.device, torch.dtype]]) -> None:
    """Move a module's own tensors to their devices, and floating-point ones to their types."""
    for name, (device, dtype) in types.items():
        tensor = getattr(module, name)
        moved = tensor.data.to(device, dtype if tensor.is_floating_point() else None)
        if isinstance(tensor, nn.Parameter):
            moved = nn.Parameter(moved, requires_grad=False)
        setattr(module, name, moved)


def _with_layers_of(source_model: nn.Module, model: nn.Module, names: list[str]) -> nn.Module:
    """Return a copy of the model with the named modules' own tensors taken from `source_model`."""
    changed = shared_copy(model)
    for name in names:
        target = changed.get_submodule(name)
        source = source_model.get_submodule(name)
        for key, tensor in (*source._parameters.items(), *source._buffers.items()):
            setattr(target, key, tensor)
    return changed


def _recording(calls: list[str], name: str) -> Callable[[nn.Module, object], None]:
    """Return a forward hook that appends the module's name to `calls`."""
    return lambda module, inputs: calls.append(name)
