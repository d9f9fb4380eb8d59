"""The choice of images by a configuration: load, subset, check_labels and files of conf/data."""

import inspect

import pytest
import yaml

from axiom_bench.data.base import check_labels, label_of_largest, subset
from axiom_bench.data.loading import TARGET_RULES
from axiom_bench.data.registry import KINDS, LOADING, NETWORK, load_dataset
from axiom_bench.environment import entry_names
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from tests.data.builders import load, scenes

# Each is made of another data set, whose file is a part of its file.
MADE_OF = ("mosaic", "mosaic_focus", "pasted")


def test_the_label_of_several_objects_is_that_of_the_largest_box():
    flat = (0.0, 90.0, 20.0, 92.0)
    high = (0.0, 0.0, 10.0, 30.0)
    small = (5.0, 80.0, 9.0, 95.0)
    assert label_of_largest(((1, flat), (2, high), (3, small))) == 2
    assert label_of_largest(((3, high), (2, high))) == 3  # the first of equals
    assert label_of_largest(()) is None


def test_subset_is_chosen_by_seed_without_replacement_in_order():
    dataset = scenes(50)
    first = subset(dataset, 10, 0)
    assert list(first) == sorted(set(first))
    assert len(first) == 10
    assert subset(dataset, 10, 0) == first
    assert subset(dataset, None, 0) == subset(dataset, 50, 3) == tuple(range(50))
    chosen = set()
    for seed in range(40):
        chosen.update(subset(dataset, 10, seed))
    assert chosen == set(range(50))
    for size in (0, -1, 51):
        with pytest.raises(BenchError, match="50 images"):
            subset(dataset, size, 0)


def test_only_classes(imagenet_root, voc_root):
    """Check classes given by id, name or index; class indices stay those of all classes."""
    dataset = load("imagenet", imagenet_root)
    for only_classes in (["n03"], ["great white shark"], [2]):
        assert subset(dataset, None, 0, only_classes) == (1, 2)
    assert dataset.labels(1) == (2,)
    assert len(subset(dataset, 1, 0, ["n03"])) == 1

    voc = load("voc", voc_root)
    dogs_and_cats = subset(voc, None, 0, ["dog", "cat"])
    assert dogs_and_cats == (0, 1)  # one of an image's several classes is enough


@pytest.mark.parametrize(
    ("only_classes", "size", "message"),
    [
        (["n33"], None, "did you mean 'n03'"),
        ([3], None, "class of 'imagenet'"),
        (["n02"], None, "no images of data.only_classes"),
        (["n03"], 3, r"data\.size=3 of 2 images of data\.only_classes"),
    ],
)
def test_only_classes_error_messages(imagenet_root, only_classes, size, message):
    dataset = load("imagenet", imagenet_root)
    with pytest.raises(BenchError, match=message):
        subset(dataset, size, 0, only_classes)


def test_check_labels_refuses_labels_out_of_range(imagenet_root, voc_root):
    dataset = load("imagenet", imagenet_root)
    check_labels(dataset, range(3), 3)
    check_labels(dataset, [0], 1)  # only the given images count
    with pytest.raises(BenchError, match=r"class 2, but .* 0 to 1; set data\.classes"):
        check_labels(dataset, range(3), 2)
    with pytest.raises(BenchError, match="class 14"):  # the labels of all objects count
        check_labels(load("voc", voc_root), range(3), 14)


def test_dataset_names_are_the_yaml_files():
    read_from_files = [
        "arrays",
        "coco",
        "cub",
        "folder",
        "funnybirds",
        "imagenet",
        "imagenet_s",
        "imagenet_v2",
        "openimages30k",
        "parquet",
        "voc",
        "webdataset",
    ]
    drawn = [
        "captions",
        "hard_patches",
        "hard_scenes",
        "planted",
        "planted_signals",
        "planted_volumes",
        "qr_codes",
        "scenes",
        "scenes_many",
        "scenes_marked",
        "scenes_repeated",
        "signals",
        "synthetic_shapes",
        "volumes",
    ]
    assert entry_names("data") == sorted([*read_from_files, *MADE_OF, *drawn])


