"""The cut: a model, once, at one layer. Its Trace is all that methods and metrics see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from bench import precision as arithmetics
from bench.ablation import HeadGraph, Values, ablation_drops, head_graph, linear_head_weight
from bench.errors import BenchError, unknown
from bench.hooked import HookedParts
from bench.max_pool import pool_by_views
from bench.reshaped import ReshapedParts, check_inverse
from bench.shared_copy import shared_copy
from bench.sides import SideKind, cast, kinds_of, select
from bench.split import CannotSplit, split
from bench.tokens import AnyReshape, layout
from bench.tokens import check as checked_reshape
from bench.trace import Trace

GIBIBYTE = 2**30


class Parts(Protocol):
    """The two halves of a cut model."""

    @property
    def head_graph(self) -> fx.GraphModule | None:
        """The head as a graph (activations, *sides) -> logits; None where only whole passes are safe."""

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Images (B, 3, H', W') -> activations and the values that cross the cut beside them."""

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Activations and side values -> logits (B, C)."""


@dataclass
class Passes:
    """Counted passes, in images (rows of a batch)."""

    trunk_forward: int = 0
    trunk_backward: int = 0
    head_forward: int = 0
    head_backward: int = 0


@dataclass(frozen=True)
class Halves:
    """The parts that a first image has shown to equal the model, and what their side values are."""

    parts: Parts
    side_kinds: list[SideKind]


class Cut:
    """A model cut at a layer: `trunk -> activations -> head`. The user's model is never edited.

    model: any nn.Module that maps (B, 3, H', W') to logits (B, C). layer: a dotted module name.
    precision: fp32, tf32 or bf16, for the trunk; head_precision likewise, for the head and the ablations.
    ablation_memory: bytes that the ablations may take beside the trace. reshape: for a transformer's layer, how its
    output becomes maps: "tokens", a grid (H, W), or an object with to_maps and from_maps; see bench.tokens.
    Raises BenchError for an unknown layer (with the nearest names), precision or reshape.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        precision: str = "fp32",
        head_precision: str = "fp32",
        ablation_memory: int = GIBIBYTE,
        reshape: AnyReshape | None = None,
    ) -> None:
        if layer not in dict(model.named_modules()) or not layer:
            raise unknown("layer", layer, (name for name, _ in model.named_modules() if name))
        self.layer = layer
        self.precision = arithmetics.check(precision)
        self.head_precision = arithmetics.check(head_precision)
        self.ablation_memory = ablation_memory
        self.reshape = checked_reshape(reshape)
        self.model = pool_by_views(shared_copy(model))
        self.passes = Passes()
        self._halves: Halves | None = None
        self._head_graph: HeadGraph | None = None
        self._head_graph_known = False
        self._at: dict[str, Cut] = {layer: self}

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter is."""
        return self._first_tensor().device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the model's first parameter: what images are cast to, and what the head computes in."""
        return self._first_tensor().dtype

    def trace(self, images: Tensor, targets: Tensor | None = None) -> Trace:
        """One trunk pass, one head pass and its gradient.

        images: (B, 3, H', W'). targets: (B,) class indices; None means each image's predicted class.
        Raises BenchError for a layer without H x W maps, a model without (B, C) logits, targets out of range.
        """
        images = self._checked(images)
        with torch.inference_mode(False):
            images = images.clone() if images.is_inference() else images.detach()
            halves = self._halves_for(images)
            with torch.no_grad(), self._trunk_arithmetic():
                activations, sides = halves.parts.trunk(images)
            self.passes.trunk_forward += len(images)
            activations = activations.to(self.dtype).detach().requires_grad_()
            sides = cast(sides, self.dtype)
            with torch.enable_grad():
                logits, values = self._head_with_values(activations, sides)
            targets = logits.argmax(1) if targets is None else self._checked_targets(targets, logits)
            scores = logits.gather(1, targets[:, None])[:, 0]
            (gradients,) = torch.autograd.grad(scores.sum(), activations, allow_unused=True)
            if gradients is None:
                raise BenchError(
                    f"The scores don't depend on the layer {self.layer!r}; choose one nearer to the output."
                )
        return Trace(
            images=images,
            activations=activations.detach(),
            gradients=gradients,
            scores=scores.detach(),
            logits=logits.detach(),
            targets=targets,
            cut=self,
            sides=sides,
            head_values=values,
        )

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (R, C) for activations (R, K, H, W) with one row of side values each; counted."""
        with arithmetics.arithmetic(self.head_precision, activations.device):
            logits = self.halves.parts.head(activations, sides)
        return self._counted_head(logits)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the whole model in eval mode, differentiable in the images; counted as trunk and head.

        Trunk and head run in their own precisions, so that these logits are those of a trace of the same images.
        """
        images = images.to(self.device, self.dtype)
        with self._trunk_arithmetic():
            activations, sides = self.halves.parts.trunk(images)
        self.passes.trunk_forward += len(images)
        if activations.requires_grad:
            activations.register_hook(_Counting(self.passes, "trunk_backward", len(images)))
        return self.head(activations.to(self.dtype), cast(sides, self.dtype))

    @property
    def halves(self) -> Halves:
        """The checked parts; they exist from the first trace on."""
        if self._halves is None:
            raise BenchError("A cut knows its parts after its first trace; call trace(images) first.")
        return self._halves

    @torch.inference_mode(False)
    @torch.no_grad()
    def ablation_drops(self, activations: Tensor, sides: Any, targets: Tensor, values: Values | None = None) -> Tensor:
        """S - S_k for every channel k set to zero: (B, K), exact; see bench.ablation."""
        head = self.head_graph(activations, sides) or self.head
        kinds, memory = self.halves.side_kinds, self.ablation_memory
        with arithmetics.arithmetic(self.head_precision, activations.device):
            return ablation_drops(head, kinds, activations, sides, targets, memory, values)

    def linear_head(self, activations: Tensor, sides: Any) -> Tensor:
        """The weight (C, K) of a head that is global average pooling + linear. Raises BenchError for any other."""
        graph = self.head_graph(activations, sides)
        return linear_head_weight(graph, activations[:1], self._first(sides, len(activations)))

    def on(self, model: nn.Module) -> Cut:
        """The same cut of another model."""
        return Cut(model, self.layer, self.precision, self.head_precision, self.ablation_memory, self.reshape)

    def at(self, layer: str) -> Cut:
        """This model cut at another layer, once; passes are counted in the same `passes`."""
        if layer not in self._at:
            other = Cut(self.model, layer, self.precision, self.head_precision, self.ablation_memory, self.reshape)
            other.passes, other._at = self.passes, self._at
            self._at[layer] = other
        return self._at[layer]

    def _counted_head(self, logits: Tensor) -> Tensor:
        logits = logits.to(self.dtype)
        self.passes.head_forward += len(logits)
        if logits.requires_grad:
            logits.register_hook(_Counting(self.passes, "head_backward", len(logits)))
        return logits

    def _head_with_values(self, activations: Tensor, sides: tuple[Any, ...]) -> tuple[Tensor, Values | None]:
        """Logits and what the head's nodes hold, which spares the ablations a head pass.

        The values are kept where they are small beside what ablations may take.
        """
        head = self.head_graph(activations.detach(), sides)
        if head is None:
            return self.head(activations, sides), None
        with arithmetics.arithmetic(self.head_precision, activations.device):
            values = head.evaluate(activations, sides)
        logits = self._counted_head(values[head.logits])
        if head.bytes_per_image * len(activations) > self.ablation_memory // 4:
            return logits, None
        return logits, {node: value.detach() if isinstance(value, Tensor) else value for node, value in values.items()}

    @torch.no_grad()
    def head_graph(self, activations: Tensor, sides: Any) -> HeadGraph | None:
        """The head as a graph for the ablations, looked at once; None where only whole passes are safe."""
        if not self._head_graph_known:
            graph, kinds = self.halves.parts.head_graph, self.halves.side_kinds
            if graph is not None and len(kinds) == len(sides):
                one = self._first(sides, len(activations))
                self._head_graph = head_graph(graph, kinds, activations[:1], one)
            self._head_graph_known = True
        return self._head_graph

    def _first(self, sides: Any, batch: int) -> Any:
        return select(sides, self.halves.side_kinds, torch.zeros(1, dtype=torch.long), batch)

    def _halves_for(self, images: Tensor) -> Halves:
        if self._halves is None:
            with torch.no_grad(), arithmetics.arithmetic("fp32", self.device):
                self._halves = _halves(self.model, self.layer, self.reshape, images[:1])
        return self._halves

    @contextmanager
    def _trunk_arithmetic(self) -> Iterator[None]:
        with arithmetics.arithmetic(self.precision, self.device):
            yield

    def _first_tensor(self) -> Tensor:
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            if tensor.is_floating_point():
                return tensor
        return torch.zeros(())

    def _checked(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or len(images) == 0:
            raise BenchError(
                f"Images are a batch (B, 3, H, W) with B >= 1, not a tensor of shape {tuple(images.shape)}."
            )
        return images.to(self.device, self.dtype)

    def _checked_targets(self, targets: Tensor, logits: Tensor) -> Tensor:
        targets = torch.as_tensor(targets, device=logits.device).long().clone()
        classes = logits.shape[1]
        if targets.shape != (len(logits),):
            raise BenchError(f"Targets are one class index per image, ({len(logits)},), not {tuple(targets.shape)}.")
        outside = targets[(targets < 0) | (targets >= classes)]
        if len(outside):
            raise BenchError(f"The target {int(outside[0])} is no class of this model, which has {classes} (from 0).")
        return targets


@dataclass(frozen=True)
class _Counting:
    """A gradient hook that counts a backward pass and changes nothing."""

    passes: Passes
    name: str
    rows: int

    def __call__(self, gradient: Tensor) -> None:
        setattr(self.passes, self.name, getattr(self.passes, self.name) + self.rows)


def _halves(model: nn.Module, layer: str, reshape: AnyReshape | None, image: Tensor) -> Halves:
    """Graph parts where they equal the model on this image, hooked parts else."""
    expected = model(image.clone())
    if not isinstance(expected, Tensor) or expected.ndim != 2:
        raise BenchError(f"{type(model).__name__} must return logits (B, C), not {_described(expected)}.")
    try:
        return _proven(_with_maps(split(model, layer), layer, reshape, image), layer, image, expected)
    except CannotSplit:
        return _proven(_with_maps(HookedParts(model, layer), layer, reshape, image), layer, image, expected)


def _with_maps(parts: Parts, layer: str, reshape: AnyReshape | None, image: Tensor) -> Parts:
    """The parts themselves where the layer puts out maps, else with a reshape between them."""
    output, _ = parts.trunk(image)
    size = (image.shape[-2], image.shape[-1])
    found = layout(reshape, layer, output, size) if isinstance(output, Tensor) else None
    if found is None:
        return parts
    check_inverse(found, layer, output, size)
    return ReshapedParts(parts, found)


def _proven(parts: Parts, layer: str, image: Tensor, expected: Tensor) -> Halves:
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
        if not torch.allclose(parts.head(activations, sides), expected, rtol=1e-4, atol=1e-6, equal_nan=True):
            raise CannotSplit("the split model doesn't equal the model")
    return Halves(parts, kinds or [])


def _described(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def cut(
    model: nn.Module,
    layer: str,
    precision: str = "fp32",
    head_precision: str = "fp32",
    ablation_memory: int = GIBIBYTE,
    reshape: AnyReshape | None = None,
) -> Cut:
    """Cuts a model once at a layer; see Cut."""
    return Cut(model, layer, precision, head_precision, ablation_memory, reshape)


def trace(
    model: nn.Module,
    layer: str,
    images: Tensor,
    targets: Tensor | None = None,
    reshape: AnyReshape | None = None,
) -> Trace:
    """Cut and trace in one, for notebooks; see Cut and Cut.trace."""
    return Cut(model, layer, reshape=reshape).trace(images, targets)
