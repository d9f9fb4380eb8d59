"""Tests of scenes with a spurious mark.

They equal the scenes of the same numbers except for one tile, which lies on no digit.
"""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import marked, scenes
from axiom_bench.errors import BenchError

NUMBERS = range(80)


@cache
def drawn(placement: str) -> list[marked.MarkedScene]:
    """Return the scenes with their mark at this placement."""
    return [marked.draw("evaluation", 3, number, placement) for number in NUMBERS]


@cache
def plain_scenes() -> list[scenes.Scene]:
    """Return the scenes without a mark."""
    return [scenes.draw("evaluation", 3, number) for number in NUMBERS]


def shows_the_class(scene: scenes.Scene) -> bool:
    return marked.CLASS in [digit for digit, _ in scene.objects]


@cache
def number_with_class() -> int:
    """Return the number of the first scene that shows the class and another object."""
    return next(
        number
        for number, scene in enumerate(plain_scenes())
        if len(scene.objects) > 1 and shows_the_class(scene)
    )


def marked_scenes() -> list[marked.MarkedScene]:
    """Return all scenes that have a mark."""
    all_scenes = drawn("with_class") + drawn("other_classes")
    return [scene for scene in all_scenes if scene.mark is not None]


def mark_pixels(scene: marked.MarkedScene) -> NDArray[np.bool_]:
    """Return the mask of the mark's pixels. It is empty if the scene has no mark."""
    return np.zeros(scene.mask.shape, dtype=bool) if scene.mark is None else scene.mark.mask


@pytest.mark.slow
def test_the_mark_goes_with_its_class_or_with_the_others_or_is_absent():
    has_class = [shows_the_class(scene) for scene in plain_scenes()]
    assert any(has_class)
    assert [scene.mark is not None for scene in drawn("with_class")] == has_class
    assert [scene.mark is None for scene in drawn("other_classes")] == has_class
    assert all(scene.mark is None for scene in drawn("absent"))


@pytest.mark.slow
@pytest.mark.parametrize("placement", marked.PLACEMENTS)
def test_except_for_the_mark_the_scene_is_the_plain_one_bit_by_bit(placement):
    for scene, plain in zip(drawn(placement), plain_scenes(), strict=True):
        changed = (scene.image != plain.image).any(2)
        assert not changed[~mark_pixels(scene)].any()
        assert np.array_equal(scene.mask, plain.mask)
        assert scene.objects == plain.objects


def test_the_tile_fills_its_box_as_a_chequerboard_and_keeps_its_distance_from_every_digit():
    """Dark cells are at most 0.25, bright ones at least 0.75, and the noise has a standard
    deviation of 0.02.
    """
    for scene in marked_scenes():
        x0, y0, x1, y1 = scene.mark.box
        assert scenes.tight_box(scene.mark.mask) == scene.mark.box
        assert scene.mark.mask.sum() == marked.TILE**2 == (x1 - x0) * (y1 - y0)

        padded = np.pad(scene.mask, marked.MARGIN, constant_values=-1)
        with_margin = padded[y0 : y1 + 2 * marked.MARGIN, x0 : x1 + 2 * marked.MARGIN]
        assert (with_margin == -1).all()

        bright = scene.image[y0:y1, x0:x1].mean(2) > 127
        cells = bright[:: marked.CELL, :: marked.CELL]
        one_cell = np.ones((marked.CELL, marked.CELL), dtype=bool)
        assert np.array_equal(np.kron(cells, one_cell), bright)
        assert (cells[1:] != cells[:-1]).all()
        assert (cells[:, 1:] != cells[:, :-1]).all()


def test_place_and_colours_differ_between_scenes_and_not_between_placements():
    assert len({scene.mark.box for scene in marked_scenes()}) > 60
    # Draw the same scenes in the opposite order.
    redrawn = [marked.draw("evaluation", 3, number) for number in reversed(NUMBERS)]
    for scene, expected in zip(reversed(redrawn), drawn("with_class"), strict=True):
        assert np.array_equal(scene.image, expected.image)


def test_place_by_hand():
    """There is room for only one box, MARGIN away from a digit on the left and one below."""
    mask = np.zeros((scenes.SIDE, scenes.SIDE), dtype=np.int64)  # digit 0 everywhere
    mask[: 10 + marked.TILE + marked.MARGIN, 80 - marked.MARGIN :] = -1
    mask[: 10 - marked.MARGIN, 80 - marked.MARGIN :] = 0
    assert marked.draw_free_box(mask, np.random.default_rng(0)) == (80, 10, 96, 26)
    mask[10 + marked.TILE, 90] = 0
    assert marked.draw_free_box(mask, np.random.default_rng(0)) is None


