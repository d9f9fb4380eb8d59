"""`imputation.impute` of all images of a batch at once, as a GPU does it best.

On a CPU, where each of its many small operations has a price, it takes three to ten times as long as
`imputation_compiled`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.division import XY
from axiom_bench.metrics.shared.imputation_constants import (
    COARSEST_SIDE,
    CORNER_WEIGHT,
    EDGE_WEIGHT,
    JACOBI_SWEEPS,
    MAX_ITERATIONS,
    OVERCORRECTION,
)

REFINEMENTS = 2  # solves: the second one is of the residual, which is computed in float64

# Weights to the pixel on the right, below, below right, below left: (R, 1, h, w) each
Edges = tuple[Tensor, Tensor, Tensor, Tensor]


def imputed(images: Tensor, hole: Tensor, tolerance: float) -> Tensor:
    """(R, 3, H', W'), bool (R, H', W') -> (R, 3, H', W')."""
    missing = hole[:, None].to(images.dtype)
    height, width = hole.shape[-2:]
    depth = max(0, math.ceil(math.log2(max(height, width) / COARSEST_SIDE)))
    padding = (0, -width % 2**depth, 0, -height % 2**depth)
    diagonal = functional.pad(_neighbour_sum(torch.ones_like(images[:1, :1])), padding)
    missing, observed = functional.pad(missing, padding), functional.pad(images * (1 - missing), padding)
    levels = _multigrid_levels(missing, diagonal, depth)
    is_observed = (1 - missing) * (diagonal > 0)
    solution = missing * observed.sum(XY, keepdim=True) / is_observed.sum(XY, keepdim=True)  # start: the mean
    right_hand_side = missing * _neighbour_sum(observed)
    tolerances = tolerance * _observed_range(observed, is_observed)
    for _ in range(REFINEMENTS):
        exact = solution.double()
        residual = right_hand_side.double() - missing.double() * (diagonal.double() * exact - _neighbour_sum(exact))
        solution = (exact + _conjugate_gradients(levels, residual.to(images.dtype), tolerances)).to(images.dtype)
    return (observed + solution)[..., :height, :width]


class _Level(Protocol):
    """The equations on one grid. inverse: of the matrix's diagonal, 0 where no pixel is missing."""

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
        return (self.diagonal * values).sub_(_neighbour_sum(values)).mul_(self.missing)


@dataclass(frozen=True)
class _Coarse:
    edges: Edges
    diagonal: Tensor
    inverse: Tensor

    def apply(self, values: Tensor) -> Tensor:
        product = self.diagonal * values
        for edge, (start, end) in zip(self.edges, _EDGE_ENDS, strict=True):
            weights = edge[start]
            product[start].addcmul_(weights, values[end], value=-1)
            product[end].addcmul_(weights, values[start], value=-1)
        return product


_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
# Indices of the two ends of each kind of edge; an edge's weight is stored at its first end.
_EDGE_ENDS = (
    ((..., _ALL, _FIRST), (..., _ALL, _LAST)),
    ((..., _FIRST, _ALL), (..., _LAST, _ALL)),
    ((..., _FIRST, _FIRST), (..., _LAST, _LAST)),
    ((..., _FIRST, _LAST), (..., _LAST, _FIRST)),
)


def _conjugate_gradients(levels: Sequence[_Level], residual: Tensor, tolerances: Tensor) -> Tensor:
    """Solve the finest level's equations for a right-hand side (R, 3, h, w), each channel by itself.

    A channel stops when the energy norm of its error is at most `tolerances`, (R, 3, 1, 1), and isn't changed any more,
    so that an image's result doesn't depend on the rest of its batch.
    """
    solution, direction = torch.zeros_like(residual), torch.zeros_like(residual)
    previous_energy = residual.new_ones(())
    for _ in range(MAX_ITERATIONS):
        correction = _v_cycle(levels, residual)
        energy = _inner(residual, correction)  # about the square of the error's energy norm
        unfinished = energy > tolerances**2
        if not unfinished.any():
            break
        direction = correction.add_(direction * (energy / previous_energy))
        product = levels[0].apply(direction)
        step = (energy / _inner(direction, product).clamp(min=_tiny(residual))).where(unfinished, 0)
        solution += step * direction
        residual = residual - step * product
        previous_energy = energy.clamp(min=_tiny(residual))
    return solution


