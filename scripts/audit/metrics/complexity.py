"""Coherency and complexity of maps by grad-cam, scipy and quantus."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .calls import Values
from .samples import Sample


def coherency(sample: Sample) -> Any:
    """grad-cam's, with its own GradCAM for the masked image."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.metrics.arcc import Coherency
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(target) for target in sample.targets]
    model = copy.deepcopy(sample.model).requires_grad_(True)  # it needs a gradient in some parameter
    with GradCAM(model, [model.get_submodule(sample.trace.layer)]) as cam:
        return Coherency()(sample.images, sample.heatmaps, targets, model, cam)


def half_where_undefined(sample: Sample, own: Values) -> Values:
    """A correlation of 0, scaled to (1 + 0) / 2, where ours is undefined."""
    return np.where(np.isnan(own), 0.5, own)


def complexity(sample: Sample) -> Any:
    """grad-cam's mean of a map."""
    from pytorch_grad_cam.metrics.arcc import Complexity

    return Complexity()(sample.heatmaps)


def shannon(sample: Sample) -> list[float]:
    """scipy's entropy."""
    from scipy.stats import entropy

    return [float(entropy(heatmap.astype(np.float64).ravel())) for heatmap in sample.heatmaps]


def pixels_above(sample: Sample, _: Values) -> Values:
    """The number of pixels above 1e-5, which quantus counts."""
    return (sample.heatmaps > 1e-5).sum((1, 2))
