"""What both metrics of a pair are given: an explanation of a tiny image or of scenes, with boxes and masks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.metrics.shared.perturbation import probabilities
from axiom_bench.metrics.shared.regions import union

from ..networks import loaded

IMAGES = 8  # of the trained network
Value = TypeVar("Value")


@dataclass(frozen=True)
class Sample:
    """An explanation, float32, of images with boxes and masks."""

    explanation: ab.Explanation

    @property
    def trace(self) -> ab.Trace:
        """The trace that was explained."""
        return _given(self.explanation.trace)

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
    def heatmaps(self) -> np.ndarray:
        """(B, H', W') in [0, 1]."""
        return _given(self.explanation.heatmap).numpy()

    @property
    def raw_maps(self) -> Tensor:
        """(B, h, w), signed."""
        return _given(self.explanation.raw_map)

    @property
    def masks(self) -> np.ndarray:
        """(B, H', W') bool, of the explained class."""
        return _given(self.explanation.masks).numpy()

    @property
    def boxes(self) -> tuple[Tensor, ...]:
        """The boxes (n, 4) of the explained class, of each image."""
        return tuple(_given(self.explanation.boxes))

    @property
    def box_masks(self) -> np.ndarray:
        """(B, H', W') bool: the pixels in the boxes of the explained class."""
        return np.stack([union(boxes, self.heatmaps.shape[1:]).numpy() for boxes in self.boxes])

    @property
    def probability(self) -> np.ndarray:
        """(B,) the softmax probability of the class."""
        return probabilities(self.trace.logits, self.trace.targets).numpy()

    def probability_of(self, images: Tensor) -> np.ndarray:
        """(B,) the softmax probability of each image's class, for other images."""
        with torch.no_grad():
            return probabilities(self.model(images), self.trace.targets).numpy()

    def score_of(self, images: Tensor) -> Tensor:
        """(B,) the logit of each image's class, for other images."""
        with torch.no_grad():
            return self.model(images).gather(1, self.trace.targets[:, None])[:, 0]

    def rows(self) -> list[Sample]:
        """Each image alone, for libraries that return one number for all."""
        batch, samples = self.explanation, []
        for rows in (slice(row, row + 1) for row in range(len(self.images))):
            tensors = {
                name: getattr(batch, name) for name in ("contributions", "raw_map", "heatmap", "images", "masks")
            }
            fields: dict[str, Any] = {name: None if each is None else each[rows] for name, each in tensors.items()}
            explanation = replace(batch, trace=self.trace[rows], boxes=self.boxes[rows], **fields)
            samples.append(replace(self, explanation=explanation))
        return samples


def _given(value: Value | None) -> Value:
    assert value is not None
    return value


def tiny() -> Sample:
    """One image of 2 x 2 pixels; the values of the metrics on it are computed by hand in pairs.py."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    convolution, linear = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), torch.tensor([[1.0] * 4, [0.0] * 4])
    model.load_state_dict({"0.weight": convolution, "2.weight": linear})
    images = torch.zeros(1, 3, 2, 2)
    images[0, 0] = math.log(2) * torch.tensor([[1.0, 2], [4, 0]])
    raw_map = torch.tensor([[[1, 0.5], [0.25, 0]]])
    annotation = ab.Annotation(torch.tensor([0]), torch.tensor([[0.0, 0, 1, 2]]), torch.tensor([[0, -1], [0, -1]]))
    batch = ab.Batch(images, ("tiny",), torch.tensor([0]), (annotation,))
    trace = ab.trace(model, "0", images, torch.tensor([0]))

    def method(trace: ab.Trace) -> ab.Map:
        return ab.Map(raw_map.expand(len(trace), 2, 2))

    return Sample(ab.Explanation.of(trace, method(trace), batch, method))


def trained() -> Sample:
    """Grad-CAM of the embedded network on scenes, float32."""
    model, batch = loaded("scenes_vgg", IMAGES)
    trace, method = ab.trace(model.module, model.layer, batch.images, batch.targets), ab.methods.get("grad_cam")
    return Sample(ab.Explanation.of(trace, method(trace), batch, method))
