"""Noisy linear imputation: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods (ROAD),
ICML 2022, arXiv:2202.00449, section 4; without its noise, which is the metric's.

Every missing pixel is the weighted mean of its neighbours, 1/6 beside and 1/12 across a corner, over those that lie in
the image: one sparse linear system an image. Conjugate gradients solve it for all images at once, preconditioned by a
multigrid cycle over blocks of 2 x 2 pixels, whose coarse equations are sums of the fine ones (aggregation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.division import XY
from axiom_bench.metrics.shared.one_thread import one_thread

BESIDE, ACROSS = 1 / 6, 1 / 12
# The energy norm of the error that is enough, over what the known pixels span. It bounds no pixel of a large hole that
# is known on one side only, but on such of 224 x 224, 70 and 90 % of pixels of unit variance, no error was above 7e-4.
ENOUGH = 5e-5
ITERATIONS = 40  # at most; photographs take 10 to 20
PARTS = 2  # the solution, and its correction from the residual in float64
COARSEST = 8  # pixels of a side
SWEEPS = 8  # of Jacobi, on the coarsest grid
OVERCORRECTION = 1.5  # blocks of equal corrections are too stiff: a smooth correction has half their energy

Edges = tuple[Tensor, Tensor, Tensor, Tensor]  # to the right, below, below right, below left: (R, 1, h, w) each


def impute(images: Tensor, hole: Tensor, enough: float = ENOUGH) -> Tensor:
    """Fills holes with the weighted mean of what is around: (R, 3, H', W'), bool (R, H', W') -> (R, 3, H', W').

    hole: True for pixels to fill; at least one pixel of each image stays. enough: the energy norm of the error where to
    stop, over what a channel's known pixels span (at least their largest); at the default equal to a direct solve to
    1e-3 for pixels of unit variance. On a CPU the images are shared out among as many threads as torch has.
    """
    threads = min(len(images), torch.get_num_threads() if images.device.type == "cpu" else 1)
    with one_thread(), ThreadPoolExecutor(threads) as pool:
        return torch.cat(list(pool.map(_imputed, images.chunk(threads), hole.chunk(threads), repeat(enough))))


def _imputed(images: Tensor, hole: Tensor, enough: float) -> Tensor:
    """`impute` in one thread."""
    missing = hole[:, None].to(images.dtype)
    size = hole.shape[-2:]
    depth = max(0, math.ceil(math.log2(max(size) / COARSEST)))
    padding = [part for side in reversed(size) for part in (0, -side % 2**depth)]
    diagonal = functional.pad(_around(torch.ones_like(images[:1, :1])), padding)
    missing, known = functional.pad(missing, padding), functional.pad(images * (1 - missing), padding)
    levels = _levels(missing, diagonal, depth)
    seen = (1 - missing) * (diagonal > 0)
    solution = missing * known.sum(XY, keepdim=True) / seen.sum(XY, keepdim=True)  # the mean of what is known
    target = missing * _around(known)
    enough_of_each = enough * _span(known, seen)
    for _ in range(PARTS):
        exact = solution.double()
        residual = target.double() - missing.double() * (diagonal.double() * exact - _around(exact))
        solution = (exact + _conjugate_gradients(levels, residual.to(images.dtype), enough_of_each)).to(images.dtype)
    return (known + solution)[..., : size[0], : size[1]]


class _Level(Protocol):
    """One grid's equations. inverse: of the diagonal, 0 where no pixel is missing."""

    @property
    def inverse(self) -> Tensor: ...

    def apply(self, values: Tensor) -> Tensor:
        """The matrix times values (R, 3, h, w)."""


@dataclass(frozen=True)
class _Finest:
    missing: Tensor
    diagonal: Tensor
    inverse: Tensor

    def apply(self, values: Tensor) -> Tensor:
        return (self.diagonal * values).sub_(_around(values)).mul_(self.missing)


@dataclass(frozen=True)
class _Coarse:
    edges: Edges
    diagonal: Tensor
    inverse: Tensor

    def apply(self, values: Tensor) -> Tensor:
        answer = self.diagonal * values
        for edge, (here, there) in zip(self.edges, _ENDS, strict=True):
            weights = edge[here]
            answer[here].addcmul_(weights, values[there], value=-1)
            answer[there].addcmul_(weights, values[here], value=-1)
        return answer


_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
# The pixels at both ends of each kind of edge; an edge is stored at its upper or left end.
_ENDS = (
    ((..., _ALL, _FIRST), (..., _ALL, _LAST)),
    ((..., _FIRST, _ALL), (..., _LAST, _ALL)),
    ((..., _FIRST, _FIRST), (..., _LAST, _LAST)),
    ((..., _FIRST, _LAST), (..., _LAST, _FIRST)),
)


