"""Find the layers of finer resolutions that come before a layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.model_copy import parts_with_hooks
from axiom_bench.cutting.passes import users_device
from axiom_bench.cutting.trace import Trace


def finer_layers(trace: Trace, most: int) -> tuple[str, ...]:
    """Return the names of the last modules of the next finer resolutions, coarsest first.

    The modules have the same parent as the trace's layer and come before it. They are found in one
    forward pass of one image.

    Args:
        trace: The traced batch.
        most: The largest number of layers.

    Returns:
        Dotted names; none for a layer of tokens, whose network has no finer resolution.
    """
    cut_model = trace.cut_model
    if cut_model.reshape is not None:
        return ()
    size = tuple(trace.images.shape[1:])
    names = cut_model.once(("finer layers", size), lambda: _finer(cut_model.model, trace))
    return names[:most]


def _finer(model: nn.Module, trace: Trace) -> tuple[str, ...]:
    """Run the model on the first image and return the names of all finer layers."""
    sizes: dict[str, tuple[int, ...]] = {}  # of the maps, in the order in which modules end
    parent = trace.layer.rpartition(".")[0]

    def record_size(name: str) -> torch.utils.hooks.RemovableHandle:
        def record(module: nn.Module, inputs: object, output: object) -> None:
            sizes.pop(name, None)
            if isinstance(output, Tensor) and output.ndim == trace.images.ndim:
                sizes[name] = tuple(output.shape[2:])

        return model.get_submodule(name).register_forward_hook(record)

    siblings = [
        name for name, _ in parts_with_hooks(model) if name and name.rpartition(".")[0] == parent
    ]
    handles = [record_size(name) for name in siblings]
    try:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            bound(model, trace[:1].other_inputs),
            users_device(),
        ):
            model(trace.images[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    if trace.layer not in sizes:
        return ()
    names = list(sizes)
    earlier_names = names[: names.index(trace.layer)]
    last_names = {sizes[name]: name for name in earlier_names}  # of several, the last one counts
    num_positions = math.prod(trace.activations.shape[2:])
    finer_sizes = sorted(
        (size for size in last_names if math.prod(size) > num_positions), key=math.prod
    )
    return tuple(last_names[size] for size in finer_sizes)
