"""Localization on hand-made rectangles.

The tests check which boxes and pixels count, for which objects, classes and thresholds.
"""

import math
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.data.base import Sample
from axiom_bench.data.batch import BACKGROUND, NO_VERDICT
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.whole_set import aggregate
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.energy_pointing_game import energy_pointing_game
from axiom_bench.metrics.gt_known_loc import gt_known_loc
from axiom_bench.metrics.mass_accuracy import mass_accuracy
from axiom_bench.metrics.pointing_game import pointing_game
from axiom_bench.metrics.top1_loc import top1_loc
from axiom_bench.metrics.top5_loc import top5_loc
from tests.metrics.build import all_boxed, boxed, close, picture, tensor, values_of

SIDES = (20, 20)
REGION = picture((2, 1, 6, 4, 1.0))
TWO_REGIONS = picture((0, 0, 2, 2, 1.0), (4, 4, 9, 9, 0.5))
AT_A_CORNER = picture((0, 0, 2, 2, 1.0), (2, 2, 4, 4, 1.0))
PLATEAU = picture((0, 0, 4, 4, 0.075), (0, 0, 2, 2, 0.5))  # 0.075 is exactly 15 % of 0.5
NESTED = picture((0, 0, 8, 8, 0.4), (0, 0, 2, 2, 1.0))  # 64 pixels above 0 to 0.39, then 4
APART = picture((0, 0, 4, 4, 1.0), (6, 6, 9, 9, 1.0))
EQUAL_MAXIMA = picture((7, 2, 8, 3, 1.0 - 1e-7), (3, 5, 4, 6, 1.0))  # equal once rounded to 1e-6
POINT = picture((7, 2, 8, 3, 1.0))  # the nearest pixel of NEAR, (4, 6), is a 3-4-5 triangle away
NEAR = (0.0, 6.2, 4.6, 10.0)
FOUND = (2.0, 2.0, 8.0, 8.0)
MISSED = (8.0, 0.0, 12.0, 4.0)
LOCATED = picture((*FOUND, 1))
# The row of pixels at a fifth of the maximum isn't above a fifth.
FAINT = picture((*FOUND, 0.21), (0, 0, 2, 1, 1.0), (0, 9, 12, 10, 0.2))
ENERGY = picture((0, 0, 4, 5, 1.0), (6, 5, 8, 10, 0.5))  # masses of 20 and 5
TWO_EQUAL = picture((8, 0, 10, 2, 0.5), (0, 5, 2, 7, 1.0))

