"""Test-time augmentation: the mean heatmap over mirrored and resized copies of the image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, InvalidParameter, is_out_of_memory
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import wrapped_heatmap
from axiom_bench.methods.xgrad_cam import xgrad_cam


def augmented(
    trace: Trace,
    wrapped: Method = xgrad_cam,
    mirrored: bool = True,
    scales: Sequence[float] = (1.0,),
) -> Map:
    """Mean of the wrapped method's heatmaps of mirrored and resized images -> (B, H', W').

    The heatmaps are mapped back to the image's pixels. All copies explain the image's class, and
    each heatmap has maximum 1 before the mean. Costs one trace per copy other than the image.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        wrapped: The method whose heatmaps are averaged.
        mirrored: Add a copy with left and right swapped at each scale.
        scales: Factors of the image's sides. The image is resized bilinearly, as in Ahn et al.,
            CVPR 2019, arXiv:1904.05044.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If a scale isn't positive, or if the network takes images of only one size.
    """
    if not scales or min(scales) <= 0:
        raise InvalidParameter(
            f"Invalid scales={list(scales)}; give positive factors of the sides, such as [0.5,1,2]."
        )
    # The copy that is neither mirrored nor resized is the image, whose trace isn't made again.
    flips = (False, True) if mirrored else (False,)
    maps = [_heatmap_of_copy(trace, wrapped, scale, flip) for scale in scales for flip in flips]
    return Map(reduce(torch.add, maps) / len(maps))


def _heatmap_of_copy(trace: Trace, wrapped: Method, scale: float, flip: bool) -> Tensor:
    """Return the heatmap of one copy, mapped back to the image's pixels: (B, H', W')."""
    height, width = trace.images.shape[-2:]
    heatmap = wrapped_heatmap(wrapped, _copy(trace, scale, flip))
    if flip:
        heatmap = heatmap.flip(-1)
    return functional.interpolate(
        heatmap[:, None], size=(height, width), mode="bilinear", align_corners=False
    )[:, 0]


def _copy(trace: Trace, scale: float, flip: bool) -> Trace:
    """Return the trace of the resized, mirrored images, or the trace itself if nothing changes."""
    if scale == 1 and not flip:
        return trace
    size = [max(1, round(scale * side)) for side in trace.images.shape[-2:]]
    images = trace.images.flip(-1) if flip else trace.images
    if size == list(trace.images.shape[-2:]):
        return trace.again(images=images)
    images = functional.interpolate(images, size=size, mode="bilinear", align_corners=False)
    try:
        return trace.again(images=images)
    except (RuntimeError, ValueError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        # a layer can't take this shape
        raise BenchError(
            f"The network doesn't take images of {size[0]} x {size[1]} pixels "
            f"({str(error).partition(chr(10))[0]}); augment with scales=[1]."
        ) from error
