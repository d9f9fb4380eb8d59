"""Metrics of the map's sums and the score's drops, part by part of the image, against one loop over
parts.
"""

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
    """Rectangles in reading order, whose edges are the first pixels at or behind the shares of the
    side.
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
    """Equal numbers of pixels, highest first."""
    order = np.argsort(-raw.flatten().numpy(), kind="stable")
    number = np.empty(SIDE**2, dtype=int)
    number[order] = np.arange(SIDE**2) * count // SIDE**2
    return [torch.from_numpy(number == group).view(SIDE, SIDE) for group in range(count)]


def subsets_of_sizes(draw: torch.Generator, sizes: Sequence[int], count: int) -> Parts:
    parts = [pixels_at_random(size)(draw, (SIDE, SIDE)) for size in sizes for _ in range(count)]
    assert [int(part.sum()) for part in parts] == [size for size in sizes for _ in range(count)]
    return parts


def unions_of_cells(draw: torch.Generator, count: int) -> Parts:
    """5 of 4 x 4 cells, which are 30 %."""
    parts = []
    for _ in range(count):
        lowest = torch.rand(16, generator=draw, dtype=torch.float64).argsort()[:5]
        drawn = torch.zeros(16, dtype=torch.bool).index_fill(0, lowest, True).view(4, 4)
        parts.append(drawn.repeat_interleave(3, 0).repeat_interleave(3, 1))
    return parts


def rests_of_shifted_cells(draw: torch.Generator) -> Parts:
    """All pixels, and those outside kept cells of 3 and of 6 pixels; github.com/xaisloc/sloc,
    src/sloc.py.
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
    """Over the parts of each size."""
    return float(
        np.mean(
            [
                np.corrcoef(sums[sizes == size], drops[sizes == size])[0, 1]
                for size in np.unique(sizes)
            ]
        )
    )


def share_of_one_zero(sums: np.ndarray, drops: np.ndarray, sizes: np.ndarray) -> float:
    no_sum, no_drop = (np.abs(values) <= 0.3 * np.abs(values).max() for values in (sums, drops))
    return float(np.mean(no_sum != no_drop))


def algorithm(sums: Sequence[float], drops: Sequence[float], sizes: Sequence[float]) -> float:
    """Algorithm 1 of SaCo's paper, pair by pair."""
    total, weights = 0.0, 0.0
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
    """Of what is kept: all that the first part has, without that of the part that is left out."""
    return squared_error(sums[0] - sums[1:], drops[0] - drops[1:], sizes)


SUBSETS = {"subsets": 7, "seed": 3}
SQUARES = {"sides": (0.25, 0.5), "squares": 7, "seed": 3}
CASES: list[tuple[str, dict[str, Any], Callable[[torch.Generator, Tensor], Parts], Callable[..., float]]] = [
    ("single_deletion", {"grid": 4}, lambda draw, raw: cells(4), rank_correlation),
    ("single_deletion", {"grid": 5}, lambda draw, raw: cells(5), rank_correlation),
    ("non_sensitivity", {"grid": 5, "tolerance": 0.3}, lambda draw, raw: cells(5), share_of_one_zero),
    ("saco", {"groups": 7}, lambda draw, raw: groups(raw, 7), algorithm),
    ("faithfulness_estimate", {"groups": 10}, lambda draw, raw: groups(raw, 10), correlation),
    ("faithfulness_correlation", {"fraction": 0.4, **SUBSETS},
     lambda draw, raw: subsets_of_sizes(draw, (58,), 7), correlation),
    ("sensitivity_n", {"fractions": (0.05, 0.4), **SUBSETS},
     lambda draw, raw: subsets_of_sizes(draw, (7, 58), 7), mean_correlation),
    ("mu_fidelity", {"grid": 4, "fraction": 0.3, **SUBSETS}, lambda draw, raw: unions_of_cells(draw, 7),
     rank_correlation),
    *(("infidelity", {**SQUARES, "scaled": scaled},
       lambda draw, raw: [square_at_random([3, 6])(draw, (SIDE, SIDE)) for _ in range(7)], error)
      for scaled, error in ((True, scaled_squared_error), (False, squared_error))),
    ("local_completeness", {"sides": (0.25, 0.5), "subsets": 8, "scaled": False, "seed": 3},
     lambda draw, raw: rests_of_shifted_cells(draw), squared_gap),
]  # fmt: skip


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
        sums = np.array([float(raw[part].sum()) for part in parts])
        drops = np.array(
            [
                before - confidence_of(trace, row, image.where(~part, colour), output)
                for part in parts
            ]
        )
        sizes = np.array([int(part.sum()) for part in parts])
        close(actual[row], statistic(sums, drops, sizes), atol=1e-9, rtol=1e-9)
