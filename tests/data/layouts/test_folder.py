"""Folders of photographs as people have them.

The photographs lie in one folder or in many, without labels or labelled by a network's classes.
"""

import pytest

from axiom_bench.data.layouts.classes import NetworkClasses, imagenet_synsets, network_class_names
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError
from tests.data.builders import SYNSETS, labels, save

IMAGENET = NetworkClasses([f"name {index}" for index in range(1000)], 1000)
PETS = NetworkClasses(["tabby, tabby cat", "golden retriever", "crane", "crane"], 4)
UNNAMED = NetworkClasses(None, 3)


def load(root, network=None, **settings):
    """Load a folder whose labels may be the classes of a network."""
    give_network = None if network is None else lambda: network
    return load_dataset({"kind": "folder", "root": str(root), **settings}, give_network)


FOUR_INDICES = ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("files", "network", "expected", "classes"),
    [
        # A name matches in any case, with _ for spaces, and is the first of several; or an index.
        (("tabby/1.jpg", "Golden_Retriever/a/b/2.jpg", "3/3.jpg"), PETS, (3, 1, 0), FOUR_INDICES),
        # A folder without images doesn't count.
        (("tabby, tabby cat/1.jpg", "empty/"), PETS, (0,), FOUR_INDICES),
        (
            ("n01440764/1.jpg", "999/2.jpg", "name_7/3.jpg"),
            IMAGENET,
            (999, 0, 7),
            imagenet_synsets(),
        ),
        (("n01443537/1.jpg",), NetworkClasses(None, 1000), (1,), imagenet_synsets()),
        # Sorted folders are classes, as in torchvision's ImageFolder.
        (("b/1.jpg", "a/2.jpg", "c/3.jpg"), UNNAMED, (0, 1, 2), ("a", "b", "c")),
        (("b/1.jpg", "a/2.jpg"), None, (0, 1), ("a", "b")),
        (("0/1.jpg", "2/3.jpg"), UNNAMED, (0, 2), ("0", "1", "2")),
        (("tabby_cat/1.jpg", "002.Golden-Retriever/2.jpg"), PETS, (1, 0), FOUR_INDICES),
    ],
)
def test_folders_that_are_classes_are_labels(tmp_path, files, network, expected, classes):
    write(tmp_path, files)
    data = load(tmp_path, network)
    assert data.unlabelled == ""
    assert data.classes == tuple(classes)
    assert labels(data) == [(label,) for label in expected]
    assert [data.read(index).label for index in range(len(data))] == list(expected)
    names = network.names if network and network.names else classes
    assert [data.class_names[label] for label in expected] == [
        str(names[label]) for label in expected
    ]


@pytest.mark.parametrize(
    ("files", "network", "why"),
    [
        (("1.jpg", "2.jpg"), IMAGENET, "1.jpg lies in no folder"),
        (("1.jpg",), None, "1.jpg lies in no folder"),
        (("2020/paris/1.jpg", "2021/2.jpg"), IMAGENET, "'2020' is no class of the network"),
        (("tabby/1.jpg", "holiday/2.jpg"), PETS, "'holiday' is no class of the network"),
        (("tabby/1.jpg", "2.jpg"), PETS, "2.jpg lies in no folder"),
        (
            ("archive/tabby/1.jpg", "archive/holiday/2.jpg"),
            UNNAMED,
            "'archive' is no class of the network: its 3 have no names, and there is 1 folder; if "
            "the folders in it are the classes, set data.root={}/archive",
        ),
        (("crane/1.jpg",), PETS, "'crane' is no class of the network"),  # two classes have the name
        (
            ("1/1.jpg", "04/2.jpg"),
            PETS,
            "'04' is no class of the network: the folders count to 4, its classes from 0",
        ),
        (("n01440764/1.jpg",), PETS, "'n01440764' is no class of the network"),
        (
            ("a/1.jpg", "b/2.jpg"),
            UNNAMED,
            "'a' is no class of the network: its 3 have no names, and there are 2 folders",
        ),
        (
            ("test/a/1.jpg", "train/a/2.jpg", "val/b/3.jpg"),
            UNNAMED,
            "test, train, val are splits: set data.root={}/val",
        ),
        (("val/a/1.jpg",), UNNAMED, "val is a split: set data.root={}/val"),
        (("train/1.jpg", "val/2.jpg"), PETS, "train, val are splits: set data.root={}/val"),
        # There are as many folders as classes by chance.
        (
            ("a/1.jpg", "b/2.jpg", "c/3.jpg", "d/4.jpg"),
            PETS,
            "'a' is no class of the network",
        ),
    ],
)
def test_other_folders_label_nothing_and_no_image_is_left_out(tmp_path, files, network, why):
    write(tmp_path, files)
    data = load(tmp_path, network)
    why = why.format(tmp_path)
    assert data.unlabelled == why
    assert data.classes == ()
    assert data.ids == tuple(sorted(files))
    assert labels(data) == [()] * len(files)
    assert data.read(0).label is None
    assert f"the images of 'folder' have no labels ({why}; " in data.notes[-1]