# The heatmap, boxes, parameters and expected value, per metric.
BY_HAND = {
    "box_iou": [
        (REGION, [(2, 1, 6, 4)], {}, 1),  # x1 and y1 exclusive: the region itself
        (REGION, [(4, 1, 8, 4)], {}, 6 / 18),  # shifted by half its width
        (REGION, [(2, 1, 7, 5)], {}, 12 / 20),  # contains it
        (REGION, [(6, 1, 9, 4)], {}, 0),  # touches it: no shared pixel
        (REGION, [(2.5, 1, 6, 4)], {}, 10.5 / 12),  # boxes may end inside a pixel
        (REGION, [(1, 2, 4, 6)], {}, 4 / 20),  # x and y swapped
        (REGION, [(9, 9, 10, 10), (2, 1, 6, 4), (0, 0, 9, 9)], {}, 1),  # the best of several
        (TWO_REGIONS, [(4, 4, 9, 9)], {}, 1),  # the largest region, not the brightest
        (TWO_REGIONS, [(4, 4, 9, 9)], {"fraction": 0.6}, 0),  # now only the bright one is left
        (TWO_EQUAL, [(8, 0, 10, 2)], {}, 1),  # the first of equals
        (PLATEAU, [(0, 0, 2, 2)], {}, 1),  # above, not at
        (PLATEAU, [(0, 0, 4, 4)], {"fraction": 0.1499}, 1),
        (AT_A_CORNER, [(0, 0, 4, 4)], {}, 1),
        (AT_A_CORNER, [(0, 0, 2, 2)], {"connectivity": 4}, 1),
        (torch.ones(10, 12), [(0, 0, 6, 10)], {}, 0.5),  # a constant map is the image
        (NESTED, [(0, 0, 2, 2)], {}, 4 / 64),
        (NESTED, [(0, 0, 2, 2)], {"fraction": "best"}, 1),
        (APART, [(6, 6, 9, 9)], {}, 0),
        (APART, [(6, 6, 9, 9)], {"regions": "all"}, 1),
        # Boxes by hand aren't clipped to the image.
        (picture((0, 0, 12, 10, 1.0)), [(-12, 0, 12, 10)], {}, 0.5),
        (NESTED, [], {"fraction": "best"}, math.nan),
    ],
    "pointing_game": [
        (EQUAL_MAXIMA, [(7, 2, 8, 3)], {"tolerance": 0.0}, 1),  # the first of equals
        (EQUAL_MAXIMA, [(3, 5, 4, 6)], {"tolerance": 0.0}, 0),
        (EQUAL_MAXIMA, [(2, 7, 3, 8)], {"tolerance": 0.0}, 0),  # x and y swapped
        (POINT, [(0, 0, 3, 3), (5, 0, 8, 3)], {"tolerance": 0.0}, 1),  # any box
        (POINT, [(5, 0, 7, 3)], {"tolerance": 0.0}, 0),  # far edges are exclusive
        (POINT, [NEAR], {"tolerance": 5.01}, 1),
        (POINT, [NEAR], {"tolerance": 5.0}, 0),  # a distance that isn't reached
        # No pixel's centre lies in this box.
        (POINT, [(7.6, 0.0, 8.4, 10.0)], {"tolerance": 15.0}, 0),
    ],
    "gt_known_loc": [
        (LOCATED, [(2.0, 2.0, 14.0, 8.0)], {}, 1),  # an IoU of exactly a half
        (LOCATED, [(2.0, 2.0, 14.5, 8.0)], {}, 0),
        (LOCATED, [(2.0, 2.0, 14.5, 8.0)], {"iou": 0.4}, 1),
        (FAINT, [FOUND], {}, 1),  # the largest region
        (FAINT, [FOUND], {"fraction": 0.3}, 0),
        (LOCATED, [MISSED, FOUND], {}, 1),
        (LOCATED, [], {}, math.nan),
    ],
    "energy_pointing_game": [
        (ENERGY, [(0, 0, 4, 5)], {}, 20 / 25),
        (ENERGY, [(0, 0, 2, 5), (0, 0, 4, 5)], {}, 20 / 25),  # what two boxes share counts once
        (ENERGY, [(0, 0, 2, 5), (6, 5, 8, 10)], {}, 15 / 25),
        (ENERGY, [(-9, -9, 4, 99)], {}, 20 / 25),  # what lies outside is cut off
        (ENERGY, [(0, 0, 3.5, 5)], {}, 15 / 25),  # centres: 3.5 is not inside
        (ENERGY, [(0, 0, 3.6, 5)], {}, 20 / 25),
        (torch.ones(10, 12), [(0, 0, 6, 10)], {}, 0.5),
    ],
    "max_box_acc": [(NESTED, [], {}, math.nan)],
    "max_box_acc_v2": [(NESTED, [], {}, math.nan)],
}


def cases_by_hand() -> Iterator[tuple]:
    for name, rows in BY_HAND.items():
        for row in rows:
            yield name, *row


@pytest.mark.parametrize(("name", "heatmap", "boxes", "params", "expected"), list(cases_by_hand()))
def test_boxes_by_hand(name, heatmap, boxes, params, expected):
    metric = plugins.with_params("metric", name, params)
    actual = values_of(metric(boxed(heatmap, *boxes)))[0].double()
    torch.testing.assert_close(actual, torch.full_like(actual, expected), equal_nan=True)


def own(name, explanation):
    """Return each image's own value in the protocol of heatmaps, whose closed forms are simple."""
    metric = plugins.with_params("metric", name, {"protocol": "heatmap"})
    return values_of(metric(explanation))[0].tolist()


def over_images(name, explanation):
    """Return the values of the whole data set in the protocol of heatmaps, by the metric's YAML."""
    metric = plugins.with_params("metric", name, {"protocol": "heatmap"})
    answer = metric(explanation)
    return aggregate(metric)({curve: answer[curve].points.numpy() for curve in metric.spec.curves})


LARGE = [(0, 0, 8, 8)]
SMALL = [(0, 0, 2, 2)]
TO_36_PERCENT = [(0, 0, 4.8, 4.8)]  # NESTED's large square has an IoU of 0.36 with this box
HALF = picture((0, 0, 2, 3, 1))
HALF_FOUND = [(0, 0, 4, 3)]  # an IoU of exactly 0.5
UNEQUAL = picture((0, 0, 4, 4, 1.0), (6, 6, 9, 9, 0.5))
THIRDS = {
    "max_box_acc_v2": 2 / 3,
    "max_box_acc_v2_30": 1,
    "max_box_acc_v2_50": 1,
    "max_box_acc_v2_70": 0,
}


