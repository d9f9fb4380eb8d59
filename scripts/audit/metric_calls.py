"""Metrics of grad-cam, torchcam, captum, scipy, torchvision and scikit-learn, called on the maps that ours is given.

A call is a function of a Sample. Libraries are imported in the call, after the command has checked that all are there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, from_numpy, nn

from axiom_bench.metrics.shared.random_subsets import square_at_random

from .quantus_calls import GRID, SAMPLES
from .samples import Peer, Sample, peer

THRESHOLDS = [step / 100 for step in range(100)]  # fractions of a map's maximum
MASK_THRESHOLD = 0.15


def grad_cam(name: str, **settings: Any) -> Peer:
    """A metric of grad-cam on the heatmaps, on probabilities."""

    def call(sample: Sample) -> Any:
        from pytorch_grad_cam.metrics import cam_mult_image, road

        metric = getattr(cam_mult_image if hasattr(cam_mult_image, name) else road, name)(**settings)
        return metric(sample.images, sample.heatmaps, _of_probability(sample), sample.model)

    return Peer("grad-cam", name, call)


@peer("grad-cam", "Complexity")
def complexity(sample: Sample) -> Any:
    """grad-cam's mean of a map."""
    from pytorch_grad_cam.metrics.arcc import Complexity

    return Complexity()(sample.heatmaps)


def _of_probability(sample: Sample) -> list[Any]:
    """The probability of each image's class, as grad-cam's metrics ask for it."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    return [ClassifierOutputSoftmaxTarget(target) for target in sample.targets]


@contextmanager
def _grad_cam_again(sample: Sample) -> Iterator[tuple[nn.Module, Any, list[Any]]]:
    """(a copy of the network, grad-cam's GradCAM of it, the targets' logits), for metrics that explain again."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(sample.model).requires_grad_(True)  # it needs a gradient in some parameter
    with GradCAM(model, [model.get_submodule(sample.trace.layer)]) as cam:
        yield model, cam, [ClassifierOutputTarget(target) for target in sample.targets]


def _removal_without_noise(name: str, percentile: float) -> Any:
    """grad-cam's metric of the probability after a removal, with no noise on imputed pixels."""
    import pytorch_grad_cam.metrics.perturbation_confidence as confidence
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    removal = getattr(confidence, name)(percentile, NoisyLinearImputer(noise=0))
    return confidence.PerturbationConfidenceMetric(removal)


def road(name: str, fraction: float) -> Peer:
    """grad-cam's removal and imputation without noise; the class's probability afterwards."""

    def call(sample: Sample) -> Any:
        metric = _removal_without_noise(name, 100 * (1 - fraction))
        return metric(sample.images, sample.heatmaps, _of_probability(sample), sample.model, return_diff=False)

    return Peer("grad-cam", name, call)


@peer("grad-cam", "PerturbationConfidenceMetric")
def blended(sample: Sample) -> Any:
    """grad-cam's base class, given the perturbation image (1 - h) + mean h; it returns after - before."""
    from pytorch_grad_cam.metrics.perturbation_confidence import PerturbationConfidenceMetric

    metric = PerturbationConfidenceMetric(lambda image, h: image * (1 - h) + image.mean((1, 2), keepdim=True) * h)
    return -metric(sample.images, sample.heatmaps, _of_probability(sample), sample.model)


@peer("grad-cam", "Coherency")
def coherency(sample: Sample) -> Any:
    """grad-cam's, with its own GradCAM for the masked image."""
    from pytorch_grad_cam.metrics.arcc import Coherency

    with _grad_cam_again(sample) as (model, cam, logits):
        return Coherency()(sample.images, sample.heatmaps, logits, model, cam)


@peer("grad-cam", "ARCC")
def arcc(sample: Sample) -> Any:
    """grad-cam's, with its own GradCAM of the logit for the masked image, and no noise on imputed pixels."""
    from pytorch_grad_cam.metrics.arcc import ARCC

    with _grad_cam_again(sample) as (model, cam, logits):
        metric = ARCC(lambda input_tensor, targets: cam(input_tensor, logits))
        metric.road.morf_averager.imputer = partial(_removal_without_noise, "RemoveMostRelevantFirst")
        metric.road.lerf_averager.imputer = partial(_removal_without_noise, "RemoveLeastRelevantFirst")
        return metric(sample.images, sample.heatmaps, _of_probability(sample), model)


class Extractor:
    """A heatmap (1, H', W') behind the interface of torchcam's extractors."""

    def __init__(self, model: nn.Module, heatmap: Tensor) -> None:
        self.model, self.heatmap = model, heatmap

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        return [self.heatmap]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


def torchcam(name: str, value: str, **settings: Any) -> Peer:
    """A value of a metric of torchcam on the heatmaps, on probabilities: of each image, though it is of a data set."""

    def call(sample: Sample) -> list[float]:
        import torchcam.metrics

        values = []
        for image, heatmap, target in zip(sample.images, sample.heatmaps, sample.targets, strict=True):
            extractor = Extractor(sample.model, from_numpy(heatmap[None]))
            metric = getattr(torchcam.metrics, name)(extractor, lambda logits: logits.softmax(1), **settings)
            metric.update(image[None], [target])
            values.append(metric.summary()[value])
        return values

    return Peer("torchcam", name, call)


@peer("torchcam", "DeletionInsertionMetric")
def insertion_minus_deletion(sample: Sample) -> np.ndarray:
    """The difference of torchcam's two areas."""
    areas = (torchcam("DeletionInsertionMetric", f"{name}_auc", steps=4).call for name in ("insertion", "deletion"))
    return np.subtract(*(area(sample) for area in areas))