def entry(name):
    """Return the settings of a file, merged over those of the file on which it builds."""
    config = yaml.safe_load((plugins.conf_folder() / "data" / f"{name}.yaml").read_text())
    if name in MADE_OF or "defaults" not in config:
        return config
    (base,) = config.pop("defaults")
    return {**entry(base), **config}


@pytest.mark.parametrize("name", entry_names("data"))
def test_an_entry_has_all_settings(name, request):
    """Check that every parameter is in the file.

    Otherwise an override of a key that isn't there would be an error.
    """
    config = entry(name)
    parameters = inspect.signature(KINDS[config["kind"]]).parameters
    expected = {*LOADING, *parameters} - {NETWORK}
    if name in MADE_OF:
        expected = (expected | {"defaults"}) - {"of"}  # Hydra puts the keys of `of` there
    assert set(config) == expected
    assert config["target"] in (None, *TARGET_RULES)

    is_incomplete = "???" in (config.get("root"), config.get("path"))
    if is_incomplete or name in MADE_OF:  # their own tests build them
        return
    if "root" in config:
        config |= {"root": str(request.getfixturevalue(f"{name}_root")), "classes": None}
        config = {key: value for key, value in config.items() if key in {*LOADING, *parameters}}
    assert len(load_dataset(config)) > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"kind": "imagnet"}, "imagenet"),
        ({}, "kind of data set"),
        ({"kind": "scenes", "size": 3, "sede": 1}, "seed"),
        (
            {"kind": "scenes", "size": 3, "objects": "some"},
            "no number of objects of the scenes 'some'",
        ),
        ({"kind": "scenes", "size": None}, r"data\.size"),
        ({"kind": "scenes", "size": 5, "split": "evaluate"}, "evaluation"),
        ({"kind": "scenes_marked", "size": 80, "mark": "with_clas"}, "with_class"),
        (
            {"kind": "planted", "size": None},
            "data.size must be a number of images, .* drawn, 1 to 1000000, not None",
        ),
        (
            {"kind": "planted", "size": 6, "split": "tests"},
            "no split of the grounds 'tests'; did you mean|there are",
        ),
        ({"kind": "planted", "size": 6, "sede": 1}, "did you mean 'seed'"),
        ({"kind": "voc"}, r"data\.root"),
        ({"kind": "imagenet", "root": "", "classes": []}, r"data\.classes"),
        ({"kind": "imagenet", "root": "", "classes": ["n01", "n01"]}, r"data\.classes"),
        ({"kind": "imagenet", "root": "", "classes": "nowhere.txt"}, r"data\.classes"),
    ],
)
def test_configuration_error_messages(imagenet_root, config, message):
    root = {"root": str(imagenet_root)} if "root" in config else {}
    with pytest.raises(BenchError, match=message):
        load_dataset(config | root)


@pytest.mark.parametrize("background", [0, 5, -1])
def test_a_background_output_moves_the_classes_behind_it(voc_root, background):
    config = {"kind": "voc", "root": str(voc_root)}
    plain = load("voc", voc_root)
    data = load_dataset(config, background=background)
    assert len(data.classes) == 21
    assert data.classes[background] == "background"

    for index in range(3):
        sample = data.read(index)
        before = plain.read(index)
        names = [data.classes[label] for label in data.labels(index)]
        assert names == [plain.classes[label] for label in plain.labels(index)]
        boxes = [(data.classes[label], box) for label, box in sample.objects]
        assert boxes == [(plain.classes[label], box) for label, box in before.objects]
        if before.mask is None:
            continue
        for label_before in {*before.mask.ravel()}:
            (label,) = {*sample.mask[before.mask == label_before]}
            if label_before < 0:
                assert label == label_before
            else:
                assert data.classes[label] == plain.classes[label_before]

    with pytest.raises(BenchError, match=r"model\.background=21 is no output.* 0 to 20"):
        load_dataset(config, background=21)
    mosaic = {"kind": "mosaic", "of": config, "confidence": None}
    assert load_dataset(mosaic, background=background).classes == data.classes


def test_an_empty_data_set_is_said_to_be_empty():
    with pytest.raises(BenchError, match=r"^There are no images in 'mine'\.$"):
        subset(_Empty(), None, 0)


class _Empty:
    """A data set without images."""

    name = "mine"
    drawn = False

    def __len__(self):
        return 0