def _v_cycle(levels: Sequence[_Level], residual: Tensor) -> Tensor:
    """A multigrid V-cycle with one Jacobi sweep before and one after: an approximate, symmetric solve."""
    level, coarser = levels[0], levels[1:]
    solution = residual * level.inverse
    if not coarser:
        for _ in range(JACOBI_SWEEPS):
            solution += (residual - level.apply(solution)).mul_(level.inverse)
        return solution
    correction = _v_cycle(coarser, _block_sums(residual - level.apply(solution)))
    prolonged = OVERCORRECTION * correction.repeat_interleave(2, -2).repeat_interleave(2, -1)
    solution += prolonged.mul_(level.inverse > 0)
    return solution.add_((residual - level.apply(solution)).mul_(level.inverse))


def _multigrid_levels(missing: Tensor, diagonal: Tensor, depth: int) -> list[_Level]:
    """The equations on the pixel grid and on `depth` coarser grids, each with half the side."""
    finest = _Finest(missing, diagonal, missing / diagonal.masked_fill(diagonal == 0, 1))
    levels: list[_Level] = [finest]
    edges = _edges(missing)
    boundary = finest.missing * (diagonal - _neighbour_sum(missing))  # each missing pixel's weight of observed ones
    for _ in range(depth):
        edges, boundary = _coarser(edges), _block_sums(boundary)
        total = boundary.clone()
        for edge, (start, end) in zip(edges, _EDGE_ENDS, strict=True):
            total[start] += edge[start]
            total[end] += edge[start]
        levels.append(_Coarse(edges, total, torch.where(total > 0, 1 / total, 0)))
    return levels


def _edges(missing: Tensor) -> Edges:
    """The weights between missing pixels; 0 where an edge would leave the image."""
    edges = []
    for weight, (start, end) in zip((EDGE_WEIGHT, EDGE_WEIGHT, CORNER_WEIGHT, CORNER_WEIGHT), _EDGE_ENDS, strict=True):
        edge = torch.zeros_like(missing)
        edge[start] = weight * missing[start] * missing[end]
        edges.append(edge)
    right, below, below_right, below_left = edges
    return right, below, below_right, below_left


def _coarser(edges: Edges) -> Edges:
    """The weights between blocks of 2 x 2 pixels: sums of the edges from one block to the other."""
    right, below, below_right, below_left = edges
    even, odd = slice(None, None, 2), slice(1, None, 2)
    coarse_right = right[..., even, odd] + right[..., odd, odd] + below_right[..., even, odd]
    coarse_right[..., :-1] += below_left[..., even, even][..., 1:]  # from the right-hand block back to this one
    coarse_below = (
        below[..., odd, even] + below[..., odd, odd] + below_right[..., odd, even] + below_left[..., odd, odd]
    )
    return coarse_right, coarse_below, below_right[..., odd, odd].clone(), below_left[..., odd, even].clone()


def _neighbour_sum(values: Tensor) -> Tensor:
    """The weighted sum over the eight neighbours in the grid: (R, C, h, w) -> the same."""
    wide = functional.pad(values, (1, 1, 1, 1))
    rows = (wide[..., :-2, :] + wide[..., 2:, :]).add_(wide[..., 1:-1, :], alpha=2)
    total = (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1], alpha=2)
    return total.mul_(CORNER_WEIGHT).sub_(values, alpha=4 * CORNER_WEIGHT)


def _block_sums(values: Tensor) -> Tensor:
    """Sums over blocks of 2 x 2: (R, C, h, w) -> (R, C, h / 2, w / 2)."""
    rows = values[..., ::2, :] + values[..., 1::2, :]  # an eighth of the time of avg_pool2d
    return rows[..., ::2] + rows[..., 1::2]


def _observed_range(observed: Tensor, is_observed: Tensor) -> Tensor:
    """The range of the observed pixels, at least their largest magnitude.

    (R, 3, h, w), (R, 1, h, w) -> (R, 3, 1, 1).
    """
    hidden = is_observed == 0
    low = observed.masked_fill(hidden, torch.inf).amin(XY, keepdim=True)
    high = observed.masked_fill(hidden, -torch.inf).amax(XY, keepdim=True)
    return torch.maximum(high - low, observed.abs().amax(XY, keepdim=True))


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(XY, keepdim=True)


def _tiny(values: Tensor) -> float:
    """The smallest divisor, for a residual that has vanished and whose steps would be 0 / 0."""
    return torch.finfo(values.dtype).tiny