def test_a_file_instead_of_a_folder_is_refused_with_its_folder(tmp_path):
    write(tmp_path, ("a/1.jpg", "data.yaml"))
    with pytest.raises(BenchError, match=rf"data.yaml is a file; set data.root to .*{tmp_path}\."):
        load(tmp_path / "data.yaml")


def test_synset_ids_of_imagenette_are_classes_by_index_by_name_and_in_order(tmp_path):
    """The ids of Imagenette and ImageWoof, for networks of 1,000 and of ten classes."""
    write(tmp_path, ("val/n01440764/1.JPEG", "val/n03028079/2.JPEG", "noisy_imagenette.csv"))
    assert labels(load(tmp_path / "val", IMAGENET)) == [(0,), (497,)]

    named = NetworkClasses(["church", "English springer", "tench"], 3)
    assert labels(load(tmp_path / "val", named)) == [(2,), (0,)]

    data = load(tmp_path / "val", NetworkClasses(None, 2))
    assert labels(data) == [(0,), (1,)]
    assert data.class_names == ("tench", "church")

    (note,) = load(tmp_path, IMAGENET).notes
    assert f"val is a split: set data.root={tmp_path}/val" in note


def test_numbers_taken_for_classes_are_told(tmp_path):
    write(tmp_path, ("1/1.jpg", "2/2.jpg", "n01440764/3.jpg"))
    assert load(tmp_path, IMAGENET).notes == (
        "labels are the indices in the folders' names: 1 is name 1, 2 is name 2",
    )


def test_numbers_in_the_order_of_their_text_are_told(tmp_path):
    write(tmp_path, [f"{number}/1.jpg" for number in range(11)])
    (note,) = load(tmp_path, NetworkClasses(None, 11)).notes
    assert "9 is output 10; data.folders=index takes numbers" in note


def test_other_files_are_counted_and_named(tmp_path):
    names = (
        "1.jpg",
        "IMG_1.HEIC",
        "a/IMG_2.heic",
        "b.pdf",
        "README",
        ".DS_Store",
        ".git/config",
        "x.bmp/",
    )
    write(tmp_path, names)
    sentence = (
        "not read: 2 .heic (IMG_1.HEIC), 1 .pdf (b.pdf), 1 without an ending (README); save "
        "photographs as JPEG"
    )
    data = load(tmp_path, IMAGENET)
    assert data.ids == ("1.jpg", "x.bmp")  # the folder x.bmp is listed, and can't be read
    assert data.notes[0].startswith(f"{tmp_path}: {sentence}")

    (tmp_path / "1.jpg").unlink()
    (tmp_path / "x.bmp").rmdir()
    with pytest.raises(BenchError, match=r"There are no images in .* not read: 2 \.heic"):
        load(tmp_path)


