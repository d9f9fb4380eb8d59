"""The images for the planted networks as a data set."""

from __future__ import annotations

import numpy as np
import pytest

from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import patches
from axiom_bench.errors import BenchError


@pytest.fixture(scope="module")
def dataset():
    return load_dataset({"kind": "planted", "size": 6, "seed": 3})


def test_an_image_depends_on_split_seed_and_number_alone(dataset):
    again = load_dataset({"kind": "planted", "size": 4, "seed": 3})
    assert again.ids == dataset.ids[:4] == tuple(f"evaluation-3-{number:06d}" for number in range(4))
    assert [again.fingerprint(i) for i in range(4)] == [dataset.fingerprint(i) for i in range(4)]
    others = [
        load_dataset({"kind": "planted", "size": 1, "seed": 4}),
        load_dataset({"kind": "planted", "size": 1, "seed": 3, "split": "fit"}),
    ]
    assert len({dataset.fingerprint(0), *(other.fingerprint(0) for other in others)}) == 3


@pytest.mark.parametrize("index", range(6))
def test_boxes_and_masks_are_the_drawn_pixels(dataset, index):
    drawn, sample = dataset.draw(index), dataset.read(index)
    pixels = np.asarray(sample.image)
    grey = (pixels == pixels[..., :1]).all(2)
    assert (grey == (sample.mask == -1)).all()
    covered = np.zeros_like(grey)
    for patch, (label, box) in zip(drawn.patches, sample.objects, strict=True):
        assert (label, box) == (patch.label, patch.box)
        assert (pixels[patch.place] == patches.COLOURS[patch.colour]).all()
        assert (sample.mask[patch.place] == label).all()
        assert all(side % 6 == 0 for side in box)
        assert not covered[patch.place].any()
        covered[patch.place] = True
    assert (covered == ~grey).all()
    assert sample.label == 0
    assert set(dataset.labels(index)) == {label for label, _ in sample.objects}


def test_colours_and_halves_are_as_described(dataset):
    for index in range(6):
        by_colour = {
            colour: [p.box for p in dataset.draw(index).patches if p.colour == colour] for colour in patches.COLOURS
        }
        assert [len(boxes) for boxes in by_colour.values()] == [2, 1, 1, 1, 1]
        (left, right), (blue,), (yellow,) = by_colour["red"], by_colour["blue"], by_colour["yellow"]
        assert max(left[2], blue[2]) <= 48 <= min(right[0], yellow[0])
        assert (blue[2] - blue[0], blue[3] - blue[1]) == (yellow[2] - yellow[0], yellow[3] - yellow[1])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": None}, "data.size must be a number of images, which are drawn, 1 to 1000000, not None"),
        ({"size": 2, "split": "tests"}, "no split of the grounds 'tests'; did you mean|there are"),
        ({"size": 2, "sede": 1}, "did you mean 'seed'"),
    ],
)
def test_mistakes_are_one_sentence(settings, sentence):
    with pytest.raises(BenchError, match=sentence):
        load_dataset({"kind": "planted", **settings})
