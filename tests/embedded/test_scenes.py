"""Tests of the scene generator.

It is deterministic, its splits share no picture, and its boxes and masks are exact. If a part is
drawn again, nothing else changes.
"""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import scenes

DISJOINT = ("fit", "validation", "evaluation")


@cache
def draw_60(kind):
    return [scenes.draw("evaluation", 3, number, kind) for number in range(60)]


def test_the_digits_are_scikit_learn_s():
    images, classes = scenes.bundled_digits()
    bundled = load_digits()
    assert np.array_equal(images, bundled.images)
    assert np.array_equal(classes, bundled.target)


def ground_images(seed):
    return [drawing.image() for drawing in scenes.other_grounds("evaluation", seed, 7)]


def test_a_scene_and_its_other_grounds_depend_only_on_split_seed_and_number():
    # Draw the same scenes in the opposite order.
    redrawn = [scenes.draw("evaluation", 3, number) for number in reversed(range(60))]
    for first, second in zip(draw_60(scenes.FEW), reversed(redrawn), strict=True):
        assert np.array_equal(first.image, second.image)
        assert np.array_equal(first.mask, second.mask)
        assert first.objects == second.objects
    assert not np.array_equal(scenes.draw("evaluation", 4, 0).image, draw_60(scenes.FEW)[0].image)
    assert not np.array_equal(draw_60(scenes.FEW)[0].image, draw_60(scenes.FEW)[1].image)

    assert np.array_equal(ground_images(seed=3), ground_images(seed=3))
    assert not np.array_equal(ground_images(seed=3)[0], ground_images(seed=4)[0])
    few = scenes.make_drawing("evaluation", 3, 0, scenes.FEW)
    many = scenes.make_drawing("evaluation", 3, 0, scenes.MANY)
    assert not np.array_equal(few.ground, many.ground)


def digit_numbers(split):
    return scenes.digits(split)[0].tolist()


def digit_pictures(split):
    return scenes.digits(split)[1]


def texture_numbers(split):
    return list(scenes.texture_numbers(split))


@pytest.mark.parametrize(
    ("numbers_of", "pictures_of", "count"),
    [
        (digit_numbers, digit_pictures, 1797),
        (texture_numbers, scenes.textures, scenes.TEXTURES),
    ],
    ids=["digit", "texture"],
)
def test_none_is_in_two_splits(numbers_of, pictures_of, count):
    numbers = {split: numbers_of(split) for split in scenes.SPLITS}
    assert sorted(numbers["fit"] + numbers["validation"]) == numbers["train"]
    assert sorted(numbers["train"] + numbers["evaluation"]) == list(range(count))
    contents = [{picture.tobytes() for picture in pictures_of(split)} for split in DISJOINT]
    for first, second in combinations(contents, 2):
        assert first.isdisjoint(second)


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_every_class_and_every_kind_of_texture_is_in_each_split(split):
    assert set(scenes.digits(split)[2]) == set(range(10))
    assert {number % 5 for number in scenes.texture_numbers(split)} == set(range(5))


@pytest.mark.parametrize(
    ("kind", "counts"),
    [(scenes.FEW, {1, 2, 3}), (scenes.MANY, {4, 5, 6})],
    ids=["few", "many"],
)
def test_objects_are_of_different_classes_largest_first_with_tight_boxes(kind, counts):
    drawn = draw_60(kind)
    assert {len(scene.objects) for scene in drawn} == counts
    for scene in drawn:
        classes = [digit for digit, _ in scene.objects]
        assert set(classes) == set(np.unique(scene.mask)) - {-1}
        assert len(set(classes)) == len(classes)
        pixels = [(scene.mask == digit).sum() for digit in classes]
        assert pixels == sorted(pixels, reverse=True)
        assert scene.label == classes[0]
        for digit, (x0, y0, x1, y1) in scene.objects:
            rows, columns = np.nonzero(scene.mask == digit)
            assert (x0, x1) == (columns.min(), columns.max() + 1)
            assert (y0, y1) == (rows.min(), rows.max() + 1)


def test_where_classes_repeat_an_object_is_its_class_within_its_box():
    """No other object is in the box, and no pixel of the object is outside."""
    assert {len(scene.objects) for scene in draw_60(scenes.REPEATED)} == {3, 4, 5}
    for scene in draw_60(scenes.REPEATED):
        covered = np.zeros_like(scene.mask)
        for label, (x0, y0, x1, y1) in scene.objects:
            inside = scene.mask[y0:y1, x0:x1]
            assert set(np.unique(inside)) <= {-1, label}
            assert scenes.tight_box(inside == label) == (0, 0, x1 - x0, y1 - y0)
            covered[y0:y1, x0:x1] += 1
        assert covered.max() == 1
        assert (scene.mask[covered == 0] == -1).all()
        assert scene.label == scene.objects[0][0]

    class_counts = [
        len({label for label, _ in scene.objects}) for scene in draw_60(scenes.REPEATED)
    ]
    assert set(class_counts) == {1, 2, 3}
    has_repeated_class = [
        count < len(scene.objects)
        for count, scene in zip(class_counts, draw_60(scenes.REPEATED), strict=True)
    ]
    assert sum(has_repeated_class) > 0.9 * len(has_repeated_class)

    redrawn = scenes.draw("evaluation", 3, 59, scenes.REPEATED)
    of_other_seed = scenes.draw("evaluation", 4, 59, scenes.REPEATED)
    assert np.array_equal(redrawn.image, draw_60(scenes.REPEATED)[59].image)
    assert not np.array_equal(of_other_seed.image, draw_60(scenes.REPEATED)[59].image)


