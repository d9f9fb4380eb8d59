"""The protocol of wsolevaluation against slow replicas, stored values, and OpenCV where it is installed.

The stored values were printed by wsolevaluation itself (evaluation.py at commit 96f4b88, with OpenCV 5.0.0 and 4.10.0).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

import axiom_bench as ab
from axiom_bench.data.base import Sample
from axiom_bench.data.batch import BACKGROUND, NO_VERDICT
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.whole_set import aggregate
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared import protocol
from axiom_bench.metrics.shared.union_find import contour_ious
from tests.metrics.build import tensor

THRESHOLDS = np.arange(0, 1, 0.001)
SQUASH = Preprocessing(resize=(224, 224), crop=None, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.mark.parametrize("shape", [(7, 7), (1, 1), (14, 9), (3, 20), (300, 250)])
def test_resize_is_cubic_convolution(shape):
    """With a = -0.75, as in torch and OpenCV; OpenCV's weights are float32: places of up to 300 have errors of 2e-5."""
    raw_map = np.random.default_rng(0).standard_normal(shape)
    expected = functional.interpolate(torch.from_numpy(raw_map)[None, None], size=(60, 96), mode="bicubic")[0, 0]
    np.testing.assert_allclose(protocol.resize_cubic(raw_map, (60, 96)), expected.numpy(), atol=2e-4)


def cells(filled):
    """The area of the polygon through the outer pixels' centres: 2 x 2 pixels of a set are 1, three of them 1/2."""
    padded = np.pad(filled, 1).astype(int)
    windows = padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]
    return (windows == 4).sum() + 0.5 * (windows == 3).sum()


def contours_slowly(above):
    """(area, box) of each contour: of every component with its holes filled, and of the pixels around every hole."""
    labels, count = ndimage.label(above, np.ones((3, 3)))
    for component in (labels == label for label in range(1, count + 1)):
        outside, parts = ndimage.label(np.pad(~component, 1, constant_values=True))
        holes = [(outside == part)[1:-1, 1:-1] for part in range(1, parts + 1) if part != outside[0, 0]]
        yield cells(component | np.any(holes, axis=0) if holes else component), box_around(component)
        for hole in holes:
            around = ndimage.binary_dilation(hole)
            yield cells(around), box_around(around & ~hole)


def box_around(pixels):
    """Its far edges: one pixel behind the last one, but in the image."""
    (rows, columns) = np.nonzero(pixels)
    x1, y1 = min(columns.max() + 1, pixels.shape[1] - 1), min(rows.max() + 1, pixels.shape[0] - 1)
    return int(columns.min()), int(rows.min()), int(x1), int(y1)


def iou_slowly(box, true_boxes):
    """By counting pixels, far edges inside."""
    grid = np.zeros((2, 80, 80), bool)
    best = 0.0
    for true_box in true_boxes:
        grid[:] = False
        for canvas, (x0, y0, x1, y1) in zip(grid, (box, true_box), strict=True):
            canvas[y0 : y1 + 1, x0 : x1 + 1] = True
        best = max(best, np.count_nonzero(grid.all(0)) / np.count_nonzero(grid.any(0)))
    return best


TRUE_BOXES = [(1, 1, 5, 6), (4, 0, 11, 3), (3, 3, 3, 3)]


@settings(max_examples=40)
@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 12), st.sampled_from([0.3, 0.5, 0.7]))
def test_contours_of_every_threshold_by_labelling(seed, height, width, density):
    generator = np.random.default_rng(seed)
    levels = np.where(generator.random((height, width)) < density, generator.choice([80, 160, 255], (height, width)), 0)
    largest, best = contour_ious(levels.astype(np.uint8), np.array(TRUE_BOXES))
    for level in (0, 79, 80, 159, 160, 254):
        contours = list(contours_slowly(levels > level))
        if not contours:
            assert largest[level] == best[level] == iou_slowly((0, 0, 0, 0), TRUE_BOXES)
            continue
        assert best[level] == max(iou_slowly(box, TRUE_BOXES) for _, box in contours)
        greatest = max(area for area, _ in contours)
        assert largest[level] in {iou_slowly(box, TRUE_BOXES) for area, box in contours if area == greatest}


def test_a_hole_has_its_contour():
    ring = np.zeros((12, 12), np.uint8)
    ring[1:11, 1:11], ring[4:8, 4:8] = 255, 0
    largest, best = contour_ious(ring, np.array([[3, 3, 9, 9]]))  # the pixels around the hole are 3 to 8
    assert (largest[0], best[0]) == (49 / 121, 1)


