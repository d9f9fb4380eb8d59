"""RefineCAM: Domeniconi et al., How to Evaluate and Refine your CAM, 2026, arXiv:2605.14641."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from axiom_bench.cutting.images import bound
from axiom_bench.cutting.model_copy import parts_with_hooks
from axiom_bench.cutting.passes import users_device
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.fused import fused
from axiom_bench.methods.grad_cam_pp import grad_cam_pp

MAX_FINER_LAYERS = 3


def refine_cam(
    trace: Trace, layers: Sequence[str] | None = None, wrapped: Method = grad_cam_pp
) -> Map:
    """Product over layers of the wrapped method's heatmaps, each with maximum 1 -> (B, H', W').

    Heatmaps have the image's size. The authors scale each map from its minimum to its maximum;
    here it is divided by its maximum. Costs one trace per further layer.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        layers: Dotted names of layers, in addition to the trace's own layer. None: the authors'
            choice, `finer_layers`, such as `layer1` to `layer3` for a ResNet's `layer4`. If there
            are none, the map is the wrapped method's.
        wrapped: The method whose heatmaps are multiplied.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If a layer is unknown, or if `layers` is None and the layer's output isn't maps.
    """
    chosen_layers = layers or finer_layers(trace) or [trace.layer]
    return Map(fused(trace, chosen_layers, wrapped, fusion="product").raw)


def finer_layers(trace: Trace) -> tuple[str, ...]:
    """Return the names of the last modules of the next three finer resolutions, coarsest first.

    The modules have the same parent as the trace's layer and come before it. They are found in one
    forward pass of one image.

    Args:
        trace: The traced batch.

    Returns:
        At most three dotted names.

    Raises:
        BenchError: If the layer's output isn't maps.
    """
    cut_model = trace.cut_model
    if cut_model.reshape is not None:
        raise BenchError(
            "RefineCAM can't choose layers of a transformer; set the layers of refine_cam."
        )
    size = tuple(trace.images.shape[1:])
    return cut_model.once(("finer layers", size), lambda: _finer(cut_model.model, trace))


def _finer(model: nn.Module, trace: Trace) -> tuple[str, ...]:
    """Run the model on the first image and return the names of `finer_layers`."""
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
    return tuple(last_names[size] for size in finer_sizes[:MAX_FINER_LAYERS])
