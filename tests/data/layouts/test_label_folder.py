"""Boxes and masks next to a folder of images, compared with the same data in VOC's layout."""

import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from axiom_bench.cli.explain import image_paths
from axiom_bench.data.base import BACKGROUND, NO_VERDICT
from axiom_bench.data.layouts.classes import NetworkClasses
from axiom_bench.data.layouts.label_search import ANNOTATIONS
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError
from tests.data import label_trees
from tests.data.builders import load as load_kind
from tests.data.builders import save, xml
from tests.data.label_trees import CLASSES, WITH_BOXES, WITH_POLYGONS, images, write, yolo

NETWORK = NetworkClasses(["person", "cat", "dog"], 3)


def load(root, network=None, **settings):
    give_network = None if network is None else lambda: network
    return load_dataset({"kind": "folder", "root": str(root), **settings}, give_network)


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    label_trees.voc(root)
    return load_kind("voc", root, classes=list(CLASSES))


@pytest.mark.parametrize("tree", [*WITH_BOXES, *WITH_POLYGONS, label_trees.masks])
def test_labels_equal_those_in_vocs_layout(tmp_path, voc, tree):
    tree(tmp_path)
    data = load(tmp_path, classes=list(CLASSES))
    assert data.classes == CLASSES
    assert [os.path.basename(image) for image in data.ids] == ["a.jpg", "b.jpg", "c.jpg"]
    assert str(tmp_path) in data.notes[0]
    copy = pickle.loads(pickle.dumps(data))
    for index in range(len(data)):
        sample = copy.read(index)
        expected = voc.read(index)
        assert sample.label == expected.label
        assert data.labels(index) == voc.labels(index)
        objects = sample.objects
        expected_objects = expected.objects
        if tree is label_trees.masks:  # in the order of classes
            expected_objects = tuple(sorted(expected_objects))
        assert [label for label, _ in objects] == [label for label, _ in expected_objects]
        for (_, box), (_, expected_box) in zip(objects, expected_objects, strict=True):
            assert box == pytest.approx(expected_box, abs=1e-9)  # float64, a few roundings
        assert sample.problems == ()
        if tree in WITH_BOXES:
            assert sample.mask is None
        elif expected.mask is not None:
            assert np.array_equal(sample.mask, expected.mask)


@pytest.mark.parametrize("below", ["images", "images/val"])
def test_the_folder_of_images_itself_is_the_root(tmp_path, below):
    yolo(tmp_path / "set")
    for name in ("images", "labels"):
        folder = tmp_path / "set" / name
        target = tmp_path / "set" / below.replace("images", name)
        if target != folder:
            folder.rename(tmp_path / "moved")
            target.parent.mkdir()
            (tmp_path / "moved").rename(target)
    data = load(tmp_path / "set" / below, NETWORK, classes=list(CLASSES))
    assert [data.labels(index) for index in range(3)] == [(0, 2), (1,), ()]


def test_categories_of_coco_are_found_among_the_networks_classes(tmp_path):
    label_trees.coco(tmp_path)
    data = load(tmp_path, NetworkClasses(["dog", "bird", "cat", "person"], 4))
    assert [data.labels(index) for index in range(3)] == [(0, 3), (2,), ()]
    assert "1 of 4 classes of the labels, such as 'animals', is no class" in data.notes[1]
    data = load(tmp_path, NetworkClasses(["x", "y"], 2))
    assert data.unlabelled.startswith("'animals' isn't one of the network's 2 classes; set")
    assert load(tmp_path, NETWORK, annotations="none").unlabelled
    with pytest.raises(BenchError, match=r"has labels of data\.annotations=cvat"):
        load(tmp_path, annotations="cvat")


def test_annotations_of_coco_next_to_the_folder_of_images(tmp_path):
    label_trees.coco_of_a_split(tmp_path)
    data = load(tmp_path / "val", NETWORK, annotations="coco")
    assert [data.labels(index) for index in range(3)] == [(0, 2), (1,), ()]
    file = tmp_path / "annotations/instances_val.json"
    write(tmp_path / "annotations/instances_train.json", file.read_text())
    with pytest.raises(BenchError, match=r"set data=coco data\.root=.* data\.split=train"):
        load(tmp_path, NETWORK)


