"""A small COCO annotation file: boxes, polygons, run lengths, crowds and error messages."""

import json
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from axiom_bench.data.batch import NO_VERDICT
from axiom_bench.data.layouts.coco import region_pixels
from axiom_bench.data.loading import batches
from axiom_bench.errors import BenchError
from tests.data.builders import AS_STORED, SQUARE, annotation, run_lengths, save, write_coco
from tests.data.builders import load as load_kind

coco_mask = pytest.importorskip(
    "pycocotools.mask", reason="pycocotools isn't installed (extra `coco`)"
)


@contextmanager
def changed(root):
    """Give the content of the annotation file to change, and write it at the end."""
    content = json.loads((root / "annotations/instances_val2017.json").read_text())
    yield content
    write_coco(root, content)


def load(root):
    return load_kind("coco", root)


def test_crowds_and_images_without_objects(coco_root):
    dataset = load(coco_root)
    crowd, empty, sample = (dataset.read(index) for index in range(3))
    assert crowd.crowd == ((2, (0, 0, 4, 4)),)
    assert empty.crowd == ()
    assert sample.crowd == ((0, (32, 20, 40, 30)),)
    assert (empty.mask == -1).all()

    items = list(batches(dataset, range(3), AS_STORED, "each_label", 4))
    bad = [(part.image_id, part.status) for part in items[:2]]
    assert bad == [("000003.jpg", "no_annotation"), ("000005.jpg", "no_annotation")]
    assert items[2].targets.tolist() == [0, 1]


def test_a_crowd_lies_below_the_objects_in_it_however_small_it_is(coco_root):
    inside_the_dog = annotation(5, 7, 18, [12, 7, 4, 4], run_lengths(12, 7, 16, 11), crowd=1)
    across_the_edge = annotation(6, 7, 18, [28, 0, 4, 4], run_lengths(28, 0, 32, 4), crowd=1)
    with changed(coco_root) as content:
        content["annotations"] += [inside_the_dog, across_the_edge]
    mask = load(coco_root).read(2).mask
    assert (mask[5:15, 10:20] == 1).all()
    assert mask[0, 26:34].tolist() == [0, 0, 0, 0, NO_VERDICT, NO_VERDICT, -1, -1]


def reverse_fields(fields):
    return dict(reversed(fields))


def test_a_category_that_is_not_listed_is_no_label_and_the_order_of_an_entry_s_fields_says_nothing(
    coco_root,
):
    dataset = load(coco_root)
    labels = dataset.labels(2)
    fingerprint = dataset.fingerprint(2)

    with changed(coco_root) as content:
        turned = json.loads(json.dumps(content), object_pairs_hook=reverse_fields)
        content["annotations"] = turned["annotations"]
    assert load(coco_root).labels(2) == labels
    assert load(coco_root).fingerprint(2) == fingerprint

    with changed(coco_root) as content:
        content["annotations"] = [annotation(1, 7, 77, [10, 5, 10, 10], SQUARE)]
    assert load(coco_root).labels(2) == ()


def test_compressed_run_lengths_are_as_pycocotools_decodes_them(coco_root):
    compressed = coco_mask.frPyObjects(run_lengths(2, 3, 9, 11), 30, 40)
    region = {**compressed, "counts": compressed["counts"].decode()}
    with changed(coco_root) as content:
        content["annotations"] = [annotation(1, 5, 18, [2, 3, 7, 8], region)]
    sample = load(coco_root).read(1)
    assert (sample.mask[3:11, 2:9] == 1).all()
    assert (sample.mask >= 0).sum() == 56

    rng = np.random.default_rng(0)
    for share in (0.01, 0.3, 0.9):
        expected = rng.random((37, 53)) < share
        runs = coco_mask.encode(np.asfortranarray(expected.astype(np.uint8)))
        text = {"size": [37, 53], "counts": runs["counts"].decode()}
        assert np.array_equal(region_pixels(text, (53, 37)), expected)


