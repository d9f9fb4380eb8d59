"""Tar shards and Parquet files: the same images as in a folder, bit by bit, and the rules that both
share.
"""

from dataclasses import replace

import pytest
import torch

from axiom_bench.data.base import BadImage, check_labels
from axiom_bench.data.loading import batches
from axiom_bench.errors import BenchError
from tests.data.builders import PLAIN, cut, labels, save, write_parquet, write_tar
from tests.data.builders import load as load_kind

CLASSES = ["cat", "cow", "dog"]


@pytest.fixture
def stored(tmp_path):
    """{name: bytes} of seven images in two formats, of which one is damaged, in a folder of three
    classes.
    """
    files = {}
    for number in range(7):
        name = f"{CLASSES[number % 3]}/{number}.{'png' if number == 4 else 'jpg'}"
        path = save(tmp_path / "folder" / name, 40 + number, 30, number)
        if name == "cow/1.jpg":
            cut(path, 300)
        files[name] = path.read_bytes()
    return files


def pack(kind, root, stored):
    """Writes stored images as the files of a kind of data set."""
    names = list(stored)
    for number, part in enumerate((names[:4], names[4:])):
        numbers = [CLASSES.index(name.partition("/")[0]) for name in part]
        if kind == "parquet":
            images = [{"bytes": stored[name], "path": name} for name in part]
            write_parquet(root / f"val-{number:05}-of-00002.parquet", images, numbers)
            continue
        members = [
            (f"{name.partition('.')[0]}.cls", str(label).encode())
            for name, label in zip(part, numbers)  # noqa: B905
        ]
        write_tar(
            root / f"val-{number:04}.tar", [*members, *((name, stored[name]) for name in part)]
        )


@pytest.fixture(params=["webdataset", "parquet"])
def packed(request, tmp_path, stored):
    """(the kind, the folder of its files)."""
    pack(request.param, tmp_path / request.param, stored)
    return request.param, tmp_path / request.param


def load(packed, **settings):
    return load_kind(*packed, **{"classes": CLASSES, **settings})


def names_of(kind, ids, stored):
    """The names in the folder, in the order of the packed ids."""
    if kind == "webdataset":
        return [image_id.partition("/")[2] for image_id in ids]
    names = list(stored)
    return [names[4 * int(image_id[4:9]) + int(image_id.rpartition("/")[2])] for image_id in ids]


def test_images_equal_those_of_a_folder_bit_by_bit(packed, tmp_path, stored):
    dataset, folder = load(packed), load_kind("folder", tmp_path / "folder")
    assert dataset.classes == folder.classes
    assert list(dataset.ids) == sorted(dataset.ids)
    order = [folder.ids.index(name) for name in names_of(packed[0], dataset.ids, stored)]
    assert len(order) == 7
    actual = list(batches(dataset, range(7), PLAIN, "label", 3))
    expected = list(batches(folder, order, PLAIN, "label", 3))
    assert [type(item) for item in actual] == [type(item) for item in expected]
    for item, other in zip(actual, expected, strict=True):
        if isinstance(item, BadImage):
            assert item.message == other.message
        else:
            assert torch.equal(item.images, other.images)
            assert torch.equal(item.targets, other.targets)
    scaled = replace(PLAIN, resize=8, crop=8, scaled_decoding=True)
    for place, other in enumerate(order):
        if folder.ids[other] != "cow/1.jpg":
            assert torch.equal(
                *(scaled.pixels(scaled.read(*read)) for read in ((dataset, place), (folder, other)))
            )


def test_ids_and_hashes_are_of_the_content(packed, stored):
    kind, root = packed
    before = load(packed)
    hashes = [before.fingerprint(index) for index in range(7)]
    assert len(set(hashes)) == 7
    names = list(stored)
    stored[names[5]] = stored[names[0]]
    pack(kind, root, stored)
    after = load(packed)
    assert after.ids == before.ids
    changed = [index for index in range(7) if after.fingerprint(index) != hashes[index]]
    assert [names_of(kind, after.ids, stored)[index] for index in changed] == [names[5]]


def test_classes_and_labels_belong_together(packed):
    assert load(packed, classes=None).classes == ("0", "1", "2")
    assert set(labels(load(packed))) == {(0,), (1,), (2,)}
    with pytest.raises(
        BenchError, match=r"labels '.*' with class 2, but its classes are 0 to 1; set data\.classes"
    ):
        load(packed, classes=["a", "b"])
    with pytest.raises(BenchError, match=r"class 2, but the model has only the classes 0 to 1"):
        check_labels(load(packed), range(7), 2)


def test_a_damaged_file_is_a_row_and_the_others_are_kept(packed):
    kind, root = packed
    first, second = sorted(root.iterdir())
    cut(second, 3000)
    dataset = load(packed)
    bad = [
        item for item in batches(dataset, range(len(dataset)), PLAIN) if isinstance(item, BadImage)
    ]
    assert (second.stem, "bad_image") in [(item.image_id, item.status) for item in bad]
    assert set(load((kind, first)).ids) < set(dataset.ids)
    assert any("damaged" in item.message for item in bad)
    first.write_bytes(b"")
    second.write_bytes(b"nothing")
    with pytest.raises(BenchError, match=r"There are no images in data\.path") as caught:
        load(packed)
    assert "\n" not in str(caught.value)
