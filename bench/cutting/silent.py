"""Explain why all gradients or maps of a trace are zero, and choose a layer where they aren't.

After a transformer's last attention only the class token counts. So the gradients of all patches
are zero there, and the maps made from them too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from axiom_bench.cutting.images import TWO_CLASSES
from axiom_bench.cutting.model_copy import recorded, shared_copy
from axiom_bench.cutting.output import ScoredNetwork
from axiom_bench.cutting.passes import users_device
from axiom_bench.cutting.tokens import layout
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError

ANOTHER = "another layer (model.layer=NAME on the command line)"
# the modules' names and outputs, in the order in which their calls end
Outputs = list[tuple[str, Tensor]]


def zero_gradients_note(trace: Trace) -> str:
    """Return the sentence for a trace whose gradients are all zero.

    It names a later module whose weights are all zero, or otherwise the nearest earlier layer with
    nonzero gradients.
    """
    layer = trace.cut_model.layer
    count = trace.num_valid
    images = "of the image" if count == 1 else f"of all {count} images"
    zeros = f"The gradients {images} at the layer {layer!r} are zero, and so are maps made of them"
    if trace.cut_model.output.name == "segmentation" and not trace.scores.any():
        return (
            f"{zeros}, since no position of the network's maps counts for the class; choose "
            "another class or region."
        )
    if module := _module_of_zeros(trace):
        return (
            f"{zeros}: all weights of {module!r} are zero, and so every score is the same. Load "
            "trained weights by model.weights=default or a file, in Python by ab.load_model(NAME, "
            "weights='default')."
        )
    other = layer_before(trace[:1])
    advice = (
        f"choose {_typed(other)}, the nearest one before it where they aren't"
        if other
        else f"choose {ANOTHER}"
    )
    return f"{zeros}; {advice}."


def only_zeros(trace: Trace) -> str:
    """Return the sentence for maps that are all zero at a layer where gradients aren't."""
    zeros = f"All maps at the layer {trace.layer!r} are zero"
    if trace.logits.shape[1] == 1:
        targets = "--targets 0, in Python targets=0"
        return (
            f"{zeros}, since nothing there raises the one score. {TWO_CLASSES}, and explain class "
            f"0 ({targets})."
        )
    return f"{zeros}; choose {ANOTHER} or class."


def _typed(layer: str) -> str:
    return f"{layer!r} (model.layer={layer} on the command line)"


def _module_of_zeros(trace: Trace) -> str | None:
    """Return the last module that runs after the layer and whose matrix or kernels are all zero."""
    outputs, _ = _pass(trace.cut_model.model, trace[:1])
    names = [name for name, _ in outputs]
    modules = dict(trace.cut_model.model.named_modules())
    later = names[len(names) - names[::-1].index(trace.layer) :]
    weights = ((name, getattr(modules[name], "weight", None)) for name in reversed(later))
    return next(
        (name for name, weight in weights if isinstance(weight, Tensor) and not weight.any()), None
    )


def single_position_note(trace: Trace) -> str:
    """Return the sentence for a layer with maps of one position, with the nearest earlier layer
    that has more.
    """
    dims = trace.images.ndim
    size = " x ".join(map(str, trace.images.shape[2:]))
    outputs, _ = _pass(trace.cut_model.model, trace[:1])
    larger = [
        name for name, output in outputs if output.ndim == dims and output.shape[2:].numel() > 1
    ]
    other = f"choose {_typed(larger[-1])}, or larger images" if larger else "give larger images"
    maps = (
        f"The layer {trace.layer!r} gives maps of {' x '.join('1' * trace.dimensions)} for images "
        f"of {size}"
    )
    return f"{maps}, so that all heatmaps are the same everywhere; {other}."


def layer_before(trace: Trace) -> str | None:
    """Return the nearest layer before the trace's own at which the gradients of its one image
    aren't all zero.

    It has values of the same shape. None if there is no such layer. This costs one pass and its
    gradient.
    """
    cut_model = trace.cut_model
    outputs, score = _pass(cut_model.model, trace)
    names = [name for name, _ in outputs]
    place = len(names) - 1 - names[::-1].index(cut_model.layer)
    before = [
        (name, output)
        for name, output in outputs[:place]
        if output.shape == outputs[place][1].shape
    ]
    if not before:
        return None
    gradients = torch.autograd.grad(score, [output for _, output in before], allow_unused=True)
    size = tuple(trace.images.shape[2:])
    for (name, output), gradient in reversed(list(zip(before, gradients, strict=True))):
        if gradient is None:
            continue
        try:
            reshape = layout(cut_model.reshape, name, output, size)
        except BenchError:  # the values are no maps
            continue
        if reshape is not None:
            gradient, _ = reshape.to_maps(gradient, size)
        if bool(gradient.any()):
            return name
    return None


def _pass(model: nn.Module, trace: Trace) -> tuple[Outputs, Tensor]:
    """Return the outputs of all modules that return a tensor, and the score, with their autograd
    graph.
    """
    network = shared_copy(model)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        users_device(),
        recorded(network) as calls,
    ):
        images = trace.images.clone().requires_grad_()
        scores = ScoredNetwork(network, trace.cut_model.trunk_and_head.scores)(
            images, trace.other_inputs
        )
        values = trace.cut_model.compute_outputs(scores)
    return [(call.name, call.output) for call in calls if call.node is not None], values[
        0, trace.targets[0]
    ]
