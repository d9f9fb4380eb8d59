"""The halves of a model, trunk and head: split by torch.fx or by hooks, and compared with the model on one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from axiom_bench.cutting.hooked import HookedParts
from axiom_bench.cutting.output import Output, OutputModule, graph_with
from axiom_bench.cutting.parts import Parts
from axiom_bench.cutting.reshaped import ReshapedParts, check_inverse
from axiom_bench.cutting.rounding import equal_up_to_rounding
from axiom_bench.cutting.sides import SideKind, kinds_of
from axiom_bench.cutting.split import CannotSplit, split
from axiom_bench.cutting.tokens import AnyReshape, layout
from axiom_bench.errors import BenchError


@dataclass(frozen=True)
class Halves:
    """Trunk and head, checked against the model on a first image, with the kinds of their side values.

    output: the module from logits to what is explained; None where that is the logits.
    """

    parts: Parts
    side_kinds: list[SideKind]
    output: OutputModule | None

    @property
    def head_graph(self) -> fx.GraphModule | None:
        """(activations, *sides) -> outputs; None where only whole passes are safe."""
        graph = self.parts.head_graph
        return graph if graph is None or self.output is None else graph_with(graph, self.output)


def halves_of(model: nn.Module, layer: str, reshape: AnyReshape | None, output: Output, image: Tensor) -> Halves:
    """Graph parts where they equal the model on this image, (1, 3, H', W'), else hooked parts.

    Raises BenchError for a layer without H x W maps, or a model without (B, C) logits.
    """
    expected = model(image.clone())
    if not isinstance(expected, Tensor) or expected.ndim != 2:
        raise BenchError(f"{type(model).__name__} must return logits (B, C), not {_described(expected)}.")
    module = output.module(expected.shape[1])
    module = None if module is None else module.to(image.device)
    try:
        return _checked(_with_maps(split(model, layer), layer, reshape, image), layer, image, expected, module)
    except CannotSplit:
        return _checked(_with_maps(HookedParts(model, layer), layer, reshape, image), layer, image, expected, module)


def _with_maps(parts: Parts, layer: str, reshape: AnyReshape | None, image: Tensor) -> Parts:
    """The parts themselves where the layer's output is maps, else with a reshape between them."""
    output, _ = parts.trunk(image)
    size = (image.shape[-2], image.shape[-1])
    to_and_from_maps = layout(reshape, layer, output, size) if isinstance(output, Tensor) else None
    if to_and_from_maps is None:
        return parts
    check_inverse(to_and_from_maps, layer, output, size)
    return ReshapedParts(parts, to_and_from_maps)


def _checked(parts: Parts, layer: str, image: Tensor, expected: Tensor, output: OutputModule | None) -> Halves:
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
    return Halves(parts, kinds or [], output)


def _described(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
