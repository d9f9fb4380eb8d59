"""Mosaics: the places of images, exact boxes and masks, and cells as the network sees one image."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from axiom_bench.data.base import BadImage, check_labels
from axiom_bench.data.loading import batches
from axiom_bench.data.mosaic import Candidate, layouts
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.embedded.scenes import tight_box
from axiom_bench.errors import BenchError
from tests.data.builders import STANDARD, save

PLAIN = Preprocessing(None, None, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
CROPPED = Preprocessing(40, 32, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
GREY = Preprocessing((24, 30), None, (0.5,), (0.25,))


def images(**settings):
    """Load the data set from which mosaics are made."""
    settings = {"of": {"kind": "scenes", "size": 120}} | settings
    return load_dataset({"kind": "mosaic", **settings})


def mosaics(preprocessing=PLAIN, **settings):
    candidates = images(**settings)
    return candidates.mosaics(candidates.candidates(range(len(candidates))), preprocessing)


def rows(dataset, target="each_label"):
    return list(batches(dataset, range(len(dataset)), dataset.preprocessing, target, 4))


def assert_cells_are_as_alone(dataset, preprocessing):
    """Check that each cell of the first mosaic equals its image, preprocessed without others."""
    image, annotation = dataset.preprocessing(dataset.read(0))
    for cell, label, box in zip(dataset.cells(0), annotation.labels, annotation.boxes, strict=True):
        alone, _ = preprocessing(dataset.images.read(cell.image.index))
        x0, y0, x1, y1 = cell.box
        assert torch.equal(image[:, y0:y1, x0:x1], alone)
        assert label == cell.image.label
        assert box.tolist() == list(cell.box)
        assert (annotation.mask[y0:y1, x0:x1] == cell.image.label).all()
    assert image.shape[1:] == annotation.mask.shape
    assert (annotation.mask >= 0).all()


@pytest.mark.parametrize("preprocessing", [PLAIN, CROPPED, GREY])
@pytest.mark.parametrize("grid", [2, 3])
def test_each_cell_is_its_image_as_the_network_sees_it_alone(preprocessing, grid):
    assert_cells_are_as_alone(mosaics(preprocessing, grid=grid, size=1), preprocessing)


@pytest.mark.parametrize("cell", ["full", "fit"])
@pytest.mark.parametrize(("grid", "target_cells"), [(2, 1), (3, 1), (2, 2), (3, 4)])
def test_boxes_are_tight_around_the_mask_and_cells_cover_the_image(cell, grid, target_cells):
    dataset = mosaics(CROPPED, cell=cell, grid=grid, target_cells=target_cells, size=2, uses=3)
    for index in range(2):
        image, annotation = dataset.preprocessing(dataset.read(index))
        side = CROPPED.crop * grid if cell == "full" else CROPPED.crop
        assert tuple(image.shape) == (3, side, side)

        covered = np.zeros((side, side), dtype=int)
        for x0, y0, x1, y1 in annotation.boxes.long().tolist():
            covered[y0:y1, x0:x1] += 1
        assert (covered == 1).all()

        labels = annotation.labels.tolist()
        for label, box in zip(labels, annotation.boxes.tolist(), strict=True):
            if labels.count(label) == 1:
                assert tight_box((annotation.mask == label).numpy()) == tuple(box)
        target = dataset.layouts[index].target
        assert len(annotation.boxes_of(target)) == target_cells
        assert annotation.cells


def test_fit_has_borders_on_whole_pixels_and_mixes_no_cells():
    """Check 224 pixels in three cells of 75, 74 and 75.

    Each cell is the image's own picture resized, without its neighbours.
    """
    preprocessing = Preprocessing(256, 224, (0.5,) * 3, (0.25,) * 3)
    dataset = mosaics(preprocessing, cell="fit", grid=3, size=1)
    boxes = [cell.box for cell in dataset.cells(0)]
    assert boxes[:3] == [(0, 0, 75, 75), (75, 0, 149, 75), (149, 0, 224, 75)]
    whole = np.asarray(dataset.read(0).image)
    for cell in dataset.cells(0):
        x0, y0, x1, y1 = cell.box
        alone = dataset.of_cells.picture(dataset.images.read(cell.image.index))
        # torchvision also resizes a PIL image in this way.
        expected = alone.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        assert np.array_equal(whole[y0:y1, x0:x1], np.asarray(expected))


@pytest.mark.parametrize(("grid", "cell"), [(2, "full"), (3, "fit")])
def test_a_version_has_another_image_of_a_class_that_is_not_shown_in_one_cell_alone(grid, cell):
    dataset = mosaics(CROPPED, grid=grid, cell=cell, size=2)
    mosaic = np.asarray(dataset.read(1).image)
    parts = dataset.interventions(1)
    assert len(parts) == grid**2
    assert len({part.name for part in parts}) == grid**2
    assert sum(part.mask for part in parts).tolist() == np.ones(mosaic.shape[:2]).tolist()

    for part in parts:
        versions = [np.asarray(version) for version in part.images]
        assert len(versions) == 3
        for version in versions:
            changed = (version != mosaic).any(2)
            assert not changed[~part.mask].any()
            assert changed[part.mask].mean() > 0.5

    other_labels = set()
    for others in dataset.others(1):
        other_labels.update(image.label for image in others)
    assert not other_labels & set(dataset.labels(1))


def test_a_mosaic_of_all_classes_has_no_versions():
    dataset = mosaics(of={"kind": "scenes", "size": 120}, grid=2, size=1)
    shown = dataset.layouts[0].cells
    without_others = type(dataset)(dataset.images, dataset.layouts, dataset.of_cells, shown)
    assert without_others.interventions(0) == ()


def test_rows_of_each_label_and_of_the_target():
    dataset = mosaics(size=3)
    loaded = rows(dataset)
    assert [len(batch) for batch in loaded] == [4, 4, 4]
    for index, batch in enumerate(loaded):
        assert tuple(batch.targets.tolist()) == dataset.labels(index)
        assert [len(cells) for cells in batch.cells(batch.targets)] == [1] * 4
        assert batch.masks(batch.targets).float().mean((1, 2)).tolist() == [0.25] * 4

    dataset = mosaics(size=3, target_cells=2)
    (batch,) = rows(dataset, "label")
    assert batch.targets.tolist() == [layout.target for layout in dataset.layouts]
    assert [len(cells) for cells in batch.cells(batch.targets)] == [2] * 3
    assert batch.masks(batch.targets).float().mean((1, 2)).tolist() == [0.5] * 3


def test_ids_and_rows_do_not_depend_on_company():
    dataset = mosaics(size=3)
    shown = [dataset.images.ids[cell.image.index] for cell in dataset.cells(1)]
    assert dataset.ids[1] == f"0001: {' | '.join(shown)}"
    all_rows = rows(mosaics(size=None))
    for first, second in zip(rows(dataset), all_rows[:3], strict=True):
        assert torch.equal(first.images, second.images)
        assert first.image_ids == second.image_ids


def test_candidates_are_the_images_of_one_class_that_the_other_data_set_s_settings_choose():
    dataset = images()
    candidates = dataset.candidates(range(len(dataset)))
    assert 0 < len(candidates) < len(dataset)
    one_class = [index for index in range(120) if len(dataset.labels(index)) == 1]
    assert [image.index for image in candidates] == one_class
    check_labels(dataset, range(len(dataset)), 10)

    few = images(of={"kind": "scenes", "size": 40, "only_classes": [3]})
    assert 0 < len(few) < 40
    assert all(3 in few.labels(index) for index in range(len(few)))
    assert few.class_names == few.of.class_names


def test_the_fingerprint_tells_images_places_size_and_preprocessing_apart():
    different = [
        mosaics(size=1),
        mosaics(size=1, seed=1),
        mosaics(size=1, cell="fit"),
        mosaics(size=1, target_cells=2),
        mosaics(CROPPED, size=1),
        mosaics(GREY, size=1),
    ]
    assert len({dataset.fingerprint(0) for dataset in different}) == 6
    assert mosaics(size=1).fingerprint(0) == mosaics(size=2).fingerprint(0)


def folder(tmp_path, sizes):
    """Write an image of each size; return the settings of their data set."""
    for number, (width, height) in enumerate(sizes):
        save(tmp_path / f"{number}" / "a.png", width, height, seed=number)
    return {"kind": "folder", "root": str(tmp_path)}


def test_a_cell_that_cannot_be_read_makes_a_bad_mosaic(tmp_path):
    dataset = mosaics(of=folder(tmp_path, [(8, 6)] * 4))
    (tmp_path / "2/a.png").write_text("no picture")
    with pytest.raises(BadImage, match=r"^0000: .*2/a\.png.*can't be decoded") as raised:
        dataset.read(0)
    assert raised.value.image_id == dataset.ids[0]
    assert raised.value.status == "bad_image"


def test_images_of_several_sizes_need_a_preprocessing_that_makes_one(tmp_path):
    photographs = folder(tmp_path, [(8, 6), (80, 60), (8, 9), (6, 8)])
    with pytest.raises(BadImage, match=r"pixels for the network, and the cells .* makes one size"):
        mosaics(of=photographs).read(0)
    for preprocessing, size in ((GREY, (60, 48)), (CROPPED, (64, 64)), (STANDARD, (448, 448))):
        dataset = mosaics(preprocessing, of=photographs)
        assert dataset.read(0).image.size == size
        assert_cells_are_as_alone(dataset, preprocessing)


@pytest.mark.parametrize(
    ("settings_of_mosaics", "message"),
    [
        ({"cell": "half"}, "size of a mosaic's cells"),
        ({"target_cells": 4}, r"target_cells=4 of 2 x 2 cells: give 1 to 3"),
        ({"of": {"kind": "mosaic", "of": {"kind": "scenes", "size": 3}}}, "can't be of mosaics"),
        ({"of": "scenes"}, r"data\.of=imagenet on the command line"),
        ({"of": {"kind": "scenes"}}, r"needs data\.of\.size"),
        (
            {"size": 500},
            r"data\.size=500 mosaics .* images of 10 classes make \d+; set data\.size to at most "
            r"\d+",
        ),
        (
            {"grid": 4},
            r"data\.size=null mosaics of 4 x 4 cells can't be made: .* make 0; lower "
            r"data\.confidence",
        ),
    ],
)
def test_mistakes(settings_of_mosaics, message):
    with pytest.raises(BenchError, match=message):
        mosaics(**settings_of_mosaics)


COUNTS = st.lists(st.integers(0, 6), min_size=1, max_size=12)  # images of each class


def candidates(counts):
    """Return as many candidates of each class as its count says."""
    labels = []
    for label, count in enumerate(counts):
        labels += [label] * count
    return [Candidate(index, f"image {index}", label) for index, label in enumerate(labels)]


def uses_of_images(mosaic_layouts):
    """Return how often each image is in the layouts."""
    uses = Counter()
    for layout in mosaic_layouts:
        uses.update(image.index for image in layout.cells)
    return uses.values()


def most(counts, cells):
    """Return the largest number of groups of `cells` images of different classes.

    A number m of groups uses at most min(count, m) images of a class.
    """
    number = 0
    while sum(min(count, number + 1) for count in counts) >= (number + 1) * cells:
        number += 1
    return number


@pytest.mark.slow
@settings(max_examples=150)
@given(COUNTS, st.integers(2, 3), st.integers(1, 3), st.integers(0, 5))
def test_every_class_once_every_image_at_most_uses_times_and_as_many_as_possible(
    counts, grid, uses, seed
):
    mosaic_layouts = layouts(candidates(counts), grid, uses=uses, seed=seed)
    for layout in mosaic_layouts:
        assert len(layout.cells) == len({image.label for image in layout.cells}) == grid**2
        assert layout.target in {image.label for image in layout.cells}
    assert max(uses_of_images(mosaic_layouts), default=0) <= uses
    assert len(mosaic_layouts) == uses * most(counts, grid**2)


@pytest.mark.slow
@settings(max_examples=150)
@given(COUNTS, st.integers(2, 3), st.integers(2, 4), st.integers(1, 2))
def test_the_target_class_has_its_cells_and_other_classes_one(counts, grid, target_cells, uses):
    if target_cells >= grid**2:
        return
    mosaic_layouts = layouts(candidates(counts), grid, target_cells, uses)
    for layout in mosaic_layouts:
        shown = Counter(image.label for image in layout.cells)
        assert shown.pop(layout.target) == target_cells
        assert set(shown.values()) == {1}
        assert sum(shown.values()) == grid**2 - target_cells
        assert len({image.index for image in layout.cells}) == grid**2
    assert max(uses_of_images(mosaic_layouts), default=0) <= uses


def test_targets_and_places_are_spread():
    mosaic_layouts = layouts(candidates([12] * 10), 2, target_cells=2)
    assert 28 <= len(mosaic_layouts) <= 30  # 30 would use all 120 images
    times = Counter(layout.target for layout in mosaic_layouts).values()
    assert len(times) == 10
    assert max(times) - min(times) <= 1

    mosaic_layouts = layouts(candidates([200] * 4), 2, target_cells=1)
    places = Counter()
    for layout in mosaic_layouts:
        labels = [image.label for image in layout.cells]
        places[labels.index(0)] += 1
    assert len(mosaic_layouts) == 200
    assert all(30 <= places[place] <= 70 for place in range(4))  # 50 expected, sigma 6


@pytest.mark.parametrize("target_cells", [1, 2])
def test_order_of_the_candidates_does_not_matter_and_the_seed_does(target_cells):
    images = candidates([5, 4, 3, 6, 2, 5])
    mosaic_layouts = layouts(images, 2, target_cells)
    assert mosaic_layouts == layouts(images[::-1], 2, target_cells)
    assert mosaic_layouts != layouts(images, 2, target_cells, seed=1)


def test_a_second_round_arranges_all_images_anew():
    images = candidates([1] * 8)
    mosaic_layouts = layouts(images, 2, uses=2)
    assert mosaic_layouts[:2] == layouts(images, 2)
    assert mosaic_layouts[2:] != mosaic_layouts[:2]
    for first, second in (mosaic_layouts[:2], mosaic_layouts[2:]):  # the two rounds
        indices = {image.index for image in (*first.cells, *second.cells)}
        assert indices == set(range(8))


@pytest.mark.parametrize(
    ("counts", "target_cells"), [([], 1), ([3, 3, 3], 1), ([1, 1, 1, 1], 2), ([9, 9], 2)]
)
def test_too_few_classes_or_images_make_none(counts, target_cells):
    assert layouts(candidates(counts), 2, target_cells) == []