@pytest.mark.parametrize(
    ("file", "folder", "prefix", "root"),
    [
        ("annotations/instances_default.json", "images", "", "."),  # CVAT
        ("annotations/instances_default.json", "images", "", "images"),
        ("labels.json", "data", "", "."),  # FiftyOne
        ("result.json", "images", "images\\", "."),  # Label Studio on Windows
        ("result.json", "images", "images/", "images"),
    ],
)
def test_images_of_coco_exports_are_found_by_their_names(tmp_path, file, folder, prefix, root):
    label_trees.coco(tmp_path, file, folder)
    path = tmp_path / file
    content = json.loads(path.read_text())
    for entry in content["images"]:
        entry["file_name"] = prefix + entry["file_name"]
    path.write_text(json.dumps(content))
    data = load(tmp_path / root, NETWORK)
    assert [data.labels(index) for index in range(3)] == [(0, 2), (1,), ()]
    assert len(data.read(0).objects) == 2


def test_annotations_of_coco_for_other_images_are_not_used(tmp_path):
    label_trees.coco_of_a_split(tmp_path)
    save(tmp_path / "test/x.jpg")
    assert load(tmp_path / "test", NETWORK).unlabelled == "x.jpg lies in no folder"


def test_a_json_of_another_form_is_no_annotation_file(tmp_path):
    images(tmp_path)
    write(tmp_path / "photographs.json", '{"images": ["a.jpg"]}')
    assert load(tmp_path).unlabelled


def test_classes_are_found_among_the_networks(tmp_path):
    yolo(tmp_path)
    data = load(tmp_path, NetworkClasses(["dog", "bird", "cat, tabby", "person"], 4))
    assert [data.labels(index) for index in range(3)] == [(0, 3), (2,), ()]
    assert data.class_names == ("dog", "bird", "cat, tabby", "person")

    # Without names, the order of data.yaml is that of the outputs.
    assert load(tmp_path, NetworkClasses(None, 3)).classes == CLASSES

    data = load(tmp_path, NetworkClasses(["dog", "bird"], 2))
    assert [data.labels(index) for index in range(3)] == [(0,), (), ()]
    assert "2 of 3 classes of the labels, such as 'person', are no class" in data.notes[1]

    data = load(tmp_path, NetworkClasses(["x", "y"], 2))
    reason = (
        "'person' isn't one of the network's 2 classes; set data.classes to the labels' names in "
        "the order of the network's outputs"
    )
    assert data.unlabelled == reason
    (note,) = data.notes
    assert note.endswith(f"; not used, so metrics that need them have no value: {reason}")


