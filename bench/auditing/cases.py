"""The networks of an audit: small, with random weights, each with a trait that CAM code trips over.

All target layers are called `target`. Each has three images, of which the first is explained by its
predicted class and the others by other classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor, nn

from axiom_bench.auditing.case import Case

NUM_CLASSES = 5
NUM_IMAGES = 3
LAYER = "target"
HIDDEN = 7  # the units of the hidden layer of a ReLU head


class Centred(nn.Module):
    """A module that subtracts the mean of the first channel from it, so that its sum is zero."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps (B, K, H, W) with a first channel of sum zero."""
        first = maps[:, :1]
        return torch.cat([first - first.mean((2, 3), keepdim=True), maps[:, 1:]], 1)


@dataclass(frozen=True)
class Design:
    """A network to be built, and the images for it."""

    name: str
    """The trait, in words that follow "networks with"."""
    seed: int
    """The seed of weights and images, with which every image has a Grad-CAM that isn't zero."""
    size: tuple[int, int]
    """(H', W') of the images. The layer's maps are half as large, rounded up."""
    channels: int = 6
    """The number of channels of the target layer."""
    is_pooled: bool = False
    """True if the head is global average pooling and a linear layer. Otherwise it flattens the maps
    and has a hidden layer with a ReLU."""
    is_rectified: bool = True
    """True if the target layer ends in a ReLU."""
    has_skip: bool = False
    """True if the head adds the target layer's input to its output."""
    has_batch_norm: bool = False
    """True if the head begins with a batch norm and a GELU, whose second derivative isn't zero."""
    is_centred: bool = False
    """True if the first channel has sum zero."""
    is_dead: bool = False
    """True if the first channel is zero everywhere."""
    scale: float = 1.0
    """The factor of the last layer's weights, and so of all gradients."""
    dtype: torch.dtype = torch.float64
    """The type of weights and images."""


class SmallNetwork(nn.Module):
    """A stem that halves the image, the target layer, and a head."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        channels = design.channels
        positions = prod(-(-side // 2) for side in design.size)
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.ReLU())
        layers: list[nn.Module] = [nn.Conv2d(channels, channels, 3, padding=1)]
        if design.is_rectified:
            layers.append(nn.ReLU())
        if design.is_centred:
            layers.append(Centred())
        self.target = nn.Sequential(*layers)
        self.has_skip = design.has_skip
        self.after: nn.Module = nn.Identity()
        if design.has_batch_norm:
            self.after = nn.Sequential(nn.BatchNorm2d(channels), nn.GELU())
        if design.is_pooled:
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(channels, NUM_CLASSES),
            )
        else:
            self.head = nn.Sequential(
                nn.Flatten(),
                nn.Linear(channels * positions, HIDDEN),
                nn.ReLU(),
                nn.Linear(HIDDEN, NUM_CLASSES),
            )

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (B, C) of images (B, 3, H', W')."""
        inputs = self.stem(images)
        maps = self.target(inputs)
        if self.has_skip:
            maps = maps + inputs
        logits: Tensor = self.head(self.after(maps))
        return logits


# The first case tells most readings apart, so that the search begins with it.
DESIGNS = (
    Design("negative activations", 0, (12, 17), is_rectified=False),
    Design("a ReLU head", 3, (12, 10)),
    Design("a linear head", 5, (11, 15), is_pooled=True),
    Design("a skip connection", 2, (16, 12), is_pooled=True, has_skip=True, is_rectified=False),
    Design("batch norm and GELU", 2, (13, 12), channels=4, is_rectified=False, has_batch_norm=True),
    Design("small gradients", 1, (10, 14), scale=1e-4),
    Design("a channel whose sum is zero", 9, (12, 14), is_centred=True),
    Design("a dead channel", 4, (9, 14), is_dead=True),
    Design("one channel", 0, (12, 16), channels=1),
    Design("float32", 8, (14, 12), dtype=torch.float32),
    Design("float32 and a linear head", 4, (12, 12), is_pooled=True, dtype=torch.float32),
)


@cache
def cases() -> tuple[Case, ...]:
    """Build the networks of an audit with their images, the same at each call.

    Returns:
        The cases, which nobody changes: audited code gets copies. Every image has a map that isn't
        constant, and the logits of its classes differ by so much that their softmax and their
        log-softmax have other gradients.
    """
    return tuple(build(design) for design in DESIGNS)


def build(design: Design) -> Case:
    """Build one network with its images.

    Args:
        design: The network's traits.

    Returns:
        The case, whose images explain their predicted class, the next one, and the one after it.
    """
    generator = torch.Generator().manual_seed(design.seed)
    model = SmallNetwork(design)
    with torch.no_grad():
        for name, values in (*model.named_parameters(), *model.named_buffers()):
            if values.is_floating_point():
                _draw(name, values, generator)
        if design.is_dead:
            for values in model.get_submodule("target.0").parameters():
                values[0] = 0
        last = "head.2" if design.is_pooled else "head.3"
        model.get_parameter(f"{last}.weight").mul_(design.scale)
    model = model.to(design.dtype).eval()
    shape = (NUM_IMAGES, 3, *design.size)
    images = torch.randn(shape, generator=generator, dtype=torch.float64).to(design.dtype)
    with torch.no_grad():
        predicted = model(images).argmax(1)
    targets = (predicted + torch.arange(NUM_IMAGES)) % NUM_CLASSES
    return Case(name=design.name, model=model, layer=LAYER, images=images, targets=targets)


def _draw(name: str, values: Tensor, generator: torch.Generator) -> None:
    """Fill a parameter or a buffer with random numbers that keep the size of what passes."""
    noise = torch.randn(values.shape, generator=generator)
    if name.endswith("running_var"):
        values.copy_(noise.abs() + 0.5)
    elif values.ndim == 1:
        values.copy_(0.3 * noise)
        if name == "after.0.weight":
            values.copy_(1 + 0.3 * noise)
    else:
        values.copy_(1.4 * noise / values[0].numel() ** 0.5)
