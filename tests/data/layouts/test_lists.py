"""Lists of images and labels as Windows, macOS and competitions write them."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from axiom_bench.data.layouts.classes import NetworkClasses
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError
from tests.data.builders import labels, save, xml

NAMES = ("café", "Zürich", "elk")
NAMES_BY_FORM = {
    form: tuple(unicodedata.normalize(form, name) for name in NAMES) for form in ("NFC", "NFD")
}
NAMED = NetworkClasses(NAMES, 3)

UNNAMED = NetworkClasses(None, 3)


def load(kind, root, network=None, **settings):
    return load_dataset({"kind": kind, "root": str(root), **settings}, network)


@pytest.fixture
def photos(tmp_path):
    """A folder of three photographs without labels."""
    for number in range(3):
        save(tmp_path / f"photos/{number:03d}.png", seed=number)
    return tmp_path / "photos"


LISTS = {
    "ids": "id,label\n000,café\n001,Zürich\n002,elk\n",
    "file names": "image;breed\n000.png;café\n001.png;Zürich\n002.png;elk\n",
    "no headings": "000.png,café\n001.png,Zürich\n002.png,elk\n",
    "other ending": "000.jpg\tcafé\n001.jpg\tZürich\n002.jpg\telk\n",
    "paths of Windows": (
        "path,label\nC:\\x\\000.png,café\nC:\\x\\001.png,Zürich\nC:\\x\\002.png,elk\n"
    ),
    "indices": "id,label\n000,0\n001,1\n002,2\n",
    "another order": "id,label\n002,elk\n000,café\n001,Zürich\n",
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_folder_takes_its_labels_from_a_list(photos, kind, form):
    path = photos.parent / "train.csv"
    path.write_text(unicodedata.normalize(form, LISTS[kind]), encoding="utf-8")

    data = load("folder", photos, labels=str(path), network=lambda: NAMED)
    assert labels(data) == [(0,), (1,), (2,)]
    assert data.unlabelled == ""
    assert data.classes == ("0", "1", "2")
    assert [data.read(index).label for index in range(3)] == [0, 1, 2]

    reversed_classes = load("folder", photos, labels=str(path), classes=[*reversed(NAMES)])
    if kind == "indices":
        assert labels(reversed_classes) == [(0,), (1,), (2,)]
    else:
        assert labels(reversed_classes) == [(2,), (1,), (0,)]


def test_names_of_a_list_are_the_sorted_outputs_of_a_network_without_names(photos):
    (photos / "list.csv").write_text("000,dog\n001,cat\n002,elk\n")  # below the root
    data = load("folder", photos, labels="list.csv", network=lambda: UNNAMED)
    assert labels(data) == [(1,), (0,), (2,)]
    assert "'cat' is output 0; data.classes names another order" in data.notes[0]
    data = load("folder", photos, labels="list.csv", classes=["dog", "cat", "elk"])
    assert labels(data) == [(0,), (1,), (2,)]

    message = r"names 3 classes, as 'cat', and the 9 .* set model\.classes"
    with pytest.raises(BenchError, match=message):
        load("folder", photos, labels="list.csv", network=lambda: NetworkClasses(None, 9))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "data.labels: there is no file"),
        ("000,moose\n", "no class 'moose' of the network, as .*list.csv names it"),
        ("000,n01440764\n", "no class 'n01440764' of the network, as .*list.csv names it"),
        ("x,elk\n", "lists no image of the folder"),
    ],
)
def test_a_list_that_fits_no_image_or_class_is_a_sentence(photos, text, sentence):
    path = photos.parent / "list.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BenchError, match=sentence):
        load("folder", photos, labels=str(path), network=lambda: NAMED)


def test_a_folder_without_labels_names_the_setting_and_images_beside_a_list_have_none(photos):
    data = load("folder", photos, network=lambda: NAMED)
    assert "data.labels=FILE names a list of lines 'image,label'" in data.notes[-1]
    (photos / "list.csv").write_text("001,elk\n")
    data = load("folder", photos, labels="list.csv", network=lambda: NAMED)
    assert labels(data) == [(), (2,), ()]
    assert "2 of 3 samples aren't in" in data.notes[-1]


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_folders_and_classes_in_another_unicode_form_are_the_same(tmp_path, on_disk):
    root = tmp_path / "photos"
    for name in NAMES_BY_FORM[on_disk]:
        save(root / name / "1.png")
    folders = sorted(NAMES_BY_FORM[on_disk])
    indices = [NAMES.index(unicodedata.normalize("NFC", folder)) for folder in folders]
    expected = [(index,) for index in indices]

    for names in NAMES_BY_FORM.values():
        network = NetworkClasses(names, 3)
        by_network = load("folder", root, network=lambda network=network: network)
        assert labels(by_network) == expected
        assert labels(load("folder", root, classes=[*names])) == expected


def test_the_same_file_name_in_two_folders_is_two_images(tmp_path):
    for name in ("x/000.npy", "y/000.npy", "y/001.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, np.zeros((1, 8), np.float32))

    head = "file;label;x0;x1\n"
    for lines in (
        "x\\000.npy;2;1;3\ny\\000.npy;1;2;5\ny\\001;0;;\n",
        "x/000;2;1;3\ny/000;1;2;5\n001.npy;0;;\n",
    ):
        (tmp_path / "labels.csv").write_text(head + lines)
        data = load("arrays", tmp_path, network=lambda shape: UNNAMED)
        assert labels(data) == [(2,), (1,), (0,)]
        assert data.read(0).objects == ((2, (1, 3)),)
        assert data.read(1).objects == ((1, (2, 5)),)
        assert data.read(2).objects == ()


def test_lists_of_voc_and_coco_name_files_in_another_form(voc_root, coco_root):
    root = voc_root / "VOCdevkit/VOC2012"
    name = unicodedata.normalize("NFD", "Zürich")
    save(root / f"JPEGImages/{name}.jpg")
    xml(root / f"Annotations/{name}.xml", [("cat", 1, 1, 10, 20)])
    image_list = unicodedata.normalize("NFC", "Zürich\n")
    (root / "ImageSets/Main/val.txt").write_text(image_list, encoding="utf-8")
    data = load("voc", voc_root)
    assert data.labels(0) == (7,)
    assert data.read(0).problems == ()

    path = coco_root / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    for index, entry in enumerate(content["images"]):
        entry |= {"file_name": f"sub\\{index}ü.png", "width": 40, "height": 30}
        picture = coco_root / "val2017/sub" / unicodedata.normalize("NFD", f"{index}ü.png")
        picture.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(picture)
    path.write_text(json.dumps(content))
    data = load("coco", coco_root)
    assert all(data.read(index).size == (30, 40) for index in range(len(data)))

    content["images"][0]["file_name"] = "..\\..\\secret.png"
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match="no path of a file below"):
        load("coco", coco_root)
