"""Scenes with a spurious mark: the scenes of the same numbers but for one tile, which lies on no
digit.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded import marked, scenes
from axiom_bench.errors import BenchError

NUMBERS = range(80)
DRAWN = {
    placement: [marked.draw("evaluation", 3, number, placement) for number in NUMBERS]
    for placement in marked.PLACEMENTS
}
PLAIN = [scenes.draw("evaluation", 3, number) for number in NUMBERS]


def shows_the_class(scene: scenes.Scene) -> bool:
    return marked.CLASS in [digit for digit, _ in scene.objects]


WITH_CLASS = next(
    number
    for number in NUMBERS
    if len(PLAIN[number].objects) > 1 and shows_the_class(PLAIN[number])
)
MARKED = [scene for scene in DRAWN["with_class"] + DRAWN["other_classes"] if scene.mark is not None]


def drawn(scene: marked.MarkedScene) -> NDArray[np.bool_]:
    """The pixels of the mark, none where there is no mark."""
    return np.zeros(scene.mask.shape, dtype=bool) if scene.mark is None else scene.mark.mask


def test_the_mark_goes_with_its_class_or_with_the_others_or_is_absent():
    shown = [shows_the_class(scene) for scene in PLAIN]
    assert any(shown)
    assert [scene.mark is not None for scene in DRAWN["with_class"]] == shown
    assert [scene.mark is None for scene in DRAWN["other_classes"]] == shown
    assert all(scene.mark is None for scene in DRAWN["absent"])


@pytest.mark.parametrize("placement", marked.PLACEMENTS)
def test_beside_the_mark_the_scene_is_the_plain_one_bit_by_bit(placement):
    for scene, plain in zip(DRAWN[placement], PLAIN, strict=True):
        changed = (scene.image != plain.image).any(2)
        assert not changed[~drawn(scene)].any()
        assert np.array_equal(scene.mask, plain.mask)
        assert scene.objects == plain.objects


def test_the_tile_fills_its_box_as_a_chequerboard_and_keeps_its_distance_from_every_digit():
    """Dark cells are at most 0.25, bright ones at least 0.75, and the noise has a standard
    deviation of 0.02.
    """
    for scene in MARKED:
        x0, y0, x1, y1 = scene.mark.box
        assert scenes.tight_box(scene.mark.mask) == scene.mark.box
        assert scene.mark.mask.sum() == marked.TILE**2 == (x1 - x0) * (y1 - y0)
        padded = np.pad(scene.mask, marked.MARGIN, constant_values=-1)
        assert (padded[y0 : y1 + 2 * marked.MARGIN, x0 : x1 + 2 * marked.MARGIN] == -1).all()
        bright = scene.image[y0:y1, x0:x1].mean(2) > 127
        cells = bright[:: marked.CELL, :: marked.CELL]
        assert np.array_equal(
            np.kron(cells, np.ones((marked.CELL, marked.CELL), dtype=bool)), bright
        )
        assert (cells[1:] != cells[:-1]).all()
        assert (cells[:, 1:] != cells[:, :-1]).all()


def test_place_and_colours_differ_between_scenes_and_not_between_placements():
    assert len({scene.mark.box for scene in MARKED}) > 60
    again = [marked.draw("evaluation", 3, number) for number in reversed(NUMBERS)][::-1]
    assert all(
        np.array_equal(one.image, two.image)
        for one, two in zip(again, DRAWN["with_class"], strict=True)
    )


def test_place_by_hand():
    """Room for one box alone: between a digit on the left and one below, each MARGIN away."""
    mask = np.zeros((scenes.SIDE, scenes.SIDE), dtype=np.int64)  # digit 0 everywhere
    mask[: 10 + marked.TILE + marked.MARGIN, 80 - marked.MARGIN :] = -1
    mask[: 10 - marked.MARGIN, 80 - marked.MARGIN :] = 0
    assert marked.place(mask, np.random.default_rng(0)) == (80, 10, 96, 26)
    mask[10 + marked.TILE, 90] = 0
    assert marked.place(mask, np.random.default_rng(0)) is None


CONFIG = {"kind": "scenes_marked", "size": 80, "seed": 3}


def test_data_set_of_marked_scenes():
    dataset, plain = load_dataset(CONFIG), PLAIN[WITH_CLASS]
    sample = dataset.read(WITH_CLASS)
    assert sample.image_id == dataset.ids[WITH_CLASS] == f"evaluation-3-{WITH_CLASS:06d}-with_class"
    assert np.array_equal(np.asarray(sample.image), DRAWN["with_class"][WITH_CLASS].image)
    assert (sample.label, sample.objects) == (marked.CLASS, plain.objects)
    assert np.array_equal(sample.mask, plain.mask)
    other = next(number for number in NUMBERS if not shows_the_class(PLAIN[number]))
    assert dataset.read(other).label == PLAIN[other].label
    digits = [tuple(sorted(digit for digit, _ in scene.objects)) for scene in PLAIN]
    assert [dataset.labels(index) for index in NUMBERS] == digits


@pytest.mark.parametrize("pattern", marked.PATTERNS)
def test_each_pattern_fills_its_box_beside_the_digits_and_has_ids_of_its_own(pattern):
    dataset, size = load_dataset({**CONFIG, "pattern": pattern}), marked.PATTERNS[pattern][0]
    mark, plain = dataset.draw(WITH_CLASS).mark, PLAIN[WITH_CLASS]
    x0, y0, x1, y1 = mark.box
    assert (y1 - y0, x1 - x0) == size == mark.pixels.shape[:2]
    assert (plain.mask[mark.mask] == -1).all()
    changed = (np.asarray(dataset.read(WITH_CLASS).image) != plain.image).any(2)
    assert changed[mark.mask].mean() > 0.9
    assert not changed[~mark.mask].any()
    of_tiles = load_dataset(CONFIG)
    own = (dataset.ids[0], dataset.fingerprint(WITH_CLASS))
    assert (own == (of_tiles.ids[0], of_tiles.fingerprint(WITH_CLASS))) == (pattern == "tile")


def test_a_tag_is_the_same_everywhere_and_an_unknown_pattern_is_refused():
    tags = [
        marked.mark_of(scene, 3, number, "tag").pixels for number, scene in enumerate(PLAIN[:9])
    ]
    assert all((tag == tags[0]).all() for tag in tags)
    with pytest.raises(BenchError, match=r"'tyle'.*tile"):
        load_dataset({**CONFIG, "pattern": "tyle"})


def test_each_placement_has_ids_and_fingerprints_of_its_own():
    """Two placements in one run folder are two data sets, also where an image is the same."""
    sets = [load_dataset({**CONFIG, "mark": placement}) for placement in marked.PLACEMENTS]
    assert len({dataset.ids[0] for dataset in sets}) == 3
    with_class, others, absent = (dataset.fingerprint(WITH_CLASS) for dataset in sets)
    assert with_class != others
    assert others == absent


def test_a_scene_without_its_mark_is_the_plain_one_and_each_other_version_keeps_the_mark():
    """Beside the mark, the parts are those of the plain scenes; where there is no mark, all are."""
    number, scene = WITH_CLASS, DRAWN["with_class"][WITH_CLASS]
    dataset, plain_set, absent = (
        load_dataset({**CONFIG, **other}) for other in ({}, {"kind": "scenes"}, {"mark": "absent"})
    )
    parts, plain = dataset.interventions(number), plain_set.interventions(number)
    assert [part.name for part in absent.interventions(number)] == [part.name for part in plain]
    assert [part.name for part in parts] == [*(part.name for part in plain[:-1]), "mark", "ground"]
    *objects, mark, ground = parts
    assert (np.asarray(mark.images[0]) == PLAIN[number].image).all()
    assert (mark.label, mark.mask.tolist()) == (None, drawn(scene).tolist())
    assert (ground.mask == (plain[-1].mask & ~drawn(scene))).all()
    for part, plain_part in zip((*objects, ground), plain, strict=True):
        for image, plain_image in zip(
            map(np.asarray, part.images), map(np.asarray, plain_part.images), strict=True
        ):
            assert (image[drawn(scene)] == scene.image[drawn(scene)]).all()
            assert (image[~drawn(scene)] == plain_image[~drawn(scene)]).all()
