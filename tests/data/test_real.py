"""The photographs of real_root: class indices, boxes and masks agree with what is known about
them.
"""

import csv

import numpy as np
import pytest

from axiom_bench.data.base import subset
from axiom_bench.embedded.scenes import tight_box
from tests.data.builders import labels, load

pytestmark = pytest.mark.real


def test_imagenet_matches_the_provenance_file(real_root):
    dataset = load("imagenet", real_root / "data/imagenet")
    with (real_root / "data/imagenet_provenance.csv").open(newline="") as file:
        solutions = {f"{row['wnid']}/{row['filename']}": row for row in csv.DictReader(file)}
    assert set(dataset.ids) == set(solutions)
    assert len(dataset.classes) == 1000
    for index in subset(dataset, 60, 0):
        sample, row = dataset.read(index), solutions[dataset.ids[index]]
        assert sample.label == int(row["class_index"])
        assert sample.image.size == (int(row["width"]), int(row["height"]))
        assert len(sample.objects) == int(row["boxes"])
        assert sample.problems == ()
    assert labels(dataset) == [
        (int(solutions[image_id]["class_index"]),) for image_id in dataset.ids
    ]


def test_voc_masks_match_boxes(real_root):
    """Classes are the same, and the mask of an object that is alone fills its box but for the
    border's 5 pixels.
    """
    dataset = load("voc", real_root / "data", image_set="Segmentation")
    overlaps = []
    for index in range(len(dataset)):
        sample = dataset.read(index)
        assert sample.problems == ()
        assert sample.mask.shape == sample.image.size[::-1]
        assert {label for label, _ in sample.objects} <= set(np.unique(sample.mask)) - {-1}
        if len(sample.objects) == 1:
            ((label, box),) = sample.objects
            overlaps.append(overlap(tight_box(sample.mask == label), box))
    assert len(overlaps) >= 10
    assert np.median(overlaps) > 0.95  # a single one may have a tail outside its box


def overlap(first, second):
    """Intersection over union of two boxes."""
    sides = [
        min(first[2 + axis], second[2 + axis]) - max(first[axis], second[axis]) for axis in (0, 1)
    ]
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    both = max(sides[0], 0) * max(sides[1], 0)
    return both / (sum(area) - both)
