"""Boxes and points by hand-made rectangles."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from axiom_bench.data.base import Sample
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.box_iou import box_iou
from axiom_bench.metrics.pointing_game import pointing_game


def picture(*rectangles: tuple[int, int, int, int, float], size: tuple[int, int] = (10, 12)) -> Tensor:
    """A map (1, H', W') with x0 y0 x1 y1 value drawn into it."""
    canvas = torch.zeros(size)
    for x0, y0, x1, y1, level in rectangles:
        canvas[y0:y1, x0:x1] = level
    return canvas[None]


def explained(heatmap: Tensor, *boxes: tuple[float, ...]) -> Explanation:
    return Explanation(heatmap=heatmap, boxes=(torch.tensor(boxes).reshape(-1, 4),) * len(heatmap))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2, 1, 6, 4), 1.0),  # x1 and y1 exclusive: the region itself
        ((4, 1, 8, 4), 6 / 18),  # shifted by half its width
        ((2, 1, 7, 5), 12 / 20),  # contains it
        ((6, 1, 9, 4), 0.0),  # touches it: no shared pixel
        ((2.5, 1, 6, 4), 10.5 / 12),  # boxes may end inside a pixel
        ((1, 2, 4, 6), 4 / 20),  # x and y swapped
    ],
)
def test_iou_of_one_rectangle(box, expected):
    assert float(box_iou(explained(picture((2, 1, 6, 4, 1.0)), box))) == pytest.approx(expected, abs=1e-12)


def test_iou_takes_the_largest_region_not_the_brightest():
    heatmap = picture((0, 0, 2, 2, 1.0), (4, 4, 9, 9, 0.5))
    assert float(box_iou(explained(heatmap, (4, 4, 9, 9)))) == 1
    assert float(box_iou(explained(heatmap, (4, 4, 9, 9)), fraction=0.6)) == 0  # now only the bright one is left


def test_equally_large_regions_the_first_in_reading_order():
    heatmap = picture((8, 0, 10, 2, 0.5), (0, 5, 2, 7, 1.0))
    assert float(box_iou(explained(heatmap, (8, 0, 10, 2)))) == 1


def test_iou_is_the_best_over_several_boxes():
    assert float(box_iou(explained(picture((2, 1, 6, 4, 1.0)), (9, 9, 10, 10), (2, 1, 6, 4), (0, 0, 9, 9)))) == 1


def test_threshold_is_strict_and_relative_to_the_maximum():
    heatmap = picture((0, 0, 4, 4, 0.075), (0, 0, 2, 2, 0.5))  # 0.075 is exactly 15 % of 0.5
    assert float(box_iou(explained(heatmap, (0, 0, 2, 2)))) == 1
    assert float(box_iou(explained(heatmap, (0, 0, 4, 4)), fraction=0.1499)) == 1


def test_diagonals_touch_at_the_default_connectivity():
    heatmap = picture((0, 0, 2, 2, 1.0), (2, 2, 4, 4, 1.0))
    assert float(box_iou(explained(heatmap, (0, 0, 4, 4)))) == 1
    assert float(box_iou(explained(heatmap, (0, 0, 2, 2)), connectivity=4)) == 1
    with pytest.raises(BenchError, match="4 or 8"):
        box_iou(explained(heatmap, (0, 0, 4, 4)), connectivity=6)


def test_constant_map_is_the_whole_image():
    assert float(box_iou(explained(torch.ones(1, 10, 12), (0, 0, 6, 10)))) == pytest.approx(0.5, abs=1e-12)


def test_point_is_the_first_of_equal_maxima():
    heatmap = picture((7, 2, 8, 3, 1.0 - 1e-7), (3, 5, 4, 6, 1.0))  # equal once rounded to 1e-6
    assert float(pointing_game(explained(heatmap, (7, 2, 8, 3)), tolerance=0)) == 1
    assert float(pointing_game(explained(heatmap, (3, 5, 4, 6)), tolerance=0)) == 0
    assert float(pointing_game(explained(heatmap, (2, 7, 3, 8)), tolerance=0)) == 0  # x and y swapped


def test_point_may_lie_in_any_box_whose_far_edge_is_exclusive():
    heatmap = picture((7, 2, 8, 3, 1.0))
    assert float(pointing_game(explained(heatmap, (0, 0, 3, 3), (5, 0, 8, 3)), tolerance=0)) == 1
    assert float(pointing_game(explained(heatmap, (5, 0, 7, 3)), tolerance=0)) == 0


def test_tolerance_is_a_distance_between_pixels_that_is_not_reached():
    heatmap = picture((7, 2, 8, 3, 1.0))  # the box's nearest pixel, (4, 6), is a 3-4-5 triangle away from (7, 2)
    box = (0.0, 6.2, 4.6, 10.0)
    assert float(pointing_game(explained(heatmap, box), tolerance=5.01)) == 1
    assert float(pointing_game(explained(heatmap, box), tolerance=5.0)) == 0
    assert float(pointing_game(explained(heatmap, (7.6, 0.0, 8.4, 10.0)))) == 0  # no pixel's centre lies in this box


def test_tolerance_is_in_pixels_of_the_stored_photograph():
    """Of 300 x 80 pixels, squashed to 12 x 10: (4, 6) to (7, 2) is 75 to the right and 32 up."""
    explanation = replace(
        explained(picture((7, 2, 8, 3, 1.0)), (0.0, 6.2, 4.6, 10.0)), stored_pixels=((12 / 300, 10 / 80),)
    )
    distance = math.hypot(75, 32)
    assert float(pointing_game(explanation, tolerance=distance + 1e-6)) == 1
    assert float(pointing_game(explanation, tolerance=distance - 1e-6)) == 0
    assert float(pointing_game(explanation, tolerance=5.01)) == 0


def test_the_tolerance_doesnt_depend_on_the_size_that_the_network_takes():
    sample = Sample(Image.new("RGB", (300, 240)), "a", 0, ((0, (0.0, 0.0, 60.0, 240.0)),))
    for size in (60, 120, 240):  # the highest pixel's centre is 24 pixels of the photograph right of the box
        _, note = Preprocessing((size, size), None, (0,) * 3, (1,) * 3)(sample)
        heatmap = torch.zeros(1, size, size)
        heatmap[0, 0, size * 84 // 300] = 1
        explanation = Explanation(heatmap=heatmap, boxes=(note.boxes,), stored_pixels=(note.stored_pixel,))
        assert [float(pointing_game(explanation, tolerance)) for tolerance in (20, 32)] == [0, 1]


@given(st.integers(0, 2**16), st.sampled_from([1.0, 2.0, 2.5, 5.0, 15.0]))
def test_pointing_game_is_torchrays_disc_around_the_highest_pixel(seed, tolerance):
    """A disc of squared distances below tolerance^2 that meets the mask of the pixels in the boxes."""
    draw = torch.Generator().manual_seed(seed)
    heatmap = torch.rand(1, 20, 30, generator=draw, dtype=torch.float64)
    corners = torch.rand(2, 4, generator=draw, dtype=torch.float64) * torch.tensor([28.0, 18, 6, 5])
    boxes = [(x, y, x + width, y + height) for x, y, width, height in corners.tolist()]
    row, column = divmod(int(heatmap.argmax()), 30)
    disc = {(y, x) for y in range(20) for x in range(30) if (y - row) ** 2 + (x - column) ** 2 < tolerance**2}
    mask = {
        (y, x) for y in range(20) for x in range(30) for x0, y0, x1, y1 in boxes
        if x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1
    }  # fmt: skip
    assert float(pointing_game(explained(heatmap, *boxes), tolerance=tolerance)) == bool(disc & mask)
    inside = float(pointing_game(explained(heatmap, *boxes), tolerance=0))
    assert inside == ((row, column) in mask)
