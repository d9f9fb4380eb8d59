"""Coherency and complexity of maps by grad-cam, scipy and quantus."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from axiom_bench import metrics
from axiom_bench.metrics.arcc import FRACTIONS

from .calls import Values, grad_cam_targets
from .perturbation import road_at_percentile
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


def arcc(sample: Sample) -> Any:
    """grad-cam's, with its own GradCAM of the logit for the masked image, and no noise on imputed pixels."""
    import pytorch_grad_cam.metrics.perturbation_confidence as confidence
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.metrics.arcc import ARCC
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    logits = [ClassifierOutputTarget(target) for target in sample.targets]

    def without_noise(name: str) -> Any:
        removal = getattr(confidence, name)
        return lambda percentile: confidence.PerturbationConfidenceMetric(
            removal(percentile, NoisyLinearImputer(noise=0))
        )

    model = copy.deepcopy(sample.model).requires_grad_(True)  # it needs a gradient in some parameter
    with GradCAM(model, [model.get_submodule(sample.trace.layer)]) as cam:
        metric = ARCC(lambda input_tensor, targets: cam(input_tensor, logits))
        metric.road.morf_averager.imputer = without_noise("RemoveMostRelevantFirst")
        metric.road.lerf_averager.imputer = without_noise("RemoveLeastRelevantFirst")
        return metric(sample.images, sample.heatmaps, grad_cam_targets(sample), model)


def arcc_at_percentiles(sample: Sample, _: Values) -> Values:
    """Our ARCC with as many pixels imputed as grad-cam removes: all at its percentile and beyond."""
    parts = metrics.get("adcc")(sample.explanation)
    coherency, complexity_of = (parts[name].numpy() for name in ("coherency", "complexity"))
    lerf, morf = (
        np.mean([road_at_percentile(first, fraction)(sample, _) for fraction in FRACTIONS], axis=0)
        for first in ("lowest", "highest")
    )
    with np.errstate(divide="ignore"):
        return 3 / (1 / coherency + 1 / (1 - complexity_of) + 1 / np.clip(lerf - morf, 0, 1))


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
