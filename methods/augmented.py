"""Test-time augmentation: the mean map over mirrored and resized copies of the image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Method
from axiom_bench.explanation.heatmap import Map
from axiom_bench.methods.shared.wrapping import heatmap_of


def augmented(
    trace: Trace, wrapped: str | Method = "xgrad_cam", mirrored: bool = True, scales: Sequence[float] = (1.0,)
) -> Map:
    """The mean over copies of the image of the wrapped method's heatmaps, brought back to the image -> (B, H', W').

    scales: of the copies' sides, resized bilinearly, as in weakly supervised segmentation (Ahn et al., CVPR 2019,
    arXiv:1904.05044, which adds maps up over 0.5, 1, 1.5 and 2). mirrored: each copy once more, left and right swapped.
    Every copy explains the image's class, and its heatmap has maximum 1 before the mean is taken. pytorch-grad-cam's
    `aug_smooth` takes the mean of heatmaps too, of mirrored copies times 0.9, 1 and 1.1: other intensities, no scales.
    Costs a trace for each copy but the image itself.
    Raises BenchError for scales that aren't positive, and where the network takes images of one size alone.
    """
    if not scales or min(scales) <= 0:
        raise BenchError(f"Augmentation needs positive scales, as scales=[0.5,1,2], not {list(scales)}.")
    maps = [_brought_back(trace, wrapped, scale, flip) for scale in scales for flip in (False, True)[: 1 + mirrored]]
    return Map(reduce(torch.add, maps) / len(maps))


def _brought_back(trace: Trace, wrapped: str | Method, scale: float, flip: bool) -> Tensor:
    """One copy's heatmap where the image's pixels are: (B, H', W')."""
    height, width = trace.images.shape[-2:]
    found = heatmap_of(wrapped, _copy(trace, scale, flip))
    if flip:
        found = found.flip(-1)
    return functional.interpolate(found[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]


def _copy(trace: Trace, scale: float, flip: bool) -> Trace:
    """The trace of the resized, mirrored images; the trace itself for the image as it is."""
    if scale == 1 and not flip:
        return trace
    size = [max(1, round(scale * side)) for side in trace.images.shape[-2:]]
    images = trace.images.flip(-1) if flip else trace.images
    if size == list(trace.images.shape[-2:]):
        return trace.again(images=images)
    images = functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
    try:
        return trace.again(images=images)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:  # whatever a layer says of a shape that it can't take
        raise BenchError(
            f"The network doesn't take images of {size[0]} x {size[1]} pixels ({str(error).partition(chr(10))[0]}); "
            "augment with scales=[1]."
        ) from error
