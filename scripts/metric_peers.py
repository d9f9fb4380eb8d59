"""Other libraries' metrics, called as their documentation says, on the maps that ours are given.

Libraries are imported where they are called, after scripts/audit_metrics.py has said which one is missing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.imputation import impute
from axiom_bench.metrics.shared.perturbation import probabilities
from axiom_bench.metrics.shared.regions import union

Values = np.ndarray  # (B,), of one image each
QUIET = {"disable_warnings": True, "display_progressbar": False}


@dataclass(frozen=True)
class Sample:
    """What both are given: an explanation, float32, of rows with boxes and masks."""

    title: str
    explanation: Explanation

    @property
    def model(self) -> nn.Module:
        """The network that was explained."""
        return self.trace.cut_model.model

    @property
    def trace(self) -> Any:
        """The trace that was explained."""
        return self.explanation.trace

    @property
    def images(self) -> Tensor:
        """(B, 3, H', W')."""
        return self.trace.images

    @property
    def targets(self) -> list[int]:
        """The class of each row."""
        return self.trace.targets.tolist()

    @property
    def maps(self) -> np.ndarray:
        """The heatmaps, (B, H', W') in [0, 1]."""
        assert self.explanation.heatmap is not None
        return self.explanation.heatmap.numpy()

    @property
    def raw(self) -> Tensor:
        """The raw maps, (B, h, w), signed."""
        assert self.explanation.raw_map is not None
        return self.explanation.raw_map

    @property
    def masks(self) -> np.ndarray:
        """(B, H', W') bool, of the explained class."""
        assert self.explanation.masks is not None
        return self.explanation.masks.numpy()

    @property
    def in_boxes(self) -> np.ndarray:
        """(B, H', W') bool: the pixels in the boxes of the explained class."""
        assert self.explanation.boxes is not None
        return np.stack([union(boxes, self.maps.shape[1:]).numpy() for boxes in self.explanation.boxes])

    @property
    def probability(self) -> np.ndarray:
        """(B,) the softmax probability of the class."""
        return probabilities(self.trace.logits, self.trace.targets).numpy()

    def one(self, row: int) -> Sample:
        """One row alone."""
        whole, rows = self.explanation, slice(row, row + 1)
        assert whole.boxes is not None
        tensors = ("contributions", "raw_map", "heatmap", "images", "masks")
        fields = {name: None if getattr(whole, name) is None else getattr(whole, name)[rows] for name in tensors}
        return replace(self, explanation=replace(whole, trace=self.trace[rows], boxes=whole.boxes[rows], **fields))

    def rows(self) -> list[Sample]:
        """Each row alone, for libraries that give one number for all."""
        return [self.one(row) for row in range(len(self.images))]


# Libraries' ways of being called.


def quantus(name: str, region: str = "", softmax: bool = True, **settings: Any) -> Callable[[Sample], Any]:
    """A metric of quantus on the heatmaps. region: "masks" or "boxes", its s_batch."""

    def call(sample: Sample) -> Any:
        import quantus

        metric = getattr(quantus, name)(**QUIET, **settings)
        inside = {"masks": sample.masks, "boxes": sample.in_boxes}[region][:, None].astype(int) if region else None
        return metric(
            model=sample.model,
            x_batch=sample.images.numpy().copy(),
            y_batch=np.array(sample.targets),
            a_batch=sample.maps[:, None].copy(),
            s_batch=inside,
            channel_first=True,
            softmax=softmax,
            device="cpu",
        )

    return call


def grad_cam(name: str, kind: str = "ClassifierOutputSoftmaxTarget", **settings: Any) -> Callable[[Sample], Any]:
    """A metric of grad-cam on the heatmaps."""

    def call(sample: Sample) -> Any:
        import pytorch_grad_cam.metrics.cam_mult_image as multiplied
        import pytorch_grad_cam.metrics.road as road
        from pytorch_grad_cam.utils import model_targets

        metric = getattr(multiplied if hasattr(multiplied, name) else road, name)(**settings)
        targets = [getattr(model_targets, kind)(target) for target in sample.targets]
        return metric(sample.images, sample.maps, targets, sample.model)

    return call


@dataclass(frozen=True)
class Given:
    """The maps of a sample as torchcam's extractor."""

    sample: Sample

    @property
    def model(self) -> nn.Module:
        return self.sample.model

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        return [torch.from_numpy(self.sample.maps)]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


