"""The network behind a trace: the cut model, what a pass left beside the activations, and scales of its two ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from axiom_bench.cutting.ablation.graph import Values
from axiom_bench.cutting.split.parts import select
from axiom_bench.cutting.split_model import SplitModel


@dataclass(frozen=True, eq=False)
class TracedNetwork:
    """Trunk and head for the images of one batch.

    sides: what crosses the cut beside the activations; batch: of so many images. head_values: of the head's nodes,
    which spare the ablations a head pass; None where they aren't kept. output_scale: a factor of the scores;
    input_scale: of the activations, by which the head's input is divided.
    """

    cut_model: SplitModel
    sides: Any
    batch: int
    head_values: Values | None = None
    output_scale: float = 1.0
    input_scale: float = 1.0

    def __getitem__(self, rows: slice) -> TracedNetwork:
        index = torch.arange(self.batch)[rows]
        values = self.head_values if len(index) == self.batch else None
        return replace(self, sides=self._sides_of(index), batch=len(index), head_values=values)

    def scaled(self, output: float, inputs: float) -> TracedNetwork:
        """The same network with its scores times `output`, and its head's input divided by `inputs`."""
        return replace(self, output_scale=self.output_scale * output, input_scale=self.input_scale * inputs)

    def head(self, activations: Tensor, rows: Tensor | None = None) -> Tensor:
        """Outputs (R, C), logits unless the cut has another output, for any activations (R, K, H, W) at the layer.

        rows: (R,) the image that each row of activations belongs to; None for one row per image, in order.
        """
        return self.output_scale * self.cut_model.head(self._unscaled(activations), self._sides_of(rows))

    def head_logits(self, activations: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits (R, C) for any activations at the layer, whose softmax is the probability of each class; as `head`."""
        return self._logit_scale * self.cut_model.head_logits(self._unscaled(activations), self._sides_of(rows))

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (B, C) of the whole model for other images, differentiable in them."""
        return self.output_scale * self.cut_model.forward(images)

    def forward_logits(self, images: Tensor) -> Tensor:
        """Logits (B, C) of the whole model for other images, whose softmax is the probability of each class."""
        return self._logit_scale * self.cut_model.forward_logits(images)

    def explained(self, logits: Tensor) -> Tensor:
        """The outputs (R, C) that belong to logits (R, C), as `forward_logits` gives them."""
        if self.cut_model.output.are_logits:
            return logits
        return self.output_scale * self.cut_model.explained(logits)

    def ablation_drops(self, activations: Tensor, targets: Tensor) -> Tensor:
        """S - S_k for each channel of the trace's activations set to zero: (B, K)."""
        maps = self._unscaled(activations)
        return self.output_scale * self.cut_model.ablation_drops(maps, self.sides, targets, self.head_values)

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor | None:
        """What the model itself tells of the trace's activations, (B, K, H, W); None where it tells nothing."""
        truth = self.cut_model.true_contributions(self._unscaled(activations), targets)
        return None if truth is None else self.output_scale * truth

    def linear_head(self, activations: Tensor) -> Tensor:
        """The final layer's weight (C, K). Raises BenchError unless the head is global average pooling + linear."""
        weight = self.cut_model.linear_head(self._unscaled(activations), self.sides)
        return self.output_scale / self.input_scale * weight

    def _sides_of(self, rows: Tensor | None) -> Any:
        kinds = self.cut_model.trunk_and_head.side_kinds
        return self.sides if rows is None else select(self.sides, kinds, rows, self.batch)

    @property
    def _logit_scale(self) -> float:
        return self.output_scale if self.cut_model.output.are_logits else 1.0

    def _unscaled(self, activations: Tensor) -> Tensor:
        return activations if self.input_scale == 1 else activations / self.input_scale
