"""Random subsets of an image's pixels and the score's drop without them, computed once for all
methods.
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
from axiom_bench.metrics.shared.similarity import pearson, where_defined

Subset = Callable[[torch.Generator, tuple[int, ...]], Tensor]
SUBSETS_AT_ONCE = 64  # drawn and multiplied with a map together
KEPT_PIXELS = (
    20 * 20
)  # of a raw map: the weights of 900 subsets take 3 MB per image; as bits of 224 x 224, 6 MB


@dataclass(frozen=True)
class Subsets:
    """Random subsets of each image's pixels, and how they are taken out.

    kind: a name that distinguishes these subsets from others. draws: functions of a generator and
    (H', W') that draw a bool (H', W'), in this order from each image's own generator, seeded by
    `seed` and the image.
    """

    kind: str
    draws: Sequence[Subset]
    perturbation: Perturbation
    seed: int


def subset_drops(
    explanation: Explanation, subsets: Subsets
) -> MetricGenerator[tuple[Tensor, Tensor]]:
    """For random subsets of each image's pixels, the map's sum and the model's drop: (B, n) twice,
    in float64.

    The first is the sum of the map over the subset, the second f(x) - f(x without the subset). The
    map is the signed raw map, resized bilinearly to the image. Drops are computed once for all
    methods, and so are the weights of a raw map's pixels in each subset.
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
    """Pearson's correlation of the map's sums and the model's drops of n subsets: two (B, n) ->
    (B,).

    NaN where the map or one of the two is constant; infinite where the model's answer to a subset
    isn't finite.
    """
    return where_defined(pearson(attributed, drops), explanation.required_raw_map, drops)


def squared_error(
    explanation: Explanation, attributed: Tensor, changes: Tensor, scaled: bool
) -> Tensor:
    """Mean of (a times the map's sums - the score's changes)^2 over n subsets: two (B, n) -> (B,).

    a: the best single factor where `scaled`, and NaN follows from a map of zeros; otherwise 1.
    """
    if scaled:
        squared = attributed.square().sum(1)
        # Any factor where no subset has a sum.
        factors = (attributed * changes).sum(1) / squared.masked_fill(squared == 0, 1)
        attributed = attributed * factors[:, None]
        is_zero = (explanation.required_raw_map == 0).flatten(1).all(1)
        attributed = attributed.masked_fill(is_zero[:, None], torch.nan)
    # Infinite where the model's answer isn't finite, since NaN means a map of zeros.
    return (
        (attributed - changes).square().mean(1).masked_fill(~changes.isfinite().all(1), torch.inf)
    )


def pixels_at_random(count: int) -> Subset:
    """A subset of `count` pixels, all equally likely."""

    def draw(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
        order = torch.rand(prod(size), generator=generator, dtype=torch.float64)
        return (order <= order.kthvalue(count).values).view(size)

    return draw


def square_at_random(sides: Sequence[int]) -> Subset:
    """A square of pixels, all squares of these sides in the image equally likely; one larger than
    the image is cut off.

    sides: in pixels. A single whole number is drawn, and squares are counted: torch's draws from a
    distribution, as `multinomial`, give other numbers in another version of torch.
    """

    def draw(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
        positions = [
            [max(1, length - side + 1) for length in size] for side in sides
        ]  # of each side, down and across
        counts = [prod(each) for each in positions]
        number = int(torch.randint(sum(counts), (1,), generator=generator))
        chosen = 0
        while number >= counts[chosen]:
            number, chosen = number - counts[chosen], chosen + 1
        first = np.unravel_index(number, positions[chosen])
        inside = torch.zeros(size, dtype=torch.bool)
        inside[tuple(slice(start, start + sides[chosen]) for start in first)] = True
        return inside

    return draw


def cells_at_random(side: int, probability: float) -> Subset:
    """A union of square cells of a grid that is shifted at random, each cell with this probability.
    side: in pixels.
    """

    def draw(generator: torch.Generator, size: tuple[int, ...]) -> Tensor:
        shifts = torch.randint(side, (len(size),), generator=generator).tolist()
        places = [
            (torch.arange(length) + shift) // side
            for length, shift in zip(size, shifts, strict=True)
        ]
        counts = [int(each[-1]) + 1 for each in places]
        drawn = torch.rand(counts, generator=generator, dtype=torch.float64) < probability
        return drawn[torch.meshgrid(*places, indexing="ij")]

    return draw


def _sums(trace: Trace, raw_map: Tensor, subsets: Subsets) -> Tensor:
    """The sum of each resized map over each of its image's subsets: (B, h, w) -> (B, n).

    The resize R is linear, so the sum over a subset's pixels s is <s, R m> = <R's, m>, and R's is
    the same for all methods whose maps have this size. For large maps it isn't kept.
    """
    size = raw_map.shape[1:]
    images = trace.images
    if len(size) != 2 or size.numel() > KEPT_PIXELS:
        maps = resized(raw_map, images.shape[2:])
        space = axes(raw_map, 1)
        return trace.per_image(
            lambda row: torch.cat(
                [(drawn * maps[row]).sum(space) for drawn in _drawn(trace, row, subsets)]
            )
        )

    def pixel_weights() -> Tensor:
        down, across = (
            _resize(*sides).to(images.device) for sides in zip(size, images.shape[-2:], strict=True)
        )
        of_image = dict[int, Tensor]()
        numbers = rows_of_images(trace).numbers.tolist()
        for row, number in enumerate(numbers):
            if number not in of_image:
                drawn = _drawn(trace, row, subsets)
                of_image[number] = torch.cat([down.T @ some.double() @ across for some in drawn])
        return torch.stack([of_image[number] for number in numbers])

    weights = trace.once(
        (subsets.kind, "of a raw map's pixels", size, subsets.seed, len(subsets.draws)),
        pixel_weights,
    )
    return torch.einsum("bnhw,bhw->bn", weights, raw_map)


def _resize(length: int, to: int) -> Tensor:
    """The matrix of a linear resize of one side: (to, length), float64."""
    identity = torch.eye(length, dtype=torch.float64)[None]
    return functional.interpolate(identity, size=to, mode="linear", align_corners=False)[0].T


def _drawn(trace: Trace, row: int, subsets: Subsets) -> Iterator[Tensor]:
    """All of an image's subsets, several at a time: bool (n, H', W'). They are drawn once for all
    rows of the image and kept as bits.
    """
    size = tuple(trace.images.shape[2:])

    def draw_all() -> list[np.ndarray]:
        (generator,) = trace.generators(subsets.seed, slice(row, row + 1))
        return [np.packbits(draw(generator, size).numpy()) for draw in subsets.draws]

    image = int(rows_of_images(trace).numbers[row])
    kept = trace.once((subsets.kind, "drawn", image, subsets.seed, len(subsets.draws)), draw_all)
    for first in range(0, len(kept), SUBSETS_AT_ONCE):
        bits = np.unpackbits(
            np.stack(kept[first : first + SUBSETS_AT_ONCE]), axis=1, count=prod(size)
        )
        yield torch.from_numpy(bits.view(bool)).view(-1, *size).to(trace.images.device)
