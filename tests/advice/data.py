"""Advice for data sets."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.advice.nets import Small
from tests.advice.user import SHORT, User, advice_in, follows, network

CLASSES = "model.classes=[a,b,c]"


def doctor(user: User, *settings: str, name: str = "Small") -> tuple[str, ...]:
    return ("doctor", *network(name, *settings))


def photographs(user: User, *names: str) -> None:
    for number, name in enumerate(names):
        user.picture(f"photos/{name}", seed=number)


@follows("data.split={split} is of a file {}; set data.root to a split's folder")
def split_of_a_folder_of_arrays(user: User) -> None:
    for split in ("train", "val"):
        user.array(f"arrays/{split}/a/0.npy", np.zeros((3, 32, 32), "f4"))
    words = doctor(user, "data=arrays", "model.resize=null", "target=predicted")
    message = user.refusal([*words, "data.root=arrays", "data.split=val"])
    command = [*words, advice_in(message, r"set (data\.root) to a split's folder") + "=arrays/val"]
    user.types(command)


@follows("and no {split}_images; set data.split to {}")
def file_of_arrays_without_the_split(user: User) -> None:
    values = {"train_images": np.zeros((2, 3, 32, 32), "f4"), "train_labels": np.zeros(2, int)}
    values |= {key.replace("train", "val"): value for key, value in values.items()}
    np.savez(user.folder / "all.npz", **values)
    words = doctor(
        user, "data=arrays", "data.root=all.npz", "model.resize=null", "data.channels=first"
    )
    message = user.refusal([*words, "data.split=test"])
    for split in advice_in(message, r"set data\.split to (.*?)\.\s").split(" or "):
        user.types([*words, f"data.split={split}"])


@follows("and no {split}_images; set data.split to {}")
def file_of_arrays_of_other_names(user: User) -> None:
    pixels = np.zeros((2, 3, 32, 32), "f4")
    np.savez(user.folder / "all.npz", x=pixels, y=np.zeros(2, int))
    words = doctor(user, "data=arrays", "data.root=all.npz", "model.resize=null")
    message = user.refusal(words)
    names = advice_in(message, r"call its arrays (images, labels), masks").split(", ")
    np.savez(user.folder / "all.npz", **dict(zip(names, (pixels, np.zeros(2, int)), strict=True)))
    user.types(words)


@follows("Set data.root, or AXIOM_BENCH_REAL for real_root")
def folder_that_is_not_there(user: User) -> None:
    photographs(user, "a.png")
    words = doctor(user, "data=folder", "target=predicted")
    message = user.refusal([*words, "data.root=photo"])
    user.types([*words, advice_in(message, r"Set (data\.root), or") + "=photos"])
    user.patch.delenv("AXIOM_BENCH_REAL", raising=False)
    words = doctor(user, "data=imagenet", "data.classes=[n01440764]", "target=predicted")
    message = user.refusal(words)
    user.picture("real/data/imagenet/val/n01440764/a.JPEG")
    user.patch.setenv(advice_in(message, r"or (\w+) for real_root"), "real")
    user.types(words)


@follows("is a file; set data.root to its folder")
def file_instead_of_its_folder(user: User) -> None:
    photographs(user, "a.png", "data.png")
    words = doctor(user, "data=folder", "target=predicted")
    message = user.refusal([*words, "data.root=photos/data.png"])
    user.types([*words, f"data.root={advice_in(message, r'its folder, (.*?)[.]$')}"])


@follows("set data.classes to the model's own classes, in its order")
def more_classes_than_the_model_has(user: User) -> None:
    photographs(user, "3/a.png", "4/a.png")
    words = doctor(user, "data=folder", "data.root=photos", "target=label")
    message = user.refusal([*words, "data.classes=['0','1','2','3','4']"])
    user.types([*words, advice_in(message, r"set (data\.classes) to") + "=['3','4','5']"])


@follows("set data.classes to all classes, in the order of their numbers")
def label_beyond_the_classes(user: User) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    content = user.picture("a.png").read_bytes()
    rows = [
        {"image": {"bytes": content, "path": f"{label}.png"}, "label": label} for label in (0, 2)
    ]
    pq.write_table(pa.Table.from_pylist(rows), user.folder / "all.parquet")
    words = doctor(user, "data=parquet", "data.path=all.parquet")
    message = user.refusal([*words, "data.classes=[a,b]"])
    user.types([*words, advice_in(message, r"set (data\.classes) to all") + "=[a,b,c]"])


@follows("leave it out, and set model.background={}")
def background_among_the_classes(user: User) -> None:
    user.picture("photos/val/1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 32, "height": 32}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 9, 9], "iscrowd": 0}
        ],
    }
    user.write("photos/all.json", json.dumps(content))
    words = doctor(
        user,
        "data=coco",
        "data.root=photos",
        "data.split=val",
        "data.annotations=all.json",
    )
    message = user.refusal([*words, "data.classes=[background,a,b]"])
    user.types([*words, "data.classes=[a,b]", advice_in(message, r"set (model\.background=\d+)")])


@follows("set data.folders=name for folders named after their classes")
def folders_that_are_no_indices(user: User) -> None:
    photographs(user, "a/1.png", "b/1.png")
    words = doctor(user, "data=folder", "data.root=photos", "data.classes=[a,b,c]")
    message = user.refusal([*words, "data.folders=index"])
    user.types([*words, "data.folders=index", advice_in(message, r"set (data\.folders=name)")])


@follows("set model.classes to their names, in the order of its outputs")
def labels_of_a_network_without_names(user: User) -> None:
    photographs(user, "1.png", "2.png")
    user.write("list.csv", "1.png,cat\n2.png,dog\n")
    words = doctor(user, "data=folder", "data.root=photos", "data.labels=list.csv")
    message = user.refusal(words)
    command = [
        *words,
        advice_in(message, r"set (model\.classes) to their names") + "=[cat,dog,owl]",
    ]
    user.types(command)


SYNSETS = "data.classes=[n01440764,n01443537,n01484850]"


def flat(user: User, labels: str, *names: str) -> tuple[str, ...]:
    """Images that aren't in class folders, as ImageNet's validation images, with a list of
    labels.
    """
    for name in names or ("1.JPEG", "2.JPEG"):
        user.picture(f"flat/val/{name}")
    user.write("flat/list.txt", labels)
    return doctor(user, "data=imagenet", "data.root=flat", "data.labels=list.txt", SYNSETS)


GOOD = "1.JPEG n01440764\n2.JPEG n01443537\n"


def with_labels(user: User, words: tuple[str, ...], message: str) -> None:
    """Set data.labels, as a message says, to a list of lines "image label"."""
    user.write("flat/good.txt", GOOD)
    user.types([*words, advice_in(message, r"set (data\.labels)") + "=good.txt"])


@follows("add them to it, or set data.labels")
def image_without_a_label(user: User) -> None:
    words = flat(user, "1.JPEG n01440764\n")
    with_labels(user, words, user.refusal(words))
    user.write("flat/list.txt", GOOD)
    user.types(words)


@follows("lists no image of the folder, but {}; ")
def list_of_other_images(user: User) -> None:
    words = flat(user, "x.JPEG n01440764\ny.JPEG n01440764\n")
    with_labels(user, words, user.refusal(words))


@follows("has numbers from 1, like the devkit")
def list_of_the_devkits_numbers(user: User) -> None:
    words = flat(user, "1\n2\n", "x.JPEG", "y.JPEG")
    message = user.refusal(words)
    user.write("flat/good.txt", "x.JPEG n01440764\ny.JPEG n01443537\n")
    user.types([*words, advice_in(message, r"set (data\.labels)") + "=good.txt"])


@follows("has only {} for {}; ")
def list_of_too_few_labels(user: User) -> None:
    words = flat(user, "n01440764\n")
    with_labels(user, words, user.refusal(words))


@follows("which the class list lacks; add it there, or set data.classes")
def class_that_is_not_listed(user: User) -> None:
    user.picture("net/val/n01440764/a.JPEG")
    user.write("net/LOC_synset_mapping.txt", "n01443537 goldfish, Carassius auratus\n")
    words = doctor(user, "data=imagenet", "data.root=net", "target=predicted")
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"or set (data\.classes)") + "=[n01440764]"])
    user.write(
        "net/LOC_synset_mapping.txt",
        "n01443537 goldfish, Carassius auratus\nn01440764 tench, Tinca tinca\n",
    )
    user.types(words)


BOX = (
    "<annotation><size><width>32</width><height>32</height></size><object><name>{}</name>"
    "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    "</object></annotation>"
)


@follows("no class of the image's boxes")
def labels_in_another_order(user: User) -> None:
    words = flat(user, "1.JPEG 1\n2.JPEG 0\n")
    user.write("flat/Annotations/CLS-LOC/val/1.xml", BOX.format("n01440764"))
    user.write("flat/Annotations/CLS-LOC/val/2.xml", BOX.format("n01443537"))
    message = user.refusal(words)
    with_labels(user, words, message)
    command = [
        *words,
        advice_in(message, r"or (data\.classes) to the classes")
        + "=[n01443537,n01440764,n01484850]",
    ]
    user.types(command)


@follows("and ImageNet-S has 50, 300 or 919 classes, so the masks' numbers")
def masks_of_another_number_of_classes(user: User) -> None:
    user.picture("s/ImageNetS50/validation/n01443537/a.JPEG")
    user.picture("s/ImageNetS50/validation-segmentation/n01443537/a.png")
    words = doctor(
        user,
        "data=imagenet_s",
        "data.root=s/ImageNetS50",
        "data.boxes=null",
        "target=predicted",
        SYNSETS,
    )
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (data\.categories) to the list") + "=[n01443537]"])


@follows("mosaics of {} x {} cells can't be made")
def mosaics_of_few_images(user: User) -> None:
    words = ("doctor", "model=scenes_vgg", "data=mosaic", "data.of.size=24", "data.confidence=null")
    run = ("run=first", *words[1:], *SHORT, "data.batch_size=1")
    message = user.refusal([*run, "data.size=5"])
    most = advice_in(message, r"set data\.size to at most (\d+)")
    user.types([*run, f"data.size={most}"])
    assert advice_in(message, r"or (null) for all")
    user.types([*run, "data.size=5", advice_in(message, r"raise (data\.uses)") + "=3"])


@follows("mosaics of {} x {} cells can't be made")
def mosaics_of_few_classes(user: User) -> None:
    words = mosaics(
        user,
        "data.of.classes=[a,b,c]",
        "data.target_cells=2",
        "data.confidence=null",
        "data.grid=3",
    )
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"or set (data\.grid=2)")])
    for name in "defgh":
        user.picture(f"photos/{name}/1.png")
    assert advice_in(message, r"give (data\.of) more images, of at least 8 classes")
    command = [
        *(word for word in words if "data.of.classes" not in word),
        "data.of.classes=[a,b,c,d,e,f,g,h]",
    ]
    user.types(command)


@follows("data.{key} isn't set; set data.{key}=VALUE")
def data_without_a_setting(user: User) -> None:
    words = ("doctor", "model=scenes_vgg", "data.size=2")
    message = user.refusal([*words, "~data.workers"])
    user.types([*words, advice_in(message, r"set (data\.workers=)VALUE") + "0"])


@follows("set target=predicted, or name the folders after the network's classes")
def photographs_without_labels(user: User) -> None:
    photographs(user, "x/1.png", "y/1.png")
    words = doctor(user, CLASSES, "data=folder", "data.root=photos")
    message = user.refusal([*words, "target=label"])
    user.types([*words, "target=label", advice_in(message, r"set (target=predicted)")])
    (user.folder / "photos/x").rename(user.folder / "photos/a")
    (user.folder / "photos/y").rename(user.folder / "photos/b")
    user.types([*words, "target=label"])


@follows("so labels don't name the model's classes; set")
def classes_of_another_number(user: User) -> None:
    photographs(user, "a/1.png", "b/1.png")
    words = doctor(user, "data=folder", "data.root=photos")
    message = user.refusal([*words, "data.classes=[a,b]"])
    user.types([*words, "data.classes=[a,b]", advice_in(message, r"set (model\.background=\d) if")])
    user.types([*words, advice_in(message, r"(data\.classes) to the model's") + "=[a,b,c]"])
    user.types([*words, "data.classes=[a,b]", advice_in(message, r"(target=predicted)")])


@follows("can't be read: {}; export the task as 'CVAT for images 1.1', or set")
def annotations_that_are_no_xml(user: User) -> None:
    photographs(user, "a/1.png")
    user.write("photos/annotations.xml", "<annotations>")
    words = doctor(user, CLASSES, "data=folder", "data.root=photos")
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"or set (data\.annotations=none)")])
    assert "CVAT for images 1.1" in message
    box = '<box label="a" xtl="1" ytl="2" xbr="9" ybr="8"/>'
    image = f'<image name="1.png" width="32" height="32">{box}</image>'
    user.write("photos/annotations.xml", f"<annotations>{image}</annotations>")
    assert "boxes of 1 image from CVAT's annotations.xml" in user.types(words)


@follows("has labels of data.annotations={annotations}; set data.annotations=auto")
def labels_of_another_tool(user: User) -> None:
    photographs(user, "1.png")
    user.write("photos/1.txt", "1 0.5 0.5 0.5 0.5\n")
    user.write("photos/classes.txt", "a\nb\nc\n")
    words = doctor(user, CLASSES, "data=folder", "data.root=photos")
    message = user.refusal([*words, "data.annotations=xml"])
    printed = user.types([*words, advice_in(message, r"set (data\.annotations=auto)")])
    assert (
        "boxes of 1 image from YOLO's label files, such as 1.txt; classes from classes.txt"
        in printed
    )


def chosen(user: User, *settings: str) -> tuple[str, ...]:
    return ("run=first", "model=scenes_vgg", "data.size=4", *SHORT, *settings)


@follows("so it is unknown which images it classifies correctly")
def only_correct_of_other_classes(user: User) -> None:
    photographs(user, "x/1.png")
    words = (
        "run=first",
        *network("Small"),
        "data=folder",
        "data.root=photos",
        *SHORT,
        "target=predicted",
    )
    message = user.refusal([*words, "data.only_correct=true"])
    user.types([*words, advice_in(message, r"set (data\.only_correct=false)")])


def predicted_class(user: User, path: str) -> str:
    """Return the class that Small names for a picture."""
    pixels = np.asarray(Image.open(user.folder / path))
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    return "abc"[int(Small()(images).argmax())]


@follows("none of {} correctly; set data.only_correct=false")
def only_correct_without_any(user: User) -> None:
    photographs(user, "a/1.png", "b/1.png", "c/1.png")
    predicted = {name: predicted_class(user, f"photos/{name}/1.png") for name in "abc"}
    for name, other in predicted.items():
        if name == other:
            (user.folder / f"photos/{name}/1.png").unlink()
    words = ("run=first", *network("Small", CLASSES), "data=folder", "data.root=photos", *SHORT)
    message = user.refusal([*words, "data.only_correct=true"])
    user.types([*words, advice_in(message, r"set (data\.only_correct=false)")])


def mosaics(user: User, *settings: str) -> tuple[str, ...]:
    for name in "abc":
        photographs(user, *(f"{name}/{number}.png" for number in range(4)))
    data = ("data=mosaic", "data.of=folder", "data.of.root=photos", "target=predicted")
    return ("run=first", *network("Small"), *data, *SHORT, *settings)


@follows("so it is unknown which images it predicts with confidence")
def mosaics_of_other_classes(user: User) -> None:
    words = mosaics(user, "data.of.classes=[a,b]", "data.target_cells=3")
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (data\.confidence=null)")])


@follows("the model's output has no probabilities, so it predicts no class with confidence")
def mosaics_without_probabilities(user: User) -> None:
    words = mosaics(
        user,
        "data.of.classes=[a,b,c]",
        "data.target_cells=2",
        "model.architecture=nets.py:MultiLabel",
    )
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (data\.confidence=null)")])


@follows("the model can't take mosaics of {height} x {width} pixels")
def mosaics_for_a_network_of_one_size(user: User) -> None:
    words = mosaics(
        user,
        "data.of.classes=[a,b,c]",
        "data.target_cells=2",
        "data.confidence=null",
        "model.architecture=nets.py:FixedSize",
        "model.layer=features",
        "model.resize=[16,16]",
    )
    message = user.refusal(words)
    user.types([*words, advice_in(message, r"set (data\.cell=fit)")])
