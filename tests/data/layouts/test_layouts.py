"""All layouts, built in a temporary folder: ids, class indices, boxes, masks and error messages."""

import numpy as np
import pytest
from scipy.io import savemat

from axiom_bench.data.batch import NO_VERDICT
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError


def imagenet(root, **settings):
    return load_dataset({"kind": "imagenet", "root": str(root), **settings})


def test_imagenet_class_index_comes_from_the_standard_order(imagenet_root):
    dataset = imagenet(imagenet_root)
    assert dataset.ids == (
        "n01/ILSVRC2012_val_00000002.JPEG",
        "n03/ILSVRC2012_val_00000001.JPEG",
        "n03/ILSVRC2012_val_00000003.JPEG",
    )
    assert dataset.classes == ("n01", "n02", "n03")
    assert dataset.class_names[0] == "tench, Tinca tinca"
    assert [dataset.read(index).label for index in range(3)] == [0, 2, 2]  # not 0, 1, 1: n02 has no folder
    assert [dataset.labels(index) for index in range(3)] == [(0,), (2,), (2,)]


def test_imagenet_boxes_are_zero_based_and_inclusive(imagenet_root):
    sample = imagenet(imagenet_root).read(1)
    assert sample.objects == ((2, (0, 0, 40, 30)), (2, (4, 5, 7, 8)))
    assert sample.problems == ()
    assert sample.mask is None


def test_imagenet_with_a_class_list(imagenet_root):
    """Their order is the class index, and they choose the images."""
    dataset = imagenet(imagenet_root, classes=["n03", "n02"])
    assert [dataset.read(index).label for index in range(len(dataset))] == [0, 0]
    assert dataset.classes == ("n03", "n02")


def test_imagenet_classes_from_a_file(imagenet_root, tmp_path):
    (tmp_path / "mine.txt").write_text("n03 shark\nn01 tench\n")
    dataset = imagenet(imagenet_root, classes=str(tmp_path / "mine.txt"))
    assert [dataset.labels(index) for index in range(3)] == [(1,), (0,), (0,)]


FLAT = {
    "LOC_val_solution.csv": "ImageId,PredictionString\nILSVRC2012_val_00000001,n03 0 0 39 29 n03 4 5 6 7 \n"
    "ILSVRC2012_val_00000002,n01 1 2 3 4 \nILSVRC2012_val_00000003,n03 1 2 3 4 \n",
    "val.txt": "ILSVRC2012_val_00000001.JPEG 2\nILSVRC2012_val_00000002.JPEG 0\nILSVRC2012_val_00000003.JPEG 2\n",
    "mine.txt": "ILSVRC2012_val_00000001 n03\nILSVRC2012_val_00000002 n01\nILSVRC2012_val_00000003 n03\n",
    # The devkit numbers classes in its own order: here n03 is 1, n02 is 2, n01 is 3.
    "ILSVRC2012_validation_ground_truth.txt": "1\n3\n1\n",
}


@pytest.fixture
def flat_root(imagenet_root):
    for path in list((imagenet_root / "val").glob("*/*.JPEG")):
        path.rename(imagenet_root / "val" / path.name)
    return imagenet_root


def write_meta(path):
    synsets = np.array([(1, "n03"), (2, "n02"), (3, "n01")], dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])
    savemat(path, {"synsets": synsets[:, None]})


@pytest.mark.parametrize("name", FLAT)
def test_flat_imagenet_with_a_file_of_labels(flat_root, name):
    (flat_root / name).write_text(FLAT[name])
    write_meta(flat_root / "meta.mat")
    dataset = imagenet(flat_root, **({"labels": "mine.txt"} if name == "mine.txt" else {}))
    assert dataset.ids == tuple(f"ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2, 3))
    assert [dataset.read(index).label for index in range(3)] == [2, 0, 2]
    assert len(dataset.read(0).objects) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("val.txt", "ILSVRC2012_val_00000001.JPEG 2\n", "no label for ILSVRC2012_val_00000002"),
        ("val.txt", "ILSVRC2012_val_00000001.JPEG\n", "can't be read"),
        ("val.txt", "ILSVRC2012_val_00000001.JPEG 3\n", "class 3 of ILSVRC2012_val_00000001"),
        ("LOC_val_solution.csv", "Id,Label\n1,n03\n", "can't be read"),
        ("ILSVRC2012_validation_ground_truth.txt", "1\n3\n1\n", "meta.mat"),
        ("README", "", "no class folders"),
    ],
)
def test_invalid_label_file_error_messages(flat_root, name, text, message):
    (flat_root / name).write_text(text)
    with pytest.raises(BenchError, match=message):
        imagenet(flat_root)


def test_imagenet_training_boxes_are_nested_by_synset(imagenet_root, build):
    save, xml = build
    save(imagenet_root / "train/n02/n02_1.JPEG")
    xml(imagenet_root / "Annotations/CLS-LOC/train/n02/n02_1.xml", [("n02", 1, 2, 3, 4)])
    assert imagenet(imagenet_root, split="train").read(0).objects == ((1, (1, 2, 4, 5)),)


