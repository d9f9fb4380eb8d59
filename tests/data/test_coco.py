"""A small COCO annotation file: boxes, polygons, run lengths, crowds and error messages."""

import json
import pickle
import sys

import numpy as np
import pytest

from axiom_bench.data.batch import NO_VERDICT
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError

coco_mask = pytest.importorskip("pycocotools.mask", reason="pycocotools isn't installed (extra `coco`)")
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
SQUARE = [[10, 5, 20, 5, 20, 15, 10, 15]]  # a polygon of x 10 to 20, y 5 to 15


def run_lengths(x0, y0, x1, y1, width=40, height=30):
    """A rectangle column by column, as an uncompressed crowd has it."""
    pixels = np.zeros((height, width), dtype=bool)
    pixels[y0:y1, x0:x1] = True
    values = pixels.flatten(order="F")
    ends = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *ends, len(values)]).tolist()
    return {"counts": counts if not values[0] else [0, *counts], "size": [height, width]}


def annotation(number, image, category, box, segmentation, crowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "segmentation": segmentation,
        "iscrowd": crowd,
    }


ANNOTATIONS = [
    annotation(1, 7, 18, [10, 5, 10, 10], SQUARE),
    annotation(2, 7, 1, [0, 0, 30, 20], [[0, 0, 30, 0, 30, 20, 0, 20]]),  # a larger one around it
    annotation(3, 7, 1, [32, 20, 8, 10], run_lengths(32, 20, 40, 30), crowd=1),
    annotation(4, 3, 90, [0, 0, 4, 4], run_lengths(0, 0, 4, 4), crowd=1),
]


@pytest.fixture
def coco_root(tmp_path, build):
    images = []
    for number, name in ((7, "000007.jpg"), (3, "000003.jpg"), (5, "000005.jpg")):
        build[0](tmp_path / "val2017" / name, seed=number)
        images.append({"id": number, "file_name": name, "width": 40, "height": 30})
    write(tmp_path, {"images": images, "annotations": ANNOTATIONS, "categories": CATEGORIES})
    return tmp_path


def write(root, content):
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))


def content_of(root):
    return json.loads((root / "annotations/instances_val2017.json").read_text())


def load(root, **settings):
    return load_dataset({"kind": "coco", "root": str(root), **settings})


def test_ids_classes_and_labels(coco_root):
    dataset = load(coco_root)
    assert dataset.ids == ("000003.jpg", "000005.jpg", "000007.jpg")
    assert dataset.classes == ("person", "dog", "toothbrush")  # by ascending category id, not by place
    assert [dataset.labels(index) for index in range(3)] == [(), (), (0, 1)]  # crowds are no objects


def test_boxes_masks_and_crowds(coco_root):
    sample = load(coco_root).read(2)
    assert sample.objects == ((1, (10, 5, 20, 15)), (0, (0, 0, 30, 20)))
    assert sample.crowd == ((0, (32, 20, 40, 30)),)
    assert sample.label == 0  # the person is larger
    expected = np.full((30, 40), -1)
    expected[0:20, 0:30] = 0
    expected[5:15, 10:20] = 1  # the dog is smaller, so it lies on top
    expected[20:30, 32:40] = NO_VERDICT  # the crowd
    assert np.array_equal(sample.mask, expected)
    assert sample.problems == ()


def test_compressed_run_lengths(coco_root):
    content = content_of(coco_root)
    region = run_lengths(2, 3, 9, 11)
    compressed = coco_mask.frPyObjects(region, 30, 40)
    content["annotations"] = [
        annotation(1, 5, 18, [2, 3, 7, 8], {**compressed, "counts": compressed["counts"].decode()})
    ]
    write(coco_root, content)
    sample = load(coco_root).read(1)
    assert (sample.mask[3:11, 2:9] == 1).all()
    assert (sample.mask >= 0).sum() == 56


def test_images_without_objects(coco_root):
    dataset = load(coco_root)
    crowd, empty = dataset.read(0), dataset.read(1)
    assert (empty.objects, empty.label, empty.problems) == ((), None, ())
    assert (empty.mask == -1).all()
    assert (crowd.objects, crowd.label, crowd.crowd) == ((), None, ((2, (0, 0, 4, 4)),))
    items = list(batches(dataset, range(3), Preprocessing(None, None, (0, 0, 0), (1, 1, 1)), "each_label", 4))
    assert [(part.image_id, part.status) for part in items[:2]] == [
        ("000003.jpg", "no_annotation"),
        ("000005.jpg", "no_annotation"),
    ]
    assert items[2].targets.tolist() == [0, 1]


MALFORMED = {
    "no box": {"bbox": None},
    "empty box": {"bbox": [3, 3, 0, 4]},
    "outside": {"bbox": [50, 3, 4, 4]},
    "word": {"bbox": ["a", 1, 2, 3]},
    "unknown category": {"category_id": 4},
    "run lengths of another image": {"segmentation": run_lengths(0, 0, 2, 2, 10, 10)},
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_annotation_is_reported_and_the_others_are_kept(coco_root, kind):
    content = content_of(coco_root)
    content["annotations"][0] |= MALFORMED[kind]
    write(coco_root, content)
    sample = load(coco_root).read(2)
    assert [label for label, _ in sample.objects] == [0]
    assert len(sample.problems) == 1
    assert "000007.jpg: annotation 1 is malformed" in sample.problems[0]


@pytest.mark.parametrize("region", ["absent", None, []])
@pytest.mark.parametrize("place", [0, 2])  # an object, a crowd
def test_box_without_segmentation_has_no_mask(coco_root, region, place):
    content = content_of(coco_root)
    content["annotations"][place]["segmentation"] = region
    if region == "absent":
        del content["annotations"][place]["segmentation"]
    write(coco_root, content)
    sample = load(coco_root).read(2)
    assert sample.objects == ((1, (10, 5, 20, 15)), (0, (0, 0, 30, 20)))
    assert sample.crowd == ((0, (32, 20, 40, 30)),)
    assert (sample.label, sample.mask, sample.problems) == (0, None, ())


def test_annotations_of_another_size_are_not_used(coco_root, build):
    build[0](coco_root / "val2017/000007.jpg", width=20, height=30)
    sample = load(coco_root).read(2)
    assert (sample.objects, sample.mask) == ((), None)
    assert "(40, 30)" in sample.problems[0]


def test_fingerprint_depends_on_annotations(coco_root):
    before = [load(coco_root).fingerprint(index) for index in range(3)]
    content = content_of(coco_root)
    content["annotations"][3]["bbox"] = [0, 0, 5, 4]
    write(coco_root, content)
    after = [load(coco_root).fingerprint(index) for index in range(3)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]


def test_data_set_can_be_pickled(coco_root):
    restored = pickle.loads(pickle.dumps(load(coco_root)))
    assert np.array_equal(restored.read(2).mask, load(coco_root).read(2).mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "COCO's form"), ("[]", "COCO's form"), ('{"images": []}', "categories"), (None, "instances_val2017.json")],
)
def test_invalid_annotation_file_error_messages(coco_root, text, message):
    path = coco_root / "annotations/instances_val2017.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(BenchError, match=message):
        load(coco_root)


def test_missing_pycocotools_error_message(coco_root, monkeypatch):
    import pycocotools

    monkeypatch.delattr(pycocotools, "mask")
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(BenchError, match=r"axiom-bench\[coco\]"):
        load(coco_root)
