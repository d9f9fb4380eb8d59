"""Tar shards and Parquet files: the same images as in a folder, and the rules that both share."""

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
    """{name: bytes} of seven images in two formats, in a folder of three classes.

    One of the images is damaged.
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
    """Write stored images as two files of a kind of data set."""
    all_names = list(stored)
    for number, names in enumerate((all_names[:4], all_names[4:])):
        indices = [CLASSES.index(name.partition("/")[0]) for name in names]
        if kind == "parquet":
            images = [{"bytes": stored[name], "path": name} for name in names]
            write_parquet(root / f"val-{number:05}-of-00002.parquet", images, indices)
        else:
            members = []
            for name, index in zip(names, indices, strict=True):
                members.append((f"{name.partition('.')[0]}.cls", str(index).encode()))
            members += [(name, stored[name]) for name in names]
            write_tar(root / f"val-{number:04}.tar", members)


@pytest.fixture(params=["webdataset", "parquet"])
def packed(request, tmp_path, stored):
    """A tuple (kind, the folder of its files)."""
    pack(request.param, tmp_path / request.param, stored)
    return request.param, tmp_path / request.param


def load(packed, **settings):
    kind, path = packed
    settings = {"classes": CLASSES} | settings
    return load_kind(kind, path, **settings)


def names_of(kind, ids, stored):
    """Return the names in the folder, in the order of the packed ids."""
    if kind == "webdataset":
        return [image_id.partition("/")[2] for image_id in ids]
    names = list(stored)
    return [names[4 * int(image_id[4:9]) + int(image_id.rpartition("/")[2])] for image_id in ids]


def test_images_equal_those_of_a_folder_bit_by_bit(packed, tmp_path, stored):
    dataset = load(packed)
    folder = load_kind("folder", tmp_path / "folder")
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
    for index, index_in_folder in enumerate(order):
        if folder.ids[index_in_folder] != "cow/1.jpg":
            pixels = scaled.pixels(scaled.read(dataset, index))
            assert torch.equal(pixels, scaled.pixels(scaled.read(folder, index_in_folder)))


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
    names_after = names_of(kind, after.ids, stored)
    assert [names_after[index] for index in changed] == [names[5]]


def test_classes_and_labels_belong_together(packed):
    assert load(packed, classes=None).classes == ("0", "1", "2")
    assert set(labels(load(packed))) == {(0,), (1,), (2,)}
    too_few_names = r"labels '.*' with class 2, but its classes are 0 to 1; set data\.classes"
    with pytest.raises(BenchError, match=too_few_names):
        load(packed, classes=["a", "b"])
    with pytest.raises(BenchError, match=r"class 2, but the model has only the classes 0 to 1"):
        check_labels(load(packed), range(7), 2)


def test_a_damaged_file_is_a_row_and_the_others_are_kept(packed):
    kind, root = packed
    first, second = sorted(root.iterdir())
    cut(second, 3000)
    dataset = load(packed)
    items = list(batches(dataset, range(len(dataset)), PLAIN))
    bad = [item for item in items if isinstance(item, BadImage)]
    assert (second.stem, "bad_image") in [(item.image_id, item.status) for item in bad]
    assert set(load((kind, first)).ids) < set(dataset.ids)
    assert any("damaged" in item.message for item in bad)

    first.write_bytes(b"")
    second.write_bytes(b"nothing")
    with pytest.raises(BenchError, match=r"There are no images in data\.path") as caught:
        load(packed)
    assert "\n" not in str(caught.value)
