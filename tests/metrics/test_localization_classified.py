"""Top-1, top-5 and GT-known localization: hand-made logits, rectangles and classes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.data.base import Sample
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.gt_known_loc import gt_known_loc
from axiom_bench.metrics.top1_loc import top1_loc
from axiom_bench.metrics.top5_loc import top5_loc

SIZE = (10, 12)
FOUND, MISSED = (2.0, 2.0, 8.0, 8.0), (8.0, 0.0, 12.0, 4.0)


def explanation(logits, targets, boxes, heatmap=None, wrong_class=None):
    """A map that is high in FOUND, of rows with these logits (B, C), explained classes and boxes."""
    logits, targets = torch.tensor(logits, dtype=torch.float64), torch.tensor(targets)
    if heatmap is None:
        heatmap = torch.zeros(SIZE, dtype=torch.float64)
        heatmap[2:8, 2:8] = 1
    scores = logits.gather(1, targets[:, None])[:, 0]
    trace = SimpleNamespace(logits=logits, targets=targets, scores=scores)
    boxes = tuple(torch.tensor(rows).reshape(-1, 4) for rows in boxes)
    wrong = None if wrong_class is None else torch.tensor(wrong_class)
    maps = heatmap.expand(len(logits), *SIZE)
    return Explanation(trace=trace, raw_map=maps, heatmap=maps, boxes=boxes, wrong_class=wrong)


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


@pytest.mark.parametrize(("width", "located"), [(12.0, 1), (12.5, 0)])
def test_an_iou_of_exactly_a_half_counts(width, located):
    row = explanation([ranked(0)], [0], [[(2.0, 2.0, 2.0 + width, 8.0)]])
    assert float(gt_known_loc(row)) == located
    assert float(gt_known_loc(row, iou=0.4)) == 1


def test_the_threshold_is_a_fifth_of_the_maximum_and_the_largest_region_counts():
    heatmap = torch.zeros(SIZE, dtype=torch.float64)
    heatmap[2:8, 2:8], heatmap[0, :2], heatmap[9, :] = 0.21, 1.0, 0.2  # at a fifth isn't above it
    row = explanation([ranked(0)], [0], [[FOUND]], heatmap)
    assert float(gt_known_loc(row)) == 1
    assert float(gt_known_loc(row, fraction=0.3)) == 0


def test_the_best_of_several_boxes_counts_and_none_is_no_value():
    rows = explanation([ranked(0)] * 2, [0, 0], [[MISSED, FOUND], []])
    assert gt_known_loc(rows)[0] == 1
    assert gt_known_loc(rows)[1].isnan()


@pytest.mark.parametrize("number", [0.0, float("nan")])
@pytest.mark.parametrize("name", ["gt_known_loc", "top1_loc", "top5_loc"])
def test_a_method_without_a_map_locates_nothing(name, number):
    heatmap = torch.full(SIZE, number, dtype=torch.float64)
    values, statuses = measure(metrics.get(name), explanation([ranked(0)], [0], [[FOUND]], heatmap), True)[name]
    assert (values.tolist(), statuses) == ([0], ("ok",))


@pytest.mark.parametrize("iou", [0, 1.5, float("nan")])
def test_an_iou_that_no_box_reaches_is_refused(iou):
    with pytest.raises(BenchError, match="above 0 and up to 1"):
        top1_loc(explanation([ranked(0)], [0], [[FOUND]]), iou=iou)


class Constant(nn.Module):
    """Class 1 for every image, by a bias far above what the maps add."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
        self.head = nn.Linear(2, 3)
        nn.init.constant_(self.head.bias, 0)
        self.head.bias.data[1] = 1e3

    def forward(self, images):
        return self.head(self.features(images).mean((2, 3)))


def test_a_wrongly_classified_image_is_no_image_without_annotation():
    """target=predicted, three images: of the predicted class, of another one, and without any object."""
    plain = Preprocessing(resize=None, crop=None, mean=(0, 0, 0), std=(1, 1, 1))
    objects = (((1, (0.0, 0.0, 12.0, 10.0)),), ((2, (0.0, 0.0, 12.0, 10.0)),), ())
    prepared = [plain(Sample(Image.new("RGB", (12, 10), "red"), str(i), None, own)) for i, own in enumerate(objects)]
    images, annotations = torch.stack([image for image, _ in prepared]), tuple(own for _, own in prepared)
    batch = ab.Batch(images, ("right", "wrong", "empty"), None, annotations)
    names = ["box_iou", "top1_loc", "top5_loc", "gt_known_loc"]
    torch.manual_seed(0)
    rows = ab.evaluate(Constant().eval(), "features.1", [batch], ["uniform"], names)
    statuses = rows.set_index(["metric", "image_id"])["status"]
    for name in names:
        expected = {"right": "ok", "wrong": "ok" if name == "top1_loc" else "wrong_class", "empty": "no_annotation"}
        assert statuses[name].to_dict() == expected
    assert rows.set_index(["metric", "image_id"])["value"]["top1_loc", "wrong"] == 0


def test_a_class_that_the_crop_cuts_away_is_not_wrong():
    crop = Preprocessing(resize=None, crop=10, mean=(0, 0, 0), std=(1, 1, 1))  # the middle of 30 columns
    objects = ((0, (0.0, 0.0, 5.0, 10.0)), (1, (12.0, 0.0, 18.0, 10.0)))
    image, annotation = crop(Sample(Image.new("RGB", (30, 10)), "a", 0, objects))
    batch = ab.Batch(image[None], ("a",), None, (annotation,))
    assert [len(batch.boxes(torch.tensor([target]))[0]) for target in (0, 1, 2)] == [0, 1, 0]
    assert [batch.wrong_class(torch.tensor([target])).tolist() for target in (0, 1, 2)] == [[False], [False], [True]]
