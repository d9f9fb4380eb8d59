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
    """Product over layers of the wrapped method's heatmaps, each at the image's size with maximum 1
    -> (B, H', W').

    layers: dotted names, beside the trace's own layer. None: of the modules beside it and before
    it, the last of each of the next three finer resolutions: `layer1` to `layer3` for a ResNet's
    `layer4`, the authors' choice. Where there are none the map is the wrapped method's. The authors
    scale each map from its minimum to its maximum, here it is divided by its maximum. Costs one
    trace per further layer. Raises BenchError for an unknown layer, and for None where the layer's
    output isn't maps.
    """
    return Map(
        fused(trace, layers or finer_layers(trace) or [trace.layer], wrapped, fusion="product").raw
    )


def finer_layers(trace: Trace) -> tuple[str, ...]:
    """Names of the last modules of the next finer resolutions, coarsest first, found in one pass of
    one image.
    """
    cut_model = trace.cut_model
    if cut_model.reshape is not None:
        raise BenchError(
            "RefineCAM can't choose layers of a transformer; set the layers of refine_cam."
        )
    size = tuple(trace.images.shape[1:])
    return cut_model.once(("finer layers", size), lambda: _finer(cut_model.model, trace))


def _finer(model: nn.Module, trace: Trace) -> tuple[str, ...]:
    sizes: dict[str, tuple[int, ...]] = {}  # of the maps, in the order in which modules end
    parent = trace.layer.rpartition(".")[0]

    def recording(name: str) -> torch.utils.hooks.RemovableHandle:
        def record(module: nn.Module, inputs: object, output: object) -> None:
            sizes.pop(name, None)
            if isinstance(output, Tensor) and output.ndim == trace.images.ndim:
                sizes[name] = tuple(output.shape[2:])

        return model.get_submodule(name).register_forward_hook(record)

    siblings = [
        name for name, _ in parts_with_hooks(model) if name and name.rpartition(".")[0] == parent
    ]
    handles = [recording(name) for name in siblings]
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
    ended = list(sizes)
    last = (
        {sizes[name]: name for name in ended[: ended.index(trace.layer)]}
        if trace.layer in sizes
        else {}
    )
    positions = math.prod(trace.activations.shape[2:])
    finer = sorted((size for size in last if math.prod(size) > positions), key=math.prod)
    return tuple(last[size] for size in finer[:MAX_FINER_LAYERS])
