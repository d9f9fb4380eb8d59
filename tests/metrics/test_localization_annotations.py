"""Which boxes and pixels count: of several objects, `difficult` and crowd ones, cut by the crop, or outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.data.base import Sample
from axiom_bench.data.batch import BACKGROUND, NO_VERDICT
from axiom_bench.data.formats.annotation_file import read_objects
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.evaluation import plugins
from axiom_bench.metrics.box_iou import box_iou
from axiom_bench.metrics.energy_pointing_game import energy_pointing_game
from axiom_bench.metrics.mass_accuracy import mass_accuracy
from axiom_bench.metrics.pointing_game import pointing_game

CROP = Preprocessing(resize=20, crop=20, mean=(0, 0, 0), std=(1, 1, 1))  # the middle 20 columns of 40


def explained(objects, heatmap, mask=None, crowd=()):
    """Class 0 of an image of 40 x 20 pixels, explained by a map of the 20 x 20 that the crop leaves."""
    sample = Sample(Image.new("RGB", (40, 20)), "a", 0, objects, mask, crowd=crowd)
    image, annotation = CROP(sample)
    batch = ab.Batch(image[None], ("a",), torch.tensor([0]), (annotation,))
    targets = torch.tensor([0])
    masks = {"masks": batch.masks(targets), "ignored": batch.ignored()}
    return ab.Explanation(heatmap=heatmap[None], boxes=batch.boxes(targets), **masks)


def rectangle(x0, y0, x1, y1):
    canvas = torch.zeros(20, 20)
    canvas[y0:y1, x0:x1] = 1
    return canvas


def test_an_object_cut_by_the_crop_is_what_is_left_of_it():
    explanation = explained(((0, (0.0, 5.0, 15.0, 15.0)),), rectangle(0, 5, 5, 15))
    assert explanation.boxes[0].tolist() == [[0, 5, 5, 15]]
    assert float(box_iou(explanation)) == 1
    assert float(energy_pointing_game(explanation)) == 1


def test_an_object_that_the_crop_cuts_away_is_no_object():
    explanation = explained(((0, (0.0, 0.0, 9.0, 20.0)),), rectangle(0, 0, 5, 5))
    assert len(explanation.boxes[0]) == 0
    assert box_iou(explanation).isnan().all()  # its row has status no_annotation


def test_objects_of_other_classes_do_not_count_and_of_several_the_best_does():
    objects = ((0, (10.0, 0.0, 20.0, 10.0)), (1, (20.0, 0.0, 30.0, 10.0)), (0, (20.0, 10.0, 30.0, 20.0)))
    explanation = explained(objects, rectangle(10, 10, 20, 20))
    assert len(explanation.boxes[0]) == 2
    assert float(box_iou(explanation)) == 1
    assert float(energy_pointing_game(explained(objects, rectangle(0, 0, 20, 20)))) == 0.5  # two of four quarters
    assert float(pointing_game(explained(objects, rectangle(10, 0, 20, 10)), tolerance=0)) == 0


@pytest.mark.parametrize("difficult", [0, 1])
def test_difficult_objects_count_and_boxes_beyond_the_image_are_clipped_to_it(tmp_path, difficult):
    corners = "<xmin>-3</xmin><ymin>1</ymin><xmax>50</xmax><ymax>20</ymax>"
    inside = f"<object><name>cat</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"
    outside = inside.replace("<xmin>-3", "<xmin>60").replace("<xmax>50", "<xmax>70")
    size = "<size><width>40</width><height>20</height></size>"
    file = tmp_path / "a.xml"
    file.write_text(f"<annotation>{size}{inside}{outside}</annotation>")
    objects, problems = read_objects(file, {"cat": 0}, first_pixel=1, size=(40, 20))
    assert objects == ((0, (0.0, 0.0, 40.0, 20.0)),)
    assert len(problems) == 1  # the box outside, which is named and left out
    assert float(box_iou(explained(objects, rectangle(0, 0, 20, 20)))) == 1


def test_a_crowd_is_no_box_and_counts_neither_as_object_nor_as_background():
    mask = np.full((20, 40), BACKGROUND)
    mask[:, 10:20], mask[:10, 20:30] = 0, NO_VERDICT  # an object on the left, a crowd on the upper right
    objects, crowd = ((0, (10.0, 0.0, 20.0, 20.0)),), ((0, (20.0, 0.0, 30.0, 10.0)),)
    explanation = explained(objects, rectangle(0, 0, 20, 20), mask, crowd)
    assert float(energy_pointing_game(explanation)) == 0.5
    assert float(mass_accuracy(explanation)["mass_accuracy"]) == pytest.approx(2 / 3)  # of three quarters


def test_boxes_given_by_hand_are_taken_as_they_are():
    explanation = ab.Explanation(heatmap=rectangle(0, 0, 20, 20)[None], boxes=(torch.tensor([[-20.0, 0, 20, 20]]),))
    assert float(box_iou(explanation)) == 0.5  # they aren't clipped to the image
    assert float(energy_pointing_game(explanation)) == 1


@pytest.mark.parametrize("params", [{}, {"fraction": "best"}, {"fraction": 0.1234}, {"protocol": "heatmap"}, {"k": 30}])
def test_ignored_columns_are_as_good_as_cut_off(params):
    """Of a map whose minimum and maximum stay, so that its thresholds do."""
    generator = torch.Generator().manual_seed(8)
    heatmap = torch.rand(3, 12, 16, generator=generator, dtype=torch.float64)
    heatmap[:, 0, 0], heatmap[:, 0, 1] = 0, 1
    masks, ignored = torch.rand(3, 12, 16, generator=generator) < 0.4, torch.zeros(3, 12, 16, dtype=torch.bool)
    ignored[:, :, 10:] = True
    masks &= ~ignored
    names = {"fraction": ["mask_iou"], "protocol": ["pxap"], "k": ["top_k_intersection"]}
    for name in names.get(next(iter(params), ""), ["mask_iou", "pxap", "mass_accuracy"]):
        metric = plugins.with_params("metric", name, params)
        masked = metric(ab.Explanation(heatmap=heatmap, masks=masks, ignored=ignored))
        cut = metric(ab.Explanation(heatmap=heatmap[..., :10], masks=masks[..., :10]))
        for value in cut if isinstance(cut, dict) else ():
            first, second = (getattr(each[value], "points", each[value]) for each in (masked, cut))
            torch.testing.assert_close(first, second, rtol=1e-12, atol=0)
        if not isinstance(cut, dict):
            torch.testing.assert_close(masked, cut, rtol=1e-12, atol=0)