CONFIG = {"kind": "scenes_marked", "size": 80, "seed": 3}


def test_data_set_of_marked_scenes():
    dataset = load_dataset(CONFIG)
    plain = plain_scenes()[number_with_class()]

    sample = dataset.read(number_with_class())

    assert (
        sample.image_id
        == dataset.ids[number_with_class()]
        == f"evaluation-3-{number_with_class():06d}-with_class"
    )
    assert np.array_equal(np.asarray(sample.image), drawn("with_class")[number_with_class()].image)
    assert (sample.label, sample.objects) == (marked.CLASS, plain.objects)
    assert np.array_equal(sample.mask, plain.mask)

    other = next(number for number in NUMBERS if not shows_the_class(plain_scenes()[number]))
    assert dataset.read(other).label == plain_scenes()[other].label
    digits = [tuple(sorted(digit for digit, _ in scene.objects)) for scene in plain_scenes()]
    assert [dataset.labels(index) for index in NUMBERS] == digits


@pytest.mark.parametrize("pattern", marked.PATTERNS)
def test_each_pattern_fills_its_box_next_to_the_digits_and_has_ids_of_its_own(pattern):
    dataset = load_dataset({**CONFIG, "pattern": pattern})
    size = marked.PATTERNS[pattern][0]
    mark = dataset.draw(number_with_class()).mark
    plain = plain_scenes()[number_with_class()]
    x0, y0, x1, y1 = mark.box
    assert (y1 - y0, x1 - x0) == size == mark.pixels.shape[:2]
    assert (plain.mask[mark.mask] == -1).all()
    changed = (np.asarray(dataset.read(number_with_class()).image) != plain.image).any(2)
    assert changed[mark.mask].mean() > 0.9
    assert not changed[~mark.mask].any()

    with_tiles = load_dataset(CONFIG)
    names = (dataset.ids[0], dataset.fingerprint(number_with_class()))
    names_with_tiles = (with_tiles.ids[0], with_tiles.fingerprint(number_with_class()))
    assert (names == names_with_tiles) == (pattern == "tile")


def test_a_tag_is_the_same_everywhere_and_an_unknown_pattern_is_refused():
    first_tag = marked.make_mark(plain_scenes()[0], 3, 0, "tag").pixels
    for number, scene in enumerate(plain_scenes()[:9]):
        assert (marked.make_mark(scene, 3, number, "tag").pixels == first_tag).all()
    with pytest.raises(BenchError, match=r"'tyle'.*tile"):
        load_dataset({**CONFIG, "pattern": "tyle"})


def test_each_placement_has_ids_and_fingerprints_of_its_own():
    """Two placements in one run folder are two data sets, even if an image is the same."""
    sets = [load_dataset({**CONFIG, "mark": placement}) for placement in marked.PLACEMENTS]
    assert len({dataset.ids[0] for dataset in sets}) == 3
    with_class, others, absent = (dataset.fingerprint(number_with_class()) for dataset in sets)
    assert with_class != others
    assert others == absent


def test_a_scene_without_its_mark_is_the_plain_one_and_each_other_version_keeps_the_mark():
    """Except for the mark, the parts are those of the plain scenes. Without a mark, all are."""
    number = number_with_class()
    scene = drawn("with_class")[number_with_class()]
    dataset = load_dataset(CONFIG)
    plain_set = load_dataset(CONFIG | {"kind": "scenes"})
    absent = load_dataset(CONFIG | {"mark": "absent"})
    marked_pixels = mark_pixels(scene)

    parts = dataset.interventions(number)
    plain_parts = plain_set.interventions(number)
    parts_without_mark = absent.interventions(number)

    plain_names = [part.name for part in plain_parts]
    assert [part.name for part in parts_without_mark] == plain_names
    assert [part.name for part in parts] == [*plain_names[:-1], "mark", "ground"]
    *objects, mark, ground = parts
    assert (np.asarray(mark.images[0]) == plain_scenes()[number].image).all()
    assert mark.label is None
    assert mark.mask.tolist() == marked_pixels.tolist()
    assert (ground.mask == (plain_parts[-1].mask & ~marked_pixels)).all()
    for part, plain_part in zip((*objects, ground), plain_parts, strict=True):
        for image, plain_image in zip(part.images, plain_part.images, strict=True):
            pixels = np.asarray(image)
            plain_pixels = np.asarray(plain_image)
            assert (pixels[marked_pixels] == scene.image[marked_pixels]).all()
            assert (pixels[~marked_pixels] == plain_pixels[~marked_pixels]).all()
