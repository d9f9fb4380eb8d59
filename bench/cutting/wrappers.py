"""What people put around a network, which changes its names and not its values; and networks that aren't ready."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from axiom_bench.errors import BenchError

WRAPPERS = ("torch.nn.parallel", "torch._dynamo", "torch.optim.swa_utils")  # where torch has them
WRAPPED = ("module", "_orig_mod")  # what these call the network


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside torch's wrappers (nn.DataParallel, DistributedDataParallel, torch.compile's, AveragedModel),
    and inside a module without a forward of its own, as some averages are."""
    children = list(model.children())
    is_torchs = type(model).__module__.startswith(WRAPPERS)
    has_no_forward = getattr(type(model), "forward", None) is nn.Module.forward and "forward" not in vars(model)
    return unwrapped(children[0]) if len(children) == 1 and (is_torchs or has_no_forward) else model


def unwrap_parts(model: nn.Module) -> nn.Module:
    """Takes torch's wrappers away from around the parts, in place: for copies, and networks built here. Returns it."""
    for part in list(model.modules()):
        for name, child in part._modules.items():
            if child is not None and type(child).__module__.startswith(WRAPPERS):
                part._modules[name] = unwrapped(child)
    return model


def unwrapped_name(name: str) -> str:
    """The name of a module or tensor as it is without wrappers.

    >>> unwrapped_name("module.features.module.0.weight")
    'features.0.weight'
    """
    return ".".join(part for part in name.split(".") if part not in WRAPPED)


def layer_name(model: nn.Module, layer: str) -> str | None:
    """The name of a layer that is called with or without what stands around the network; None where there is none."""
    names = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    plain, count = unwrapped_name(layer), len(list(model.parameters()))

    def is_inside(name: str) -> bool:
        outer = name.removesuffix(f".{plain}")
        return outer != name and len(list(model.get_submodule(outer).parameters())) == count

    same = [name for name in names if unwrapped_name(name) == plain]
    return layer if layer in names else next(iter([*same, *filter(is_inside, names)]), None)


def check_shapes(model: nn.Module) -> None:
    """Raises BenchError for tensors of lazy layers before a first pass, without values, or on several devices."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in tensors.items():
        if is_lazy(tensor):
            raise BenchError(f"The network's {name!r} has no shape yet; call the network on an image once.")
        if tensor.is_meta:
            raise BenchError(f"The network's {name!r} has no values (device meta); build it on a device, with weights.")
    if len(devices := {str(tensor.device): name for name, tensor in tensors.items()}) > 1:
        places = ", ".join(f"{name!r} on {device}" for device, name in devices.items())
        raise BenchError(f"The network is on several devices ({places}); move it to one with model.to(device).")


def check_finite(model: nn.Module) -> None:
    """Raises BenchError for a parameter that holds NaN or infinity."""
    for name, each in model.named_parameters():
        if each.is_floating_point() and each.numel() and not torch.stack(each.detach().aminmax()).isfinite().all():
            raise BenchError(f"The network's {name!r} holds NaN or infinity; load weights that are finite.")
