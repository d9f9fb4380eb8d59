"""Trunk and head of a model: split by torch.fx or by hooks, and compared with the model on one image."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from axiom_bench.cutting.outputs.output import Chain, Output, OutputModule, ScoredNetwork, graph_with, scores_of
from axiom_bench.cutting.passes import OutputSizes, equal_up_to_rounding, measured_outputs
from axiom_bench.cutting.split.parts import CannotSplit, HookedParts, Parts, SideKind, kinds_of, split
from axiom_bench.cutting.split.tokens import AnyReshape, ReshapedParts, check_inverse, layout
from axiom_bench.errors import BenchError, is_out_of_memory


@dataclass(frozen=True)
class TrunkAndHead:
    """Trunk and head, checked against the model on a first image, with the kinds of their side values.

    scores: from what the model returns to logits (B, n), None where it returns them; output: the module from logits to
    what is explained, None where that is the logits. sizes: of what the model's operations return for that image.
    """

    parts: Parts
    side_kinds: list[SideKind]
    scores: Chain | None
    output: OutputModule | None
    sizes: OutputSizes

    @property
    def head_graph(self) -> fx.GraphModule | None:
        """(activations, *sides) -> outputs; None where only whole passes are safe."""
        graph = self.parts.head_graph
        return graph if graph is None or self.output is None else graph_with(graph, self.output)


def trunk_and_head_of(
    model: nn.Module, layer: str, reshape: AnyReshape | None, output: Output, image: Tensor
) -> TrunkAndHead:
    """Graph parts where they equal the model on this image, (1, 3, H', W'), else hooked parts.

    Raises BenchError for a layer without H x W maps, and for a model or an output function without scores (B, n).
    """
    own_image = image.clone()  # which the model may write to
    with measured_outputs(image) as sizes:
        returned = model(own_image)
    scores = scores_of(output.function, returned, type(model).__name__, image)
    network = ScoredNetwork(model, scores)
    expected = returned if scores is None else scores(returned)
    module = output.module(expected.shape[1])
    module = None if module is None else module.to(image.device)

    def checked(parts: Parts) -> TrunkAndHead:
        trunk_and_head = TrunkAndHead(_with_maps(parts, layer, reshape, image), [], scores, module, sizes)
        return _checked(trunk_and_head, layer, image, expected)

    for opaque_scores in (False, True) if scores is not None else (False,):
        with suppress(CannotSplit):
            parts = split(network, layer, opaque_scores)
            if output.function is not None:
                _check_function(parts, HookedParts(network, layer), image, output.name)
            return checked(parts)
    return checked(HookedParts(network, layer))


def _check_function(parts: Parts, hooked: Parts, image: Tensor, name: str) -> None:
    """Raises CannotSplit unless both have the same gradient: torch.fx drops `no_grad` from a user's function.

    Raises BenchError where the scores of two images aren't a row for each.
    """
    gradients = [_weighted_gradient(each, image) for each in (parts, hooked)]
    if not equal_up_to_rounding(*gradients):
        raise CannotSplit("the graph's gradient isn't the model's")
    scores = parts.head(*parts.trunk(image))
    of_two = parts.head(*parts.trunk(image.repeat(2, 1, 1, 1)))
    if of_two.shape != (2, scores.shape[1]):
        raise BenchError(
            f"The output function {name} must return a row for each image, and returns shape {tuple(of_two.shape)} "
            "for 2 images."
        )
    if not equal_up_to_rounding(of_two, scores.expand_as(of_two)):
        raise BenchError(f"By the output function {name} an image's scores depend on the other images of its batch.")


def _weighted_gradient(parts: Parts, image: Tensor) -> Tensor:
    """The gradient of sum_j j S_j for the layer's output. Raises CannotSplit where the parts fail."""
    activations, sides = parts.trunk(image)
    if not isinstance(activations, Tensor):
        raise CannotSplit("the layer returns no tensor")
    activations = activations.detach().requires_grad_()
    with torch.enable_grad():
        try:
            scores = parts.head(activations, sides)
        except Exception as error:  # a user's function on the entries alone of what the network returns
            if is_out_of_memory(error):
                raise
            raise CannotSplit(f"the head's graph fails: {error}") from error
        weighted = (scores * torch.arange(1, scores.shape[1] + 1).to(scores)).sum()
        gradient = torch.autograd.grad(weighted, activations, allow_unused=True)[0] if weighted.requires_grad else None
    return torch.zeros_like(activations) if gradient is None else gradient


def _with_maps(parts: Parts, layer: str, reshape: AnyReshape | None, image: Tensor) -> Parts:
    """The parts themselves where the layer's output is maps, else with a reshape between them."""
    output, _ = parts.trunk(image)
    size = (image.shape[-2], image.shape[-1])
    to_and_from_maps = layout(reshape, layer, output, size) if isinstance(output, Tensor) else None
    if to_and_from_maps is None:
        return parts
    check_inverse(to_and_from_maps, layer, output, size)
    return ReshapedParts(parts, to_and_from_maps)


def _checked(trunk_and_head: TrunkAndHead, layer: str, image: Tensor, expected: Tensor) -> TrunkAndHead:
    """With the kinds of side values. Raises CannotSplit where the parts aren't the model, BenchError without maps."""
    parts = trunk_and_head.parts
    activations, sides = parts.trunk(image)
    if not isinstance(activations, Tensor) or activations.ndim != 4:
        raise BenchError(
            f"The layer {layer!r} gives {_described(activations)}, not maps (B, K, H, W); "
            "choose a convolution, activation or pooling layer before the maps are flattened."
        )
    kinds = kinds_of(sides, parts.trunk(image.repeat(2, 1, 1, 1))[1]) if sides else []
    if parts.head_graph is not None:
        if kinds is None:
            raise CannotSplit("a value that crosses the cut doesn't travel with its image")
        if not equal_up_to_rounding(parts.head(activations, sides), expected):
            raise CannotSplit("the split model doesn't equal the model")
    return replace(trunk_and_head, side_kinds=kinds or [])


def _described(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