def test_boxes_by_their_corners_are_refused(coco_root):
    corners = [[10, 5, 20, 15], [25, 8, 39, 30], [0, 16, 30, 29], [4, 3, 12, 9]]
    with changed(coco_root) as content:
        content["annotations"] = [
            annotation(number, 7, 18, box, None) for number, box in enumerate(corners)
        ]
    message = r"are corners .* as \[25\.0, 8\.0, 39\.0, 30\.0\]; COCO's are x, y, width"
    with pytest.raises(BenchError, match=message):
        load(coco_root)

    with changed(coco_root) as content:
        content["annotations"][3]["bbox"] = [30, 20, 10, 10]  # no corners
    assert load(coco_root).labels(2) == (1,)


def added_image(**fields):
    """Return a change that adds an image with these fields."""
    image = {"id": 8, "file_name": "000008.jpg", "width": 40, "height": 30, **fields}
    return lambda content: content["images"].append(image)


def added_category(**fields):
    """Return a change that adds a category with these fields."""
    return lambda content: content["categories"].append(fields)


def add_a_text(content):
    content["images"].append("7")


def move_annotations_to_an_absent_image(content):
    for entry in content["annotations"]:
        entry["image_id"] = 700


REFUSED = {  # the text of the file or a function that changes its content, and the message
    "a name twice": (added_image(file_name="000007.jpg"), "000007.*twice"),
    "an id twice": (added_image(id=7), "two images have the id 7"),
    "ids of two kinds": (added_image(id="7"), "ids of images must be"),
    "categories of two kinds": (added_category(id="a", name="b"), "categories"),
    "a category twice": (added_category(id=1, name="b"), "have the id 1"),
    "a name that climbs": (added_image(file_name="../7.jpg"), "no path"),
    "an absolute name": (added_image(file_name="/etc/hosts"), "no path"),
    "a name that is none": (added_image(file_name=5), "image 5.*no path"),
    "a name with zero": (added_image(file_name="a\0.jpg"), "no path"),
    "half a surrogate pair": (added_image(file_name="\ud800.jpg"), "no path"),
    "an id that is a list": (added_image(id=[7]), "isn't COCO's form"),
    "an image that is text": (add_a_text, "isn't COCO's form"),
    "annotations of other images": (
        move_annotations_to_an_absent_image,
        "no annotation is of an image of it, as that of the image 700",
    ),
    "cut": ("{", "COCO's form"),
    "a list": ("[]", "COCO's form"),
    "without categories": ('{"images": []}', "categories"),
    "nested": ("[" * 100_000, "nested too deeply"),
    "missing": (None, r"instances_val2017\.json"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_lose_an_image_is_refused(coco_root, kind):
    change, message = REFUSED[kind]
    if change is None:
        (coco_root / "annotations/instances_val2017.json").unlink()
    elif isinstance(change, str):
        write_coco(coco_root, change)
    else:
        with changed(coco_root) as content:
            change(content)
    with pytest.raises(BenchError, match=message) as caught:
        load(coco_root)
    assert "instances_val2017.json" in str(caught.value)


MALFORMED = {
    "no box": {"bbox": None},
    "empty box": {"bbox": [3, 3, 0, 4]},
    "parts of the image": {"bbox": [0.1, 0.1, 0.5, 0.5]},
    "outside": {"bbox": [50, 3, 4, 4]},
    "word": {"bbox": ["a", 1, 2, 3]},
    "unknown category": {"category_id": 4},
    "infinite": {"bbox": [3, 3, float("inf"), 4]},
    "beyond floats": {"bbox": [3, 3, 10**400, 4]},
    "text": {"bbox": "1234"},
    "category of no kind": {"category_id": [18]},
    "polygon of two numbers": {"segmentation": [[10, 5]]},
    "polygon of four numbers": {"segmentation": [[10, 5, 20, 15]]},
    "polygon far outside": {"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]},
    "polygon with NaN": {"segmentation": [[0, 0, float("nan"), 0, 9, 9]]},
    "run lengths below 0": {"segmentation": {"counts": [1210, -10], "size": [30, 40]}},
    "too many run lengths": {"segmentation": {"counts": [0, 5000], "size": [30, 40]}},
    "compressed run lengths without an end": {
        "segmentation": {"counts": "o" * 9, "size": [30, 40]}
    },
    "compressed run lengths of no such characters": {
        "segmentation": {"counts": "\u2603", "size": [30, 40]}
    },
    "nested": {"segmentation": json.loads("[" * 800 + "]" * 800)},
    "run lengths of another image": {"segmentation": run_lengths(0, 0, 2, 2, 10, 10)},
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_annotation_is_reported_and_the_others_are_kept(coco_root, kind):
    with changed(coco_root) as content:
        content["annotations"][0] |= MALFORMED[kind]
    sample = load(coco_root).read(2)
    assert [label for label, _ in sample.objects] == [0]
    assert len(sample.problems) == 1
    assert "000007.jpg: annotation 1 is malformed" in sample.problems[0]
    assert sample.mask is None  # the pixels of that object would pass for background
    assert load(coco_root).labels(2)
    assert load(coco_root).fingerprint(2)


@pytest.mark.parametrize("region", ["absent", None, []])
@pytest.mark.parametrize("index", [0, 2])  # an object, a crowd
def test_box_without_segmentation_has_no_mask(coco_root, region, index):
    with changed(coco_root) as content:
        content["annotations"][index]["segmentation"] = region
        if region == "absent":
            del content["annotations"][index]["segmentation"]
    sample = load(coco_root).read(2)
    assert sample.objects == ((1, (10, 5, 20, 15)), (0, (0, 0, 30, 20)))
    assert sample.crowd == ((0, (32, 20, 40, 30)),)
    assert sample.label == 0
    assert sample.mask is None
    assert sample.problems == ()


def test_annotations_of_another_size_are_not_used(coco_root):
    save(coco_root / "val2017/000007.jpg", width=20, height=30)
    sample = load(coco_root).read(2)
    assert sample.objects == ()
    assert sample.mask is None
    assert "(40, 30)" in sample.problems[0]


def test_names_that_begin_with_the_split_s_folder_and_images_without_a_size(coco_root):
    before = load(coco_root).read(0)
    with changed(coco_root) as content:
        for entry in content["images"]:
            entry["file_name"] = f"val2017/{entry['file_name']}"
            del entry["width"]
    sample = load(coco_root).read(0)
    assert sample.image_id == f"val2017/{before.image_id}"
    assert sample.objects == before.objects


def test_fingerprint_depends_on_annotations(coco_root):
    before = [load(coco_root).fingerprint(index) for index in range(3)]
    with changed(coco_root) as content:
        content["annotations"][3]["bbox"] = [0, 0, 5, 4]
    after = [load(coco_root).fingerprint(index) for index in range(3)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True]


def test_missing_pycocotools_error_message(coco_root, monkeypatch):
    import pycocotools

    monkeypatch.delattr(pycocotools, "mask")
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(BenchError, match=r"'\.\[coco\]"):
        load(coco_root)


def test_the_networks_classes_choose_the_categories(coco_root):
    """Check that names match in any case, in the order of the network's outputs.

    The other categories are counted, and are background in the mask.
    """
    data = load_kind("coco", coco_root, classes=["Toothbrush", "tree", "dog"])
    index = data.ids.index("000007.jpg")
    assert data.labels(index) == (2,)
    assert data.read(index).objects == ((2, (10, 5, 20, 15)),)
    assert {*data.read(index).mask.ravel()} == {-1, 2}
    assert "1 category of the file, as ['person'], is no class of data.classes" in data.notes[0]
    with pytest.raises(BenchError, match=r"no category 'bog' in .*; did you mean 'dog'"):
        load_kind("coco", coco_root, classes=["bog"])
