"""The scene generator: deterministic, split before drawing, boxes and masks exact."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from axiom_bench.embedded import scenes
from axiom_bench.errors import BenchError

DISJOINT = ("fit", "validation", "evaluation")
DRAWN = [scenes.draw("evaluation", 3, number) for number in range(60)]


def test_the_digits_are_scikit_learn_s():
    images, classes = scenes.bundled_digits()
    bundled = load_digits()
    assert np.array_equal(images, bundled.images)
    assert np.array_equal(classes, bundled.target)


def test_scene_depends_on_split_seed_and_number_alone():
    again = [scenes.draw("evaluation", 3, number) for number in reversed(range(60))][::-1]
    for first, second in zip(DRAWN, again, strict=True):
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.mask, second.mask)
        assert first.objects == second.objects
    assert not np.array_equal(scenes.draw("evaluation", 4, 0).image, DRAWN[0].image)
    assert not np.array_equal(DRAWN[0].image, DRAWN[1].image)


def test_no_digit_is_in_two_splits():
    numbers = {split: scenes.digits(split)[0].tolist() for split in scenes.SPLITS}
    assert sorted(numbers["fit"] + numbers["validation"]) == numbers["train"]
    assert sorted(numbers["train"] + numbers["evaluation"]) == list(range(1797))
    contents = [{picture.tobytes() for picture in scenes.digits(split)[1]} for split in DISJOINT]
    assert all(first.isdisjoint(second) for first, second in combinations(contents, 2))


def test_no_texture_is_in_two_splits():
    numbers = {split: list(scenes.texture_numbers(split)) for split in scenes.SPLITS}
    assert sorted(numbers["fit"] + numbers["validation"]) == numbers["train"]
    assert sorted(numbers["train"] + numbers["evaluation"]) == list(range(scenes.TEXTURES))
    contents = [{picture.tobytes() for picture in scenes.textures(split)} for split in DISJOINT]
    assert all(first.isdisjoint(second) for first, second in combinations(contents, 2))


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_every_class_and_every_kind_of_texture_is_in_each_split(split):
    assert set(scenes.digits(split)[2]) == set(range(10))
    assert {number % 5 for number in scenes.texture_numbers(split)} == set(range(5))


def test_boxes_are_tight_around_the_mask():
    for scene in DRAWN:
        assert {digit for digit, _ in scene.objects} == set(np.unique(scene.mask)) - {-1}
        for digit, (x0, y0, x1, y1) in scene.objects:
            rows, columns = np.nonzero(scene.mask == digit)
            assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_objects_are_one_to_three_of_different_classes_largest_first():
    counts = [len(scene.objects) for scene in DRAWN]
    assert set(counts) == {1, 2, 3}
    for scene in DRAWN:
        classes = [digit for digit, _ in scene.objects]
        assert len(set(classes)) == len(classes)
        pixels = [(scene.mask == digit).sum() for digit in classes]
        assert pixels == sorted(pixels, reverse=True)
        assert scene.label == classes[0]


def test_objects_stand_out_from_their_ground():
    """The least contrast of ink to mean ground is 0.35 less what colour, texture and light take: an eye sees it."""
    for scene in DRAWN:
        bright = scene.image.mean(2) / 255
        for digit, _ in scene.objects:
            assert abs(bright[scene.mask == digit].mean() - bright[scene.mask < 0].mean()) > 0.1


def test_tight_box_by_hand():
    drawn = np.zeros((4, 6), dtype=bool)
    drawn[1, 2] = drawn[2, 4] = True
    assert scenes.tight_box(drawn) == (2, 1, 5, 3)


def test_data_set_of_scenes():
    from axiom_bench.data.registry import load_dataset

    dataset = load_dataset({"kind": "scenes", "size": 5, "seed": 3})
    sample = dataset.read(2)
    assert dataset.ids[2] == sample.image_id == "evaluation-3-000002"
    assert np.array_equal(np.asarray(sample.image), DRAWN[2].image)
    assert (sample.label, sample.objects) == (DRAWN[2].label, DRAWN[2].objects)
    assert dataset.labels(2) == tuple(sorted(digit for digit, _ in DRAWN[2].objects))
    assert len({dataset.fingerprint(index) for index in range(5)}) == 5
    with pytest.raises(BenchError, match=r"data\.size"):
        load_dataset({"kind": "scenes", "size": None})
    with pytest.raises(BenchError, match="evaluation"):
        load_dataset({"kind": "scenes", "size": 5, "split": "evaluate"})
