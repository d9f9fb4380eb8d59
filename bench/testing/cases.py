"""Tiny seeded networks with images: what the common suites run methods and metrics on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from axiom_bench.cutting.cut_model import trace
from axiom_bench.cutting.interventions import GROUND, Part, Parts
from axiom_bench.cutting.trace import Trace

CLASSES = 3
TRACE_TENSORS = ("images", "other_images", "activations", "gradients", "scores", "logits", "targets", "ablation_drops")


class TinyNetwork(nn.Module):
    """Two convolutions with in-place ReLUs, the first of stride 2, and a head over `channels` maps."""

    def __init__(self, head: str, channels: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 5, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(5, channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        if head == "pooled":
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
        else:
            inputs = channels * map_size[0] * map_size[1]
            self.head = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 6), nn.ReLU(inplace=True), nn.Linear(6, CLASSES))

    @property
    def filters(self) -> tuple[Tensor, Tensor]:
        """Weight (K, 5, 3, 3) and bias (K,) of the convolution that computes the K channels."""
        return self.get_parameter("features.2.weight"), self.get_parameter("features.2.bias")

    @property
    def readout(self) -> Tensor:
        """Weight of the head's first linear layer, as a view (outputs, K, ...)."""
        weight = next(module.weight for module in self.head if isinstance(module, nn.Linear))
        return weight.unflatten(1, (len(self.filters[1]), -1))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H', W') -> logits (B, 3)."""
        logits: Tensor = self.head(self.features(images))
        return logits


@dataclass(frozen=True)
class Case:
    """A tiny seeded network and images for it; `dataclasses.replace` changes single fields.

    head: "dense" (flatten, linear, ReLU, linear) or "pooled" (global average pooling, linear).
    layer: "features.3", a ReLU, or "features.2", the convolution before it, whose maps are signed.
    size: (H', W') of the images; the layer's maps are half as large.
    """

    head: str = "dense"
    layer: str = "features.3"
    channels: int = 4
    size: tuple[int, int] = (8, 12)
    rows: int = 3
    dtype: torch.dtype = torch.float64

    def model(self) -> TinyNetwork:
        """The network, with the same weights at each call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = TinyNetwork(self.head, self.channels, (-(-self.size[0] // 2), -(-self.size[1] // 2)))
        return network.to(self.dtype).eval()

    def images(self) -> Tensor:
        """(rows, 3, *size), the same at each call."""
        return self._drawn(2)

    def other_images(self) -> Tensor:
        """(rows, 3, *size), another image for each of `images`, the same at each call."""
        return self._drawn(3)

    def _drawn(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(self.rows, 3, *self.size, generator=generator, dtype=torch.float64).to(self.dtype)

    def trace(self, model: nn.Module | None = None) -> Trace:
        """The trace of the images, with other images; row i explains class i modulo 3."""
        alone = trace(model or self.model(), self.layer, self.images(), torch.arange(self.rows) % CLASSES)
        return replace(alone, other_images=self.other_images())


def interventions_of(trace: Trace) -> tuple[Parts, ...]:
    """Per row an object of the explained class and one of the next, a mark, and the ground with two versions.

    Images are at least 11 x 12 pixels. What is left out is black, and each version depends on its image alone.
    """
    _, _, height, width = trace.images.shape
    own, other, mark = (torch.zeros(height, width, dtype=torch.bool) for _ in range(3))
    own[3:11, 2:9] = other[3:11, 9:12] = mark[:3, 8:12] = True
    ground = ~(own | other | mark)

    def parts(image: Tensor, target: int) -> Parts:
        following = (target + 1) % trace.logits.shape[1]
        return (
            Part(f"class {target}", target, own, image.masked_fill(own, 0)[None]),
            Part(f"class {following}", following, other, image.masked_fill(other, 0)[None]),
            Part("mark", None, mark, image.masked_fill(mark, 0)[None]),
            Part(GROUND, None, ground, torch.stack([image.masked_fill(ground, 0), image.where(~ground, -image)])),
        )

    return tuple(parts(image, target) for image, target in zip(trace.images, trace.targets.tolist(), strict=True))


CASES = {"pooled": Case("pooled"), "dense": Case(), "signed": Case(layer="features.2")}


def model_state(model: nn.Module) -> list[object]:
    """All that a method or metric could leave behind on a model, comparable with ==."""
    parameters = [(name, p.tolist(), p.requires_grad, p.grad) for name, p in model.named_parameters()]
    modules = [(name, type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
               for name, m in model.named_modules()]  # fmt: skip
    return [parameters, modules]
