"""Tar shards and Parquet files: the same images as in a folder, bit by bit, and the rules that both share."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from axiom_bench.data.base import BadImage, FileHashes, check_labels, subset
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.errors import BenchError

PLAIN = Preprocessing(24, 20, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
CLASSES = ["cat", "cow", "dog"]


@pytest.fixture
def stored(tmp_path, build):
    """{name: bytes} of seven images in two formats, of which one is damaged, in a folder of three classes."""
    files = {}
    for number in range(7):
        name = f"{CLASSES[number % 3]}/{number}.{'png' if number == 4 else 'jpg'}"
        files[name] = build[0](tmp_path / "folder" / name, 40 + number, 30, number).read_bytes()
    files["cow/1.jpg"] = files["cow/1.jpg"][:300]
    (tmp_path / "folder/cow/1.jpg").write_bytes(files["cow/1.jpg"])
    return files


def shards(root, stored, write):
    by_shard = [list(stored.items())[:4], list(stored.items())[4:]]
    for number, files in enumerate(by_shard):
        members = []
        for name, content in files:
            label = str(CLASSES.index(name.partition("/")[0]))
            members += [(f"{name.partition('.')[0]}.cls", label.encode()), (name, content)]
        write(root / f"val-{number:04}.tar", members)


def tables(root, stored, write):
    names = list(stored)
    for number, part in enumerate((names[:4], names[4:])):
        images = [{"bytes": stored[name], "path": name} for name in part]
        labels = [CLASSES.index(name.partition("/")[0]) for name in part]
        write(root / f"val-{number:05}-of-00002.parquet", images, labels)


@pytest.fixture
def pack(write_tar, write_parquet):
    """Writes stored images as the files of a kind of data set."""

    def pack(kind, root, stored):
        if kind == "webdataset":
            shards(root, stored, write_tar)
        else:
            tables(root, stored, write_parquet)

    return pack


@pytest.fixture(params=["webdataset", "parquet"])
def packed(request, tmp_path, stored, pack):
    """(the kind, the folder of its files)."""
    pack(request.param, tmp_path / request.param, stored)
    return request.param, tmp_path / request.param


def load(packed, **settings):
    kind, root = packed
    return load_dataset({"kind": kind, "path": str(root), "classes": CLASSES, **settings})


@pytest.mark.parametrize("workers", [0, 2])
def test_images_equal_those_of_a_folder_bit_by_bit(packed, tmp_path, stored, workers):
    dataset, folder = load(packed), load_dataset({"kind": "folder", "root": str(tmp_path / "folder")})
    assert dataset.classes == folder.classes
    assert list(dataset.ids) == sorted(dataset.ids)
    order = [folder.ids.index(name) for name in _names(packed[0], dataset.ids, stored)]
    assert len(order) == 7
    actual = list(batches(dataset, range(7), PLAIN, "label", 3, workers))
    expected = list(batches(folder, order, PLAIN, "label", 3))
    assert [type(item) for item in actual] == [type(item) for item in expected]
    for item, other in zip(actual, expected, strict=True):
        if isinstance(item, BadImage):
            assert item.message == other.message
        else:
            assert torch.equal(item.images, other.images)
            assert torch.equal(item.targets, other.targets)
    scaled = replace(PLAIN, resize=8, crop=8, scaled_decoding=True)
    good = [place for place, item in enumerate(order) if folder.ids[item] != "cow/1.jpg"]
    for place in good:
        assert torch.equal(scaled.pixels(scaled.read(dataset, place)), scaled.pixels(scaled.read(folder, order[place])))


def _names(kind, ids, stored):
    """The names in the folder, in the order of the packed ids."""
    if kind == "webdataset":
        return [image_id.partition("/")[2] for image_id in ids]
    names = list(stored)
    return [names[4 * int(image_id[4:9]) + int(image_id.rpartition("/")[2])] for image_id in ids]


def test_any_order_gives_the_same_image(packed):
    dataset = load(packed)
    forward = [dataset.content(index) for index in range(7)]
    assert [dataset.content(index) for index in (6, 0, 5, 2, 2, 4, 3, 1)] == [
        forward[index] for index in (6, 0, 5, 2, 2, 4, 3, 1)
    ]
    assert len(set(forward)) == 7


def test_it_travels_to_other_processes(packed):
    dataset = load(packed)
    dataset.content(2)
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).read(3).image, dataset.read(3).image)


def test_ids_and_hashes_are_of_the_content(packed, stored, pack):
    kind, root = packed
    before = load(packed)
    known = FileHashes()
    hashes = [before.fingerprint(index, known) for index in range(7)]
    assert hashes == [before.fingerprint(index) for index in range(7)]
    assert hashes == [before.fingerprint(index, FileHashes(known.current)) for index in range(7)]
    assert len(set(hashes)) == 7
    names = list(stored)
    stored[names[5]] = stored[names[0]]
    pack(kind, root, stored)
    after = load(packed)
    assert after.ids == before.ids
    changed = [index for index in range(7) if after.fingerprint(index) != hashes[index]]
    assert [_names(kind, after.ids, stored)[index] for index in changed] == [names[5]]


def test_a_subset_is_chosen_by_seed_and_class(packed):
    dataset = load(packed)
    assert len(subset(dataset, 3, 1)) == 3
    assert subset(dataset, 3, 1) != subset(dataset, 3, 2)
    of_dogs = subset(dataset, None, 0, ["dog"])
    assert [dataset.labels(index) for index in of_dogs] == [(2,), (2,)]


def test_one_file_a_list_and_a_pattern(packed):
    kind, root = packed
    first, second = sorted(root.iterdir())
    assert load((kind, first)).ids == load(packed).ids[:4]
    for path in (
        [str(second), str(first)],
        str(root / f"val-*.{first.suffix[1:]}"),
        f"{root}/{{{first.name},{second.name}}}",
    ):
        assert load_dataset({"kind": kind, "path": path, "classes": CLASSES}).ids == load(packed).ids


def test_without_classes_the_numbers_are_the_classes(packed):
    assert load(packed, classes=None).classes == ("0", "1", "2")


def test_a_label_beyond_the_classes_is_a_sentence(packed):
    with pytest.raises(BenchError, match=r"labels '.*' with class 2, but its classes are 0 to 1; set data\.classes"):
        load(packed, classes=["a", "b"])
    with pytest.raises(BenchError, match=r"class 2, but the model has only the classes 0 to 1"):
        check_labels(load(packed), range(7), 2)


def test_a_damaged_file_is_a_row_and_the_others_are_kept(packed):
    kind, root = packed
    first, second = sorted(root.iterdir())
    second.write_bytes(second.read_bytes()[:3000])
    dataset = load(packed)
    bad = [item for item in batches(dataset, range(len(dataset)), PLAIN) if isinstance(item, BadImage)]
    assert (second.stem, "bad_image") in [(item.image_id, item.status) for item in bad]
    assert set(load((kind, first)).ids) < set(dataset.ids)
    assert any("damaged" in item.message for item in bad)
    first.write_bytes(b"")
    second.write_bytes(b"nothing")
    with pytest.raises(BenchError, match=r"There are no images in data\.path") as caught:
        load(packed)
    assert "\n" not in str(caught.value)
