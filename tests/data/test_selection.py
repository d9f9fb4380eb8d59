"""From a configuration to the images chosen: load, subset, check_labels and the files of
conf/data.
"""

import inspect

import pytest
import yaml

from axiom_bench.data.base import check_labels, largest, subset
from axiom_bench.data.loading import TARGET_RULES
from axiom_bench.data.registry import KINDS, LOADING, NETWORK, load_dataset
from axiom_bench.environment import entry_names
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from tests.data.builders import load, scenes

# of another data set, whose file is a part of theirs
MADE_OF = (
    "mosaic",
    "mosaic_focus",
    "pasted",
)


def test_the_label_of_several_objects_is_that_of_the_largest_box():
    flat, high, small = (0.0, 90.0, 20.0, 92.0), (0.0, 0.0, 10.0, 30.0), (5.0, 80.0, 9.0, 95.0)
    assert largest(((1, flat), (2, high), (3, small))) == 2
    assert largest(((3, high), (2, high))) == 3  # the first of equals
    assert largest(()) is None


def test_subset_is_chosen_by_seed_without_replacement_in_order():
    dataset = scenes(50)
    first = subset(dataset, 10, 0)
    assert list(first) == sorted(set(first))
    assert (len(first), subset(dataset, 10, 0)) == (10, first)
    assert subset(dataset, None, 0) == subset(dataset, 50, 3) == tuple(range(50))
    assert set().union(*(subset(dataset, 10, seed) for seed in range(40))) == set(range(50))
    for size in (0, -1, 51):
        with pytest.raises(BenchError, match="50 images"):
            subset(dataset, size, 0)


def test_only_classes(imagenet_root, voc_root):
    """By class, name or index; the class indices stay those of all classes."""
    dataset = load("imagenet", imagenet_root)
    for only_classes in (["n03"], ["great white shark"], [2]):
        assert subset(dataset, None, 0, only_classes) == (1, 2)
    assert dataset.labels(1) == (2,)
    assert len(subset(dataset, 1, 0, ["n03"])) == 1
    voc = load("voc", voc_root)
    # one of an image's several classes is enough
    assert subset(voc, None, 0, ["dog", "cat"]) == (
        0,
        1,
    )


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
    check_labels(dataset, [0], 1)  # only the images asked for
    with pytest.raises(BenchError, match=r"class 2, but .* 0 to 1; set data\.classes"):
        check_labels(dataset, range(3), 2)
    with pytest.raises(BenchError, match="class 14"):  # of all objects
        check_labels(load("voc", voc_root), range(3), 14)


def test_dataset_names_are_the_yaml_files():
    of_files = ["arrays", "coco", "folder", "funnybirds", "imagenet", "imagenet_s", "imagenet_v2"]
    of_files += ["parquet", "voc", "webdataset"]
    drawn = [
        "hard_patches",
        "hard_scenes",
        "planted",
        "scenes",
        "scenes_many",
        "scenes_marked",
        "signals",
        "volumes",
    ]
    drawn += ["planted_signals", "planted_volumes", "scenes_repeated", "synthetic_shapes"]
    assert entry_names("data") == sorted([*of_files, *MADE_OF, *drawn])


def entry(name):
    """The settings of a file, over those of the one on which it builds."""
    config = yaml.safe_load((plugins.conf_folder() / "data" / f"{name}.yaml").read_text())
    return (
        config
        if name in MADE_OF or "defaults" not in config
        else {**entry(*config.pop("defaults")), **config}
    )


@pytest.mark.parametrize("name", entry_names("data"))
def test_an_entry_has_all_settings(name, request):
    """Every parameter is written down, so that an override of a key that isn't there is an
    error.
    """
    config = entry(name)
    parameters = inspect.signature(KINDS[config["kind"]]).parameters
    of_hydra = {"defaults"} if name in MADE_OF else set()  # which puts the keys of `of` there
    assert set(config) == {*LOADING, *parameters, *of_hydra} - {NETWORK} - (
        {"of"} if name in MADE_OF else set()
    )
    assert config["target"] in (None, *TARGET_RULES)
    # their own tests build them
    if "???" in (config.get("root"), config.get("path")) or name in MADE_OF:
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


@pytest.mark.parametrize("place", [0, 5, -1])
def test_a_background_output_moves_the_classes_behind_it(voc_root, place):
    plain, config = load("voc", voc_root), {"kind": "voc", "root": str(voc_root)}
    data = load_dataset(config, background=place)
    assert (len(data.classes), data.classes[place]) == (21, "background")
    names = [*plain.classes, None]  # of a mask's -1
    for index in range(3):
        sample, before = data.read(index), plain.read(index)
        assert [data.classes[label] for label in data.labels(index)] == [
            names[label] for label in plain.labels(index)
        ]
        assert [(data.classes[label], box) for label, box in sample.objects] == [
            (names[label], box) for label, box in before.objects
        ]
        for label in {*before.mask.ravel()} if before.mask is not None else ():
            (there,) = {*sample.mask[before.mask == label]}
            assert there == label if label < 0 else data.classes[there] == names[label]
    with pytest.raises(BenchError, match=r"model\.background=21 is no output.* 0 to 20"):
        load_dataset(config, background=21)
    of = {"kind": "mosaic", "of": config, "confidence": None}
    assert load_dataset(of, background=place).classes == data.classes