def torchcam(name: str, value: str, **settings: Any) -> Callable[[Sample], Any]:
    """A value of a metric of torchcam on the heatmaps, on probabilities; the metric is of a data set: of each row."""

    def call(sample: Sample) -> list[float]:
        import torchcam.metrics

        values = []
        for row in sample.rows():
            metric = getattr(torchcam.metrics, name)(Given(row), lambda logits: logits.softmax(1), **settings)
            metric.update(row.images, row.targets)
            values.append(metric.summary()[value])
        return values

    return call


# Calls that take more than a line.


def labelled_box_iou(sample: Sample) -> list[float]:
    """Of the largest region at 15 %."""
    return [_labelled(one, boxes, 0.15)[0] for one, boxes in _maps_and_boxes(sample)]


def labelled_box_acc(ious: Sequence[float], any_region: bool) -> Callable[[Sample], Any]:
    """Whether the box of the largest, or of any, region reaches an IoU at one of 100 thresholds; the mean over ious."""

    def call(sample: Sample) -> list[float]:
        best = [
            max(_labelled(one, boxes, step / 100)[any_region] for step in range(100))
            for one, boxes in _maps_and_boxes(sample)
        ]
        return [float(np.mean([one >= iou for iou in ious])) for one in best]

    return call


def _maps_and_boxes(sample: Sample) -> Iterator[tuple[np.ndarray, Tensor]]:
    assert sample.explanation.boxes is not None
    yield from zip(sample.maps.round(6), sample.explanation.boxes, strict=True)


def _labelled(one: np.ndarray, boxes: Tensor, fraction: float) -> tuple[float, float]:
    """The IoU of the largest region's box, and the best of all regions' boxes: scipy's labels, torchvision's IoU."""
    from scipy.ndimage import find_objects, label
    from torchvision.ops import box_iou

    labels, _ = label(one > np.float32(fraction) * one.max(), structure=np.ones((3, 3)))
    found = torch.tensor([[x.start, y.start, x.stop, y.stop] for y, x in find_objects(labels)])
    ious = box_iou(found.double(), boxes.double()).amax(1)
    return float(ious[np.bincount(labels.ravel())[1:].argmax()]), float(ious.max())


def average_precision(one: np.ndarray, inside: np.ndarray) -> float:
    """scikit-learn's, whose thresholds are all values of the map."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(inside.ravel(), one.ravel()))


def average_precision_of_levels(sample: Sample) -> list[float]:
    """The same of maps cut to 101 levels: how many of 0, 0.01, ... 0.99 a pixel is above."""
    levels = np.ceil(np.round(100 * sample.maps.astype(np.float64), 4))
    return [average_precision(one, inside) for one, inside in zip(levels, sample.masks, strict=True)]


def coherency(sample: Sample) -> Any:
    """grad-cam's, with its own GradCAM for the masked image."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.metrics.arcc import Coherency
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(target) for target in sample.targets]
    model = copy.deepcopy(sample.model).requires_grad_(True)  # it needs a gradient in some parameter
    with GradCAM(model, [model.get_submodule(sample.trace.layer)]) as cam:
        return Coherency()(sample.images, sample.maps, targets, model, cam)


def complexity(sample: Sample) -> Any:
    """grad-cam's."""
    from pytorch_grad_cam.metrics.arcc import Complexity

    return Complexity()(sample.maps)


def blended(sample: Sample) -> Values:
    """grad-cam's base class, given the perturbation image (1 - h) + mean h; it returns after - before."""
    from pytorch_grad_cam.metrics.perturbation_confidence import PerturbationConfidenceMetric
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    metric = PerturbationConfidenceMetric(lambda image, h: image * (1 - h) + image.mean((1, 2), keepdim=True) * h)
    targets = [ClassifierOutputSoftmaxTarget(target) for target in sample.targets]
    return -metric(sample.images, sample.maps, targets, sample.model)


