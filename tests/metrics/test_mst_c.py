"""Tests of MST-C: closed forms, and a second implementation by plain loops in float64."""

import itertools
import math

import numpy as np
import pytest
import torch

from axiom_bench import metrics
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Explanation
from tests.metrics.build import close, picture, status

SIZE = (12, 15)
DIAGONAL = math.hypot(*SIZE)


def value(heatmap, **params):
    metric = plugins.with_params("metric", "mst_c", params)
    return float(metric(Explanation(heatmap=heatmap[None])))


def hull_area(points):
    """Return the area of the convex hull, by the gift-wrapping of Jarvis and the shoelace formula.

    Of several points in one direction the furthest is taken.
    """
    corners = [min(points)]
    while True:
        y, x = corners[-1]
        best = next(point for point in points if point != (y, x))
        for candidate in points:
            turn = (best[0] - y) * (candidate[1] - x) - (best[1] - x) * (candidate[0] - y)
            is_further = math.dist(candidate, (y, x)) > math.dist(best, (y, x))
            if candidate != (y, x) and (turn < 0 or (turn == 0 and is_further)):
                best = candidate
        if best == corners[0]:
            break
        corners.append(best)
    around = zip(corners, [*corners[1:], corners[0]], strict=True)
    return abs(sum(y0 * x1 - y1 * x0 for (y0, x0), (y1, x1) in around)) / 2


def forest_length(points, neighbours):
    """Return the length of the minimum spanning forest of the neighbour graph, by Kruskal."""
    reach = {}
    for point in points:
        distances = sorted(math.dist(point, other) for other in points if other != point)
        reach[point] = distances[:neighbours][-1]
    edges = []
    for first, second in itertools.combinations(points, 2):
        distance = math.dist(first, second)
        if distance <= max(reach[first], reach[second]) + 1e-9:
            edges.append((distance, first, second))
    component = {point: number for number, point in enumerate(points)}
    length = 0.0
    for distance, first, second in sorted(edges):
        old = component[first]
        new = component[second]
        if old != new:
            length += distance
            component = {point: new if own == old else own for point, own in component.items()}
    return length


def expected(heatmap, percentile=80.0, neighbours=20):
    levels = np.round(heatmap.numpy() / heatmap.numpy().max(), 6)
    points = [
        (y, x)
        for y, x in itertools.product(*map(range, levels.shape))
        if levels[y, x] >= np.percentile(levels, percentile)
    ]
    spread = 1 / math.sqrt(hull_area(points))
    cohesion = len(points) / forest_length(points, neighbours)
    return 100 * math.hypot(*levels.shape) * spread * cohesion


@pytest.mark.parametrize(("percentile", "neighbours"), [(80, 20), (80, 2), (95, 20), (90, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_random_maps_have_the_value_of_plain_loops(seed, percentile, neighbours):
    heatmap = torch.rand(SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    heatmap = heatmap / heatmap.max()
    params = {"percentile": float(percentile), "neighbours": neighbours}
    # float64, sums of some 40 distances
    close(value(heatmap, **params), expected(heatmap, **params), rtol=1e-12)


def test_a_rectangle_has_its_closed_form():
    """All links of a rectangle of h x w pixels are 1 long: L = h w - 1 and A = (h - 1)(w - 1)."""
    rectangle = picture((3, 2, 11, 8, 1), size=SIZE)
    close(value(rectangle), 100 * DIAGONAL / math.sqrt(7 * 5) * 48 / 47)


def test_two_squares_lose_the_link_that_is_longer_than_their_own():
    """Draw squares of 25 pixels, so that each pixel's 20 nearest neighbours are in its own."""
    squares = picture((0, 0, 5, 5, 1), (9, 6, 14, 11, 1), size=SIZE)
    close(value(squares), expected(squares))
    # The hull is a square of side 4 swept by (9, 6): 16 + 4 x 9 + 4 x 6.
    close(value(squares), 100 * DIAGONAL / math.sqrt(16 + 36 + 24) * 50 / 48)
    together = picture((0, 0, 10, 5, 1), size=SIZE)
    assert value(squares) < value(together)


def test_a_line_has_the_diagonal_for_its_hull_as_in_the_authors_code():
    line = picture((0, 4, 15, 5, 1), size=SIZE)
    close(value(line, percentile=95.0), 100 * 15 / 14)


def test_all_pixels_count_if_fewer_than_the_percentile_are_above_zero():
    dot = picture((4, 4, 6, 6, 1), size=SIZE)
    pixels = SIZE[0] * SIZE[1]
    everywhere = 100 * DIAGONAL / math.sqrt(11 * 14) * pixels / (pixels - 1)
    close(value(dot), everywhere)
    close(value(torch.ones(SIZE, dtype=torch.float64)), everywhere)


def test_a_mirrored_or_turned_map_has_the_same_value():
    heatmap = torch.rand(SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    heatmap = heatmap / heatmap.max()
    for turned in (heatmap.flip(0), heatmap.flip(1), heatmap.T):
        close(value(turned, neighbours=3), value(heatmap, neighbours=3))


def test_a_single_pixel_and_a_zero_map_have_no_value():
    dot = picture((4, 4, 5, 5, 1), size=SIZE)
    assert status("mst_c", Explanation(heatmap=dot[None]), percentile=99.9) == {"one_pixel"}
    assert status("mst_c", Explanation(heatmap=0 * dot[None])) == {"zero_map"}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"percentile": 100.0}, "from 0 to below 100, not 100"),
        ({"percentile": -1.0}, "from 0 to below 100, not -1"),
        ({"neighbours": 0}, "one neighbour or more, not neighbours=0"),
    ],
)
def test_impossible_parameters_are_refused(params, message):
    with pytest.raises(BenchError, match=message):
        metrics.get("mst_c").call.func(Explanation(heatmap=torch.ones(1, *SIZE)), **params)


@pytest.mark.parametrize("seed", range(4))
def test_quantus_has_the_same_values(seed):
    """Smooth maps of whole clusters, where no pixel has to choose among equal neighbours."""
    complexity = pytest.importorskip("quantus.metrics.complexity.mst_c")
    maps = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(maps.double(), (40, 48), mode="bicubic")[0, 0]
    heatmap = smooth.clamp(min=0) / smooth.max()
    metric = complexity.MSTC(disable_warnings=True)
    close(value(heatmap), metric.evaluate_batch(heatmap[None].numpy())[0], rtol=1e-9)