def test_other_files_of_text_are_no_labels(tmp_path):
    images(tmp_path)
    write(tmp_path / "a.txt", "A photograph of a dog.")
    write(tmp_path / "b.json", '{"photographer": "Ann"}')
    write(tmp_path / "c.xml", "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    data = load(tmp_path)
    assert data.unlabelled == "a.jpg lies in no folder"
    assert len(data.notes) == 1


def test_label_files_without_any_object_are_reported(tmp_path):
    yolo(tmp_path)
    for name in "abc":
        write(tmp_path / f"labels/{name}.txt", "")
    reason = (
        "none of these files has an object; some tools write empty files instead of polygons or "
        "rotated boxes"
    )
    assert load(tmp_path, NETWORK).unlabelled == reason


def test_label_files_may_have_the_whole_name_of_the_image(tmp_path):
    label_trees.labelimg(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.xml").rename(tmp_path / f"{name}.jpg.xml")
    data = load(tmp_path, NETWORK)
    assert [data.labels(index) for index in range(3)] == [(0, 2), (1,), ()]


def test_commas_may_separate_the_numbers_of_yolo(tmp_path):
    yolo(tmp_path)
    file = tmp_path / "labels/a.txt"
    file.write_text(file.read_text().replace(" ", ","))
    assert load(tmp_path, NETWORK).labels(0) == (0, 2)


def test_the_list_of_classes_of_roboflows_darknet_format(tmp_path):
    label_trees.darknet(tmp_path)
    (tmp_path / "classes.txt").rename(tmp_path / "_darknet.labels")
    write(tmp_path / "labels.cache", "")
    data = load(tmp_path, NETWORK)
    assert data.labels(0) == (0, 2)
    assert len(data.notes) == 1


def test_problems_are_counted_with_an_example_each(tmp_path):
    yolo(tmp_path)
    lines = "0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n\n0 20 15 8 6\n0 0.5 half 0.2 0.2\n0 0.5\n"
    write(tmp_path / "labels/b.txt", lines)
    write(tmp_path / "labels/c.txt", "8 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "labels/z.txt", "0 0.5 0.5 0.2 0.2\n")
    save(tmp_path / "images/d.JPG")
    data = load(tmp_path, NETWORK)
    end = "; what is wrong is left out"
    assert set(data.notes[1:]) == {
        "label files that have numbers that are no shares of the image, from 0 to 1: 1 of 3, such "
        f"as labels/b.txt, line 4{end}",
        "label files that have a line that isn't 'class x y width height' or a polygon: 1 of 3, "
        f"such as labels/b.txt, line 5{end}",
        "label files that name a class that data.yaml doesn't have: 2 of 3, such as labels/b.txt, "
        f"line 2{end}",
        "1 of 4 images has no labels, such as images/d.JPG, and counts as an image without an "
        "object",
        "label files without an image: 1, such as z.txt",
    }
    assert len(data.read(1).objects) == 1
    assert data.labels(1) == (0,)


@pytest.mark.parametrize(
    "text", ["names: [[a]]", "names: {x: a}", "names: 3", "[" * 400, "\tnames", "train: a"]
)
def test_a_list_of_classes_of_another_form_is_passed_over(tmp_path, text):
    yolo(tmp_path)
    write(tmp_path / "data.yaml", text)
    assert "no file has the names of their classes" in load(tmp_path).notes[0]
    write(tmp_path / "classes.txt", "person\ncat\ndog\n")
    assert load(tmp_path).classes == CLASSES


def test_two_tools_are_refused_and_a_setting_chooses(tmp_path):
    yolo(tmp_path)
    xml(tmp_path / "images/b.xml", [("dog", 1, 1, 5, 5)])
    with pytest.raises(BenchError, match=r"data\.annotations=yolo or data\.annotations=xml"):
        load(tmp_path)
    assert load(tmp_path, NETWORK, annotations="xml").labels(1) == (2,)
    assert load(tmp_path, NETWORK, annotations="yolo").labels(1) == (1,)
    assert load(tmp_path, NETWORK, annotations="none").unlabelled
    with pytest.raises(BenchError, match=r"No image in .* has labels of data\.annotations=cvat"):
        load(tmp_path, annotations="cvat")
    with pytest.raises(BenchError, match="did you mean 'yolo'"):
        load(tmp_path, annotations="yola")
    assert {"auto", "none", "yolo", "xml", "labelme", "cvat", "masks", "coco"} == {*ANNOTATIONS}


def test_a_file_that_changes_decides_the_fingerprint(tmp_path):
    for tree in (yolo, label_trees.cvat, label_trees.masks):
        root = tmp_path / tree.__name__
        tree(root)
        data = load(root, NETWORK, classes=list(CLASSES))
        before = data.fingerprint(0)
        assert load(root, NETWORK, classes=["dog", "cat", "person"]).fingerprint(0) != before
        for path in data.files(0):
            content = path.read_bytes()
            path.write_bytes(content + b" ")
            assert data.fingerprint(0) != before
            path.write_bytes(content)


# Situations of public reports.


@pytest.mark.parametrize("change", [str.capitalize, str.upper])
@pytest.mark.parametrize("tree", [yolo, label_trees.masks, label_trees.annotations_folder])
def test_folders_and_lists_of_classes_may_have_another_case(tmp_path, tree, change):
    expected = tmp_path / "expected"
    tree(expected)
    found = tmp_path / "found"
    tree(found)
    for path in [*found.iterdir()]:
        if path.name != "data.yaml":
            path.rename(path.with_name(f"{change(path.stem)}{path.suffix}"))
    one = load(expected, NETWORK)
    other = load(found, NETWORK)
    assert [other.read(index).objects for index in range(3)] == [
        one.read(index).objects for index in range(3)
    ]
    assert len(other.notes) == len(one.notes)


def test_two_lists_of_classes_in_different_orders_are_refused(tmp_path):
    """Label tools write classes.txt anew, in the order of the labels that they meet."""
    yolo(tmp_path)
    list_file = write(tmp_path / "labels/classes.txt", "dog\nperson\ncat\n")
    with pytest.raises(BenchError, match=r"classes\.txt and .*data\.yaml .* different orders"):
        load(tmp_path, NETWORK)
    list_file.write_text("person\ncat\ndog\n")
    assert load(tmp_path, NETWORK).labels(0) == (0, 2)


def test_an_empty_list_of_classes_is_passed_over(tmp_path):
    yolo(tmp_path)
    write(tmp_path / "labels/classes.txt", "")
    assert load(tmp_path, NETWORK).labels(0) == (0, 2)
    (tmp_path / "data.yaml").unlink()
    assert "no file has the names of their classes" in load(tmp_path, NETWORK).notes[0]


def test_classes_that_are_numbered_from_1_are_refused(tmp_path):
    yolo(tmp_path)
    for path in (tmp_path / "labels").glob("*.txt"):
        lines = path.read_text().splitlines()
        write(path, "".join(f"{int(line[0]) + 1}{line[1:]}\n" for line in lines))
    with pytest.raises(BenchError, match="number 3 classes from 1, and YOLO's count from 0"):
        load(tmp_path, NETWORK)


def test_boxes_on_a_photograph_with_an_orientation_are_on_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "images/a.jpg"
    path.parent.mkdir()
    Image.new("RGB", (40, 30)).save(path, exif=exif)
    write(tmp_path / "classes.txt", "cat\n")
    write(tmp_path / "labels/a.txt", "0 0.5 0.25 0.2 0.1\n")
    sample = load(tmp_path).read(0)
    assert sample.size == (40, 30)  # height and width
    assert sample.objects[0][1] == pytest.approx((12, 8, 18, 12))

    (tmp_path / "labels/a.txt").unlink()
    xml(tmp_path / "images/a.xml", [("cat", 1, 1, 5, 5)])  # made for the image as it is stored
    sample = load(tmp_path).read(0)
    assert sample.objects == ()
    assert "(40, 30) pixels (width, height), and the image has (30, 40)" in sample.problems[0]


def test_shares_slightly_beyond_the_image_are_cut_off(tmp_path):
    save(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 0.5 0.5 1.0004 1\n")
    write(tmp_path / "classes.txt", "cat\n")
    sample = load(tmp_path).read(0)
    assert sample.objects == ((0, (0, 0, 40, 30)),)
    assert sample.problems == ()


def test_labels_next_to_images_in_a_folder_called_images(tmp_path):
    """Half of the files are in `labels`, and half next to the images."""
    yolo(tmp_path)
    (tmp_path / "labels/b.txt").rename(tmp_path / "images/b.txt")
    data = load(tmp_path, NETWORK)
    assert [data.labels(index) for index in range(3)] == [(0, 2), (1,), ()]


def test_tracks_of_a_video_are_refused_with_the_export_to_choose(tmp_path):
    images(tmp_path)
    write(tmp_path / "annotations.xml", "<annotations><track label='cat'></track></annotations>")
    with pytest.raises(BenchError, match=r"has tracks of a video.*CVAT for images 1\.1"):
        load(tmp_path)


def test_endings_of_windows_and_a_mark_at_the_start(tmp_path):
    save(tmp_path / "A.JPG")
    (tmp_path / "A.TXT").write_bytes(b"\xef\xbb\xbf1 0.5 0.5 0.5 0.5\r\n")
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.read(0).objects == ((1, (10, 7.5, 30, 22.5)),)


# Each tool's own shapes.


def test_keypoints_and_confidences_of_yolo(tmp_path):
    save(tmp_path / "a.png")
    write(tmp_path / "data.yaml", "names: [cat]\nkpt_shape: [2, 3]\n")
    write(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.5 0.4 0.4 2 0.6 0.6 1\n")
    assert load(tmp_path).read(0).objects == ((0, (10, 7.5, 30, 22.5)),)
    write(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.5 0.93\n")
    assert load(tmp_path).read(0).objects == ((0, (10, 7.5, 30, 22.5)),)


def test_shapes_of_labelme(tmp_path):
    save(tmp_path / "a.png")
    shapes = [
        label_trees.labelme_shape("cat", [[5, 15], [15, 5]], "rectangle"),
        label_trees.labelme_shape("dog", [[1, 1], [2, 2]], "line"),
        label_trees.labelme_shape("dog", [[1, 1], [2, float("nan")], [3, 3]], "polygon"),
        {"label": "dog"},
    ]
    write(tmp_path / "a.json", json.dumps({"shapes": shapes}))
    data = load(tmp_path)
    assert data.read(0).objects == ((0, (5, 5, 15, 15)),)
    assert (
        "label files that have a shape that is malformed, or no rectangle or polygon: 1 of 1"
        in data.notes[1]
    )
    assert "a.json, shape 2" in data.notes[1]


def test_background_of_labelme_makes_holes_and_what_to_ignore_has_no_verdict(tmp_path):
    save(tmp_path / "a.png")
    outlines = {
        "cat": [(0, 0), (20, 0), (20, 20), (0, 20)],
        "_background_": [(5, 5), (10, 5), (10, 10), (5, 10)],
        "__ignore__": [(15, 15), (30, 15), (30, 25), (15, 25)],
    }
    shapes = [
        label_trees.labelme_shape(name, points, "polygon") for name, points in outlines.items()
    ]
    write(tmp_path / "a.json", json.dumps({"shapes": shapes}))
    expected = np.full((30, 40), BACKGROUND)
    expected[15:25, 15:30] = NO_VERDICT
    expected[:20, :20] = 0
    expected[5:10, 5:10] = BACKGROUND
    data = load(tmp_path, NetworkClasses(None, 1))
    sample = data.read(0)
    assert sample.objects == ((0, (0, 0, 20, 20)),)
    assert np.array_equal(sample.mask, expected)
    assert len(data.notes) == 1


def test_shapes_of_cvat(tmp_path):
    save(tmp_path / "a.png")
    place = 'xtl="10" ytl="10" xbr="20" ybr="14"'
    shapes = [
        f'<box label="cat" {place} rotation="0.0"/>',
        f'<box label="cat" {place} rotation="90"/>',
        '<polyline label="cat" points="1,1;2,2"/>',
        '<box label="cat" xtl="1"/>',
    ]
    image = f'<image name="a.png" width="40" height="30">{"".join(shapes)}</image>'
    write(tmp_path / "annotations.xml", f"<annotations>{image}</annotations>")
    data = load(tmp_path)
    assert data.read(0).objects == ((0, (10, 10, 20, 14)),)
    assert data.read(0).mask is None
    kind = "have a shape that is malformed or rotated, or no box or polygon"
    assert f"images in annotations.xml that {kind}: 1 of 1" in data.notes[1]
    assert "such as a.png, shape 2 (box)" in data.notes[1]


def test_masks_of_one_class_may_be_0_and_255(tmp_path):
    images(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[5:8, 4:7] = 255
    Image.fromarray(mask).save(tmp_path / "masks/a_mask.png")
    assert "no file has the names of their classes" in load(tmp_path).notes[0]

    sample = load(tmp_path, classes=["cat"]).read(0)
    assert sample.objects == ((0, (4, 5, 7, 8)),)
    assert np.array_equal(sample.mask, np.where(mask, 0, BACKGROUND))

    sample = load(tmp_path, classes=["cat", "dog"]).read(0)
    assert sample.objects == ()
    assert sample.problems == ("the mask a_mask.png has only 0 and 255, and no class's number",)


def test_masks_of_colours_are_reported(tmp_path):
    label_trees.masks(tmp_path)
    path = tmp_path / "masks/a.png"
    Image.open(path).convert("RGB").save(path)
    (problem,) = load(tmp_path, NETWORK).read(0).problems
    assert problem == (
        "the mask a.png has colours; save it as a grey or palette PNG whose values are the "
        "numbers of classes"
    )


def test_explain_leaves_out_masks(tmp_path):
    label_trees.masks(tmp_path)
    paths, notes, problems = image_paths([tmp_path])
    assert [path.name for path in paths] == ["a.jpg", "b.jpg", "c.jpg"]
    assert notes == [f"{tmp_path}: 2 masks of images aren't explained."]
    assert problems == []
