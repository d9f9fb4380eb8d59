"""Three libraries' ways of calling a metric, as their documentation says, on the maps that ours is given.

A call is a function of a Sample. Libraries are imported in the call, after the command has checked that all are there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, from_numpy, nn

from .samples import Sample

Values = np.ndarray  # (B,), one per image
Call = Callable[[Sample], Any]
Prediction = Callable[[Sample, Values], Values]  # of a library's values from ours
QUIET = {"disable_warnings": True, "display_progressbar": False}


def quantus(name: str, region: str = "", softmax: bool = True, **settings: Any) -> Call:
    """A metric of quantus on the heatmaps. region: "masks" or "boxes", what it gets as s_batch."""

    def call(sample: Sample) -> Any:
        import quantus

        metric = getattr(quantus, name)(**QUIET, **settings)
        regions = {"masks": sample.masks, "boxes": sample.box_masks}[region][:, None].astype(int) if region else None
        return metric(
            model=sample.model,
            x_batch=sample.images.numpy().copy(),
            y_batch=np.array(sample.targets),
            a_batch=sample.heatmaps[:, None].copy(),
            s_batch=regions,
            channel_first=True,
            softmax=softmax,
            device="cpu",
        )

    return call


def grad_cam(name: str, **settings: Any) -> Call:
    """A metric of grad-cam on the heatmaps, on probabilities."""

    def call(sample: Sample) -> Any:
        import pytorch_grad_cam.metrics.cam_mult_image as multiplied
        import pytorch_grad_cam.metrics.road as road

        metric = getattr(multiplied if hasattr(multiplied, name) else road, name)(**settings)
        return metric(sample.images, sample.heatmaps, grad_cam_targets(sample), sample.model)

    return call


def grad_cam_targets(sample: Sample) -> list[Any]:
    """The probability of each image's class, as grad-cam's metrics ask for it."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    return [ClassifierOutputSoftmaxTarget(target) for target in sample.targets]


@dataclass(frozen=True)
class Extractor:
    """A sample's heatmaps behind the interface of torchcam's extractors."""

    sample: Sample

    @property
    def model(self) -> nn.Module:
        """The network, which torchcam asks for scores."""
        return self.sample.model

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        return [from_numpy(self.sample.heatmaps)]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """The one map."""
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


def torchcam(name: str, value: str, **settings: Any) -> Call:
    """A value of a metric of torchcam on the heatmaps, on probabilities: of each image, though it is of a data set."""

    def call(sample: Sample) -> list[float]:
        import torchcam.metrics

        values = []
        for row in sample.rows():
            metric = getattr(torchcam.metrics, name)(Extractor(row), lambda logits: logits.softmax(1), **settings)
            metric.update(row.images, row.targets)
            values.append(metric.summary()[value])
        return values

    return call