def test_imagenet_without_a_class_list_is_refused(imagenet_root):
    (imagenet_root / "LOC_synset_mapping.txt").unlink()
    with pytest.raises(BenchError, match=r"LOC_synset_mapping\.txt.*data\.classes"):
        imagenet(imagenet_root)


def test_imagenet_folder_outside_the_class_list_is_refused(imagenet_root, build):
    build[0](imagenet_root / "val/n99/x.JPEG")
    with pytest.raises(BenchError, match="n99"):
        imagenet(imagenet_root)


def test_voc(voc_root):
    dataset = load_dataset({"kind": "voc", "root": str(voc_root)})
    assert dataset.ids == ("2007_1", "2007_2", "2007_3")
    first, second, third = (dataset.read(index) for index in range(3))
    assert first.objects == ((11, (0, 0, 10, 20)), (14, (10, 0, 40, 30)))  # 1-based inclusive in the file
    assert first.label == 14  # the person is larger
    assert dataset.labels(0) == (11, 14)
    assert first.mask.shape == (30, 40)
    assert first.mask[0, 0] == 11
    assert first.mask[0, 39] == 14
    assert first.mask[25, 0] == -1  # background
    assert (first.mask[29] == NO_VERDICT).all()  # border
    assert (second.mask, second.problems) == (None, ())
    assert third.objects == ()
    assert third.label is None
    assert "no annotation" in third.problems[0]


def test_difficult_objects_of_voc_count_unless_they_are_left_out(voc_root):
    path = voc_root / "VOCdevkit/VOC2012/Annotations/2007_1.xml"
    path.write_text(path.read_text().replace("<name>dog</name>", "<name>dog</name><difficult>1</difficult>"))
    every, plain = (
        load_dataset({"kind": "voc", "root": str(voc_root), "difficult": difficult}) for difficult in (True, False)
    )
    assert (every.labels(0), plain.labels(0)) == ((11, 14), (14,))
    assert plain.read(0).objects == ((14, (10, 0, 40, 30)),)
    assert plain.read(0).problems == ()
    assert plain.read(0).mask[0, 0] == 11  # the mask keeps it
    assert plain.fingerprint(0) != every.fingerprint(0)
    path.write_text(path.read_text().replace("<name>person</name>", "<name>person</name><difficult>1</difficult>"))
    assert (plain.read(0).objects, plain.read(0).problems) == ((), ())  # not a file without objects


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_root_at_each_level(voc_root, below):
    assert len(load_dataset({"kind": "voc", "root": str(voc_root / below), "image_set": "Segmentation"})) == 1


def test_voc_classes_are_sorted():
    from axiom_bench.data.layouts.voc import CLASSES

    assert len(CLASSES) == 20
    assert sorted(CLASSES) == list(CLASSES)


def test_folder(folder_root):
    dataset = load_dataset({"kind": "folder", "root": str(folder_root)})
    assert dataset.ids == ("cat/1.jpg", "cow/2.png", "dog/1.jpg")  # two files named 1.jpg, two ids
    assert dataset.classes == ("cat", "cow", "dog")
    samples = [dataset.read(index) for index in range(3)]
    assert [sample.label for sample in samples] == [0, 1, 2]
    assert all(sample.objects == () and sample.mask is None for sample in samples)
    reordered = load_dataset({"kind": "folder", "root": str(folder_root), "classes": ["dog", "bird", "cat"]})
    assert [(reordered.ids[index], reordered.labels(index)) for index in range(2)] == [
        ("cat/1.jpg", (2,)),
        ("dog/1.jpg", (0,)),
    ]


def test_fingerprint_depends_on_image_and_annotation(imagenet_root, build):
    dataset = imagenet(imagenet_root)
    before = [dataset.fingerprint(index) for index in range(3)]
    assert len(set(before)) == 3
    build[1](imagenet_root / "Annotations/CLS-LOC/val/ILSVRC2012_val_00000002.xml", [("n01", 1, 1, 2, 2)])
    build[0](imagenet_root / "val/n03/ILSVRC2012_val_00000001.JPEG", seed=9)
    after = [dataset.fingerprint(index) for index in range(3)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, False, True]


@pytest.mark.parametrize(
    ("kind", "message"),
    [("imagenet", "Annotations/CLS-LOC"), ("voc", "JPEGImages"), ("folder", "ImageFolder")],
)
def test_missing_root_error_message(tmp_path, kind, message):
    with pytest.raises(BenchError, match=message) as caught:
        load_dataset({"kind": kind, "root": str(tmp_path / "nowhere")})
    assert str(tmp_path / "nowhere") in str(caught.value)


@pytest.mark.parametrize("kind", ["imagenet", "folder"])
def test_empty_root_error_message(tmp_path, kind):
    (tmp_path / "val").mkdir()
    with pytest.raises(BenchError, match="no images"):
        load_dataset({"kind": kind, "root": str(tmp_path), "classes": ["n01"]})


def test_voc_missing_image_list_error_message(voc_root):
    with pytest.raises(BenchError, match=r"ImageSets/Main/test\.txt"):
        load_dataset({"kind": "voc", "root": str(voc_root), "split": "test"})