def test_of_contours_of_equal_area_the_one_whose_first_pixel_comes_last_is_taken():
    """cv2.findContours lists those that it finds last first. A spur of single pixels encloses nothing."""
    levels = np.zeros((9, 16), np.uint8)
    levels[3:6, 1:4] = levels[4:7, 8:11] = 200
    levels[3, 11] = levels[2, 12] = 100  # reaches above the first square
    first, second = np.array([[1, 3, 4, 6]]), np.array([[8, 4, 11, 7]])
    assert contour_ious(levels, second)[0][[199, 100]].tolist() == [1, 1]
    assert contour_ious(levels, first)[0][[99, 0]].tolist() == [1, 1]
    assert contour_ious(levels, second)[0][[99, 0]].max() == 0


def test_a_hole_reaches_through_the_edge_of_the_image_only_if_pixels_touch_by_an_edge():
    levels = np.full((6, 6), 255, np.uint8)
    levels[1:3, 1:3], levels[0, 0] = 0, 0  # a diagonal gap: still a hole
    around = np.array([[0, 0, 4, 4]])
    assert contour_ious(levels, around)[1][0] == 1
    levels[0, 1] = 0
    assert contour_ious(levels, around)[1][0] == 25 / 36


def counts_slowly(score_map, mask):
    """Pixels of at least each of 1, 0.999, ... 0."""
    edges = np.append(THRESHOLDS, 1.0)[::-1]
    return [np.count_nonzero((score_map >= edge) & mask) for edge in edges]


def test_pixel_counts_by_naive_loops():
    generator = torch.Generator().manual_seed(1)
    raw_maps = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    masks, ignored = torch.rand(2, 2, 40, 30, generator=generator).gt(0.6).unbind()
    masks &= ~ignored
    explanation = Explanation(raw_map=raw_maps, heatmap=torch.zeros(2, 40, 30), masks=masks, ignored=ignored)
    above, hit = protocol.pixel_counts(explanation, "wsol")
    for row, score_map in enumerate(protocol.score_maps(explanation)):
        assert (score_map.min(), score_map.max()) == (0, 1)
        assert above[row].tolist() == counts_slowly(score_map, ~ignored[row].numpy())
        assert hit[row].tolist() == counts_slowly(score_map, masks[row].numpy())


@pytest.mark.parametrize("number", [0.0, 3.0, float("nan"), float("inf")])
def test_maps_that_are_constant_or_not_finite_become_zero(number):
    raw_map = torch.full((1, 7, 7), number).double()
    if not np.isfinite(number):
        raw_map = torch.randn(1, 7, 7).double().index_fill(2, torch.tensor([3]), number)
    assert not protocol.score_maps(Explanation(raw_map=raw_map, heatmap=torch.zeros(1, 30, 30))).any()


def test_negative_values_count_and_a_heatmap_alone_is_taken_as_it_is():
    explanation = Explanation(raw_map=tensor([[-2.0, 0.0], [1.0, 2.0]]), heatmap=torch.zeros(1, 2, 2))
    assert protocol.score_maps(explanation).tolist() == [[[0.0, 0.5], [0.75, 1.0]]]
    heatmap = torch.rand(1, 9, 7, dtype=torch.float64)
    expected = (heatmap - heatmap.min()) / (heatmap - heatmap.min()).max()
    np.testing.assert_array_equal(protocol.score_maps(Explanation(heatmap=heatmap)), expected.numpy())


@settings(max_examples=60)
@given(st.data(), st.integers(2, 700), st.integers(2, 700))
def test_boxes_are_those_of_the_stored_image_cut_to_whole_pixels(data, width, height):
    corner = [data.draw(st.integers(0, side - 1)) for side in (width, height)]
    last = [data.draw(st.integers(start, side - 1)) for start, side in zip(corner, (width, height), strict=True)]
    stored = (*map(float, corner), last[0] + 1.0, last[1] + 1.0)
    _, annotation = SQUASH(Sample(Image.new("RGB", (width, height)), "a", 0, ((0, stored),)))
    boxes = protocol.inclusive_boxes(annotation.boxes.double().numpy(), annotation.stored_pixel)
    sides = (width, height, width, height)
    assert boxes.tolist() == [[int(x * 224.0 / side) for x, side in zip((*corner, *last), sides, strict=True)]]


def stored_case():
    """Eight signed maps of 7 x 7 on 224 x 224 pixels, with one or two boxes and a mask each; one constant, one NaN."""
    rows, columns = np.mgrid[:7, :7]
    maps = np.stack([
        9.0 - (rows - 2 - i % 3) ** 2 - (columns - 3 + i % 2) ** 2 + (5 * i + rows * columns**2) % 7 for i in range(8)
    ])  # fmt: skip
    maps[5], maps[6, 0, 0] = 4.0, np.nan
    boxes = [[(8 * i, 10 + 5 * i, 110 + 15 * i, 140 + 12 * i), (150, 20 + i, 210, 80)][: 1 + i % 2] for i in range(8)]
    masks = np.full((8, 224, 224), BACKGROUND)
    for i, ((x0, y0, x1, y1), *_) in enumerate(boxes):
        masks[i, y0:y1, x0:x1], masks[i, :, 200:] = 0, NO_VERDICT
    notes = tuple(
        ab.Annotation(torch.zeros(len(own), dtype=torch.long), torch.tensor(own).float(), torch.from_numpy(mask))
        for own, mask in zip(boxes, masks, strict=True)
    )
    batch = ab.Batch(torch.zeros(8, 3, 224, 224), tuple(map(str, range(8))), torch.zeros(8, dtype=torch.long), notes)
    targets = torch.zeros(8, dtype=torch.long)
    return Explanation(
        raw_map=torch.from_numpy(maps), heatmap=torch.zeros(8, 224, 224),
        boxes=batch.boxes(targets), masks=batch.masks(targets), ignored=batch.ignored(),
    )  # fmt: skip


