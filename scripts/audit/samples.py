"""What both metrics of a pair are given: an explanation of a tiny image or of scenes, with boxes and masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.explanation.explanation import Method
from axiom_bench.metrics.explanation_sensitivity import with_noise
from axiom_bench.metrics.shared.cells import enlarged
from axiom_bench.metrics.shared.perturbation import probabilities
from axiom_bench.metrics.shared.regions import union

from .networks import loaded

IMAGES = 8  # of the trained network
RADIUS = 0.2  # the default of explanation_sensitivity


def not_called(sample: Sample) -> Any:
    """In the place of the call of a metric that draws what ours doesn't, or measures something else."""


class Peer(NamedTuple):
    """A metric of a library, and the call that gives its values of a Sample."""

    library: str
    name: str
    call: Callable[[Sample], Any] = not_called


def peer(library: str, name: str) -> Callable[[Callable[[Sample], Any]], Peer]:
    """Makes a Peer of a function."""
    return lambda call: Peer(library, name, call)


@dataclass(frozen=True)
class Sample:
    """An explanation, float32, of images with boxes and masks. heatmaps: (B, H', W') in [0, 1]. raw_maps: (B, h, w),
    signed. masks: (B, H', W') bool, and boxes: (n, 4) of each image, of the explained class."""

    explanation: ab.Explanation
    trace: ab.Trace
    heatmaps: np.ndarray
    raw_maps: Tensor
    masks: np.ndarray
    boxes: tuple[Tensor, ...]

    @staticmethod
    def of(trace: ab.Trace, method: Method, batch: ab.Batch) -> Sample:
        """A method's explanation."""
        explanation = ab.Explanation.of(trace, method(trace), batch, method)
        heatmap, raw_map, masks = explanation.heatmap, explanation.raw_map, explanation.masks
        assert heatmap is not None
        assert raw_map is not None
        assert masks is not None
        return Sample(explanation, trace, heatmap.numpy(), raw_map, masks.numpy(), tuple(explanation.boxes or ()))

    @property
    def model(self) -> nn.Module:
        """The network that was explained."""
        return self.trace.cut_model.model

    @property
    def images(self) -> Tensor:
        """(B, 3, H', W')."""
        return self.trace.images

    @property
    def targets(self) -> list[int]:
        """The class of each image."""
        return self.trace.targets.tolist()

    @property
    def box_masks(self) -> np.ndarray:
        """(B, H', W') bool: the pixels in the boxes of the explained class."""
        return np.stack([union(boxes, self.heatmaps.shape[1:]).numpy() for boxes in self.boxes])

    @property
    def probability(self) -> np.ndarray:
        """(B,) the softmax probability of the class."""
        return probabilities(self.trace.logits, self.trace.targets).numpy()

    def score_of(self, images: Tensor) -> Tensor:
        """(B,) the logit of each image's class, for other images."""
        with torch.no_grad():
            return self.model(images).gather(1, self.trace.targets[:, None])[:, 0]

    def resized(self) -> np.ndarray:
        """Our raw maps resized bilinearly to the image: (B, 1, H', W')."""
        return enlarged(self.explanation)[:, None].numpy()

    def maps_of(self, images: Tensor) -> Tensor:
        """Our raw maps (R, h, w) of other images; R is a multiple of the sample's images."""
        copies = len(images) // len(self.images)
        again = self.explanation.again(images, self.trace.targets.repeat_interleave(copies))
        assert again.raw_map is not None
        return again.raw_map

    def noise(self, count: int) -> Tensor:
        """What explanation_sensitivity adds to the images: (B, count, 3, H', W')."""
        moved = [
            with_noise(self.images.double(), RADIUS, self.trace.generators(f"0 nearby {number}"))
            for number in range(count)
        ]
        return torch.stack([images - self.images for images in moved], dim=1).float()


def tiny() -> Sample:
    """One image of 2 x 2 pixels; the values of the metrics on it are computed by hand in metrics.py."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    convolution, linear = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([[1.0] * 4, [0.0] * 4])
    model.load_state_dict({"0.weight": convolution, "2.weight": linear})
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0] = math.log(2) * torch.tensor([[1.0, 2], [4, 0]])
    raw_map = torch.tensor([[[1, 0.5], [0.25, 0]]])
    annotation = ab.Annotation(torch.tensor([0]), torch.tensor([[0.0, 0, 1, 2]]), torch.tensor([[0, -1], [0, -1]]))
    batch = ab.Batch(images, ("tiny",), torch.tensor([0]), (annotation,))
    trace = ab.trace(model, "0", images, torch.tensor([0]))
    return Sample.of(trace, lambda trace: ab.Map(raw_map.expand(len(trace), 2, 2)), batch)


def trained() -> Sample:
    """Grad-CAM of the embedded network on scenes, float32."""
    model, batch = loaded("scenes_vgg", IMAGES)
    trace = ab.trace(model.module, model.layer, batch.images, batch.targets)
    return Sample.of(trace, ab.methods.get("grad_cam"), batch)
