"""Maps that are made to win a metric: a search that knows nothing but the metric's values."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import numpy as np

from axiom_bench.statistics.bootstrap import Floats

ALONE = 1 / 3  # of the evaluations, the first ones, try a spot alone
WIDTHS = (0.03, 0.5)  # of a spot: its standard deviation as a share of the side; the least is one cell of 12


def searched(
    values: Callable[[Floats], Floats], shape: tuple[int, int, int], evaluations: int, seed: int = 0
) -> Floats:
    """For each of n rows the best map of a random search: (n, h, w) in [0, 1], from so many evaluations.

    values: of maps (n, h, w), a row's by its map alone -> (n,), more is better, NaN for a map that doesn't count. First
    spots (Gaussians) of random place and width; then a spot is added to the row's best map or taken away, and what
    isn't worse is kept.
    """
    generator = np.random.default_rng(seed)
    count, height, width = shape
    rows, columns = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
    best, reached = np.ones(shape), np.full(count, -np.inf)
    for step in range(evaluations):
        y, x, amount = generator.uniform(size=(3, count, 1, 1))
        sigma = np.exp(generator.uniform(log(WIDTHS[0]), log(WIDTHS[1]), (count, 1, 1)))
        tried = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
        if step >= ALONE * evaluations:
            tried = (best + (2 * amount - 1) * tried).clip(min=0)  # a maximum of 1 stays above 0
        tried /= tried.max((1, 2), keepdims=True)
        value = np.nan_to_num(values(tried), nan=-np.inf)
        is_kept = value >= reached
        best[is_kept], reached[is_kept] = tried[is_kept], value[is_kept]
    return best