def test_what_notebooks_and_macs_leave_is_no_class_and_no_image(tmp_path):
    write(tmp_path, ("a/1.jpg", "b/2.jpg", "c/3.jpg"))
    write(tmp_path, ("b/._2.jpg", "b/.ipynb_checkpoints/2-checkpoint.jpg"))
    write(tmp_path, (".ipynb_checkpoints/4.jpg", "__MACOSX/a/._1.jpg"))
    data = load(tmp_path, UNNAMED)
    assert data.ids == ("a/1.jpg", "b/2.jpg", "c/3.jpg")
    assert labels(data) == [(0,), (1,), (2,)]


def test_classes_by_hand_choose_the_folders(tmp_path):
    """Check also that two files with the same name are two images."""
    write(tmp_path, ("cat/1.jpg", "dog/1.jpg", "cow/2.jpg"))
    data = load(tmp_path, classes=["Dog", "bird", "cat"])
    assert data.ids == ("cat/1.jpg", "dog/1.jpg")
    assert labels(data) == [(2,), (0,)]
    assert data.notes == (
        "1 image isn't in a folder of data.classes and is left out, such as cow/2.jpg",
    )


def test_folders_called_by_index(tmp_path):
    """Check ImageNet-V2: a name of digits is an index, even if a class has the same name."""
    write(tmp_path, ("10/a.jpeg", "2/b.jpeg", "0/c.jpeg"))
    network = NetworkClasses(["2", *map(str, range(100, 199))], 100)
    assert labels(load(tmp_path, network, folders="index")) == [(0,), (10,), (2,)]
    assert labels(load(tmp_path, network))[2] == (0,)

    data = load(tmp_path, folders="index", classes=SYNSETS)
    assert data.ids == ("0/c.jpeg", "10/a.jpeg", "2/b.jpeg")
    assert labels(data) == [(0,), (10,), (2,)]
    assert data.classes == tuple(SYNSETS)


@pytest.mark.parametrize(
    ("settings", "folder", "message"),
    [
        ({}, "1", r"needs data\.classes"),
        ({"classes": SYNSETS}, "12", "12 is no class index from 0 to 11"),
        ({"classes": SYNSETS}, "tench", "tench is no class index"),
        ({"classes": SYNSETS, "folders": "indices"}, "1", "index"),
    ],
)
def test_invalid_index_folders_error_messages(tmp_path, settings, folder, message):
    write(tmp_path, ("10/a.jpeg", f"{folder}/"))
    settings = {"folders": "index"} | settings
    with pytest.raises(BenchError, match=message):
        load(tmp_path, **settings)


def write(root, names):
    """Write images, files of other kinds, and empty folders."""
    for number, name in enumerate(names):
        path = root / name
        if name.endswith("/"):
            path.mkdir()
        elif name.endswith((".jpg", ".jpeg")):
            save(path, seed=number)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("other")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.json", '{"0": ["n01440764", "tench, Tinca"], "1": ["n01443537", "goldfish"]}'),
        ("map.json", '{"goldfish": 1, "tench, Tinca": 0}'),
        ("list.json", '["tench, Tinca", "goldfish"]'),
        ("clsidx.txt", "{0: 'tench, Tinca',\n 1: 'goldfish'}\n"),
        ("numbered.txt", "0 tench, Tinca\n1 goldfish\n"),
        ("synsets.txt", "n01440764 tench, Tinca\nn01443537 goldfish\n"),
    ],
)
def test_files_of_names_as_people_have_them(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert network_class_names(str(tmp_path / name)) == ("tench, Tinca", "goldfish")
    (tmp_path / "other.json").write_text("{}x")
    with pytest.raises(BenchError, match=r"model\.classes=.*other\.json is no JSON of names"):
        network_class_names(str(tmp_path / "other.json"))
