"""Scenes drawn again without an object, and on other grounds: nothing else changes."""

import numpy as np
import pytest

from axiom_bench.embedded import scenes

SCENES = [(number, kind) for kind in (scenes.FEW, scenes.MANY) for number in range(25)]


@pytest.mark.parametrize(("number", "kind"), SCENES)
def test_a_scene_without_an_object_is_the_same_everywhere_else(number, kind):
    drawing = scenes.drawing_of("evaluation", 3, number, kind)
    scene = scenes.draw("evaluation", 3, number, kind)
    for place, figure in enumerate(drawing.figures):
        without = drawing.image(without=place)
        assert np.array_equal(without[~figure.drawn], scene.image[~figure.drawn])
        assert (without[figure.drawn] != scene.image[figure.drawn]).any(1).mean() > 0.9  # ink and ground differ
        assert np.array_equal(figure.drawn, scene.mask == figure.digit)


def test_without_any_object_the_ground_and_its_noise_are_left():
    """Behind each object is the ground that a scene without all of them shows."""
    for number, kind in SCENES:
        drawing = scenes.drawing_of("evaluation", 3, number, kind)
        bare = (np.clip(drawing.ground + drawing.noise, 0, 1) * 255).round().astype(np.uint8)
        for place, figure in enumerate(drawing.figures):
            assert np.array_equal(drawing.image(without=place)[figure.drawn], bare[figure.drawn])


def test_on_other_grounds_objects_stay_and_stand_out():
    for number, kind in SCENES:
        drawing = scenes.drawing_of("evaluation", 3, number, kind)
        scene = scenes.draw("evaluation", 3, number, kind)
        images = scenes.other_grounds("evaluation", 3, number, kind)
        assert len(images) == scenes.GROUNDS
        ground = drawing.mask < 0
        for image in images:
            assert np.array_equal(image[~ground], scene.image[~ground])  # ink and noise
            bright = image.mean(2) / 255
            for figure in drawing.figures:
                # As tests/embedded/test_scenes.py has it of a scene's own ground.
                assert abs(bright[figure.drawn].mean() - bright[ground].mean()) > 0.1
        for first, second in zip((scene.image, *images), (*images, scene.image), strict=True):
            assert (first[ground] != second[ground]).any(1).mean() > 0.5


def test_other_grounds_depend_on_the_scene_alone():
    first, again = (scenes.other_grounds("evaluation", 3, 7) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], scenes.other_grounds("evaluation", 4, 7)[0])


def test_scenes_of_many_objects_have_four_to_six_of_varied_size():
    drawn = [scenes.draw("evaluation", 3, number, scenes.MANY) for number in range(60)]
    assert {len(scene.objects) for scene in drawn} == {4, 5, 6}
    for scene in drawn:
        classes = [digit for digit, _ in scene.objects]
        assert len(set(classes)) == len(classes)
        pixels = [int((scene.mask == digit).sum()) for digit in classes]
        assert pixels == sorted(pixels, reverse=True)
        for digit, box in scene.objects:
            assert scenes.tight_box(scene.mask == digit) == box
    sizes = [(scene.mask == digit).sum() for scene in drawn for digit, _ in scene.objects]
    assert np.percentile(sizes, 90) > 2.5 * np.percentile(sizes, 10)


def test_kinds_are_different_scenes():
    few, many = (scenes.drawing_of("evaluation", 3, 0, kind) for kind in (scenes.FEW, scenes.MANY))
    assert not np.array_equal(few.ground, many.ground)
