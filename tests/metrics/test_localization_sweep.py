"""One pass over a map's pixels against scipy's labelling at every threshold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.box_iou import box_iou
from axiom_bench.metrics.shared.rounding import rounded
from axiom_bench.metrics.shared.threshold_sweep import FRACTIONS, boxes_above, pixels_above, steps_above

NEIGHBOURS = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}


def iou(box, true_boxes):
    """The best intersection over union of one box with others, in plain floats."""
    best = 0.0
    for x0, y0, x1, y1 in true_boxes:
        shared = max(min(box[2], x1) - max(box[0], x0), 0) * max(min(box[3], y1) - max(box[1], y0), 0)
        best = max(best, shared / ((box[2] - box[0]) * (box[3] - box[1]) + (x1 - x0) * (y1 - y0) - shared))
    return best


def labelled(above, connectivity):
    """(box of the largest component, boxes of all), the first of equals in reading order, by scipy."""
    labels, count = ndimage.label(above, NEIGHBOURS[connectivity])
    slices = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    return (slices[int(np.bincount(labels.ravel())[1:].argmax())] if count else None), slices


def assert_equals_scipy(heatmap, boxes, connectivity):
    true_boxes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    measured = boxes_above(Explanation(heatmap=heatmap[None], boxes=(true_boxes,)), connectivity)
    shares = rounded(heatmap[None])[0].numpy()
    for step, fraction in enumerate(FRACTIONS):
        largest, every = labelled(shares > fraction, connectivity)
        if largest is None:
            expected = 0 if boxes else np.nan
            np.testing.assert_array_equal([measured.iou[0, step], measured.best_iou[0, step]], expected)
            continue
        assert tuple(measured.largest[0, step]) == largest
        if boxes:
            assert measured.iou[0, step] == iou(largest, boxes)
            assert measured.best_iou[0, step] == max(iou(box, boxes) for box in every)


corners = st.tuples(st.floats(-2, 8), st.floats(-2, 8), st.floats(0.25, 9), st.floats(0.25, 9))
boxes = st.lists(corners.map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3])), max_size=3)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 9), st.integers(1, 9), st.sampled_from([4, 8]), boxes)
def test_equals_a_labelling_at_every_threshold(data, height, width, connectivity, boxes):
    plateaus = st.sampled_from([0.0, 0.1, 0.15, 0.3, 0.31, 0.5, 0.500001, 0.99, 1.0])
    levels = data.draw(st.lists(plateaus, min_size=height * width, max_size=height * width))
    assert_equals_scipy(torch.tensor(levels).view(height, width), boxes, connectivity)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("side", [4, 40, 120])
def test_equals_a_labelling_on_smooth_maps_and_on_noise(side, connectivity):
    raw = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(side)).clamp(min=0)
    heatmap = functional.interpolate(raw, size=(120, 120), mode="bilinear")[0, 0]
    assert_equals_scipy(heatmap / heatmap.max(), [(10.0, 15.0, 50.0, 75.5), (60.0, 0.0, 120.0, 20.0)], connectivity)


def spiral(side):
    """Ones along a path of one pixel's width that winds inwards, a pixel apart from itself."""
    canvas, (y, x), (down, right) = torch.zeros(side, side), (0, 0), (0, 1)
    for length in (side - 1, *(each for each in range(side - 1, 0, -2) for _ in range(2))):
        for _ in range(length):
            canvas[y, x] = 1
            y, x = y + down, x + right
        down, right = right, -down
    return canvas


@pytest.mark.parametrize("connectivity", [4, 8])
def test_equals_a_labelling_where_many_regions_become_one(connectivity):
    noise = torch.rand(61, 90, generator=torch.Generator().manual_seed(3))
    comb = torch.zeros(40, 41)
    comb[:, ::2], comb[-1] = torch.linspace(0.4, 1, 40)[:, None], 0.2
    board = 0.3 + 0.7 * ((torch.arange(30)[:, None] + torch.arange(33)) % 2)
    for heatmap in (noise, comb, board, spiral(41), spiral(41) * torch.linspace(0.2, 1, 41)):
        assert_equals_scipy(heatmap, [(3.0, 2.0, 20.5, 30.0)], connectivity)


def test_steps_are_the_fractions_that_a_pixel_is_above():
    heatmap = torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(5)).round(decimals=2)
    expected = sum((rounded(heatmap) > fraction).int() for fraction in FRACTIONS)
    np.testing.assert_array_equal(steps_above(Explanation(heatmap=heatmap)), expected.numpy())


@settings(max_examples=40)
@given(
    st.integers(0, 2**16), st.sampled_from([torch.float32, torch.float64]), st.floats(0, 0.99), st.sampled_from([4, 8])
)
def test_box_iou_is_what_one_labelling_gives(seed, dtype, fraction, connectivity):
    generator = torch.Generator().manual_seed(seed)
    raw = torch.rand(2, 1, 4, 5, generator=generator, dtype=dtype) - 0.4
    maps = functional.interpolate(raw.clamp(min=0), size=(24, 30), mode="bilinear")[:, 0]
    true_boxes = torch.tensor([[3.0, 4.5, 20.0, 22.0], [1.0, 1.0, 9.0, 30.0]])
    for threshold in (0.15, round(fraction, 2), fraction):
        explanation = Explanation(heatmap=maps, boxes=(true_boxes, true_boxes))
        of_largest, of_all = (box_iou(explanation, threshold, connectivity, regions) for regions in ("largest", "all"))
        for row, shares in enumerate(rounded(maps).numpy()):
            largest, every = labelled(shares > threshold, connectivity)
            if largest is None:
                assert of_largest[row].isnan()
                assert of_all[row].isnan()
            else:
                assert of_largest[row] == iou(largest, true_boxes.tolist())
                assert of_all[row] == max(iou(box, true_boxes.tolist()) for box in every)


def test_no_pixel_above_no_box_and_numbers_that_are_not_finite():
    maps = torch.zeros(4, 5, 6)
    maps[1, 2, 3], maps[2, 0, 0], maps[3] = 1.0, torch.inf, torch.nan
    box = torch.tensor([[0.0, 0.0, 6.0, 5.0]])
    measured = boxes_above(Explanation(raw_map=maps, heatmap=maps, boxes=(box, torch.zeros(0, 4), box, box)))
    assert (measured.iou[[0, 2, 3]] == 0).all()
    assert np.isnan(measured.iou[1]).all()
    assert (measured.largest[1] == (3, 2, 4, 3)).all()
    assert not measured.largest[[0, 2, 3]].any()


def test_pixels_above_are_counted():
    shares = torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(2)).round(decimals=2)
    masks = shares > 0.3
    measured = pixels_above(Explanation(heatmap=shares, masks=masks))
    for row in range(2):
        scaled = rounded(shares)[row]
        above = [scaled > fraction for fraction in reversed(FRACTIONS)] + [torch.ones(20, 30, dtype=torch.bool)]
        assert measured.above[row].tolist() == [int(pixels.sum()) for pixels in above]
        assert measured.hit[row].tolist() == [int((pixels & masks[row]).sum()) for pixels in above]


def test_metrics_share_one_sweep():
    explanation = Explanation(heatmap=torch.rand(1, 9, 9), boxes=(torch.tensor([[1.0, 1.0, 5.0, 5.0]]),))
    assert boxes_above(explanation) is boxes_above(explanation)
    assert boxes_above(explanation) is not boxes_above(explanation, 4)
