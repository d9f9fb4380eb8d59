"""Metrics of maps alone: localization and complexity by scipy, torchvision, scikit-learn and grad-cam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .calls import Call, Values
from .samples import Sample

THRESHOLDS = [step / 100 for step in range(100)]  # fractions of a map's maximum
MASK_THRESHOLD = 0.15


def labelled_box_iou(sample: Sample) -> list[float]:
    """The IoU of the largest region's box, above 0.15 of the maximum."""
    return [
        _labelled(heatmap, boxes, MASK_THRESHOLD)[0]
        for heatmap, boxes in zip(_rounded(sample), sample.boxes, strict=True)
    ]


def labelled_box_acc(ious: Sequence[float], any_region: bool) -> Call:
    """Whether the box of the largest, or of any, region reaches an IoU at one of 100 thresholds; the mean over ious."""

    def call(sample: Sample) -> list[float]:
        best = [
            max(_labelled(heatmap, boxes, threshold)[any_region] for threshold in THRESHOLDS)
            for heatmap, boxes in zip(_rounded(sample), sample.boxes, strict=True)
        ]
        return [float(np.mean([value >= iou for iou in ious])) for value in best]

    return call


def _rounded(sample: Sample) -> np.ndarray:
    """The heatmaps rounded as ours are before thresholds are taken."""
    return sample.heatmaps.round(6)


def _labelled(heatmap: np.ndarray, boxes: Tensor, fraction: float) -> tuple[float, float]:
    """(IoU of the largest region's box, best IoU of all regions' boxes): scipy's labels, torchvision's IoU."""
    from scipy.ndimage import find_objects, label
    from torchvision.ops import box_iou

    labels, _ = label(heatmap > np.float32(fraction) * heatmap.max(), structure=np.ones((3, 3)))
    regions = torch.tensor([[x.start, y.start, x.stop, y.stop] for y, x in find_objects(labels)])
    ious = box_iou(regions.double(), boxes.double()).amax(1)
    return float(ious[np.bincount(labels.ravel())[1:].argmax()]), float(ious.max())


def average_precision_of_levels(sample: Sample) -> list[float]:
    """scikit-learn's average precision of maps cut to 101 levels: how many of 0, 0.01, ... 0.99 a pixel is above."""
    from sklearn.metrics import average_precision_score

    levels = np.ceil(np.round(100 * sample.heatmaps.astype(np.float64), 4))
    return [
        float(average_precision_score(mask.ravel(), level.ravel()))
        for level, mask in zip(levels, sample.masks, strict=True)
    ]


def jaccard(sample: Sample) -> list[float]:
    """scikit-learn's Jaccard score above 0.15 of the maximum."""
    from sklearn.metrics import jaccard_score

    return [
        float(jaccard_score(mask.ravel(), heatmap.ravel() > MASK_THRESHOLD * heatmap.max()))
        for heatmap, mask in zip(sample.heatmaps, sample.masks, strict=True)
    ]


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
