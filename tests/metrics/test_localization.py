"""Boxes and points by hand-made rectangles: which boxes and pixels count, of which objects and classes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.data.base import Sample
from axiom_bench.data.batch import BACKGROUND, NO_VERDICT
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.box_iou import box_iou
from axiom_bench.metrics.energy_pointing_game import energy_pointing_game
from axiom_bench.metrics.gt_known_loc import gt_known_loc
from axiom_bench.metrics.mass_accuracy import mass_accuracy
from axiom_bench.metrics.pointing_game import pointing_game
from axiom_bench.metrics.top1_loc import top1_loc
from axiom_bench.metrics.top5_loc import top5_loc
from tests.metrics.build import boxed, close, picture, tensor, values_of

SIDES = (20, 20)
REGION = picture((2, 1, 6, 4, 1.0))
TWO_REGIONS = picture((0, 0, 2, 2, 1.0), (4, 4, 9, 9, 0.5))
AT_A_CORNER = picture((0, 0, 2, 2, 1.0), (2, 2, 4, 4, 1.0))
PLATEAU = picture((0, 0, 4, 4, 0.075), (0, 0, 2, 2, 0.5))  # 0.075 is exactly 15 % of 0.5


@pytest.mark.parametrize(
    ("heatmap", "boxes", "params", "expected"),
    [
        (REGION, [(2, 1, 6, 4)], {}, 1),  # x1 and y1 exclusive: the region itself
        (REGION, [(4, 1, 8, 4)], {}, 6 / 18),  # shifted by half its width
        (REGION, [(2, 1, 7, 5)], {}, 12 / 20),  # contains it
        (REGION, [(6, 1, 9, 4)], {}, 0),  # touches it: no shared pixel
        (REGION, [(2.5, 1, 6, 4)], {}, 10.5 / 12),  # boxes may end inside a pixel
        (REGION, [(1, 2, 4, 6)], {}, 4 / 20),  # x and y swapped
        (REGION, [(9, 9, 10, 10), (2, 1, 6, 4), (0, 0, 9, 9)], {}, 1),  # the best of several
        (TWO_REGIONS, [(4, 4, 9, 9)], {}, 1),  # the largest region, not the brightest
        (TWO_REGIONS, [(4, 4, 9, 9)], {"fraction": 0.6}, 0),  # now only the bright one is left
        (picture((8, 0, 10, 2, 0.5), (0, 5, 2, 7, 1.0)), [(8, 0, 10, 2)], {}, 1),  # the first of equals
        (PLATEAU, [(0, 0, 2, 2)], {}, 1),  # above, not at
        (PLATEAU, [(0, 0, 4, 4)], {"fraction": 0.1499}, 1),
        (AT_A_CORNER, [(0, 0, 4, 4)], {}, 1),
        (AT_A_CORNER, [(0, 0, 2, 2)], {"connectivity": 4}, 1),
        (torch.ones(10, 12), [(0, 0, 6, 10)], {}, 0.5),  # a constant map is the image
        (picture((0, 0, 8, 8, 0.4), (0, 0, 2, 2, 1.0)), [(0, 0, 2, 2)], {}, 4 / 64),
        (picture((0, 0, 8, 8, 0.4), (0, 0, 2, 2, 1.0)), [(0, 0, 2, 2)], {"fraction": "best"}, 1),
        (picture((0, 0, 4, 4, 1.0), (6, 6, 9, 9, 1.0)), [(6, 6, 9, 9)], {}, 0),
        (picture((0, 0, 4, 4, 1.0), (6, 6, 9, 9, 1.0)), [(6, 6, 9, 9)], {"regions": "all"}, 1),
        (picture((0, 0, 12, 10, 1.0)), [(-12, 0, 12, 10)], {}, 0.5),  # boxes by hand aren't clipped to the image
    ],
)
def test_box_iou_by_hand(heatmap, boxes, params, expected):
    close(box_iou(boxed(heatmap, *boxes), **params), expected)


EQUAL_MAXIMA = picture((7, 2, 8, 3, 1.0 - 1e-7), (3, 5, 4, 6, 1.0))  # equal once rounded to 1e-6
POINT = picture((7, 2, 8, 3, 1.0))  # the nearest pixel of NEAR, (4, 6), is a 3-4-5 triangle away
NEAR = (0.0, 6.2, 4.6, 10.0)


@pytest.mark.parametrize(
    ("heatmap", "boxes", "tolerance", "expected"),
    [
        (EQUAL_MAXIMA, [(7, 2, 8, 3)], 0, 1),  # the first of equals
        (EQUAL_MAXIMA, [(3, 5, 4, 6)], 0, 0),
        (EQUAL_MAXIMA, [(2, 7, 3, 8)], 0, 0),  # x and y swapped
        (POINT, [(0, 0, 3, 3), (5, 0, 8, 3)], 0, 1),  # any box
        (POINT, [(5, 0, 7, 3)], 0, 0),  # far edges are exclusive
        (POINT, [NEAR], 5.01, 1),
        (POINT, [NEAR], 5.0, 0),  # a distance that isn't reached
        (POINT, [(7.6, 0.0, 8.4, 10.0)], 15, 0),  # no pixel's centre lies in this box
    ],
)
def test_pointing_game_by_hand(heatmap, boxes, tolerance, expected):
    assert float(pointing_game(boxed(heatmap, *boxes), tolerance=tolerance)) == expected


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
    assert float(pointing_game(boxed(heatmap[0], *boxes), tolerance=tolerance)) == bool(disc & mask)
    inside = float(pointing_game(boxed(heatmap[0], *boxes), tolerance=0))
    assert inside == ((row, column) in mask)


CROP = Preprocessing(resize=20, crop=20, mean=(0, 0, 0), std=(1, 1, 1))  # the middle 20 columns of 40


def cropped(objects, heatmap, mask=None, crowd=()):
    """Class 0 of an image of 40 x 20 pixels, explained by a map of the 20 x 20 that the crop leaves."""
    sample = Sample(Image.new("RGB", (40, 20)), "a", 0, objects, mask, crowd=crowd)
    image, annotation = CROP(sample)
    batch = ab.Batch(image[None], ("a",), torch.tensor([0]), (annotation,))
    targets = torch.tensor([0])
    masks = {"masks": batch.masks(targets), "ignored": batch.ignored()}
    return ab.Explanation(heatmap=heatmap[None], boxes=batch.boxes(targets), **masks)


def square(*corners):
    return picture((*corners, 1), size=SIDES).float()


def test_an_object_cut_by_the_crop_is_what_is_left_of_it():
    explanation = cropped(((0, (0.0, 5.0, 15.0, 15.0)),), square(0, 5, 5, 15))
    assert explanation.boxes[0].tolist() == [[0, 5, 5, 15]]
    assert [float(metric(explanation)) for metric in (box_iou, energy_pointing_game)] == [1, 1]
    nothing_left = cropped(((0, (0.0, 0.0, 9.0, 20.0)),), square(0, 0, 5, 5))
    assert len(nothing_left.boxes[0]) == 0
    assert box_iou(nothing_left).isnan().all()  # its row has status no_annotation


def test_objects_of_other_classes_do_not_count_and_of_several_the_best_does():
    objects = ((0, (10.0, 0.0, 20.0, 10.0)), (1, (20.0, 0.0, 30.0, 10.0)), (0, (20.0, 10.0, 30.0, 20.0)))
    explanation = cropped(objects, square(10, 10, 20, 20))
    assert len(explanation.boxes[0]) == 2
    assert float(box_iou(explanation)) == 1
    assert float(energy_pointing_game(cropped(objects, square(0, 0, 20, 20)))) == 0.5  # two of four quarters
    assert float(pointing_game(cropped(objects, square(10, 0, 20, 10)), tolerance=0)) == 0


def test_a_crowd_is_no_box_and_counts_neither_as_object_nor_as_background():
    mask = np.full((20, 40), BACKGROUND)
    mask[:, 10:20], mask[:10, 20:30] = 0, NO_VERDICT  # an object on the left, a crowd on the upper right
    objects, crowd = ((0, (10.0, 0.0, 20.0, 20.0)),), ((0, (20.0, 0.0, 30.0, 10.0)),)
    explanation = cropped(objects, square(0, 0, 20, 20), mask, crowd)
    assert float(energy_pointing_game(explanation)) == 0.5
    assert float(mass_accuracy(explanation)["mass_accuracy"]) == pytest.approx(2 / 3)  # of three quarters


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mask_iou", {}), ("mask_iou", {"fraction": "best"}), ("mask_iou", {"fraction": 0.1234}), ("pxap", {}),
        ("pxap", {"protocol": "heatmap"}), ("mass_accuracy", {}), ("top_k_intersection", {"k": 30}),
    ],
)  # fmt: skip
def test_ignored_columns_are_as_good_as_cut_off(name, params):
    """Of a map whose minimum and maximum stay, so that its thresholds do."""
    generator = torch.Generator().manual_seed(8)
    heatmap = torch.rand(3, 12, 16, generator=generator, dtype=torch.float64)
    heatmap[:, 0, 0], heatmap[:, 0, 1] = 0, 1
    masks, ignored = torch.rand(3, 12, 16, generator=generator) < 0.4, torch.zeros(3, 12, 16, dtype=torch.bool)
    ignored[:, :, 10:] = True
    masks &= ~ignored
    metric = plugins.with_params("metric", name, params)
    ignoring = metric(ab.Explanation(heatmap=heatmap, masks=masks, ignored=ignored))
    cut_off = metric(ab.Explanation(heatmap=heatmap[..., :10], masks=masks[..., :10]))
    for first, second in zip(values_of(ignoring), values_of(cut_off), strict=True):
        close(first, second, atol=0)


FOUND, MISSED = (2.0, 2.0, 8.0, 8.0), (8.0, 0.0, 12.0, 4.0)
LOCATED = picture((*FOUND, 1))


def explanation(logits, targets, boxes, heatmap=LOCATED):
    """A map that is high in FOUND, of rows with these logits (B, C), explained classes and boxes."""
    logits, targets = tensor(*logits), torch.tensor(targets)
    scores = logits.gather(1, targets[:, None])[:, 0]
    trace = SimpleNamespace(logits=logits, targets=targets, scores=scores)
    boxes = tuple(torch.tensor(rows).reshape(-1, 4) for rows in boxes)
    maps = heatmap.expand(len(logits), -1, -1)
    return Explanation(trace=trace, raw_map=maps, heatmap=maps, boxes=boxes)


def ranked(place, classes=8):
    """Logits whose class 0 has `place` classes before it."""
    return [float(classes - place) + 0.5, *(float(classes - i) for i in range(classes - 1))]


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize(("box", "located"), [(FOUND, 1), (MISSED, 0)])
def test_the_class_and_its_box_must_be_right(place, box, located):
    row = explanation([ranked(place)], [0], [[box]])
    assert float(gt_known_loc(row)) == located
    assert float(top1_loc(row)) == (located if place == 0 else 0)
    assert float(top5_loc(row)) == (located if place < 5 else 0)


def test_of_equal_logits_the_lower_index_is_predicted():
    equal = [[1.0, 1.0, 0.0]] * 2
    assert top1_loc(explanation(equal, [0, 1], [[FOUND]] * 2)).tolist() == [1, 0]
    assert torch.tensor(equal).argmax(1).tolist() == [0, 0]


FAINT = picture((*FOUND, 0.21), (0, 0, 2, 1, 1.0), (0, 9, 12, 10, 0.2))  # at a fifth of the maximum isn't above it


@pytest.mark.parametrize(
    ("boxes", "heatmap", "params", "located"),
    [
        ([(2.0, 2.0, 14.0, 8.0)], LOCATED, {}, 1),  # an IoU of exactly a half
        ([(2.0, 2.0, 14.5, 8.0)], LOCATED, {}, 0),
        ([(2.0, 2.0, 14.5, 8.0)], LOCATED, {"iou": 0.4}, 1),
        ([FOUND], FAINT, {}, 1),  # the largest region
        ([FOUND], FAINT, {"fraction": 0.3}, 0),
        ([MISSED, FOUND], LOCATED, {}, 1),
        ([], LOCATED, {}, math.nan),
    ],
)
def test_gt_known_loc_by_hand(boxes, heatmap, params, located):
    actual = gt_known_loc(explanation([ranked(0)], [0], [boxes], heatmap), **params)
    assert float(actual) == pytest.approx(located, nan_ok=True)


@pytest.mark.parametrize("number", [0.0, float("nan")])
@pytest.mark.parametrize("name", ["gt_known_loc", "top1_loc", "top5_loc"])
def test_a_method_without_a_map_locates_nothing(name, number):
    row = explanation([ranked(0)], [0], [[FOUND]], torch.full_like(LOCATED, number))
    values, why = measure(metrics.get(name), row, True)[name]
    assert (values.tolist(), why) == ([0], ("ok",))


def always_class_1() -> nn.Module:
    """By a bias far above what the maps add."""
    torch.manual_seed(0)
    last = nn.Linear(2, 3)
    last.bias.data = torch.tensor([0.0, 1e3, 0.0])
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last).eval()


def test_a_wrongly_classified_image_is_no_image_without_annotation():
    """target=predicted, three images: of the predicted class, of another one, and without any object."""
    plain = Preprocessing(resize=None, crop=None, mean=(0, 0, 0), std=(1, 1, 1))
    objects = (((1, (0.0, 0.0, 12.0, 10.0)),), ((2, (0.0, 0.0, 12.0, 10.0)),), ())
    samples = [Sample(Image.new("RGB", (12, 10), "red"), str(i), None, each) for i, each in enumerate(objects)]
    images, annotations = zip(*map(plain, samples), strict=True)
    batch = ab.Batch(torch.stack(images), ("right", "wrong", "empty"), None, annotations)
    names = ["box_iou", "top1_loc", "top5_loc", "gt_known_loc"]
    rows = ab.evaluate(always_class_1(), "1", [batch], ["uniform"], names).set_index(["metric", "image_id"])
    for name in names:
        expected = {"right": "ok", "wrong": "ok" if name == "top1_loc" else "wrong_class", "empty": "no_annotation"}
        assert rows["status"][name].to_dict() == expected
    assert rows["value"]["top1_loc", "wrong"] == 0


def test_a_class_that_the_crop_cuts_away_is_not_wrong():
    crop = Preprocessing(resize=None, crop=10, mean=(0, 0, 0), std=(1, 1, 1))  # the middle of 30 columns
    objects = ((0, (0.0, 0.0, 5.0, 10.0)), (1, (12.0, 0.0, 18.0, 10.0)))
    image, annotation = crop(Sample(Image.new("RGB", (30, 10)), "a", 0, objects))
    batch = ab.Batch(image[None], ("a",), None, (annotation,))
    assert [len(batch.boxes(torch.tensor([target]))[0]) for target in (0, 1, 2)] == [0, 1, 0]
    assert [batch.wrong_class(torch.tensor([target])).tolist() for target in (0, 1, 2)] == [[False], [False], [True]]
