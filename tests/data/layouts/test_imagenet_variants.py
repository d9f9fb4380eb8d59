"""ImageNet-V2's folders of class indices, ImageNet-S's masks, and VOC's two years."""

import numpy as np
import pytest
from PIL import Image

from axiom_bench.data.batch import NO_VERDICT
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError

CLASSES = [f"n{number:02d}" for number in range(12)]


@pytest.fixture
def v2_root(tmp_path, build):
    for seed, name in enumerate(("10/a.jpeg", "2/b.jpeg", "0/c.jpeg")):
        build[0](tmp_path / name, seed=seed)
    return tmp_path


def v2(root, **settings):
    return load_dataset({"kind": "folder", "root": str(root), "folders": "index", **settings})


def test_folder_names_as_class_indices(v2_root):
    dataset = v2(v2_root, classes=CLASSES)
    assert dataset.ids == ("0/c.jpeg", "10/a.jpeg", "2/b.jpeg")
    assert [dataset.labels(index) for index in range(3)] == [(0,), (10,), (2,)]
    assert dataset.read(1).label == 10
    assert dataset.classes == tuple(CLASSES)


@pytest.mark.parametrize(
    ("settings", "folder", "message"),
    [
        ({}, "1", r"needs data\.classes"),
        ({"classes": CLASSES}, "12", "12 is no class index from 0 to 11"),
        ({"classes": CLASSES}, "tench", "tench is no class index"),
        ({"classes": CLASSES, "folders": "indices"}, "1", "index"),
    ],
)
def test_invalid_index_folders_error_messages(v2_root, settings, folder, message):
    (v2_root / folder).mkdir()
    with pytest.raises(BenchError, match=message):
        v2(v2_root, **settings)