@pytest.mark.parametrize(
    ("name", "maps", "boxes", "expected", "alone"),
    [
        # There is one threshold for all images, though each is found at thresholds of its own.
        (
            "max_box_acc",
            [NESTED] * 2,
            [SMALL, LARGE],
            {"max_box_acc": 0.5, "max_box_acc_threshold": 0.0},
            [1, 1],
        ),
        (
            "max_box_acc",
            [NESTED] * 3,
            [SMALL, SMALL, LARGE],
            {"max_box_acc": 2 / 3, "max_box_acc_threshold": 0.4},
            [1, 1, 1],
        ),
        # An IoU of 2/4, exactly 0.5, counts.
        ("max_box_acc", [HALF], [HALF_FOUND], {"max_box_acc": 1}, [1]),
        ("max_box_acc", [HALF], [[(0, 0, 5, 3)]], {"max_box_acc": 0}, [0]),
        ("max_box_acc_v2", [HALF], [HALF_FOUND], THIRDS, [2 / 3]),
        # Only V2 counts every region.
        ("max_box_acc", [UNEQUAL], [[(6, 6, 9, 9)]], {"max_box_acc": 0}, [0]),
        ("max_box_acc_v2", [UNEQUAL], [[(6, 6, 9, 9)]], {"max_box_acc_v2": 1}, [1]),
        # A low threshold finds the first two boxes to 0.36, a high one the third to 1: each IoU
        # takes its own threshold.
        (
            "max_box_acc_v2",
            [NESTED] * 3,
            [TO_36_PERCENT, TO_36_PERCENT, SMALL],
            {"max_box_acc_v2_30": 2 / 3, "max_box_acc_v2_50": 1 / 3, "max_box_acc_v2_70": 1 / 3},
            [1 / 3, 1 / 3, 1],
        ),
        # Any of several boxes counts.
        ("max_box_acc", [NESTED], [[(9, 9, 12, 10), *LARGE]], {"max_box_acc": 1}, [1]),
        ("max_box_acc_v2", [NESTED], [[(9, 9, 12, 10), *LARGE]], {"max_box_acc_v2": 1}, [1]),
    ],
)
def test_box_accuracies_by_hand(name, maps, boxes, expected, alone):
    explanation = all_boxed(maps, boxes)
    actual = over_images(name, explanation)
    assert {key: actual[key] for key in expected} == pytest.approx(expected)
    assert own(name, explanation) == pytest.approx(alone)
    if expected is THIRDS:  # an image's value has a part per IoU
        answer = plugins.with_params("metric", name, {"protocol": "heatmap"})(explanation)
        parts = {}
        for key in THIRDS:
            parts[key] = float(answer[key.replace(name, "box_acc_v2_own_threshold")])
        assert parts == pytest.approx(THIRDS)


def test_max_box_acc_v2_names_its_values_by_its_ious():
    metric = plugins.with_params("metric", "max_box_acc_v2", {"ious": [0.5, 0.75]})
    assert metric.spec.as_dict()["aggregate_values"] == {
        "max_box_acc_v2": {"title": "MaxBoxAccV2"},
        "max_box_acc_v2_50": {"title": "MaxBoxAccV2, IoU 0.5"},
        "max_box_acc_v2_75": {"title": "MaxBoxAccV2, IoU 0.75"},
    }
    own_value = metric.spec.values["box_acc_v2_own_threshold_75"]
    assert own_value.title == "Box accuracy V2, own best threshold, IoU 0.75"
    assert own_value.better == "none"
    curves = {"max_box_acc_v2_iou": np.array([[0.6, 0.8], [0.5, 0.2]])}
    expected = {"max_box_acc_v2": 0.75, "max_box_acc_v2_50": 1, "max_box_acc_v2_75": 0.5}
    assert dict(aggregate(metric)(curves)) == pytest.approx(expected)


def test_the_published_name_is_of_the_published_protocol_alone():
    for name, title in (
        ("max_box_acc", "MaxBoxAcc"),
        ("max_box_acc_v2", "MaxBoxAccV2"),
        ("pxap", "PxAP"),
    ):
        published = plugins.with_params("metric", name, {"protocol": "wsol"}).spec
        ours = plugins.with_params("metric", name, {"protocol": "heatmap"}).spec
        assert published.aggregate_values[name].title == title
        other_values = [
            *published.values.values(),
            *ours.values.values(),
            *ours.aggregate_values.values(),
        ]
        assert not any(title in value.title for value in other_values)
        for spec in (published, ours):
            assert {value.better for value in spec.values.values()} == {"none"}  # never bold