@peer("captum", "sensitivity_max")
def captum_sensitivity(sample: Sample) -> Any:
    """captum.metrics.sensitivity_max with our draws."""
    from captum.metrics import sensitivity_max

    def explain(images: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:  # captum passes a tuple or a tensor
        return (sample.maps_of(images[0]),) if isinstance(images, tuple) else sample.maps_of(images)

    noise = sample.noise(SAMPLES).flatten(0, 1)
    return sensitivity_max(
        explain, sample.images, perturb_func=lambda images: images + noise, n_perturb_samples=SAMPLES
    )


def captum_infidelity(sides: Sequence[float], squares: int, normalize: bool) -> Peer:
    """captum.metrics.infidelity with our squares: I is the square's indicator, three channels share the map."""

    def call(sample: Sample) -> Any:
        from captum.metrics import infidelity

        height, width = sample.heatmaps.shape[1:]
        subset = square_at_random([max(1, round(side * min(height, width))) for side in sides])
        drawn = [subset(draw, (height, width)) for draw in sample.trace.generators(0) for _ in range(squares)]
        removed = torch.stack(drawn)[:, None].expand(-1, 3, -1, -1).float()
        maps = functional.interpolate(sample.raw_maps[:, None], (height, width), mode="bilinear", align_corners=False)
        maps = maps.expand_as(sample.images) / sample.images.shape[1]
        settings = {"target": sample.targets, "n_perturb_samples": squares, "normalize": normalize}
        squares_of = (lambda images: (removed, images * (1 - removed)), sample.images)
        return infidelity(sample.model, *squares_of, maps, **settings).detach()

    return Peer("captum", "infidelity", call)


@peer("scipy", "spearmanr")
def deletion_by_scipy(sample: Sample) -> list[float]:
    """scipy's Spearman correlation of sums of the resized map in patches and drops of the logit, patch by patch."""
    from scipy.stats import spearmanr

    maps, side = sample.resized()[:, 0], sample.heatmaps.shape[1] // GRID
    before, sums, drops = sample.score_of(sample.images), [], []
    for top in range(0, maps.shape[1], side):
        for left in range(0, maps.shape[2], side):
            patch = (..., slice(top, top + side), slice(left, left + side))
            images = sample.images.clone()
            images[patch] = 0
            sums.append(maps[patch].sum((1, 2)))
            drops.append((before - sample.score_of(images)).numpy())
    return [spearmanr(*rows).statistic for rows in zip(np.stack(sums, 1), np.stack(drops, 1), strict=True)]


@peer("scipy", "ndimage.label")
def labelled_box_iou(sample: Sample) -> list[float]:
    """The IoU of the largest region's box, above 0.15 of the maximum."""
    return [_labelled(*row, MASK_THRESHOLD)[0] for row in _rounded(sample)]


def labelled_box_acc(ious: Sequence[float], any_region: bool) -> Peer:
    """Whether the box of the largest, or of any, region reaches an IoU at one of 100 thresholds; the mean over ious."""

    def call(sample: Sample) -> list[float]:
        best = [max(_labelled(*row, fraction)[any_region] for fraction in THRESHOLDS) for row in _rounded(sample)]
        return [float(np.mean([value >= iou for iou in ious])) for value in best]

    return Peer("scipy", "ndimage.label", call)


def _rounded(sample: Sample) -> Iterator[tuple[np.ndarray, Tensor]]:
    """The heatmaps rounded as ours are before thresholds are taken, each with its boxes."""
    return zip(sample.heatmaps.round(6), sample.boxes, strict=True)


def _labelled(heatmap: np.ndarray, boxes: Tensor, fraction: float) -> tuple[float, float]:
    """(IoU of the largest region's box, best IoU of all regions' boxes): scipy's labels, torchvision's IoU."""
    from scipy.ndimage import find_objects, label
    from torchvision.ops import box_iou

    labels, _ = label(heatmap > np.float32(fraction) * heatmap.max(), structure=np.ones((3, 3)))
    regions = torch.tensor([[x.start, y.start, x.stop, y.stop] for y, x in find_objects(labels)])
    ious = box_iou(regions.double(), boxes.double()).amax(1)
    return float(ious[np.bincount(labels.ravel())[1:].argmax()]), float(ious.max())


@peer("scikit-learn", "average_precision_score")
def average_precision_of_levels(sample: Sample) -> list[float]:
    """scikit-learn's average precision of maps cut to 101 levels: how many of 0, 0.01, ... 0.99 a pixel is above."""
    from sklearn.metrics import average_precision_score

    levels = np.ceil(np.round(100 * sample.heatmaps.astype(np.float64), 4))
    rows = zip(levels, sample.masks, strict=True)
    return [float(average_precision_score(mask.ravel(), level.ravel())) for level, mask in rows]


@peer("scikit-learn", "jaccard_score")
def jaccard(sample: Sample) -> list[float]:
    """scikit-learn's Jaccard score above 0.15 of the maximum."""
    from sklearn.metrics import jaccard_score

    rows = zip(sample.heatmaps, sample.masks, strict=True)
    return [float(jaccard_score(mask.ravel(), (map_ > MASK_THRESHOLD * map_.max()).ravel())) for map_, mask in rows]


@peer("scipy", "stats.entropy")
def shannon(sample: Sample) -> list[float]:
    """scipy's entropy."""
    from scipy.stats import entropy

    return [float(entropy(heatmap.astype(np.float64).ravel())) for heatmap in sample.heatmaps]
