"""What every way of splitting a model gives: a trunk and a head."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, fx


class Parts(Protocol):
    """The trunk and the head of a split model."""

    @property
    def head_graph(self) -> fx.GraphModule | None:
        """The head as a graph (activations, *sides) -> logits; None where only whole passes are safe."""

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Images (B, 3, H', W') -> activations and the values that cross the cut beside them."""

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Activations and side values -> logits (B, C)."""