def test_each_object_of_a_class_is_a_part_with_a_version_without_only_it():
    dataset = load_dataset({"kind": "scenes", "objects": "repeated", "size": 20, "seed": 3})
    for index in range(20):
        scene = draw_60(scenes.REPEATED)[index]
        (*objects, _) = dataset.interventions(index)
        assert [part.label for part in objects] == [label for label, _ in scene.objects]
        assert len({part.name for part in objects}) == len(objects)
        for part, (_, box) in zip(objects, scene.objects, strict=True):
            assert scenes.tight_box(part.mask) == box
            changed = (np.asarray(part.images[0]) != scene.image).any(2)
            assert changed[part.mask].mean() > 0.9
            assert not changed[~part.mask].any()


def test_many_objects_are_of_varied_size():
    sizes = [
        (scene.mask == digit).sum() for scene in draw_60(scenes.MANY) for digit, _ in scene.objects
    ]
    assert np.percentile(sizes, 90) > 2.5 * np.percentile(sizes, 10)


def test_objects_stand_out_from_their_ground():
    """The least contrast of ink to the mean ground is 0.35. Colour, texture and light reduce it,
    but the objects remain visible.
    """
    for scene in draw_60(scenes.FEW):
        brightness = scene.image.mean(2) / 255
        ground = brightness[scene.mask < 0].mean()
        for digit, _ in scene.objects:
            ink = brightness[scene.mask == digit].mean()
            assert abs(ink - ground) > 0.1


def test_tight_box_by_hand():
    mask = np.zeros((4, 6), dtype=bool)
    mask[1, 2] = True
    mask[2, 4] = True
    assert scenes.tight_box(mask) == (2, 1, 5, 3)


def test_data_set_of_scenes():
    dataset = load_dataset({"kind": "scenes", "size": 5, "seed": 3})
    sample = dataset.read(2)
    assert dataset.ids[2] == sample.image_id == "evaluation-3-000002"
    assert np.array_equal(np.asarray(sample.image), draw_60(scenes.FEW)[2].image)
    assert (sample.label, sample.objects) == (
        draw_60(scenes.FEW)[2].label,
        draw_60(scenes.FEW)[2].objects,
    )
    assert dataset.labels(2) == tuple(sorted(digit for digit, _ in draw_60(scenes.FEW)[2].objects))
    assert len({dataset.fingerprint(index) for index in range(5)}) == 5


REDRAWN = [(number, kind) for kind in (scenes.FEW, scenes.MANY) for number in range(25)]


@pytest.mark.parametrize(("number", "kind"), REDRAWN)
def test_a_scene_without_an_object_shows_the_ground_there_and_is_the_same_everywhere_else(
    number, kind
):
    drawing = scenes.make_drawing("evaluation", 3, number, kind)
    scene = scenes.draw("evaluation", 3, number, kind)
    bare = (np.clip(drawing.ground + drawing.noise, 0, 1) * 255).round().astype(np.uint8)
    for place, figure in enumerate(drawing.figures):
        without = drawing.image(without=place)
        assert np.array_equal(without[~figure.drawn], scene.image[~figure.drawn])
        is_changed = (without[figure.drawn] != scene.image[figure.drawn]).any(1)
        assert is_changed.mean() > 0.9  # ink and ground differ
        assert np.array_equal(without[figure.drawn], bare[figure.drawn])
        assert np.array_equal(figure.drawn, scene.mask == figure.digit)


@pytest.mark.slow
def test_on_other_grounds_objects_stay_and_stand_out():
    for number, kind in REDRAWN:
        drawing = scenes.make_drawing("evaluation", 3, number, kind)
        scene = scenes.draw("evaluation", 3, number, kind)
        images = [other.image() for other in scenes.other_grounds("evaluation", 3, number, kind)]
        assert len(images) == scenes.GROUNDS
        ground = drawing.mask < 0
        for image in images:
            assert np.array_equal(image[~ground], scene.image[~ground])  # ink and noise
            brightness = image.mean(2) / 255
            for figure in drawing.figures:
                ink = brightness[figure.drawn].mean()
                assert abs(ink - brightness[ground].mean()) > 0.1
        for first, second in zip((scene.image, *images), (*images, scene.image), strict=True):
            assert (first[ground] != second[ground]).any(1).mean() > 0.5
