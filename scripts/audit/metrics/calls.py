"""Three libraries' ways of calling a metric, as their documentation says, on the maps that ours is given.

A call is a function of a Sample. Libraries are imported in the call, after the command has checked that all are there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, from_numpy, nn

from .samples import Sample

Values = np.ndarray  # (B,), one per image
Call = Callable[[Sample], Any]
Prediction = Callable[[Sample, Values], Values]  # of a library's values from ours
Explain = Callable[..., np.ndarray]  # of a model, images and targets, as quantus asks for it


def quantus(name: str, region: str = "", softmax: bool = True, **settings: Any) -> Call:
    """A metric of quantus on the heatmaps. region: "masks" or "boxes", what it gets as s_batch."""

    def call(sample: Sample) -> Any:
        regions = {"masks": sample.masks, "boxes": sample.box_masks}[region][:, None].astype(int) if region else None
        maps = sample.heatmaps[:, None].copy()
        return of_quantus(name, sample, maps, settings, softmax=softmax, s_batch=regions)

    return call


def of_quantus(
    name: str,
    sample: Sample,
    maps: np.ndarray | None,
    settings: dict[str, Any],
    softmax: bool = False,
    explain: Explain | None = None,
    **call: Any,
) -> Any:
    """A metric of quantus on maps (B, 1, H', W'). explain: of those that explain again. call: more arguments of it.

    Torch's and numpy's global generators are as before afterwards.
    """
    import quantus

    metric = getattr(quantus, name)(disable_warnings=True, display_progressbar=False, **settings)
    state = np.random.get_state()
    try:
        with torch.random.fork_rng():
            return metric(
                model=sample.model,
                x_batch=sample.images.numpy().copy(),
                y_batch=np.array(sample.targets),
                a_batch=maps,
                explain_func=explain,
                channel_first=True,
                softmax=softmax,
                device="cpu",
                **call,
            )
    finally:
        np.random.set_state(state)


def grad_cam(name: str, **settings: Any) -> Call:
    """A metric of grad-cam on the heatmaps, on probabilities."""

    def call(sample: Sample) -> Any:
        import pytorch_grad_cam.metrics.cam_mult_image as multiplied
        import pytorch_grad_cam.metrics.road as road

        metric = getattr(multiplied if hasattr(multiplied, name) else road, name)(**settings)
        return metric(sample.images, sample.heatmaps, probabilities(sample), sample.model)

    return call


def probabilities(sample: Sample) -> list[Any]:
    """The probability of each image's class, as grad-cam's metrics ask for it."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    return [ClassifierOutputSoftmaxTarget(target) for target in sample.targets]


@contextmanager
def grad_cam_again(sample: Sample) -> Iterator[tuple[nn.Module, Any, list[Any]]]:
    """(a copy of the network, grad-cam's GradCAM of it, the targets' logits), for metrics that explain again."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(sample.model).requires_grad_(True)  # it needs a gradient in some parameter
    with GradCAM(model, [model.get_submodule(sample.trace.layer)]) as cam:
        yield model, cam, [ClassifierOutputTarget(target) for target in sample.targets]


def removal_without_noise(name: str, percentile: float) -> Any:
    """grad-cam's metric of the probability after a removal, with no noise on imputed pixels."""
    import pytorch_grad_cam.metrics.perturbation_confidence as confidence
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    removal = getattr(confidence, name)(percentile, NoisyLinearImputer(noise=0))
    return confidence.PerturbationConfidenceMetric(removal)


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
