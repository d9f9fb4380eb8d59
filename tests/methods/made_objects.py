"""Tiny networks of boxes and of masks, for methods and metrics of objects. Their score reads only a
part of the layer.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from axiom_bench.cutting.cut_model import cut
from axiom_bench.cutting.objects import BoxScores, ObjectScores, RegionScores
from axiom_bench.cutting.trace import Trace
from axiom_bench.testing.cases import CLASSES, Case, TinyNetwork, cached_cut


class Dense(TinyNetwork):
    """A network whose head reads 3 x 3 positions for the logits at each position.

    It returns maps of classes. With `boxes`, it returns one box per position, whose sides depend on
    the image.
    """

    def __init__(self, case: "ObjectCase") -> None:
        super().__init__("pooled", case.channels, case.size)
        first = nn.Conv2d(case.channels, 6, 3, padding=1)
        last = nn.Conv2d(6, CLASSES, 1)
        self.head = nn.Sequential(first, nn.ReLU(), last)
        self.boxes = case.boxes

    @property
    def readout(self) -> Tensor:
        return self.head[0].weight

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.head(self.features(images))
        if not self.boxes:
            return maps
        height, width = maps.shape[2:]
        y = (torch.arange(height, device=maps.device) * 2.0 + 1).to(maps)
        x = (torch.arange(width, device=maps.device) * 2.0 + 1).to(maps)
        columns = x.expand(height, -1)
        lines = y[:, None].expand(-1, width)
        middle = torch.stack([columns, lines], -1).flatten(0, 1)
        half = 2 + maps.detach()[:, :2].sigmoid().flatten(2).mT
        return torch.cat([middle - half, middle + half], 2), maps.flatten(2).mT


@dataclass(frozen=True)
class ObjectCase(Case):
    """A case of one explained object per image.

    Row i explains the object at position 3 i + 2, or the region of all positions from 3 i + 2 on.
    """

    boxes: bool = True
    """True for a network of boxes, False for a network of masks."""

    def build(self) -> ObjectScores:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = Dense(self).to(self.dtype).eval()
        model = BoxScores(network) if self.boxes else RegionScores(network)
        for name in ("features", "filters", "readout", "head"):  # the checks change these
            object.__setattr__(model, name, getattr(network, name))
        return model

    def places(self, model: ObjectScores) -> Tensor:
        sides = [-(-side // 2) for side in self.size]
        positions = torch.arange(sides[0] * sides[1])
        first = (3 * torch.arange(self.rows) + 2) % len(positions)
        if not self.boxes:
            return (positions >= first[:, None]).view(-1, *sides).to(self.dtype)
        with torch.no_grad():
            boxes = model.returned(self.images())[0]
        return torch.cat([first[:, None], boxes[torch.arange(self.rows), first]], 1)

    def trace(self, model=None, device=None) -> Trace:
        if model is None and device is None:
            return replace(cached_trace(self))  # on which nothing is computed yet
        return self.new_trace(None, model or self.model(), device)

    def new_trace(self, cut_model, model, device=None) -> Trace:
        """Trace the images with a cut of the model, or with a new cut if it is None."""
        images = self.images()
        others = self.other_images()
        targets = torch.arange(self.rows) % CLASSES
        places = self.places(model)
        if device is not None:
            device.put(*model.parameters(), *model.buffers(), images, others, targets, places)
        traced = (cut_model or cut(model, self.layer)).trace((images, places), targets)
        return replace(traced, other_images=others)


@cache
def cached_trace(case: ObjectCase) -> Trace:
    """Return the case's trace, which all methods share."""
    return case.new_trace(cached_cut(case), case.model())


BOXES = ObjectCase()
MASKS = ObjectCase(boxes=False)