SIZE = (10, 12)


@pytest.mark.parametrize("protocol", ["wsol", "heatmap"])
@pytest.mark.parametrize("number", [0.0, float("nan")])
def test_a_method_without_a_map_misses(protocol, number):
    """Check that 8 images that are right and 12 without a map count as 8 of 20, not 8 of 8."""
    right = picture((2, 2, 6, 7, 1.0))
    maps = torch.stack([right] * 8 + [torch.full(SIZE, number, dtype=torch.float64)] * 12)
    boxes = (torch.tensor([[2.0, 2.0, 6.0, 7.0]]),) * 20
    masks = torch.stack([right > 0] * 20)
    explanation = Explanation(raw_map=maps, heatmap=maps, boxes=boxes, masks=masks)
    # wsol's boxes are a pixel too wide and too high: 20 of 30 pixels, below an IoU of 0.7
    expected = {"max_box_acc": 0.4, "max_box_acc_v2": 0.4 if protocol == "heatmap" else 0.4 * 2 / 3}
    # All of the first 8 * 20 pixels hit, then all others at once: 400 of 20 * 120.
    expected["pxap"] = 0.4 + 0.6 * 400 / 2400
    for name, value in expected.items():
        metric = plugins.with_params("metric", name, {"protocol": protocol})
        measured = measure(metric, explanation, True)
        points = {}
        for curve in metric.spec.curves:
            values, statuses = measured[curve]
            assert set(statuses) == {"ok"}
            points[curve] = values.numpy()
        assert aggregate(metric)(points)[name] == pytest.approx(value)


def test_the_tolerance_doesnt_depend_on_the_size_that_the_network_takes():
    sample = Sample(Image.new("RGB", (300, 240)), "a", 0, ((0, (0.0, 0.0, 60.0, 240.0)),))
    # The highest pixel's centre is 24 pixels of the photograph right of the box.
    for size in (60, 120, 240):
        _, note = Preprocessing((size, size), None, (0,) * 3, (1,) * 3)(sample)
        heatmap = torch.zeros(1, size, size)
        heatmap[0, 0, size * 84 // 300] = 1
        explanation = Explanation(
            heatmap=heatmap, boxes=(note.boxes,), stored_pixels=(note.stored_pixel,)
        )
        assert [float(pointing_game(explanation, tolerance)) for tolerance in (20, 32)] == [0, 1]


# The crop keeps the middle 20 of 40 columns.
CROP = Preprocessing(resize=20, crop=20, mean=(0, 0, 0), std=(1, 1, 1))


def cropped(objects, heatmap, mask=None, crowd=()):
    """Explain class 0 of an image of 40 x 20 pixels by a map of the 20 x 20 that the crop keeps."""
    sample = Sample(Image.new("RGB", (40, 20)), "a", 0, objects, mask, crowd=crowd)
    image, annotation = CROP(sample)
    targets = torch.tensor([0])
    batch = ab.Batch(image[None], ("a",), targets, (annotation,))
    return ab.Explanation(
        heatmap=heatmap[None],
        boxes=batch.boxes(targets),
        masks=batch.masks(targets),
        ignored=batch.ignored(),
    )


def square(*corners):
    return picture((*corners, 1), size=SIDES).float()


def test_a_crowd_is_no_box_and_counts_neither_as_object_nor_as_background():
    mask = np.full((20, 40), BACKGROUND)
    mask[:, 10:20] = 0  # an object on the left
    mask[:10, 20:30] = NO_VERDICT  # a crowd on the upper right
    objects = ((0, (10.0, 0.0, 20.0, 20.0)),)
    crowd = ((0, (20.0, 0.0, 30.0, 10.0)),)
    explanation = cropped(objects, square(0, 0, 20, 20), mask, crowd)
    accuracy = float(mass_accuracy(explanation)["mass_accuracy"])
    assert float(energy_pointing_game(explanation)) == 0.5
    assert accuracy == pytest.approx(2 / 3)  # the object has two of the three quarters that count


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mask_iou", {}),
        ("mask_iou", {"fraction": "best"}),
        ("mask_iou", {"fraction": 0.1234}),
        ("pxap", {}),
        ("pxap", {"protocol": "heatmap"}),
        ("mass_accuracy", {}),
        ("top_k_intersection", {"k": 30}),
        ("localization_auc", {}),
    ],
)
def test_ignored_columns_are_as_good_as_cut_off(name, params):
    """Check a map whose minimum and maximum stay, so that its thresholds do."""
    generator = torch.Generator().manual_seed(8)
    heatmap = torch.rand(3, 12, 16, generator=generator, dtype=torch.float64)
    heatmap[:, 0, 0] = 0
    heatmap[:, 0, 1] = 1
    masks = torch.rand(3, 12, 16, generator=generator) < 0.4
    ignored = torch.zeros(3, 12, 16, dtype=torch.bool)
    ignored[:, :, 10:] = True
    masks &= ~ignored
    metric = plugins.with_params("metric", name, params)
    ignoring = metric(ab.Explanation(heatmap=heatmap, masks=masks, ignored=ignored))
    cut_off = metric(ab.Explanation(heatmap=heatmap[..., :10], masks=masks[..., :10]))
    for first, second in zip(values_of(ignoring), values_of(cut_off), strict=True):
        close(first, second, atol=0)


