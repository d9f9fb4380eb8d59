"""Metrics of perturbed images by grad-cam, torchcam and quantus, and predictions of their values where ours differ."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from axiom_bench import metrics
from axiom_bench.metrics.arcc import FRACTIONS
from axiom_bench.metrics.shared.imputation import impute

from .calls import Call, Prediction, Values, grad_cam_again, probabilities, quantus, removal_without_noise, torchcam
from .samples import Sample


def times_probability(sample: Sample, own: Values) -> Values:
    """A drop that is a fraction of p, as a difference."""
    return own * sample.probability


def blended(sample: Sample) -> Values:
    """grad-cam's base class, given the perturbation image (1 - h) + mean h; it returns after - before."""
    from pytorch_grad_cam.metrics.perturbation_confidence import PerturbationConfidenceMetric

    metric = PerturbationConfidenceMetric(lambda image, h: image * (1 - h) + image.mean((1, 2), keepdim=True) * h)
    return -metric(sample.images, sample.heatmaps, probabilities(sample), sample.model)


def curve_area(call: Call, of_drops: bool = False) -> Call:
    """The area over [0, 1] under quantus's curve, with the unchanged image as first point. of_drops: of p - p'."""

    def values(sample: Sample) -> list[float]:
        before = sample.probability
        curves = np.stack(call(sample))
        curves = before[:, None] - curves if of_drops else curves
        points = np.concatenate([before[:, None], curves], axis=1)
        return list(np.trapezoid(points, dx=1 / curves.shape[1], axis=1))

    return values


def pixel_flipping(steps: int) -> Call:
    """The area of quantus.PixelFlipping in steps of equal numbers of pixels; it flips values, three a pixel."""

    def call(sample: Sample) -> list[list[float]]:
        in_step = sample.heatmaps[0].size // steps
        curves = quantus("PixelFlipping", features_in_step=in_step, perturb_baseline=0.0)(sample)
        return [curve[2::3] for curve in curves]

    return curve_area(call)


def deletion_in_unstable_order(steps: int) -> Prediction:
    """Our area of a deletion in the order that numpy's default sort gives quantus."""

    def predicted(sample: Sample, _: Values) -> Values:
        values = np.broadcast_to(sample.heatmaps[:, None], sample.images.shape).reshape(len(sample.images), -1)
        return _area(sample, sample.images, torch.zeros(()), np.argsort(-values, axis=1), steps)

    return predicted


def deletion_in_reading_order(sample: Sample, _: Values) -> Values:
    """Our area of a deletion in 4 steps with equal pixels in reading order, as torchcam's stable sort leaves them."""
    return _area(sample, sample.images, torch.zeros(()), _reading_order(sample), 4)


def insertion_in_reading_order(sample: Sample, _: Values) -> Values:
    """Our area of an insertion on zeros in 4 steps with equal pixels in reading order."""
    return _area(sample, torch.zeros_like(sample.images), sample.images.flatten(1), _reading_order(sample), 4)


def difference_in_reading_order(sample: Sample, own: Values) -> Values:
    """The difference of both areas."""
    return insertion_in_reading_order(sample, own) - deletion_in_reading_order(sample, own)


def _reading_order(sample: Sample) -> np.ndarray:
    """The places of all values of an image, highest pixel first, equal ones in reading order: (B, 3 H' W')."""
    pixels = np.argsort(-sample.heatmaps.reshape(len(sample.heatmaps), -1), axis=1, kind="stable")
    channels = np.arange(sample.images.shape[1]) * pixels.shape[1]
    return (pixels[:, :, None] + channels).reshape(len(pixels), -1)


def _area(sample: Sample, start: Tensor, filled: Tensor, order: np.ndarray, steps: int) -> Values:
    """The area under the probability while the values of `start` are replaced by `filled`'s in this order: (B,)."""
    images, filled = start.flatten(1).clone(), filled.expand(start.flatten(1).shape)
    curve = [sample.probability_of(start)]
    for part in np.array_split(order, steps, axis=1):
        places = torch.from_numpy(part.copy())
        images.scatter_(1, places, filled.gather(1, places))
        curve.append(sample.probability_of(images.view_as(start)))
    return np.trapezoid(np.stack(curve), dx=1 / steps, axis=0)


def region_perturbation(sample: Sample) -> list[float]:
    """The area of quantus.RegionPerturbation in regions of one pixel, all channels together."""
    regions = sample.heatmaps[0].size
    call = quantus("RegionPerturbation", patch_size=1, regions_evaluation=regions, perturb_baseline=0.0)
    return curve_area(call, of_drops=True)(sample)


def insertion_minus_deletion(sample: Sample) -> Values:
    """The difference of torchcam's two areas."""
    areas = [torchcam("DeletionInsertionMetric", f"{name}_auc", steps=4)(sample) for name in ("insertion", "deletion")]
    return np.subtract(*areas)


def road(name: str, fraction: float) -> Call:
    """grad-cam's removal and imputation without noise; the class's probability afterwards."""

    def call(sample: Sample) -> Any:
        metric = removal_without_noise(name, 100 * (1 - fraction))
        return metric(sample.images, sample.heatmaps, probabilities(sample), sample.model, return_diff=False)

    return call


def road_at_percentile(first: str, fraction: float) -> Prediction:
    """Our imputation of the pixels that grad-cam removes: all at its percentile and beyond, however many.

    Where these are all pixels of a scene, grad-cam's solver of a system without a solution answers 0.
    """

    def predicted(sample: Sample, _: Values) -> Values:
        maps = sample.heatmaps if first == "highest" else 1 - sample.heatmaps
        removed = np.stack([heatmap >= np.percentile(heatmap, 100 * (1 - fraction)) for heatmap in maps])
        imputed = impute(sample.images, torch.from_numpy(removed))
        imputed[torch.from_numpy(removed.all((1, 2)))] = 0
        return sample.probability_of(imputed)

    return predicted


def coherency(sample: Sample) -> Any:
    """grad-cam's, with its own GradCAM for the masked image."""
    from pytorch_grad_cam.metrics.arcc import Coherency

    with grad_cam_again(sample) as (model, cam, logits):
        return Coherency()(sample.images, sample.heatmaps, logits, model, cam)


def half_where_undefined(sample: Sample, own: Values) -> Values:
    """A correlation of 0, scaled to (1 + 0) / 2, where ours is undefined."""
    return np.where(np.isnan(own), 0.5, own)


def arcc(sample: Sample) -> Any:
    """grad-cam's, with its own GradCAM of the logit for the masked image, and no noise on imputed pixels."""
    from pytorch_grad_cam.metrics.arcc import ARCC

    with grad_cam_again(sample) as (model, cam, logits):
        metric = ARCC(lambda input_tensor, targets: cam(input_tensor, logits))
        metric.road.morf_averager.imputer = partial(removal_without_noise, "RemoveMostRelevantFirst")
        metric.road.lerf_averager.imputer = partial(removal_without_noise, "RemoveLeastRelevantFirst")
        return metric(sample.images, sample.heatmaps, probabilities(sample), model)


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