def _conjugate_gradients(levels: Sequence[_Level], residual: Tensor, enough: Tensor) -> Tensor:
    """What solves the finest level's equations for a right-hand side (R, 3, h, w), each channel by itself, until the
    error's energy norm is at most `enough`, (R, 3, 1, 1).

    A channel that is good enough stays as it is, so that no image's pixels depend on what else is in its batch.
    """
    answer, direction, before = torch.zeros_like(residual), torch.zeros_like(residual), residual.new_ones(())
    for _ in range(ITERATIONS):
        correction = _cycle(levels, residual)
        merit = _inner(residual, correction)  # about the square of the error's energy norm
        unfinished = merit > enough**2
        if not unfinished.any():
            break
        direction = correction.add_(direction * (merit / before))
        image = levels[0].apply(direction)
        step = (merit / _inner(direction, image).clamp(min=_smallest(residual))).where(unfinished, 0)
        answer += step * direction
        residual = residual - step * image
        before = merit.clamp(min=_smallest(residual))
    return answer


def _cycle(levels: Sequence[_Level], residual: Tensor) -> Tensor:
    """A multigrid V-cycle with one sweep of Jacobi before and after: about the solution, symmetric in its rows."""
    level, coarser = levels[0], levels[1:]
    answer = residual * level.inverse
    if not coarser:
        for _ in range(SWEEPS):
            answer += (residual - level.apply(answer)).mul_(level.inverse)
        return answer
    correction = _cycle(coarser, _blocks(residual - level.apply(answer)))
    spread = OVERCORRECTION * correction.repeat_interleave(2, -2).repeat_interleave(2, -1)
    answer += spread.mul_(level.inverse > 0)
    return answer.add_((residual - level.apply(answer)).mul_(level.inverse))


def _levels(missing: Tensor, diagonal: Tensor, depth: int) -> list[_Level]:
    """The equations on the grid itself and on `depth` coarser ones, each of half the side."""
    finest = _Finest(missing, diagonal, missing / diagonal.masked_fill(diagonal == 0, 1))
    levels: list[_Level] = [finest]
    edges = _edges(missing)
    outward = finest.missing * (diagonal - _around(missing))  # the weight of each missing pixel's known neighbours
    for _ in range(depth):
        edges, outward = _coarser(edges), _blocks(outward)
        total = outward.clone()
        for edge, (here, there) in zip(edges, _ENDS, strict=True):
            total[here] += edge[here]
            total[there] += edge[here]
        levels.append(_Coarse(edges, total, torch.where(total > 0, 1 / total, 0)))
    return levels


def _edges(missing: Tensor) -> Edges:
    """The weights between missing pixels; 0 where an edge would leave the image."""
    edges = []
    for weight, (here, there) in zip((BESIDE, BESIDE, ACROSS, ACROSS), _ENDS, strict=True):
        edge = torch.zeros_like(missing)
        edge[here] = weight * missing[here] * missing[there]
        edges.append(edge)
    right, below, below_right, below_left = edges
    return right, below, below_right, below_left


def _coarser(edges: Edges) -> Edges:
    """The weights between blocks of 2 x 2: sums of the edges that leave one for the other."""
    right, below, below_right, below_left = edges
    even, odd = slice(None, None, 2), slice(1, None, 2)
    to_the_right = right[..., even, odd] + right[..., odd, odd] + below_right[..., even, odd]
    to_the_right[..., :-1] += below_left[..., even, even][..., 1:]  # from the right-hand block back to this one
    below_it = below[..., odd, even] + below[..., odd, odd] + below_right[..., odd, even] + below_left[..., odd, odd]
    return to_the_right, below_it, below_right[..., odd, odd].clone(), below_left[..., odd, even].clone()


def _around(values: Tensor) -> Tensor:
    """The weighted sum over the eight neighbours in the grid: (R, C, h, w) -> the same."""
    wide = functional.pad(values, (1, 1, 1, 1))
    rows = (wide[..., :-2, :] + wide[..., 2:, :]).add_(wide[..., 1:-1, :], alpha=2)
    total = (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1], alpha=2)
    return total.mul_(ACROSS).sub_(values, alpha=4 * ACROSS)


def _blocks(values: Tensor) -> Tensor:
    """Sums over blocks of 2 x 2: (R, C, h, w) -> (R, C, h / 2, w / 2)."""
    rows = values[..., ::2, :] + values[..., 1::2, :]  # an eighth of the time of avg_pool2d
    return rows[..., ::2] + rows[..., 1::2]


def _span(known: Tensor, seen: Tensor) -> Tensor:
    """What seen pixels span, at least the largest of them: (R, 3, h, w), (R, 1, h, w) -> (R, 3, 1, 1)."""
    hidden = seen == 0
    low = known.masked_fill(hidden, torch.inf).amin(XY, keepdim=True)
    high = known.masked_fill(hidden, -torch.inf).amax(XY, keepdim=True)
    return torch.maximum(high - low, known.abs().amax(XY, keepdim=True))


def _inner(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(XY, keepdim=True)


def _smallest(values: Tensor) -> float:
    """What may be divided by, where a residual has vanished and its steps are 0 / 0."""
    return torch.finfo(values.dtype).tiny