@pytest.fixture
def s_root(tmp_path, build):
    """Two categories, n03 and n07, numbered 1 and 2 in the masks; the second image has no mask."""
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{name} name of {name}\n" for name in CLASSES))
    for seed, name in enumerate(("n07/a", "n03/b")):
        build[0](tmp_path / "validation" / f"{name}.JPEG", seed=seed)
    colours = np.zeros((30, 40, 3), dtype=np.uint8)
    colours[:10, :, 0] = 2
    colours[10:15, :, 0] = 1
    colours[15:20] = (1000 % 256, 1000 // 256, 0)
    (tmp_path / "validation-segmentation/n07").mkdir(parents=True)
    Image.fromarray(colours).save(tmp_path / "validation-segmentation/n07/a.png")
    return tmp_path


def imagenet_s(root, **settings):
    return load_dataset({"kind": "imagenet_s", "root": str(root), "categories": ["n07", "n03"], **settings})


def test_imagenet_s_masks_hold_class_indices(s_root):
    dataset = imagenet_s(s_root)
    assert dataset.ids == ("n03/b.JPEG", "n07/a.JPEG")
    assert dataset.class_names[3] == "name of n03"
    without, sample = dataset.read(0), dataset.read(1)
    assert (sample.label, dataset.labels(1), sample.problems) == (7, (7,), ())
    assert [set(rows.ravel()) for rows in np.split(sample.mask, [10, 15, 20])] == [{7}, {3}, {NO_VERDICT}, {-1}]
    assert (without.mask, without.objects) == (None, ())
    assert without.problems[0].startswith("the mask b.png: there is no file")


def test_imagenet_s_box_encloses_all_pixels_of_a_class(s_root):
    colours = np.zeros((30, 40, 3), dtype=np.uint8)
    colours[2:5, 3:9, 0] = 2
    colours[20:24, 30:31, 0] = 2  # a second object of the class
    colours[10, 39, 0] = 1  # one pixel, at the edge
    colours[29] = (1000 % 256, 1000 // 256, 0)  # ignored
    Image.fromarray(colours).save(s_root / "validation-segmentation/n07/a.png")
    assert imagenet_s(s_root).read(1).objects == ((3, (39, 10, 40, 11)), (7, (3, 2, 31, 24)))
    assert imagenet_s(s_root, boxes=None).read(1).objects == ()
    with pytest.raises(BenchError, match=r"data\.boxes"):
        imagenet_s(s_root, boxes="tight")


def test_imagenet_s_class_outside_the_class_list_has_no_box(s_root):
    dataset = imagenet_s(s_root, classes=["n07"])
    assert [label for label, _ in dataset.read(0).objects] == [0]


def test_imagenet_s_fingerprint_depends_on_categories_and_boxes(s_root):
    other = {"boxes": None}, {"categories": ["n07", "n03", "n01"]}, {"classes": [*reversed(CLASSES)]}
    prints = [imagenet_s(s_root, **settings).fingerprint(1) for settings in ({}, {"boxes": "mask"}, *other)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_imagenet_s_numbers_above_255(s_root):
    categories = [f"n{number:04d}" for number in range(300)]
    (s_root / "LOC_synset_mapping.txt").write_text("".join(f"{name} {name}\n" for name in [*categories, "n07", "n03"]))
    Image.fromarray(np.full((30, 40, 3), (300 % 256, 300 // 256, 0), dtype=np.uint8)).save(
        s_root / "validation-segmentation/n07/a.png"
    )
    assert (imagenet_s(s_root, categories=categories).read(1).mask == 299).all()


def test_imagenet_s_subset_needs_categories(s_root):
    with pytest.raises(BenchError, match=r"2 class folders.*data\.categories"):
        imagenet_s(s_root, categories=None)


@pytest.mark.parametrize("kind", ["other size", "unknown value", "truncated"])
def test_imagenet_s_malformed_mask_is_reported(s_root, kind):
    path = s_root / "validation-segmentation/n07/a.png"
    shape = (20, 40, 3) if kind == "other size" else (30, 40, 3)
    Image.fromarray(np.full(shape, 99 if kind == "unknown value" else 1, dtype=np.uint8)).save(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:50])
    sample = imagenet_s(s_root).read(1)
    assert sample.mask is None
    assert "a.png" in sample.problems[0]


@pytest.mark.parametrize("missing", ["validation", "validation-segmentation"])
def test_imagenet_s_missing_folder_error_message(s_root, missing):
    (s_root / missing).rename(s_root / "elsewhere")
    with pytest.raises(BenchError, match=r"ImageNet-S layout"):
        imagenet_s(s_root)


@pytest.fixture
def two_years(voc_root, build):
    """VOC2012 and, with one other image, VOC2007 below one root."""
    other = voc_root / "VOCdevkit/VOC2007"
    build[0](other / "JPEGImages/000001.jpg")
    build[1](other / "Annotations/000001.xml", [("sofa", 1, 1, 10, 20)])
    (other / "ImageSets/Main").mkdir(parents=True)
    for split in ("val", "test"):
        (other / f"ImageSets/Main/{split}.txt").write_text("000001\n")
    return voc_root


def voc(root, **settings):
    return load_dataset({"kind": "voc", "root": str(root), **settings})


@pytest.mark.parametrize("below", ["", "VOCdevkit"])
def test_voc_years(two_years, below):
    root = two_years / below
    assert len(voc(root)) == len(voc(root, year=2012)) == 3
    assert voc(root, year=2007, split="test").labels(0) == (17,)
    assert voc(two_years / "VOCdevkit/VOC2007", year=2007).ids == ("000001",)
    assert voc(two_years / "VOCdevkit/VOC2007").ids == ("000001",)


def test_voc_year_is_optional(two_years):
    (two_years / "VOCdevkit/VOC2012").rename(two_years / "VOCdevkit/elsewhere")
    assert voc(two_years).ids == ("000001",)
    with pytest.raises(BenchError, match="VOC2012"):
        voc(two_years, year=2012)


def test_unknown_voc_year(two_years):
    with pytest.raises(BenchError, match="2012"):
        voc(two_years, year=2021)
