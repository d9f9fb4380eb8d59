"""Linear imputation of missing pixels for ROAD: Rong et al., ICML 2022, arXiv:2202.00449.

The paper is "A Consistent and Efficient Evaluation Strategy for Attribution Methods", section 4.
The metric adds the noise.

Every missing pixel is the weighted mean of its neighbours in the image, 1/6 along the axes and 1/12
along the diagonals. This is one sparse linear system per image, solved by conjugate gradients.
Their preconditioner is a multigrid V-cycle that aggregates blocks of 2 x 2 pixels (coarse equations
are sums of fine ones).

The functions are compiled by numba, so import this module only when it is needed. They have loops
instead of assignments of slices, which triples the time of compiling. All arrays of pixels have a
margin of one zero on every side, so that each pixel has eight neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from axiom_bench.cutting.threads import in_threads
from axiom_bench.metrics.shared.cpu import compiled

EDGE_WEIGHT = 1 / 6
CORNER_WEIGHT = 1 / 12
# Energy norm of the error, relative to the range of the observed pixels. It doesn't bound the error
# of a single pixel in a large hole with observed pixels on one side only; in such holes of 70 and
# 90 % of 224 x 224 pixels of unit variance, no error was above 7e-4.
TOLERANCE = 5e-5
# The residual of volumes, relative to the observed neighbours. It is within 1e-3 of a direct solve
# as well.
RESIDUAL = 1e-7
MAX_ITERATIONS = 40  # photographs take 10 to 20
COARSEST_SIDE = 8  # pixels
JACOBI_SWEEPS = 8  # on the coarsest grid
# Blocks of equal corrections are too stiff: a smooth correction has half their energy.
OVERCORRECTION = 1.5
# The smallest divisor, for a residual that has vanished and whose step would be 0 / 0.
SMALLEST = np.finfo(np.float64).tiny


def impute(images: Tensor, hole: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Fill holes with the weighted mean of the neighbours.

    For signals, (R, C, L), the neighbours count 1/2 each, which is a linear interpolation. For
    volumes, (R, C, D, H, W), they count 1/14 along the axes, 1/28 across edges and 1/56 across
    corners. In any dimension this is the kernel 1 2 1 along each axis, without its centre.

    Each image is solved by itself, in float64 and on the CPU wherever it lies, so that its result
    depends on no other image. The images are shared by torch's threads.

    Args:
        images: The images, (R, 3, H', W').
        hole: True for pixels to fill, bool (R, H', W'). An image without any other pixel becomes
            NaN.
        tolerance: The energy norm of the error at which iterations stop. It is relative to the
            range of a channel's observed pixels, at least their largest magnitude. The default is
            within 1e-3 of a direct solve for pixels of unit variance.

    Returns:
        The filled images, (R, 3, H', W').
    """
    solve: Callable[[np.ndarray, np.ndarray], np.ndarray]
    # The hole has an axis of rows, and one, two or three axes of space.
    if hole.ndim == 2:
        solve = _interpolated
    elif hole.ndim == 3:
        solve = partial(_imputed, tolerance=tolerance)
    else:
        solve = _filled_volume
    pixels = images.cpu().double().contiguous().numpy()
    filled = in_threads(solve, pixels, hole.contiguous().cpu().numpy())
    return torch.stack([torch.from_numpy(image) for image in filled]).to(images)


