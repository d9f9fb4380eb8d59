"""The cut: a model, once, at one layer. Its Trace is all that methods and metrics see."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from axiom_bench.cutting import precision as arithmetics
from axiom_bench.cutting.ablation import HeadGraph, Values, ablation_drops, head_graph, linear_head_weight
from axiom_bench.cutting.halves import Halves, halves_of
from axiom_bench.cutting.max_pool import pool_by_views
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.output import checked as checked_output
from axiom_bench.cutting.shared_copy import shared_copy
from axiom_bench.cutting.sides import cast, select
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.tokens import check as checked_reshape
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown

GIBIBYTE = 2**30
T = TypeVar("T")


@dataclass
class Passes:
    """Counted passes, in images (rows of a batch)."""

    trunk_forward: int = 0
    trunk_backward: int = 0
    head_forward: int = 0
    head_backward: int = 0

    def leave_out(self, rows: int) -> None:
        """Uncounts forward passes of rows that only filled a batch up."""
        self.trunk_forward -= rows
        self.head_forward -= rows


class CutModel:
    """A model cut at a layer: `trunk -> activations -> head`. The user's model is never edited.

    model: any nn.Module that maps (B, 3, H', W') to logits (B, C). layer: a dotted module name.
    precision: fp32, tf32 or bf16, for the trunk; head_precision likewise, for the head and the ablations.
    ablation_memory: bytes that the ablations may take beside the trace. reshape: for a transformer's layer, how its
    output becomes maps: "tokens", a grid (H, W), or an object with to_maps and from_maps; see cutting.tokens.
    output: what is explained: "logits", "probability", "margin" (z_c - the highest other logit), or an Output.
    Raises BenchError for an unknown layer (with the nearest names), precision, reshape or output.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        precision: str = "fp32",
        head_precision: str = "fp32",
        ablation_memory: int = GIBIBYTE,
        reshape: AnyReshape | None = None,
        output: str | Output = "logits",
    ) -> None:
        if layer not in dict(model.named_modules()) or not layer:
            raise unknown("layer", layer, (name for name, _ in model.named_modules() if name))
        self.layer = layer
        self.precision = arithmetics.check(precision)
        self.head_precision = arithmetics.check(head_precision)
        self.ablation_memory = ablation_memory
        self.reshape = checked_reshape(reshape)
        self.output = checked_output(output)
        self.model = pool_by_views(shared_copy(model))
        self.passes = Passes()
        self._halves: Halves | None = None
        self._head_graph: HeadGraph | None = None
        self._head_graph_known = False
        self._at: dict[str, CutModel] = {}
        self._kept: dict[Hashable, Any] = {}

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
                outputs, logits = self._behind(logits), self._class_logits(logits)
            targets = logits.argmax(1) if targets is None else self._checked_targets(targets, logits)
            scores = outputs.gather(1, targets[:, None])[:, 0]
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
            cut_model=self,
            sides=sides,
            head_values=values,
        )

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Outputs (R, C) for activations (R, K, H, W) with one row of side values each; counted.

        An output is a class's logit unless the cut has another `output`.
        """
        return self._behind(self._head(activations, sides))

    def head_logits(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """As `head`, but logits (R, C), whose softmax is the probability of each class."""
        return self._class_logits(self._head(activations, sides))

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (B, C) of the whole model in eval mode, differentiable in the images; counted as trunk and head.

        Trunk and head run in their own precisions, so that these outputs are those of a trace of the same images.
        """
        return self._behind(self._forward(images))

    def forward_logits(self, images: Tensor) -> Tensor:
        """As `forward`, but logits (B, C), whose softmax is the probability of each class."""
        return self._class_logits(self._forward(images))

    def explained(self, logits: Tensor) -> Tensor:
        """The outputs (R, C) that belong to logits (R, C)."""
        return logits if self.output.are_logits else self._behind(logits)

    def _head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        with arithmetics.arithmetic(self.head_precision, activations.device):
            logits = self.halves.parts.head(activations, sides)
        return self._counted_head(logits)

    def _forward(self, images: Tensor) -> Tensor:
        images = images.to(self.device, self.dtype)
        with self._trunk_arithmetic():
            activations, sides = self.halves.parts.trunk(images)
        self.passes.trunk_forward += len(images)
        if activations.requires_grad:
            activations.register_hook(_Counting(self.passes, "trunk_backward", len(images)))
        return self._head(activations.to(self.dtype), cast(sides, self.dtype))

    def _behind(self, logits: Tensor) -> Tensor:
        """From the network's own logits to outputs."""
        module = self.halves.output
        return logits if module is None else module(logits).to(self.dtype)

    def _class_logits(self, logits: Tensor) -> Tensor:
        """From the network's own logits to those of the classes that are explained, which may be groups of its own."""
        return self._behind(logits) if self.output.are_logits else logits

    @property
    def halves(self) -> Halves:
        """The checked parts; they exist from the first trace on."""
        if self._halves is None:
            raise BenchError("A cut knows its parts after its first trace; call trace(images) first.")
        return self._halves

    @torch.inference_mode(False)
    @torch.no_grad()
    def ablation_drops(self, activations: Tensor, sides: Any, targets: Tensor, values: Values | None = None) -> Tensor:
        """S - S_k for every channel k set to zero: (B, K), exact; see axiom_bench.cutting.ablation."""
        head = self.head_graph(activations, sides) or self.head
        kinds, memory = self.halves.side_kinds, self.ablation_memory
        with arithmetics.arithmetic(self.head_precision, activations.device):
            return ablation_drops(head, kinds, activations, sides, targets, memory, values)

    def linear_head(self, activations: Tensor, sides: Any) -> Tensor:
        """The weight (C, K) of a head that is global average pooling + linear. Raises BenchError for any other."""
        graph = self.head_graph(activations, sides)
        return linear_head_weight(graph, activations[:1], self._first(sides, len(activations)))

    def on(self, model: nn.Module) -> CutModel:
        """The same cut of another model; passes are counted in the same `passes`."""
        other = self._like(model, self.layer)
        other.passes = self.passes
        return other

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What depends on the model alone and is needed batch after batch, computed by the first that asks.

        key: names the thing and all parameters that it depends on. It lives as long as the cut.
        """
        if key not in self._kept:
            self._kept[key] = compute()
        kept: T = self._kept[key]
        return kept

    def at(self, layer: str) -> CutModel:
        """This model cut at another layer, once; passes are counted in the same `passes`."""
        if layer == self.layer:
            return self
        if layer not in self._at:
            self._at[layer] = self._like(self.model, layer)
            self._at[layer].passes = self.passes
        return self._at[layer]

    def _like(self, model: nn.Module, layer: str) -> CutModel:
        settings = (self.precision, self.head_precision, self.ablation_memory, self.reshape, self.output)
        return CutModel(model, layer, *settings)

    def _counted_head(self, logits: Tensor) -> Tensor:
        logits = logits.to(self.dtype)
        self.passes.head_forward += len(logits)
        if logits.requires_grad:
            logits.register_hook(_Counting(self.passes, "head_backward", len(logits)))
        return logits

    def _head_with_values(self, activations: Tensor, sides: tuple[Any, ...]) -> tuple[Tensor, Values | None]:
        """The network's logits and what the head's nodes hold, which spares the ablations a head pass.

        The values are kept where they are small beside what ablations may take.
        """
        head = self.head_graph(activations.detach(), sides)
        if head is None:
            return self._head(activations, sides), None
        with arithmetics.arithmetic(self.head_precision, activations.device):
            values = head.evaluate(activations, sides)
        before = head.logits if self.halves.output is None else head.logits.all_input_nodes[0]
        logits = self._counted_head(values[before])
        if head.bytes_per_image * len(activations) > self.ablation_memory // 4:
            return logits, None
        return logits, {node: value.detach() if isinstance(value, Tensor) else value for node, value in values.items()}

    @torch.no_grad()
    def head_graph(self, activations: Tensor, sides: Any) -> HeadGraph | None:
        """The head as a graph for the ablations, looked at once; None where only whole passes are safe."""
        if not self._head_graph_known:
            graph, kinds = self.halves.head_graph, self.halves.side_kinds
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
                self._halves = halves_of(self.model, self.layer, self.reshape, self.output, images[:1])
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


def cut(
    model: nn.Module,
    layer: str,
    precision: str = "fp32",
    head_precision: str = "fp32",
    ablation_memory: int = GIBIBYTE,
    reshape: AnyReshape | None = None,
    output: str | Output = "logits",
) -> CutModel:
    """Cuts a model once at a layer; see CutModel."""
    return CutModel(model, layer, precision, head_precision, ablation_memory, reshape, output)


def trace(
    model: nn.Module,
    layer: str,
    images: Tensor,
    targets: Tensor | None = None,
    reshape: AnyReshape | None = None,
    output: str | Output = "logits",
) -> Trace:
    """Cut and trace in one, for notebooks; see CutModel and CutModel.trace."""
    return CutModel(model, layer, reshape=reshape, output=output).trace(images, targets)
