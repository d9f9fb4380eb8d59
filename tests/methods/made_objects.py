"""Tiny networks of boxes and of masks, whose score reads a part of the layer, for methods and
metrics of objects.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from axiom_bench.cutting.objects import BoxScores, ObjectScores, RegionScores
from axiom_bench.cutting.trace import Trace, cut
from axiom_bench.testing.cases import CLASSES, Case, TinyNetwork, own_cut


class Dense(TinyNetwork):
    """A head that reads 3 x 3 positions for the logits at each: maps of classes, or with `boxes` a
    box of each position, whose sides the image changes.
    """

    def __init__(self, case: "ObjectCase") -> None:
        super().__init__("pooled", case.channels, case.size)
        self.head = nn.Sequential(
            nn.Conv2d(case.channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, CLASSES, 1)
        )
        self.boxes = case.boxes

    @property
    def readout(self) -> Tensor:
        return self.head[0].weight

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.head(self.features(images))
        if not self.boxes:
            return maps
        y, x = (
            (torch.arange(side, device=maps.device) * 2.0 + 1).to(maps) for side in maps.shape[2:]
        )
        middle = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1).flatten(
            0, 1
        )
        half = 2 + maps.detach()[:, :2].sigmoid().flatten(2).mT
        return torch.cat([middle - half, middle + half], 2), maps.flatten(2).mT


@dataclass(frozen=True)
class ObjectCase(Case):
    """boxes: whether it is a network of boxes, else of masks. Row i explains the object at position
    3 i + 2, or the region of all positions from there on.
    """

    boxes: bool = True

    def model(self) -> ObjectScores:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            network = Dense(self).to(self.dtype).eval()
        at = (BoxScores if self.boxes else RegionScores)(network)
        for name in ("features", "filters", "readout", "head"):  # which the checks change
            object.__setattr__(at, name, getattr(network, name))
        return at

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
        images, others, targets = (
            self.images(),
            self.other_images(),
            torch.arange(self.rows) % CLASSES,
        )
        cut_model = None if model is not None or device is not None else own_cut(self)
        model = model or self.model()
        places = self.places(model)
        if device is not None:
            device.put(*model.parameters(), *model.buffers(), images, others, targets, places)
        traced = (cut_model or cut(model, self.layer)).trace((images, places), targets)
        return replace(traced, other_images=others)


BOXES, MASKS = ObjectCase(), ObjectCase(boxes=False)
