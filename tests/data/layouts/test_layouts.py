"""ImageNet and its variants, and VOC, built in a temporary folder.

The tests cover ids, class indices, boxes, masks and error messages.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from axiom_bench.data.base import OTHER_CLASS
from axiom_bench.data.layouts.imagenet import first_by_hash
from axiom_bench.data.layouts.voc import CLASSES as VOC_CLASSES
from axiom_bench.errors import BenchError
from tests.data.builders import SYNSETS, labels, load, save, write_s_mask, xml


def imagenet(root, **settings):
    return load("imagenet", root, **settings)


def test_imagenet_with_a_class_list_that_fits_or_not(imagenet_root, tmp_path):
    """Check that the order of a class list is the class index, and that it chooses the images."""
    dataset = imagenet(imagenet_root, classes=["n03", "n02"])
    assert dataset.classes == ("n03", "n02")
    assert labels(dataset) == [(0,), (0,)]
    (tmp_path / "mine.txt").write_text("n03 shark\nn01 tench\n")
    assert labels(imagenet(imagenet_root, classes=str(tmp_path / "mine.txt"))) == [(1,), (0,), (0,)]

    save(imagenet_root / "val/n99/x.JPEG")
    with pytest.raises(BenchError, match="n99"):
        imagenet(imagenet_root)
    (imagenet_root / "LOC_synset_mapping.txt").unlink()
    with pytest.raises(
        BenchError, match=r"There is no class 'n01' of the network, as .*/val names it"
    ):
        imagenet(imagenet_root)


def test_an_archive_that_is_not_unpacked_is_refused_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(BenchError, match="aren't unpacked") as caught:
        imagenet(tmp_path)
    code = re.search(r'python -c "(.*?)"', str(caught.value))[1]

    def unpack(root, split):
        save(Path(root, split, "n01440764/x.JPEG"))

    monkeypatch.setattr(datasets, "ImageNet", unpack)  # torchvision's unpacks real archives only
    exec(code)
    dataset = imagenet(tmp_path)  # without a class list
    assert labels(dataset) == [(0,)]
    assert len(dataset.classes) == 1000


def test_the_first_validation_images_by_hash_are_in_those_of_a_larger_number():
    lists = [first_by_hash(count) for count in (500, 5_000, 50_000)]
    assert [len(set(names)) for names in lists] == [500, 5_000, 50_000]
    assert set(lists[0]) < set(lists[1]) < set(lists[2])
    with_the_lowest_sha256sum = [f"ILSVRC2012_val_{number:08d}" for number in (49325, 32309, 48212)]
    assert lists[0][:3] == with_the_lowest_sha256sum
    assert min(lists[2]) == "ILSVRC2012_val_00000001"
    assert max(lists[2]) == "ILSVRC2012_val_00050000"


@pytest.mark.slow
def test_imagenet_chooses_the_first_by_hash_whatever_else_is_there(imagenet_root):
    """Check the chosen images and their boxes, in class folders and in one folder.

    The order of the class folders doesn't matter.
    """
    chosen = first_by_hash(3)
    stems = first_by_hash(5)
    for synset, stem in zip(("n03", "n01", "n02", "n01", "n03"), stems, strict=True):
        save(imagenet_root / "val" / synset / f"{stem}.JPEG")
        xml(imagenet_root / f"Annotations/CLS-LOC/val/{stem}.xml", [(synset, 2, 3, 11, 12)])

    dataset = imagenet(imagenet_root, first=3)
    assert dataset.ids == (
        f"n01/{chosen[1]}.JPEG",
        f"n02/{chosen[2]}.JPEG",
        f"n03/{chosen[0]}.JPEG",
    )
    for index in range(3):
        assert dataset.read(index).objects == ((index, (2, 3, 12, 13)),)

    files = list(imagenet_root.glob("val/*/*.JPEG"))
    label_list = "".join(f"{path.stem} {path.parent.name}\n" for path in files)
    (imagenet_root / "val.txt").write_text(label_list)
    for path in files:
        path.rename(imagenet_root / "val" / path.name)
    assert imagenet(imagenet_root, first=3).ids == tuple(sorted(f"{stem}.JPEG" for stem in chosen))

    (imagenet_root / f"val/{chosen[1]}.JPEG").unlink()
    message = (
        "1 of the 3 validation images that data.first=3 chooses aren't in "
        f"{imagenet_root}/val, such as {chosen[1]}.JPEG"
    )
    with pytest.raises(BenchError, match=message):
        imagenet(imagenet_root, first=3)


@pytest.fixture
def flat_root(imagenet_root):
    """The folder of `imagenet_root` without class folders."""
    for path in list((imagenet_root / "val").glob("*/*.JPEG")):
        path.rename(imagenet_root / "val" / path.name)
    return imagenet_root


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("val.txt", "ILSVRC2012_val_00000001.JPEG 2\n", "no label for ILSVRC2012_val_00000002"),
        ("val.txt", "ILSVRC2012_val_00000001.JPEG\n", "can't be read"),
        ("val.txt", "ILSVRC2012_val_00000001.JPEG 3\n", "class 3, but there are 3 classes"),
        (
            "LOC_val_solution.csv",
            "Id,Label\n1,n03\n",
            "lists no image of the folder, but '1,n03'; set data.labels",
        ),
        (
            "ILSVRC2012_validation_ground_truth.txt",
            "1\n3\n1\n",
            r"unpacks .* by python -c .*ImageNet\('.*', split='val'\)",
        ),
        ("README", "", "in class folders"),
    ],
)
def test_invalid_label_file_error_messages(flat_root, name, text, message):
    (flat_root / name).write_text(text)
    with pytest.raises(BenchError, match=message):
        imagenet(flat_root)


def test_imagenet_training_boxes_are_nested_by_synset(imagenet_root):
    save(imagenet_root / "train/n02/n02_1.JPEG")
    xml(imagenet_root / "Annotations/CLS-LOC/train/n02/n02_1.xml", [("n02", 1, 2, 3, 4)])
    assert imagenet(imagenet_root, split="train").read(0).objects == ((1, (1, 2, 4, 5)),)


def test_difficult_objects_of_voc_count_unless_they_are_left_out(voc_root):
    path = voc_root / "VOCdevkit/VOC2012/Annotations/2007_1.xml"

    def mark_as_difficult(name):
        tag = f"<name>{name}</name>"
        path.write_text(path.read_text().replace(tag, f"{tag}<difficult>1</difficult>"))

    mark_as_difficult("dog")
    with_difficult = load("voc", voc_root, difficult=True)
    without_difficult = load("voc", voc_root, difficult=False)
    sample = without_difficult.read(0)
    assert sample.objects == ((14, (10, 0, 40, 30)),)
    assert sample.problems == ()
    assert sample.mask[0, 0] == 11  # the mask keeps the dog
    assert without_difficult.fingerprint(0) != with_difficult.fingerprint(0)

    mark_as_difficult("person")
    sample = without_difficult.read(0)
    assert sample.objects == ()
    assert sample.problems == ()  # the file does have objects


def test_voc_of_other_classes_and_endings_by_a_classs_own_list(voc_root):
    root = voc_root / "VOCdevkit/VOC2012"
    (root / "JPEGImages/2007_1.jpg").rename(root / "JPEGImages/2007_1.JPEG")
    (root / "ImageSets/Main/dog_val.txt").write_text("2007_1.jpg  1\n2007_2 -1\n")
    with pytest.raises(BenchError, match=r"leave it out, and set model\.background=0"):
        load("voc", voc_root, classes=["__background__", "dog"])

    data = load("voc", voc_root, split="dog_val", classes=["Person", "DOG"])
    assert data.ids == ("2007_1",)
    assert data.labels(0) == (0, 1)
    assert data.read(0).label == 0
    assert data.notes[0].startswith("1 image of ")
    assert data.notes[0].endswith("is left out: the list marks images with -1")

    (problem,) = load("voc", voc_root, classes=["helmet"]).read(1).problems
    assert problem.endswith(f" of 'cat' {OTHER_CLASS}")


def test_voc_years(voc_root):
    """Check VOC2012, and VOC2007 with one other image, in one root."""
    assert len(VOC_CLASSES) == 20
    assert sorted(VOC_CLASSES) == list(VOC_CLASSES)
    for below in ("", "VOCdevkit", "VOCdevkit/VOC2012"):
        assert load("voc", voc_root / below, image_set="Segmentation").ids == ("2007_1",)

    voc2012 = voc_root / "VOCdevkit/VOC2012"
    voc2007 = voc_root / "VOCdevkit/VOC2007"
    save(voc2007 / "JPEGImages/000001.jpg")
    xml(voc2007 / "Annotations/000001.xml", [("sofa", 1, 1, 10, 20)])
    (voc2007 / "ImageSets/Main").mkdir(parents=True)
    for split in ("val", "test"):
        (voc2007 / f"ImageSets/Main/{split}.txt").write_text("000001\n")

    for root in (voc_root, voc_root / "VOCdevkit"):
        assert len(load("voc", root)) == len(load("voc", root, year=2012)) == 3
        assert load("voc", root, year=2007, split="test").labels(0) == (17,)
    for year in (2007, None):
        assert load("voc", voc2007, year=year).ids == ("000001",)
    with pytest.raises(BenchError, match="2012"):
        load("voc", voc_root, year=2021)

    voc2012.rename(voc_root / "VOCdevkit/elsewhere")
    assert load("voc", voc_root).ids == ("000001",)
    with pytest.raises(BenchError, match="VOC2012"):
        load("voc", voc_root, year=2012)


def test_empty_roots_are_sentences(tmp_path, voc_root):
    (tmp_path / "val").mkdir()
    for kind in ("imagenet", "folder"):
        with pytest.raises(BenchError, match="no images"):
            load(kind, tmp_path, classes=["n01"])
    with pytest.raises(BenchError, match=r"ImageSets/Main/test\.txt"):
        load("voc", voc_root, split="test")


def imagenet_s(root, **settings):
    settings = {"categories": ["n07", "n03"]} | settings
    return load("imagenet_s", root, **settings)


def test_what_the_masks_of_imagenet_s_mean_decides_the_fingerprint(imagenet_s_root):
    sample = imagenet_s(imagenet_s_root, classes=["n07"]).read(0)
    assert [label for label, _ in sample.objects] == [0]  # n03 is no class

    def fingerprint(**settings):
        return imagenet_s(imagenet_s_root, **settings).fingerprint(1)

    default = fingerprint()
    assert fingerprint(boxes="mask") == default
    different = {
        default,
        fingerprint(boxes=None),
        fingerprint(categories=["n07", "n03", "n01"]),
        fingerprint(classes=[*reversed(SYNSETS)]),
    }
    assert len(different) == 4


def test_imagenet_s_box_encloses_all_pixels_of_a_class_whose_number_may_be_above_255(
    imagenet_s_root,
):
    """Check two objects of a class, one pixel at the edge, and a row that is ignored."""
    write_s_mask(
        imagenet_s_root,
        (np.s_[2:5, 3:9], 2),
        (np.s_[20:24, 30:31], 2),
        (np.s_[10, 39], 1),
        (29, 1000),
    )
    boxes = ((3, (39, 10, 40, 11)), (7, (3, 2, 31, 24)))
    assert imagenet_s(imagenet_s_root).read(1).objects == boxes
    assert imagenet_s(imagenet_s_root, boxes=None).read(1).objects == ()

    categories = [f"n{number:04d}" for number in range(300)]
    mapping = "".join(f"{name} {name}\n" for name in [*categories, "n07", "n03"])
    (imagenet_s_root / "LOC_synset_mapping.txt").write_text(mapping)
    write_s_mask(imagenet_s_root, (np.s_[:], 300))
    assert (imagenet_s(imagenet_s_root, categories=categories).read(1).mask == 299).all()


def test_a_number_that_is_no_category_is_reported(imagenet_s_root):
    write_s_mask(imagenet_s_root, (np.s_[:], 99))
    sample = imagenet_s(imagenet_s_root).read(1)
    assert sample.mask is None
    assert sample.objects == ()
    assert "a.png" in sample.problems[0]


def test_imagenet_s_that_is_not_whole_is_a_sentence(imagenet_s_root):
    with pytest.raises(BenchError, match=r"2 class folders.*data\.categories"):
        imagenet_s(imagenet_s_root, categories=None)
    with pytest.raises(BenchError, match=r"data\.boxes"):
        imagenet_s(imagenet_s_root, boxes="tight")
    for missing in ("validation-segmentation", "validation"):
        (imagenet_s_root / missing).rename(imagenet_s_root / f"elsewhere {missing}")
        with pytest.raises(BenchError, match=r"ImageNet-S layout"):
            imagenet_s(imagenet_s_root)