def _interpolated(signal: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return the exact solution for signals (C, L), NaN without an observed position."""
    if hole.all():
        return np.full_like(signal, np.nan)
    places = np.arange(len(hole))
    return np.stack([np.interp(places, places[~hole], channel[~hole]) for channel in signal])


def _filled_volume(volume: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill a volume (C, D, H, W) by conjugate gradients with the diagonal as preconditioner."""
    filled = volume.copy()
    count = int(hole.sum())

    def around(values: np.ndarray) -> np.ndarray:
        """Return the weighted sums over each voxel's neighbours."""
        sums = values
        for axis in range(3):
            sums = ndimage.correlate1d(sums, (1.0, 2.0, 1.0), axis, mode="constant")
        means: np.ndarray = (sums - 8 * values) / 56
        return means

    def product(missing: np.ndarray) -> np.ndarray:
        values = np.zeros(hole.shape)
        values[hole] = missing
        product: np.ndarray = diagonal * missing - around(values)[hole]
        return product

    if count == 0:
        return filled
    diagonal = around(np.ones(hole.shape))[hole]
    shape = (count, count)
    matrix = LinearOperator(shape, product, dtype=np.float64)
    inverse = LinearOperator(shape, lambda residual: residual / diagonal, dtype=np.float64)
    for channel in filled:
        # Without finite observed voxels, all iterations would run in vain.
        if count == hole.size or not np.isfinite(channel[~hole]).all():
            channel[hole] = np.nan
            continue
        right = around(np.where(hole, 0.0, channel))[hole]
        start = np.full(count, channel[~hole].mean())
        channel[hole], _ = cg(matrix, right, start, rtol=RESIDUAL, M=inverse)
    return filled


class Level(NamedTuple):
    """The equations on one grid, and the input and output of a V-cycle there.

    All arrays are (h + 2, w + 2) except `edges`.
    """

    edges: np.ndarray
    """(4, h + 2, w + 2): the weights between a missing pixel and the one on its right, below, below
    right and below left."""
    diagonal: np.ndarray
    """The diagonal of the matrix."""
    inverse: np.ndarray
    """The inverse of the diagonal, 0 if no pixel is missing."""
    residual: np.ndarray
    """The input of a V-cycle on this grid."""
    solution: np.ndarray
    """The output of a V-cycle on this grid."""
    product: np.ndarray
    """Working memory."""


@compiled
def _imputed(image: np.ndarray, hole: np.ndarray, tolerance: float) -> np.ndarray:
    """Fill an image, (3, H, W) float64, at the pixels of a hole, bool (H, W)."""
    height, width = hole.shape
    levels = _levels(hole)
    filled = image.copy()
    start = np.zeros((height + 2, width + 2))
    diagonal = levels[0].diagonal
    residual = levels[0].residual
    for channel in filled:
        # Missing pixels start at the mean, and the equations are solved for the correction.
        mean, scale = _observed(channel, hole)
        for y in range(height):
            for x in range(width):
                start[y + 1, x + 1] = mean if hole[y, x] else channel[y, x]
        for y in range(1, height + 1):
            for x in range(1, width + 1):
                if hole[y - 1, x - 1]:
                    residual[y, x] = _neighbour_sum(start, y, x) - diagonal[y, x] * start[y, x]
                else:
                    residual[y, x] = 0.0
        correction = _conjugate_gradients(levels, tolerance * scale)
        for y in range(height):
            for x in range(width):
                if hole[y, x]:
                    channel[y, x] = mean + correction[y + 1, x + 1]
    return filled


@compiled
def _observed(channel: np.ndarray, hole: np.ndarray) -> tuple[float, float]:
    """Return the mean and the range of the pixels outside of the hole, or NaN without any.

    The range is at least the pixels' largest magnitude.
    """
    low = np.inf
    high = -np.inf
    total = 0.0
    count = 0
    for y in range(hole.shape[0]):
        for x in range(hole.shape[1]):
            if not hole[y, x]:
                low = min(low, channel[y, x])
                high = max(high, channel[y, x])
                total += channel[y, x]
                count += 1
    if count == 0:
        return np.nan, np.nan
    return total / count, max(high - low, high, -low)


@compiled
def _neighbour_sum(values: np.ndarray, y: int, x: int) -> float:
    """Return the weighted sum over a pixel's neighbours."""
    above = values[y - 1]
    row = values[y]
    below = values[y + 1]
    along = above[x] + below[x] + row[x - 1] + row[x + 1]
    across = above[x - 1] + above[x + 1] + below[x - 1] + below[x + 1]
    weighted: float = EDGE_WEIGHT * along + CORNER_WEIGHT * across
    return weighted


@compiled
def _conjugate_gradients(levels: list[Level], tolerance: float) -> np.ndarray:
    """Solve the finest level's equations for its residual, which is overwritten.

    The iterations stop when the energy norm of the error is at most `tolerance`.
    """
    finest = levels[0]
    residual = finest.residual
    correction = finest.solution
    product = finest.product
    solution = np.zeros_like(residual)
    direction = np.zeros_like(residual)
    previous_energy = 1.0
    for _ in range(MAX_ITERATIONS):
        _v_cycle(levels)
        energy = _inner(residual, correction)  # about the square of the error's energy norm
        if not energy > tolerance**2:
            break
        _add(correction, energy / previous_energy, direction, direction)
        _multiply(finest, direction)
        step = energy / max(_inner(direction, product), SMALLEST)
        _add(solution, step, direction, solution)
        _add(residual, -step, product, residual)
        previous_energy = energy
    return solution


@compiled
def _v_cycle(levels: list[Level]) -> None:
    """Solve approximately by a multigrid V-cycle, with one Jacobi sweep before and one after.

    The solve is symmetric.
    """
    coarsest = len(levels) - 1
    for depth in range(coarsest + 1):
        _scale(levels[depth])
        if depth < coarsest:
            _multiply(levels[depth], levels[depth].solution)
            _restrict(levels[depth], levels[depth + 1].residual)
    for _ in range(JACOBI_SWEEPS):
        _multiply(levels[coarsest], levels[coarsest].solution)
        _smooth(levels[coarsest])
    for depth in range(coarsest - 1, -1, -1):
        _prolong(levels[depth + 1].solution, levels[depth])
        _multiply(levels[depth], levels[depth].solution)
        _smooth(levels[depth])


@compiled
def _scale(level: Level) -> None:
    """Run a Jacobi sweep from a solution of zeros."""
    for y in range(len(level.solution)):
        solution = level.solution[y]
        residual = level.residual[y]
        inverse = level.inverse[y]
        for x in range(len(solution)):
            solution[x] = residual[x] * inverse[x]


@compiled
def _multiply(level: Level, values: np.ndarray) -> None:
    """Set `product` to the matrix times values."""
    # Slices, whose indices the compiler knows to lie inside, let the processor take several pixels
    # at once. The pixels a to i are, row by row, a pixel e and its neighbours.
    edges = level.edges
    size = values.shape[1] - 2
    for y in range(1, len(values) - 1):
        above = values[y - 1]
        here = values[y]
        under = values[y + 1]
        a = above[:size]
        b = above[1 : size + 1]
        c = above[2:]
        d = here[:size]
        e = here[1 : size + 1]
        f = here[2:]
        g = under[:size]
        h = under[1 : size + 1]
        i = under[2:]
        to_d = edges[0, y][:size]
        to_f = edges[0, y][1 : size + 1]
        to_b = edges[1, y - 1][1 : size + 1]
        to_h = edges[1, y][1 : size + 1]
        to_a = edges[2, y - 1][:size]
        to_i = edges[2, y][1 : size + 1]
        to_c = edges[3, y - 1][2:]
        to_g = edges[3, y][1 : size + 1]
        diagonal = level.diagonal[y][1 : size + 1]
        product = level.product[y][1 : size + 1]
        for x in range(size):
            along = to_b[x] * b[x] + to_d[x] * d[x] + to_f[x] * f[x] + to_h[x] * h[x]
            across = to_a[x] * a[x] + to_c[x] * c[x] + to_g[x] * g[x] + to_i[x] * i[x]
            product[x] = diagonal[x] * e[x] - along - across


@compiled
def _smooth(level: Level) -> None:
    """Run a Jacobi sweep; `product` is the matrix times the solution."""
    for y in range(len(level.solution)):
        solution = level.solution[y]
        residual = level.residual[y]
        product = level.product[y]
        inverse = level.inverse[y]
        for x in range(len(solution)):
            solution[x] += (residual[x] - product[x]) * inverse[x]


@compiled
def _restrict(level: Level, coarse_residual: np.ndarray) -> None:
    """Sum the residual that the solution leaves over blocks of 2 x 2 pixels.

    `product` is the matrix times the solution.
    """
    for row in range(1, len(coarse_residual) - 1):
        coarse = coarse_residual[row][1:-1]
        y = 2 * row - 1
        upper = level.residual[y][1:]
        upper_product = level.product[y][1:]
        lower = level.residual[y + 1][1:]
        lower_product = level.product[y + 1][1:]
        for x in range(len(coarse)):
            i = 2 * x
            left = upper[i] - upper_product[i] + lower[i] - lower_product[i]
            i += 1
            right = upper[i] - upper_product[i] + lower[i] - lower_product[i]
            coarse[x] = left + right


@compiled
def _prolong(coarse_solution: np.ndarray, level: Level) -> None:
    """Add the solution of each block of 2 x 2 pixels to its missing pixels."""
    for y in range(1, len(level.solution) - 1):
        coarse = coarse_solution[(y + 1) // 2][1:-1]
        solution = level.solution[y][1:]
        inverse = level.inverse[y][1:]
        for x in range(len(coarse)):
            correction = OVERCORRECTION * coarse[x]
            solution[2 * x] += correction if inverse[2 * x] > 0 else 0.0
            solution[2 * x + 1] += correction if inverse[2 * x + 1] > 0 else 0.0


@compiled
def _add(values: np.ndarray, factor: float, others: np.ndarray, sums: np.ndarray) -> None:
    """Compute sums = values + factor * others in place."""
    for y in range(len(values)):
        row = values[y]
        other = others[y]
        total = sums[y]
        for x in range(len(row)):
            total[x] = row[x] + factor * other[x]


@compiled
def _inner(first: np.ndarray, second: np.ndarray) -> float:
    """Return the sum of products."""
    # The sum of each column first, which a processor does for several columns at once.
    sums = np.zeros(first.shape[1])
    for y in range(len(first)):
        row = first[y]
        other = second[y]
        for x in range(len(row)):
            sums[x] += row[x] * other[x]
    total: float = sums.sum()
    return total


@compiled
def _levels(hole: np.ndarray) -> list[Level]:
    """Return the equations on the pixel grid and on coarser grids, each with half the side."""
    height, width = hole.shape
    depth = 0
    while COARSEST_SIDE * 2**depth < max(height, width):
        depth += 1
    shape = (height + -height % 2**depth + 2, width + -width % 2**depth + 2)
    inside = np.zeros(shape)
    missing = np.zeros(shape)
    for y in range(height):
        for x in range(width):
            inside[y + 1, x + 1] = 1.0
            missing[y + 1, x + 1] = hole[y, x]
    edges = np.zeros((4, *shape))
    boundary = np.zeros(shape)  # the weight of observed neighbours of each missing pixel
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            if missing[y, x]:
                edges[0, y, x] = EDGE_WEIGHT * missing[y, x + 1]
                edges[1, y, x] = EDGE_WEIGHT * missing[y + 1, x]
                edges[2, y, x] = CORNER_WEIGHT * missing[y + 1, x + 1]
                edges[3, y, x] = CORNER_WEIGHT * missing[y + 1, x - 1]
                boundary[y, x] = _neighbour_sum(inside, y, x) - _neighbour_sum(missing, y, x)
    levels = [_level(edges, boundary)]
    for _ in range(depth):
        edges, boundary = _coarser(edges, boundary)
        levels.append(_level(edges, boundary))
    return levels


@compiled
def _level(edges: np.ndarray, boundary: np.ndarray) -> Level:
    """Return the equations of one grid from its edges and the weights of observed pixels."""
    diagonal = boundary.copy()
    inverse = np.zeros_like(boundary)
    for y in range(1, boundary.shape[0] - 1):
        for x in range(1, boundary.shape[1] - 1):
            in_row = edges[0, y, x] + edges[0, y, x - 1]
            diagonal[y, x] += in_row + edges[1, y, x] + edges[1, y - 1, x]
            falling = edges[2, y, x] + edges[2, y - 1, x - 1]
            diagonal[y, x] += falling + edges[3, y, x] + edges[3, y - 1, x + 1]
            if diagonal[y, x] > 0:
                inverse[y, x] = 1 / diagonal[y, x]
    nothing = np.zeros_like(boundary)
    return Level(edges, diagonal, inverse, nothing, nothing.copy(), nothing.copy())


@compiled
def _coarser(edges: np.ndarray, boundary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum the edges from one block of 2 x 2 pixels to another, and the blocks' boundary."""
    shape = (boundary.shape[0] // 2 + 1, boundary.shape[1] // 2 + 1)
    right = edges[0]
    below = edges[1]
    below_right = edges[2]
    below_left = edges[3]
    coarse = np.zeros((4, *shape))
    sums = np.zeros(shape)
    for row in range(1, shape[0] - 1):
        for column in range(1, shape[1] - 1):
            # The block's last pixel.
            y = 2 * row
            x = 2 * column
            upper = boundary[y - 1, x - 1] + boundary[y - 1, x]
            sums[row, column] = upper + boundary[y, x - 1] + boundary[y, x]
            # Between two blocks, two edges are straight and two are diagonal.
            straight = right[y - 1, x] + right[y, x]
            coarse[0, row, column] = straight + below_right[y - 1, x] + below_left[y - 1, x + 1]
            straight = below[y, x - 1] + below[y, x]
            coarse[1, row, column] = straight + below_right[y, x - 1] + below_left[y, x]
            coarse[2, row, column] = below_right[y, x]
            coarse[3, row, column] = below_left[y, x - 1]
    return coarse, sums