STORED = {
    "max_box_acc": 0.375, "max_box_acc_threshold": 0.624, "max_box_acc_v2": 0.41666666666666663,
    "max_box_acc_v2_30": 0.75, "max_box_acc_v2_50": 0.375, "max_box_acc_v2_70": 0.125, "pxap": 0.6065803204270277,
}  # fmt: skip
# (place of a threshold, number of images whose box is right from there on), for each IoU
STORED_CURVES = {
    ("max_box_acc", 0.5): [(0, 1), (467, 2), (624, 3), (667, 2), (722, 3), (789, 2), (808, 1), (910, 0)],
    ("max_box_acc_v2", 0.3): [(0, 5), (483, 6), (522, 5), (714, 6), (718, 5), (765, 4), (769, 3), (867, 2), (871, 3),
                              (875, 2), (887, 1), (942, 0)],
    ("max_box_acc_v2", 0.7): [(0, 0), (565, 1), (644, 0), (777, 1), (867, 0)],
}  # fmt: skip


def test_values_are_those_that_wsolevaluation_printed():
    values = {}
    for metric in (plugins.load("metric", name) for name in ("max_box_acc", "max_box_acc_v2", "pxap")):
        curves = metric(stored_case())
        values |= aggregate(metric)({curve: curves[curve].points.numpy() for curve in metric.spec.curves})
    assert {key: float(value) for key, value in values.items()} == pytest.approx(STORED, rel=1e-15, abs=0)


@pytest.mark.parametrize(("name", "iou"), STORED_CURVES)
def test_images_at_each_threshold_are_those_that_wsolevaluation_counted(name, iou):
    points = plugins.load("metric", name)(stored_case())[f"{name}_iou"].points.numpy()
    places = np.unique((THRESHOLDS * 255).astype(int), return_inverse=True)[1]  # its thresholds on an 8-bit map
    counts = (points >= iou).sum(0)[places]
    changes = [0, *(np.flatnonzero(np.diff(counts)) + 1)]
    assert [(int(place), int(counts[place])) for place in changes] == STORED_CURVES[name, iou]


def test_opencv_resizes_to_the_same_bits():
    cv2 = pytest.importorskip("cv2", reason="make peers")
    generator = np.random.default_rng(2)
    for shape, size in (((7, 7), (224, 224)), ((13, 9), (60, 96)), ((1, 4), (50, 40)), ((300, 250), (224, 224))):
        raw_map = generator.standard_normal(shape)
        expected = cv2.resize(raw_map, size[::-1], interpolation=cv2.INTER_CUBIC)
        np.testing.assert_array_equal(protocol.resize_cubic(raw_map, size), expected)


def test_opencv_has_the_same_contours():
    cv2 = pytest.importorskip("cv2", reason="make peers")
    generator = np.random.default_rng(3)
    for trial in range(24):
        height, width = generator.integers(1, 40, 2)
        levels = generator.integers(0, 256, (height, width)).astype(np.uint8)
        if trial % 2:
            levels = generator.choice(np.array([0, 90, 180, 255], np.uint8), (height, width))
        largest, best = contour_ious(levels, np.array(TRUE_BOXES))
        for level in range(0, 255, 7):
            contours, _ = cv2.findContours((levels > level).astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            boxes = []
            for contour in contours:
                x, y, w, h = cv2.boundingRect(contour)
                boxes.append((x, y, min(x + w, width - 1), min(y + h, height - 1)))
            ious = [iou_slowly(box, TRUE_BOXES) for box in boxes] or [iou_slowly((0, 0, 0, 0), TRUE_BOXES)]
            areas = [cv2.contourArea(contour) for contour in contours] or [0]
            assert best[level] == max(ious)
            assert largest[level] == ious[int(np.argmax(areas))]  # the first of equals


@given(st.integers(0, 2**16))
def test_bins_are_those_of_a_search(seed):
    generator, edges = np.random.default_rng(seed), protocol.BIN_EDGES
    near = np.nextafter(edges[:-1], generator.choice([-1.0, 0, 1, 2], len(edges) - 1)).clip(0, 1)
    scores = np.concatenate([edges[:-1], near, generator.random(300)])
    np.testing.assert_array_equal(protocol._bins(scores), np.searchsorted(edges, scores, side="right") - 1)
