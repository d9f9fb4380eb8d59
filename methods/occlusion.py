"""Occlusion: Zeiler and Fergus, ECCV 2014, arXiv:1311.2901.

Visualizing and Understanding Convolutional Networks.
"""

from __future__ import annotations

from itertools import product
from math import inf

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter, invalid_choice
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import (
    maps_of_images,
    pass_slices,
    score_index,
    scores_of_copies,
)

FILLS = ("zero", "mean")


def occlusion(
    trace: Trace,
    window: float = 0.25,
    stride: float = 0.0625,
    fill: str = "zero",
    score: str = "logit",
) -> Map:
    """Mean of S(X) - S(X with the window filled) over the windows on a pixel -> (B, H', W').

    The window slides over the image from its first pixel. The last window of a side may reach over
    the edge, and is cut off there. The map is signed: it is negative where covering the image
    raises the score. X is the image as the network takes it, so 0 is the mean colour, the paper's
    grey. The paper plots the probability of the class with the window's centre at each position.
    captum's Occlusion computes this method's map.

    Costs a forward pass for each position of the window, and one for X. By default a side has about
    13 positions, so an image takes about 170 passes, whatever its size. A volume takes about 2200,
    unless you choose a larger window and stride.

    Args:
        trace: The traced batch, with images X (B, 3, H', W').
        window: The length of the window along each side: a share of the side below 1, or a whole
            number of pixels. A side shorter than the window is covered whole.
        stride: The distance of two positions of the window, in the same units, at most a window.
        fill: The pixels in the window: "zero", or "mean" for the image's mean colour.
        score: S: "logit" or "probability".

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the fill or the score is unknown, or if a length is outside its range.
    """
    if fill not in FILLS:
        raise invalid_choice("fill", fill, FILLS)
    index = score_index(trace, score)
    windows = _windows(trace.images.shape[2:], window, stride)

    @torch.inference_mode(False)
    @torch.no_grad()
    def image_maps(rows: list[int]) -> Tensor:
        image = trace.images[rows[0]]
        colour = torch.zeros_like(image)
        if fill == "mean":
            colour += image.mean(axes(image, 1), keepdim=True)

        # The last copy is the image itself, so that all scores are rounded in the same way.
        scores = []
        for copies in pass_slices(trace, len(windows) + 1):
            covered = image.repeat(copies.stop - copies.start, *(1 for _ in image.shape))
            for copy, region in zip(covered, windows[copies], strict=False):
                copy[region] = colour[region]
            scores.append(scores_of_copies(trace, rows, covered)[..., index])
        score_of_copy = torch.cat(scores, 1)
        drops = score_of_copy[:, -1:] - score_of_copy[:, :-1]

        total = image.new_zeros(len(rows), *image.shape[1:])
        count = torch.zeros_like(total[:1])
        for region, drop in zip(windows, drops.T, strict=True):
            total[region] += drop.view(-1, *(1 for _ in image.shape[1:]))
            count[region] += 1
        return total / count

    return Map(maps_of_images(trace, image_maps))


def _windows(size: torch.Size, window: float, stride: float) -> list[tuple[slice, ...]]:
    """Return the index of each window: all channels, and a slice of each side.

    Raises BenchError if a length is outside its range.
    """
    if window > max(size):
        raise InvalidParameter(
            f"Invalid window={window}; the image's longest side has {max(size)} pixels. Give fewer "
            "pixels, or a share of each side, such as window=0.25."
        )
    slices_by_axis = []
    for side in size:
        length = _pixels("window", window, side)
        step = _pixels("stride", stride, side)
        if step > length:
            raise InvalidParameter(
                f"Invalid stride={stride}: a window of {length} pixels would never cover some of "
                f"the {side} pixels of a side; give a stride of at most window={window}."
            )
        positions = 1 + max(0, -(-(side - length) // step))
        starts = [position * step for position in range(positions)]
        slices_by_axis.append([slice(start, start + length) for start in starts])
    return [(slice(None), *region) for region in product(*slices_by_axis)]


def _pixels(name: str, length: float, side: int) -> int:
    """Return a length in pixels that is given as a share of a side, or in pixels."""
    is_share = 0 < length < 1
    if not is_share and not (1 <= length < inf and length == int(length)):
        raise InvalidParameter(
            f"Invalid {name}={length}; give a share of each side, between 0 and 1, or a whole "
            "number of pixels."
        )
    return max(1, int(length * side + 0.5)) if is_share else int(length)
