"""Random subsets of an image's pixels, and the score's drop without them.

The drops are computed once for all methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import axes, resized
from axiom_bench.cutting.trace import Trace, rows_of_images
from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.perturbation import Perturbation
from axiom_bench.metrics.shared.similarity import mask_undefined, pearson

Subset = Callable[[torch.Generator, tuple[int, ...]], Tensor]
SUBSETS_AT_ONCE = 64  # unpacked and multiplied with a map together
# The weights of a raw map's pixels are kept for maps of up to so many pixels. Those of 900 subsets
# take 3 MB per image then; as bits of 224 x 224 pixels, the subsets take 6 MB.
KEPT_PIXELS = 20 * 20


@dataclass(frozen=True)
class Subsets:
    """Random subsets of each image's pixels, and how they are removed."""

    kind: str
    """A name that distinguishes these subsets from others."""
    draws: Sequence[Subset]
    """Functions of a generator and (H', W'), each drawing a subset, bool (H', W'). They are
    called in this order with each image's own generator."""
    perturbation: Perturbation
    """The replacement of a subset's pixels, and the output."""
    seed: int
    """Each image's generator is seeded by the seed and the image."""


def subset_drops(
    explanation: Explanation, subsets: Subsets
) -> MetricGenerator[tuple[Tensor, Tensor]]:
    """Ask for the map's sum and the model's drop of random subsets of each image's pixels.

    The sum is that of the map over the subset. The drop is f(x) - f(x without the subset). The map
    is the signed raw map, resized bilinearly to the image. Drops are computed once for all methods,
    and so are the weights of a raw map's pixels in each subset.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        subsets: The subsets and how they are removed.

    Returns:
        The sums and the drops, (B, n) each, in float64.
    """
    trace = explanation.required_trace
    raw_map = explanation.required_raw_map

    @lru_cache(maxsize=1)  # an image's copies are requested in several pieces
    def drawn(row: int) -> Tensor:
        return torch.cat(list(_drawn(trace, row, subsets)))

    def removed(rows: slice, copies: slice) -> Tensor:
        return torch.stack([drawn(row)[copies] for row in range(len(trace))[rows]])

    perturbation = subsets.perturbation
    count = len(subsets.draws)
    key = (subsets.kind, subsets.seed, count)
    scores = yield perturbation.request(explanation, key, count, removed, of_image=True)
    drops = perturbation.image_confidence(explanation) - scores
    return _sums(trace, raw_map.double(), subsets), drops


def drops_correlation(explanation: Explanation, attributed: Tensor, drops: Tensor) -> Tensor:
    """Return Pearson's correlation of the map's sums and the model's drops of n subsets.

    Args:
        explanation: The explanation, with its raw map (B, h, w).
        attributed: The map's sums, (B, n).
        drops: The model's drops, (B, n).

    Returns:
        The correlations, (B,). They are NaN if the map or one of the two is constant, and infinite
        if the model's answer to a subset isn't finite.
    """
    return mask_undefined(pearson(attributed, drops), explanation.required_raw_map, drops)


def squared_error(
    explanation: Explanation, attributed: Tensor, changes: Tensor, scaled: bool
) -> Tensor:
    """Return the mean of (a times the map's sums - the score's changes)^2 over n subsets.

    Args:
        explanation: The explanation, with its raw map (B, h, w).
        attributed: The map's sums, (B, n).
        changes: The score's changes, (B, n).
        scaled: If True, a is the best single factor, and a map of zeros gives NaN. If False, a is
            1.

    Returns:
        The means, (B,). They are infinite if a change isn't finite.
    """
    if scaled:
        # The best factor in least squares. If no subset has a sum, any factor is as good.
        squared = attributed.square().sum(1)
        factors = (attributed * changes).sum(1) / squared.masked_fill(squared == 0, 1)
        attributed = attributed * factors[:, None]
        is_zero = (explanation.required_raw_map == 0).flatten(1).all(1)
        attributed = attributed.masked_fill(is_zero[:, None], torch.nan)
    # Infinite if the model's answer isn't finite, since NaN means a map of zeros.
    error = (attributed - changes).square().mean(1)
    return error.masked_fill(~changes.isfinite().all(1), torch.inf)


