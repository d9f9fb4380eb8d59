"""Which image stands where: classes, how often an image is used, how many mosaics there are, and what it depends on."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axiom_bench.data.mosaic import Candidate, layouts

COUNTS = st.lists(st.integers(0, 6), min_size=1, max_size=12)  # images of each class


def candidates(counts):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return [Candidate(index, f"image {index}", label) for index, label in enumerate(labels)]


def most(counts, cells):
    """The most groups of `cells` images of different classes: m groups use at most min(count, m) images of a class."""
    number = 0
    while sum(min(count, number + 1) for count in counts) >= (number + 1) * cells:
        number += 1
    return number


@settings(max_examples=150)
@given(COUNTS, st.integers(2, 3), st.integers(1, 3), st.integers(0, 5))
def test_every_class_once_every_image_at_most_uses_times_and_as_many_as_possible(counts, grid, uses, seed):
    made = layouts(candidates(counts), grid, uses=uses, seed=seed)
    for layout in made:
        assert len(layout.cells) == len({image.label for image in layout.cells}) == grid**2
        assert layout.target in {image.label for image in layout.cells}
    used = Counter(image.index for layout in made for image in layout.cells)
    assert all(count <= uses for count in used.values())
    assert len(made) == uses * most(counts, grid**2)


@settings(max_examples=150)
@given(COUNTS, st.integers(2, 3), st.integers(2, 4), st.integers(1, 2))
def test_the_target_class_has_its_cells_and_other_classes_one(counts, grid, target_cells, uses):
    if target_cells >= grid**2:
        return
    made = layouts(candidates(counts), grid, target_cells, uses)
    for layout in made:
        shown = Counter(image.label for image in layout.cells)
        assert shown.pop(layout.target) == target_cells
        assert set(shown.values()) == {1}
        assert sum(shown.values()) == grid**2 - target_cells
        assert len({image.index for image in layout.cells}) == grid**2
    used = Counter(image.index for layout in made for image in layout.cells)
    assert all(count <= uses for count in used.values())


def test_classes_are_the_target_equally_often():
    made = layouts(candidates([12] * 10), 2, target_cells=2)
    assert 28 <= len(made) <= 30  # 30 would use all 120 images
    times = Counter(layout.target for layout in made).values()
    assert len(times) == 10
    assert max(times) - min(times) <= 1


@pytest.mark.parametrize("target_cells", [1, 2])
def test_order_of_the_candidates_does_not_matter_and_the_seed_does(target_cells):
    images = candidates([5, 4, 3, 6, 2, 5])
    made = layouts(images, 2, target_cells)
    assert made == layouts(images[::-1], 2, target_cells)
    assert made != layouts(images, 2, target_cells, seed=1)


def test_a_second_round_arranges_all_images_anew():
    images = candidates([1] * 8)
    made = layouts(images, 2, uses=2)
    assert made[:2] == layouts(images, 2)
    assert made[2:] != made[:2]
    for part in (made[:2], made[2:]):
        assert {image.index for layout in part for image in layout.cells} == set(range(8))


def test_places_are_spread_over_the_cells():
    made = layouts(candidates([200] * 4), 2, target_cells=1)
    places = Counter([image.label for image in layout.cells].index(0) for layout in made)
    assert len(made) == 200
    assert all(30 <= places[place] <= 70 for place in range(4))  # 50 expected, sigma 6


@pytest.mark.parametrize(("counts", "target_cells"), [([], 1), ([3, 3, 3], 1), ([1, 1, 1, 1], 2), ([9, 9], 2)])
def test_too_few_classes_or_images_make_none(counts, target_cells):
    assert layouts(candidates(counts), 2, target_cells) == []
