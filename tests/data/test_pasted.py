"""Photographs with pasted objects of other photographs.

The tests cover the changes without a part, and the refused settings and files.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from axiom_bench.cutting.interventions import GROUND
from axiom_bench.data.base import BadImage, FileHashes
from axiom_bench.data.loading import batches
from axiom_bench.data.pasted import FEATHER, PastedImages
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError
from tests.data.builders import STANDARD, cut, save, xml

WIDTH, HEIGHT = 200, 150
BOX = (40, 30, 140, 120)  # the object of each photograph, counted from 0
CLASSES = {
    "bird": 3,
    "cat": 8,
    "cow": 10,
    "dog": 12,
    "train": 19,
}  # each class's value in the masks


@pytest.fixture
def root(tmp_path):
    """Two photographs of each class: noise around an even rectangle, which is the object."""
    x0, y0, x1, y1 = BOX
    for folder in ("JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir()
    stems = []
    for number, name in enumerate([*CLASSES, *CLASSES]):
        stem = f"{number:02d}"
        stems.append(stem)
        pixels = np.random.default_rng(number).integers(0, 100, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        pixels[y0:y1, x0:x1] = 150 + 10 * number
        photograph = Image.fromarray(pixels)
        photograph.save(tmp_path / f"JPEGImages/{stem}.jpg", quality=100, subsampling=0)

        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[y0:y1, x0:x1] = CLASSES[name]
        Image.fromarray(mask).save(tmp_path / f"SegmentationClass/{stem}.png")
        box_from_1 = (name, x0 + 1, y0 + 1, x1, y1)
        xml(tmp_path / f"Annotations/{stem}.xml", [box_from_1], WIDTH, HEIGHT)

    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/val.txt").write_text("\n".join(stems))
    return tmp_path


def pasted(root, **settings):
    voc = {"kind": "voc", "root": str(root)}
    return load_dataset({"kind": "pasted", "size": 6, "of": voc, **settings})


@pytest.mark.slow
@pytest.mark.parametrize("objects", [1, 2, 3])
def test_a_version_differs_in_the_part_alone_and_has_the_ground_there(root, objects):
    dataset = pasted(root, objects=objects)
    for index in range(len(dataset)):
        sample = dataset.read(index)
        image = np.asarray(sample.image)
        ground = np.asarray(dataset.of.read(dataset.recipes[index].ground).image)
        parts = dataset.interventions(index)
        assert [part.label for part in parts] == [*(label for label, _ in sample.objects), None]
        assert sum(part.mask for part in parts).tolist() == np.ones(image.shape[:2]).tolist()

        for part in parts[:-1]:
            (version,) = map(np.asarray, part.images)
            assert np.array_equal(version[part.mask], ground[part.mask])
            assert np.array_equal(version[~part.mask], image[~part.mask])
            assert (version != image).any(2)[part.mask].mean() > 0.9

        rest = parts[-1]
        assert rest.name == GROUND
        assert np.array_equal(image[rest.mask], ground[rest.mask])
        for version, bare in zip(rest.images, rest.bare, strict=True):
            assert np.array_equal(np.asarray(version)[rest.mask], np.asarray(bare)[rest.mask])


def without_margin(pixels, box, margin):
    """Return the pixels in a box without a margin on each side."""
    x0, y0, x1, y1 = box
    return pixels[y0 + margin : y1 - margin, x0 + margin : x1 - margin]


def test_an_object_is_the_one_of_its_photograph_within_a_soft_outline(root):
    dataset = pasted(root)
    for index in range(len(dataset)):
        sample = dataset.read(index)
        recipe = dataset.recipes[index]
        image = np.asarray(sample.image).astype(int)
        for cut_out, (label, box) in zip(recipe.objects, sample.objects, strict=True):
            x0, y0, x1, y1 = box
            assert cut_out.box == BOX
            assert label == cut_out.label
            assert (x1 - x0) / (y1 - y0) == pytest.approx(100 / 90, abs=0.03)  # whole pixels
            assert 0 <= x0 < x1 <= WIDTH
            inner = without_margin(image, box, 3 * FEATHER)
            assert np.abs(inner - (150 + 10 * cut_out.index)).max() <= 3  # JPEG
            assert (without_margin(sample.mask, box, FEATHER) == label).all()
        assert {*np.unique(sample.mask)} == {-1, *dataset.labels(index)}
        assert sample.label in dataset.labels(index)


def test_no_ground_is_labelled_with_a_class_that_is_pasted_on_it(root):
    dataset = pasted(root, size=60, objects=2)
    for index, recipe in enumerate(dataset.recipes):
        pasted_labels = {cut_out.label for cut_out in recipe.objects}
        assert len(pasted_labels) == 2
        for ground in (recipe.ground, *recipe.others):
            assert not pasted_labels.intersection(dataset.of.labels(ground))
        assert recipe.ground not in recipe.others
        assert dataset.labels(index) == tuple(sorted(pasted_labels))


def test_an_image_depends_on_its_number_the_seed_and_its_files_alone(root):
    few = pasted(root)
    many = pasted(root, size=9)
    other_seed = pasted(root, seed=1)
    assert many.ids[:6] == few.ids
    for index in range(6):
        assert many.fingerprint(index) == few.fingerprint(index)
    assert other_seed.ids != few.ids

    before = few.fingerprint(0, FileHashes())
    ground = few.of.files(few.recipes[0].ground)[0]
    assert ground in few.files(0)
    save(ground, WIDTH, HEIGHT, seed=99)
    assert few.fingerprint(0, FileHashes()) != before


def test_rows_of_each_label_with_boxes_and_masks(root):
    dataset = pasted(root)
    (batch,) = list(batches(dataset, range(2), STANDARD, "each_label", 8))
    assert tuple(batch.targets.tolist()) == (*dataset.labels(0), *dataset.labels(1))
    assert (batch.masks(batch.targets).float().mean((1, 2)) > 0.02).all()
    assert torch.isfinite(batch.images).all()


def test_a_damaged_photograph_is_told_by_the_image_that_is_made_of_it(root):
    dataset = pasted(root)
    cut(dataset.of.files(dataset.recipes[0].ground)[0], 200)
    with pytest.raises(BadImage, match=r"^000000: .*\|.*can't be (read|decoded)"):
        dataset.read(0)


def test_a_photograph_that_is_damaged_before_gives_no_object_and_a_mask_that_goes_later_is_told(
    root,
):
    cut(root / "JPEGImages/00.jpg", 200)
    dataset = pasted(root, size=40)
    for recipe in dataset.recipes:
        assert all(cut_out.index != 0 for cut_out in recipe.objects)

    # The image's ground can be read, so that the missing mask is the only fault.
    index = next(number for number, recipe in enumerate(dataset.recipes) if recipe.ground != 0)
    photograph = dataset.of.ids[dataset.recipes[index].objects[0].index]
    (root / f"SegmentationClass/{photograph}.png").unlink()
    with pytest.raises(BadImage, match=r"the mask of \d\d can't be read"):
        dataset.read(index)


@pytest.mark.parametrize(
    "change",
    [np.zeros((HEIGHT, WIDTH)), np.full((HEIGHT, WIDTH), 12), np.eye(HEIGHT, WIDTH) * 12],
    ids=str,
)
def test_what_cannot_be_cut_out_is_refused_with_counts(root, change):
    """Check masks without a region, with one that reaches the edges, and with single pixels."""
    for path in (root / "SegmentationClass").iterdir():
        Image.fromarray(change.astype(np.uint8)).save(path)
    message = r"10 images of 'voc' with 0 whole objects of 0 classes with a mask of 4096"
    with pytest.raises(BenchError, match=message):
        pasted(root)


def test_settings_that_cannot_be(root):
    three_classes = {"kind": "voc", "root": str(root), "only_classes": ["cat", "dog", "cow"]}
    message = r"give data\.of more images with masks, or lower data\.objects"
    with pytest.raises(BenchError, match=message):
        pasted(root, objects=4, size=1, of=three_classes)
    with pytest.raises(BenchError, match="objects in an image"):
        pasted(root, objects=5)
    assert isinstance(pasted(root), PastedImages)
