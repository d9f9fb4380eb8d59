"""The common types of an audit: a CAM function, a case that it is called on, and a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


class CamFunction(Protocol):
    """A CAM implementation, whatever form its author gave it."""

    def __call__(
        self,
        model: nn.Module,
        layer: nn.Module,
        images: Tensor,
        targets: Tensor,
    ) -> Tensor:
        """Compute a map for each image.

        Args:
            model: The network, whose output is the logits (B, C).
            layer: The target layer, a module of the network.
            images: The images, (B, 3, H', W').
            targets: The explained classes, (B,).

        Returns:
            The maps, (B, h, w), of the layer's size or of the images' size.
        """
        ...


@dataclass(frozen=True, eq=False)
class Case:
    """A network whose right maps are known, and what a CAM function is called with.

    Attributes:
        name: What the network has in particular, such as "negative activations".
        model: The network in eval mode.
        layer: The dotted name of the target layer.
        images: The images, (B, 3, H', W').
        targets: The explained classes, (B,).
    """

    name: str
    model: nn.Module
    layer: str
    images: Tensor
    targets: Tensor

    @property
    def layer_module(self) -> nn.Module:
        """The target layer in the network."""
        return self.model.get_submodule(self.layer)


@dataclass(frozen=True)
class Finding:
    """A behaviour of a CAM function that its users should know.

    Attributes:
        key: The name of the check, such as `hooks_left`.
        sentence: One sentence that describes the behaviour with its numbers.
        code: Lines of Python that reproduce it.
    """

    key: str
    sentence: str
    code: str