def curve_area(call: Callable[[Sample], Any], from_drops: bool = False) -> Callable[[Sample], Any]:
    """The area over [0, 1] under quantus's curve, the image itself put in front of it. from_drops: of p - p'."""

    def values(sample: Sample) -> list[float]:
        before = sample.probability
        curves = np.stack(call(sample))
        curves = before[:, None] - curves if from_drops else curves
        whole = np.concatenate([before[:, None], curves], axis=1)
        return list(np.trapezoid(whole, dx=1 / curves.shape[1], axis=1))

    return values


def flipped(steps: int) -> Callable[[Sample], Any]:
    """quantus.PixelFlipping at so many steps of equal numbers of pixels; it flips values, three a pixel."""

    def call(sample: Sample) -> list[list[float]]:
        whole = quantus("PixelFlipping", features_in_step=sample.maps[0].size // steps, perturb_baseline=0.0)(sample)
        return [curve[2::3] for curve in whole]

    return curve_area(call)


def deleted_in_unstable_order(steps: int) -> Callable[[Sample, Values], Values]:
    """Our area of a deletion in the order that numpy's default sort gives quantus."""

    def predicted(sample: Sample, _: Values) -> Values:
        flat = np.broadcast_to(sample.maps[:, None], sample.images.shape).reshape(len(sample.maps), -1)
        left, curve = sample.images.flatten(1).clone(), [sample.probability]
        for part in np.array_split(np.argsort(-flat, axis=1), steps, axis=1):
            left.scatter_(1, torch.from_numpy(part.copy()), 0)
            curve.append(probability_of(sample, left.view_as(sample.images)))
        return np.trapezoid(np.stack(curve), dx=1 / steps, axis=0)

    return predicted


def probability_of(sample: Sample, images: Tensor) -> Values:
    """(B,) of each row's class, for other images."""
    with torch.no_grad():
        return probabilities(sample.model(images), sample.trace.targets).numpy()


def every_region(sample: Sample) -> Any:
    """quantus.RegionPerturbation in regions of one pixel, all channels together."""
    call = quantus("RegionPerturbation", patch_size=1, regions_evaluation=sample.maps[0].size, perturb_baseline=0.0)
    return curve_area(call, from_drops=True)(sample)


def inserted_minus_deleted(sample: Sample) -> Values:
    """torchcam's two areas."""
    areas = [torchcam("DeletionInsertionMetric", f"{name}_auc", steps=4)(sample) for name in ("insertion", "deletion")]
    return np.subtract(*areas)


def road(name: str, fraction: float) -> Callable[[Sample], Any]:
    """grad-cam's removal and imputation without noise; the class's probability afterwards."""

    def call(sample: Sample) -> Any:
        import pytorch_grad_cam.metrics.perturbation_confidence as confidence
        from pytorch_grad_cam.metrics.road import NoisyLinearImputer
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

        removal = getattr(confidence, name)(100 * (1 - fraction), NoisyLinearImputer(noise=0))
        targets = [ClassifierOutputSoftmaxTarget(target) for target in sample.targets]
        metric = confidence.PerturbationConfidenceMetric(removal)
        return metric(sample.images, sample.maps, targets, sample.model, return_diff=False)

    return call


def at_their_threshold(first: str, fraction: float) -> Callable[[Sample, Values], Values]:
    """Our imputation of the pixels that grad-cam removes: all at its percentile and beyond, however many."""

    def predicted(sample: Sample, _: Values) -> Values:
        maps = sample.maps if first == "highest" else 1 - sample.maps
        holes = torch.from_numpy(np.stack([one >= np.percentile(one, 100 * (1 - fraction)) for one in maps]))
        return probability_of(sample, impute(sample.images, holes))

    return predicted


def jaccard(sample: Sample) -> list[float]:
    """scikit-learn's."""
    from sklearn.metrics import jaccard_score

    return [float(jaccard_score(inside.ravel(), one.ravel() > 0.15 * one.max()))
            for one, inside in zip(sample.maps, sample.masks, strict=True)]  # fmt: skip


def shannon(sample: Sample) -> list[float]:
    """scipy's."""
    from scipy.stats import entropy

    return [float(entropy(one.astype(np.float64).ravel())) for one in sample.maps]