def pixels_at_random(count: int) -> Subset:
    """Return the draw of a subset of `count` pixels, all equally likely."""

    def draw(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
        order = torch.rand(prod(size), generator=generator, dtype=torch.float64)
        return (order <= order.kthvalue(count).values).view(size)

    return draw


def square_at_random(sides: Sequence[int]) -> Subset:
    """Return the draw of a square of pixels, all squares of these sides equally likely.

    Args:
        sides: The sides in pixels. A square that is larger than the image is cut off.

    Returns:
        The function that draws the subset.
    """

    def draw(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
        # The positions of a square of each side, down and across.
        positions = [[max(1, length - side + 1) for length in size] for side in sides]
        counts = [prod(side_positions) for side_positions in positions]
        # A single whole number is drawn, and the squares are counted. torch's draws from a
        # distribution, such as `multinomial`, give other numbers in another version of torch.
        number = int(torch.randint(sum(counts), (1,), generator=generator))
        chosen = 0
        while number >= counts[chosen]:
            number -= counts[chosen]
            chosen += 1
        first = np.unravel_index(number, positions[chosen])
        inside = torch.zeros(size, dtype=torch.bool)
        inside[tuple(slice(start, start + sides[chosen]) for start in first)] = True
        return inside

    return draw


def cells_at_random(side: int, probability: float) -> Subset:
    """Return the draw of a union of square cells of a grid that is shifted at random.

    Args:
        side: The side of a cell in pixels.
        probability: The probability of each cell.

    Returns:
        The function that draws the subset.
    """

    def draw(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
        shifts = torch.randint(side, (len(size),), generator=generator).tolist()
        places = []  # of each pixel's cell, along each axis
        for length, shift in zip(size, shifts, strict=True):
            places.append((torch.arange(length) + shift) // side)
        counts = [int(axis_places[-1]) + 1 for axis_places in places]
        drawn = torch.rand(counts, generator=generator, dtype=torch.float64) < probability
        return drawn[torch.meshgrid(*places, indexing="ij")]

    return draw


def _sums(trace: Trace, raw_map: Tensor, subsets: Subsets) -> Tensor:
    """Return the sum of each resized map over each of its image's subsets: (B, n)."""
    # The resize R is linear, so the sum over a subset's pixels s is <s, R m> = <R's, m>. R's is the
    # same for all methods whose maps have this size, so it is kept, except for large maps.
    size = raw_map.shape[1:]
    images = trace.images
    if len(size) != 2 or size.numel() > KEPT_PIXELS:
        maps = resized(raw_map, images.shape[2:])
        space = axes(raw_map, 1)

        def image_sums(row: int) -> Tensor:
            parts = _drawn(trace, row, subsets)
            return torch.cat([(drawn * maps[row]).sum(space) for drawn in parts])

        return trace.per_image(image_sums)

    def pixel_weights() -> Tensor:
        height, width = images.shape[-2:]
        down = _resize_matrix(size[0], height).to(images.device)
        across = _resize_matrix(size[1], width).to(images.device)
        weights_by_image = dict[int, Tensor]()
        numbers = rows_of_images(trace).numbers.tolist()
        for row, number in enumerate(numbers):
            if number not in weights_by_image:
                parts = _drawn(trace, row, subsets)
                weights = [down.T @ drawn.double() @ across for drawn in parts]
                weights_by_image[number] = torch.cat(weights)
        return torch.stack([weights_by_image[number] for number in numbers])

    key = (subsets.kind, "of a raw map's pixels", size, subsets.seed, len(subsets.draws))
    return torch.einsum("bnhw,bhw->bn", trace.once(key, pixel_weights), raw_map)


def _resize_matrix(length: int, new_length: int) -> Tensor:
    """Return the matrix of a linear resize of one side: (new_length, length), float64."""
    identity = torch.eye(length, dtype=torch.float64)[None]
    resized_rows = functional.interpolate(
        identity, size=new_length, mode="linear", align_corners=False
    )
    return resized_rows[0].T


def _drawn(trace: Trace, row: int, subsets: Subsets) -> Iterator[Tensor]:
    """Yield all of an image's subsets, several at a time: bool (n, H', W')."""
    # The subsets are drawn once for all rows of the image, and kept as bits.
    size = tuple(trace.images.shape[2:])

    def draw_all() -> list[np.ndarray]:
        (generator,) = trace.generators(subsets.seed, slice(row, row + 1))
        return [np.packbits(draw(generator, size).numpy()) for draw in subsets.draws]

    image = int(rows_of_images(trace).numbers[row])
    kept = trace.once((subsets.kind, "drawn", image, subsets.seed, len(subsets.draws)), draw_all)
    for first in range(0, len(kept), SUBSETS_AT_ONCE):
        packed = np.stack(kept[first : first + SUBSETS_AT_ONCE])
        bits = np.unpackbits(packed, axis=1, count=prod(size))
        yield torch.from_numpy(bits.view(bool)).view(-1, *size).to(trace.images.device)