def explanation(logits, targets, boxes, heatmap=LOCATED):
    """Explain rows with these logits (B, C), classes and boxes by a map that is high in FOUND."""
    logits = tensor(*logits)
    targets = torch.tensor(targets)
    scores = logits.gather(1, targets[:, None])[:, 0]
    trace = SimpleNamespace(logits=logits, targets=targets, scores=scores)
    boxes = tuple(torch.tensor(rows).reshape(-1, 4) for rows in boxes)
    maps = heatmap.expand(len(logits), -1, -1)
    return Explanation(trace=trace, raw_map=maps, heatmap=maps, boxes=boxes)


def ranked(place, classes=8):
    """Return logits with `place` classes before class 0."""
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


@pytest.mark.parametrize("number", [0.0, float("nan")])
@pytest.mark.parametrize("name", ["gt_known_loc", "top1_loc", "top5_loc"])
def test_a_method_without_a_map_locates_nothing(name, number):
    row = explanation([ranked(0)], [0], [[FOUND]], torch.full_like(LOCATED, number))
    values, statuses = measure(metrics.get(name), row, True)[name]
    assert values.tolist() == [0]
    assert statuses == ("ok",)


def always_class_1() -> nn.Module:
    """Build a network that predicts class 1, by a bias far above what the maps add."""
    torch.manual_seed(0)
    last = nn.Linear(2, 3)
    last.bias.data = torch.tensor([0.0, 1e3, 0.0])
    convolution = nn.Conv2d(3, 2, 1)
    return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last).eval()


def test_a_wrongly_classified_image_is_no_image_without_annotation():
    """Check target=predicted on three images.

    They are of the predicted class, of another class, and without any object.
    """
    plain = Preprocessing(resize=None, crop=None, mean=(0, 0, 0), std=(1, 1, 1))
    whole_image = (0.0, 0.0, 12.0, 10.0)
    red = Image.new("RGB", (12, 10), "red")
    right = Sample(red, "0", None, ((1, whole_image),))
    wrong = Sample(red, "1", None, ((2, whole_image),))
    empty = Sample(red, "2", None, ())
    samples = [right, wrong, empty]
    images, annotations = zip(*map(plain, samples), strict=True)
    batch = ab.Batch(torch.stack(images), ("right", "wrong", "empty"), None, annotations)
    names = ["box_iou", "top1_loc", "top5_loc", "gt_known_loc"]

    table = ab.evaluate(always_class_1(), "1", [batch], ["uniform"], names)
    rows = table.set_index(["metric", "image_id"])

    for name in names:
        expected = {
            "right": "ok",
            "wrong": "ok" if name == "top1_loc" else "wrong_class",
            "empty": "no_annotation",
        }
        assert rows["status"][name].to_dict() == expected
    assert rows["value"]["top1_loc", "wrong"] == 0


@pytest.fixture
def cropped_batch():
    """A batch of one image whose crop, the middle of 30 columns, keeps the object of class 1."""
    crop = Preprocessing(resize=None, crop=10, mean=(0, 0, 0), std=(1, 1, 1))
    objects = ((0, (0.0, 0.0, 5.0, 10.0)), (1, (12.0, 0.0, 18.0, 10.0)))
    image, annotation = crop(Sample(Image.new("RGB", (30, 10)), "a", 0, objects))
    return ab.Batch(image[None], ("a",), None, (annotation,))


def test_a_class_that_the_crop_cuts_away_is_not_wrong(cropped_batch):
    for target, num_boxes, is_wrong in ((0, 0, False), (1, 1, False), (2, 0, True)):
        targets = torch.tensor([target])
        assert len(cropped_batch.boxes(targets)[0]) == num_boxes
        assert cropped_batch.wrong_class(targets).tolist() == [is_wrong]
