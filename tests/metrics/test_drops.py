"""The metrics of the map's sums and the score's drops, against one loop over parts of the image."""

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

import axiom_bench as ab
from axiom_bench.cutting.numerics import generators
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.random_subsets import pixels_at_random, square_at_random
from tests.metrics.build import close, confidence_of, resized

SIDE = 12
Parts = Sequence[Tensor]


def cells(grid: int) -> Parts:
    """Return rectangles in reading order.

    Their edges are the first pixels at or after the shares of the side.
    """
    edges = [-(-cell * SIDE // grid) for cell in range(grid + 1)]
    parts = []
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            part = torch.zeros(SIDE, SIDE, dtype=torch.bool)
            part[top:bottom, left:right] = True
            parts.append(part)
    return parts


def groups(raw: Tensor, count: int) -> Parts:
    """Return parts of equal numbers of pixels, the highest pixels first."""
    order = np.argsort(-raw.flatten().numpy(), kind="stable")
    number = np.empty(SIDE**2, dtype=int)
    number[order] = np.arange(SIDE**2) * count // SIDE**2
    return [torch.from_numpy(number == group).view(SIDE, SIDE) for group in range(count)]


def subsets_of_sizes(draw: torch.Generator, sizes: Sequence[int], count: int) -> Parts:
    parts = []
    for size in sizes:
        for _ in range(count):
            part = pixels_at_random(size)(draw, (SIDE, SIDE))
            assert int(part.sum()) == size
            parts.append(part)
    return parts


def random_squares(draw: torch.Generator, count: int) -> Parts:
    draw_square = square_at_random([3, 6])
    return [draw_square(draw, (SIDE, SIDE)) for _ in range(count)]


def unions_of_cells(draw: torch.Generator, count: int) -> Parts:
    """Return unions of 5 of 4 x 4 cells, which are 30 %."""
    parts = []
    for _ in range(count):
        lowest = torch.rand(16, generator=draw, dtype=torch.float64).argsort()[:5]
        union = torch.zeros(16, dtype=torch.bool).index_fill(0, lowest, True).view(4, 4)
        parts.append(union.repeat_interleave(3, 0).repeat_interleave(3, 1))
    return parts


def rests_of_shifted_cells(draw: torch.Generator) -> Parts:
    """Return all pixels, and those outside kept cells of 3 and of 6 pixels.

    See github.com/xaisloc/sloc, src/sloc.py.
    """
    parts = [torch.ones(SIDE, SIDE, dtype=torch.bool)]
    for side in [3] * 4 + [6] * 4:
        down, across = torch.randint(side, (2,), generator=draw).tolist()
        counts = [-(-(SIDE + shift) // side) for shift in (down, across)]
        left_out = torch.rand(counts, generator=draw, dtype=torch.float64) < 0.5
        mask = left_out.repeat_interleave(side, 0).repeat_interleave(side, 1)
        parts.append(mask[down : down + SIDE, across : across + SIDE])
    return parts


def rank_correlation(sums: np.ndarray, drops: np.ndarray, sizes: np.ndarray) -> float:
    return float(stats.spearmanr(sums, drops).statistic)


def correlation(sums: np.ndarray, drops: np.ndarray, sizes: np.ndarray) -> float:
    return float(np.corrcoef(sums, drops)[0, 1])


def mean_correlation(sums: np.ndarray, drops: np.ndarray, sizes: np.ndarray) -> float:
    """Return the mean of the correlations over the parts of each size."""
    correlations = []
    for size in np.unique(sizes):
        has_size = sizes == size
        correlations.append(correlation(sums[has_size], drops[has_size], sizes[has_size]))
    return float(np.mean(correlations))


def share_of_one_zero(sums: np.ndarray, drops: np.ndarray, sizes: np.ndarray) -> float:
    no_sum = np.abs(sums) <= 0.3 * np.abs(sums).max()
    no_drop = np.abs(drops) <= 0.3 * np.abs(drops).max()
    return float(np.mean(no_sum != no_drop))


def algorithm(sums: Sequence[float], drops: Sequence[float], sizes: Sequence[float]) -> float:
    """Compute Algorithm 1 of SaCo's paper, pair by pair."""
    total = 0.0
    weights = 0.0
    for i, j in combinations(range(len(sums)), 2):
        weight = sums[i] / sizes[i] - sums[j] / sizes[j]
        total += weight if drops[i] >= drops[j] else -weight
        weights += abs(weight)
    return total / weights


def squared_error(sums: np.ndarray, drops: np.ndarray, sizes: np.ndarray) -> float:
    return float(np.square(drops - sums).mean())


def scaled_squared_error(sums: np.ndarray, drops: np.ndarray, sizes: np.ndarray) -> float:
    return squared_error(sums * (drops @ sums) / (sums @ sums), drops, sizes)


def squared_gap(sums: np.ndarray, drops: np.ndarray, sizes: np.ndarray) -> float:
    """Return the squared error of what is kept.

    The first part has all pixels, and the sum or drop of each other part is left out of it.
    """
    return squared_error(sums[0] - sums[1:], drops[0] - drops[1:], sizes)


SUBSETS = {"subsets": 7, "seed": 3}
SQUARES = {"sides": (0.25, 0.5), "squares": 7, "seed": 3}
PartsOf = Callable[[torch.Generator, Tensor], Parts]
# The metric, its parameters, its parts given a generator and the map, and its statistic.
CASES: list[tuple[str, dict[str, Any], PartsOf, Callable[..., float]]] = [
    ("single_deletion", {"grid": 4}, lambda draw, raw: cells(4), rank_correlation),
    ("single_deletion", {"grid": 5}, lambda draw, raw: cells(5), rank_correlation),
    (
        "non_sensitivity",
        {"grid": 5, "tolerance": 0.3},
        lambda draw, raw: cells(5),
        share_of_one_zero,
    ),
    ("saco", {"groups": 7}, lambda draw, raw: groups(raw, 7), algorithm),
    ("faithfulness_estimate", {"groups": 10}, lambda draw, raw: groups(raw, 10), correlation),
    (
        "faithfulness_correlation",
        {"fraction": 0.4, **SUBSETS},
        lambda draw, raw: subsets_of_sizes(draw, (58,), 7),
        correlation,
    ),
    (
        "sensitivity_n",
        {"fractions": (0.05, 0.4), **SUBSETS},
        lambda draw, raw: subsets_of_sizes(draw, (7, 58), 7),
        mean_correlation,
    ),
    (
        "mu_fidelity",
        {"grid": 4, "fraction": 0.3, **SUBSETS},
        lambda draw, raw: unions_of_cells(draw, 7),
        rank_correlation,
    ),
    (
        "infidelity",
        {**SQUARES, "scaled": True},
        lambda draw, raw: random_squares(draw, 7),
        scaled_squared_error,
    ),
    (
        "infidelity",
        {**SQUARES, "scaled": False},
        lambda draw, raw: random_squares(draw, 7),
        squared_error,
    ),
    (
        "local_completeness",
        {"sides": (0.25, 0.5), "subsets": 8, "scaled": False, "seed": 3},
        lambda draw, raw: rests_of_shifted_cells(draw),
        squared_gap,
    ),
]


@pytest.mark.parametrize(("fill", "output"), [("zero", "logit"), ("mean", "probability")])
@pytest.mark.parametrize(("name", "params", "parts_of", "statistic"), CASES)
def test_metrics_of_parts_are_loops_over_them(
    trace: ab.Trace, explanation: Explanation, name, params, parts_of, statistic, fill, output
):
    metric = plugins.with_params("metric", name, {**params, "fill": fill, "output": output})
    answer = metric(explanation)
    actual = answer[name] if isinstance(answer, dict) else answer
    for row, raw in enumerate(resized(explanation.raw_map)):
        image = trace.images[row]
        colour = torch.zeros(()) if fill == "zero" else image.mean((1, 2), keepdim=True)
        (draw,) = generators(trace.images[row : row + 1], 3)
        parts = parts_of(draw, raw)
        before = confidence_of(trace, row, image, output)
        sums = []
        drops = []
        sizes = []
        for part in parts:
            after = confidence_of(trace, row, image.where(~part, colour), output)
            sums.append(float(raw[part].sum()))
            drops.append(before - after)
            sizes.append(int(part.sum()))
        expected = statistic(np.array(sums), np.array(drops), np.array(sizes))
        close(actual[row], expected, atol=1e-9, rtol=1e-9)
