"""Trunk and head of a model that torch.fx can't follow: forward hooks on a parameter-sharing copy.

Such a model may branch on its data, so each image runs in a batch of its own. The head is the whole model with the
layer's output replaced, so it costs a whole forward pass an image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.cutting.scores import ScoredNetwork
from axiom_bench.errors import BenchError

Hook = Callable[[nn.Module, Any, Any], Any]


class HookedParts:
    """trunk: images -> (activations, sides), head: (activations, sides) -> logits.

    The sides are the images and, per image, which call of the layer is cut: the last one.
    """

    head_graph: None = None

    def __init__(self, network: ScoredNetwork, layer: str) -> None:
        self.network = network
        self.layer = layer

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """Activations (B, K, H, W) and the sides. Raises BenchError where the model doesn't call the layer."""
        activations, calls = [], []
        for image in images.split(1):
            outputs: list[Any] = []
            self._run(image, lambda module, inputs, output, outputs=outputs: outputs.append(output))  # type: ignore[misc]
            if not outputs:
                raise BenchError(
                    f"The model never calls the layer {self.layer!r}; choose one that its forward pass uses."
                )
            activations.append(outputs[-1])
            calls.append(len(outputs))
        if not all(isinstance(part, Tensor) for part in activations):
            raise BenchError(f"The layer {self.layer!r} returns no tensor; choose one that returns (B, K, H, W) maps.")
        return torch.cat(activations), (images, torch.tensor(calls))

    def head(self, activations: Tensor, sides: tuple[Any, ...]) -> Tensor:
        """Logits (B, C) of the model with the layer's output replaced by the activations."""
        images, calls = sides
        rows = zip(activations.split(1), images.split(1), calls.tolist(), strict=True)
        return torch.cat([self._head_of_image(*row) for row in rows])

    def _head_of_image(self, activations: Tensor, image: Tensor, call: int) -> Tensor:
        count = 0

        def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
            nonlocal count
            count += 1
            return activations.clone() if count == call else output

        return self._run(image, replace)

    def _run(self, image: Tensor, hook: Hook) -> Any:
        handle = self.network.model.get_submodule(self.layer).register_forward_hook(hook)
        try:
            return self.network(image.clone())
        finally:
            handle.remove()
