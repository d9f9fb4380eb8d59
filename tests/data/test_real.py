"""The photographs of real_root: classes, boxes and masks agree with what is known about them."""

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
        sample = dataset.read(index)
        solution = solutions[dataset.ids[index]]
        assert sample.label == int(solution["class_index"])
        assert sample.image.size == (int(solution["width"]), int(solution["height"]))
        assert len(sample.objects) == int(solution["boxes"])
        assert sample.problems == ()
    class_indices = [int(solutions[image_id]["class_index"]) for image_id in dataset.ids]
    assert labels(dataset) == [(class_index,) for class_index in class_indices]


@pytest.mark.slow
def test_voc_masks_match_boxes(real_root):
    """Check that classes are the same, and that the mask of a single object fills its box.

    The border of an object, which is 5 pixels wide, is no part of its mask.
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
    """Return the intersection over union of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    intersection = max(width, 0) * max(height, 0)
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (first, second)]
    return intersection / (sum(areas) - intersection)
