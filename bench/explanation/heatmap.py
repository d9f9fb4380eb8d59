"""From a signed raw map to a heatmap: the one place that applies ReLU, resizes and scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.errors import BenchError, unknown

NORMALISATIONS = ("maximum", "minmax")


@dataclass(frozen=True)
class Map:
    """The result of a method that doesn't weight the layer's activations.

    raw: (B, h, w), signed, any h and w. It has no contributions, so the axioms don't apply to it.
    """

    raw: Tensor

    def __getitem__(self, rows: slice) -> Map:
        return Map(self.raw[rows])


def heatmap(raw_map: Tensor, size: tuple[int, int], normalise: str = "maximum") -> Tensor:
    """ReLU, bilinear resize (align_corners=False), scaling: (B, h, w) -> (B, H', W') in [0, 1].

    size: (H', W') in pixels. normalise: "maximum" divides by the map's maximum; "minmax" subtracts the minimum first
    (what pytorch-grad-cam does). A map without a positive value stays all zero. NaN stays NaN.
    Raises BenchError for another normalise.
    """
    check_normalise(normalise)
    positive = raw_map.clamp(min=0)
    resized = functional.interpolate(positive[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    if normalise == "minmax":
        resized = resized - resized.amin((1, 2), keepdim=True)
    maximum = resized.amax((1, 2), keepdim=True)
    return resized / torch.where(maximum == 0, torch.ones_like(maximum), maximum)


def check_heatmap(heatmap: object, finite: bool) -> None:
    """Raises BenchError unless it is a floating-point tensor (B, H', W') in [0, 1].

    finite: whether NaN and infinity are refused too.
    """
    maps = heatmap if isinstance(heatmap, Tensor) and heatmap.ndim == 3 and heatmap.is_floating_point() else None
    if maps is None or not (_in_range(maps) or (not finite and _in_range(maps[maps.isfinite()]))):
        raise BenchError(
            "A heatmap is a floating-point tensor (B, H', W') with values in [0, 1]; pass ab.heatmap(map, (H', W')), "
            "which makes one of any map (B, h, w)."
        )


def _in_range(values: Tensor) -> bool:
    """Whether all are in [0, 1]; NaN isn't. One pass over values that all are, as of nearly every map."""
    if values.numel() == 0:
        return True
    low, high = values.aminmax()
    return bool((low >= 0) & (high <= 1))


def check_normalise(name: str) -> str:
    """The name itself. Raises BenchError for one that isn't in NORMALISATIONS."""
    if name not in NORMALISATIONS:
        raise unknown("normalisation of heatmaps", name, NORMALISATIONS)
    return name
