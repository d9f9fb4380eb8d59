"""The contract of all kinds of data sets.

The tests compare what was written with what is read, and cover labels, copies, any order of
reading, fingerprints, files that change, workers and missing folders.
"""

import os
import pickle
from inspect import signature

import numpy as np
import pytest
import torch
from PIL import Image

from axiom_bench.data.base import (
    BACKGROUND,
    NO_VERDICT,
    UNREADABLE,
    BadImage,
    FileHashes,
    classes_of,
)
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import KINDS, load_dataset
from axiom_bench.errors import BenchError
from tests.data import conftest
from tests.data.builders import BIRD, PLAIN, cut, load, save, write_parquet, write_tar

# The fixture `make_data_set` writes these; npz is the kind `arrays` with all samples in one file.
PACKED = ("arrays", "npz", "webdataset", "parquet", "mosaic")
ROOTS = [kind for kind in KINDS if hasattr(conftest, f"{kind}_root")]  # a fixture writes them
OWN_FILES = (*ROOTS, "arrays")  # each image has files of its own
FROM_FILES = (*ROOTS, *PACKED)
DRAWN = [
    kind for kind in KINDS if not {"root", "path", "of"} & signature(KINDS[kind]).parameters.keys()
]
IN_A_FILE_OF_ITS_OWN = ("pasted",)
VOLUMES = Preprocessing(None, None, (), (), shape=(2, 3, 4, 5))


def test_every_kind_has_an_example():
    missing = sorted({*KINDS} - {*FROM_FILES, *DRAWN, *IN_A_FILE_OF_ITS_OWN})
    assert not missing, (
        f"bench/data/registry.py: the kind {missing[0]!r} has no example. Write a fixture "
        f"`{missing[0]}_root` in tests/data/conftest.py, which writes at least two images into "
        "`tmp_path` and returns their folder."
    )


def make_drawn(kind):
    """Make a data set whose images are drawn, not read from files."""
    settings = {}
    if "size" in signature(KINDS[kind]).parameters:
        settings["size"] = 3
    if kind == "hard":
        settings["content"] = "crops"  # the other contents have an image that can't be read
    return load_dataset({"kind": kind, **settings})


def make_arrays(kind, folder):
    """Write six volumes, each in a file of its own and all in one file, and load one of the two."""
    images = np.random.default_rng(0).normal(size=(6, 2, 3, 4, 5))
    classes = np.arange(6) % 2
    masks = np.where(images[:, 0] > 0, classes[:, None, None, None], -1)
    boxes = np.tile([0, 1, 1, 3, 3, 9], (6, 1))
    np.savez(folder / "a.npz", images=images, labels=classes, masks=masks, boxes=boxes)
    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        (folder / f"{label}").mkdir(exist_ok=True)
        np.save(folder / f"{label}/{number}.npy", image)
    return load("arrays", folder if kind == "arrays" else folder / "a.npz")


def make_mosaic(folder):
    """Make mosaics of the images in the folder."""
    images = load_dataset({"kind": "mosaic", "of": {"kind": "folder", "root": str(folder)}})
    return images.mosaics(images.candidates(range(8)), PLAIN)


@pytest.fixture
def make_data_set(request, tmp_path):
    """A function that makes a data set of a kind, and returns it with its preprocessing."""

    def make(kind):
        if kind in DRAWN:
            return make_drawn(kind), PLAIN
        if kind in ROOTS:
            settings = {"categories": ["n07", "n03"]} if kind == "imagenet_s" else {}
            return load(kind, request.getfixturevalue(f"{kind}_root"), **settings), PLAIN
        if kind in ("arrays", "npz"):
            return make_arrays(kind, tmp_path), VOLUMES

        names = [f"{number % 4}/{number}.png" for number in range(8)]
        paths = [save(tmp_path / name, seed=number) for number, name in enumerate(names)]
        if kind == "mosaic":
            data = make_mosaic(tmp_path)
            return data, data.preprocessing
        pictures = [path.read_bytes() for path in paths]
        if kind == "webdataset":
            members = [(name.replace(".png", ".cls"), b"1") for name in names]
            members += zip(names, pictures, strict=True)
            path = write_tar(tmp_path / "a.tar", members)
        else:
            images = [{"bytes": picture, "path": ""} for picture in pictures]
            path = write_parquet(tmp_path / "a.parquet", images, [0, 1] * 4)
        return load(kind, path), PLAIN

    return make


# The content that the fixtures write: {image id: (label, objects, how its one problem begins)}.
STORED = {
    "imagenet": {
        "n01/ILSVRC2012_val_00000002.JPEG": (0, [(0, (10, 10, 20, 15))], ""),
        # 0-based and inclusive in the file; not class 1: n02 has no folder
        "n03/ILSVRC2012_val_00000001.JPEG": (2, [(2, (0, 0, 40, 30)), (2, (4, 5, 7, 8))], ""),
        "n03/ILSVRC2012_val_00000003.JPEG": (2, [(2, (10, 10, 20, 15))], ""),
    },
    "imagenet_s": {
        "n03/b.JPEG": (3, [], "the mask b.png: there is no file"),
        "n07/a.JPEG": (7, [(3, (0, 10, 40, 15)), (7, (0, 0, 40, 10))], ""),
    },
    "voc": {
        # 1-based and inclusive in the file; the person is larger
        "2007_1": (14, [(11, (0, 0, 10, 20)), (14, (10, 0, 40, 30))], ""),
        "2007_2": (7, [(7, (4, 5, 7, 8))], ""),
        "2007_3": (None, [], "there is no annotation"),
    },
    "coco": {
        "000003.jpg": (None, [], ""),  # a crowd is no object
        "000005.jpg": (None, [], ""),
        "000007.jpg": (0, [(1, (10, 5, 20, 15)), (0, (0, 0, 30, 20))], ""),  # the person is larger
    },
    "folder": {"cat/1.jpg": (0, [], ""), "cow/2.png": (1, [], ""), "dog/1.jpg": (2, [], "")},
    "funnybirds": {
        "0/000001.png": (0, [], ""),
        "1/000000.png": (1, [], ""),
        f"{BIRD}.png": (1, [], ""),
    },
    "wsol": {  # inclusive in the file
        "001.Black_Albatross/a_1.jpg": (0, [(0, (3, 4, 13, 14)), (0, (20, 0, 40, 30))], ""),
        "002.Laysan_Albatross/b_2.jpg": (1, [(1, (5, 6, 8, 9))], ""),
    },
    "webdataset": {
        f"a/{number % 4}/{number}.png": (1, [], "") for number in (0, 4, 1, 5, 2, 6, 3, 7)
    },
    "parquet": {f"a/00000000{number}": (number % 2, [], "") for number in range(8)},
    "arrays": {f"{number % 2}/{number}.npy": (number % 2, [], "") for number in (0, 2, 4, 1, 3, 5)},
    "npz": {
        f"a.npz/00000000{number}": (number % 2, [(number % 2, (0, 1, 1, 3, 3, 3))], "a.npz/0")
        for number in range(6)
    },
}
FIRST_CLASSES = {  # the first class, and its name
    "imagenet": ("n01", "tench, Tinca tinca"),
    "imagenet_s": ("n00", "name of n00"),
    "voc": ("aeroplane", "aeroplane"),
    "wsol": ("001.Black_Albatross", "Black Albatross"),
    "coco": ("person", "person"),  # the category with the lowest id
}
MASKS = {  # an image, and the value in each of its regions
    "imagenet_s": ("n07/a.JPEG", [(np.s_[:10], 7), (np.s_[10:15], 3), (np.s_[15:20], NO_VERDICT)]),
    # a border has no verdict
    "voc": ("2007_1", [(np.s_[:20, :10], 11), (np.s_[:, 10:], 14), (29, NO_VERDICT)]),
    # the dog is smaller, so it lies on top; a crowd has no verdict
    "coco": (
        "000007.jpg",
        [(np.s_[:20, :30], 0), (np.s_[5:15, 10:20], 1), (np.s_[20:, 32:], NO_VERDICT)],
    ),
}


@pytest.mark.parametrize("kind", STORED)
def test_what_was_written_is_read(make_data_set, kind):
    data, _ = make_data_set(kind)
    assert data.ids == tuple(STORED[kind])
    for index, (label, objects, problem) in enumerate(STORED[kind].values()):
        sample = data.read(index)
        assert sample.label == label
        assert sample.objects == tuple(objects)
        # An image of ImageNet-S has one label, whatever else its mask shows.
        labelled_objects = () if kind == "imagenet_s" else objects
        assert data.labels(index) == classes_of(label, labelled_objects)
        assert len(sample.problems) == bool(problem)
        assert all(found.startswith(problem) for found in sample.problems)

    unnamed = (data.classes[0], data.classes[0])
    assert (data.classes[0], data.class_names[0]) == FIRST_CLASSES.get(kind, unnamed)


@pytest.mark.parametrize("kind", MASKS)
def test_masks_hold_class_indices(make_data_set, kind):
    data, _ = make_data_set(kind)
    image_id, regions = MASKS[kind]
    expected = np.full((30, 40), BACKGROUND)
    for pixels, value in regions:
        expected[pixels] = value

    assert np.array_equal(data.read(data.ids.index(image_id)).mask, expected)
    without = data.read(1 if kind == "voc" else 0)  # an image without a mask; COCO's is of a crowd
    assert (without.mask is None) == (kind != "coco")


def rows(data, preprocessing, **settings):
    return list(batches(data, range(len(data)), preprocessing, "predicted", 2, **settings))


def all_files(data):
    """Return the files of all images; an absent annotation may be None."""
    paths = set()
    for index in range(len(data)):
        paths.update(data.files(index))
    return paths


@pytest.mark.parametrize("kind", [*FROM_FILES, *DRAWN])
def test_labels_copies_and_fingerprints(make_data_set, kind):
    data, _ = make_data_set(kind)
    hashes = FileHashes()
    indices = range(len(data))

    # The code of this module is part of the keys of cached values.
    assert data.module == KINDS["arrays" if kind == "npz" else kind].__module__

    copy = pickle.loads(pickle.dumps(data))
    assert list(data.ids) == sorted(set(data.ids))
    samples_of_copy = [copy.read(index) for index in indices]
    for index in reversed(indices):
        sample = data.read(index)
        same = samples_of_copy[index]
        assert sample.image_id == data.ids[index]
        assert np.array_equal(sample.image, same.image)
        assert sample.label == same.label
        assert sample.objects == same.objects
        assert sample.problems == same.problems
        labels = data.labels(index)
        assert labels == copy.labels(index)
        assert {*classes_of(sample.label, ())} <= {*labels} <= {*range(len(data.classes))}
        assert sample.mask is None or sample.mask.shape == sample.size

    # Hashes are kept for old files only, also if several images are in one file.
    for path in all_files(data):
        if path.exists():
            os.utime(path, (1e9, 1e9))
    prints = [data.fingerprint(index, hashes) for index in indices]
    num_alike = 2 if kind == "funnybirds" else 1  # two of its birds are drawn alike
    assert len(set(prints)) == len(data) - num_alike + 1
    for other in (None, hashes, FileHashes(hashes.current)):
        assert [copy.fingerprint(index, other) for index in indices] == prints


@pytest.mark.slow
@pytest.mark.parametrize("kind", FROM_FILES)
def test_a_file_that_changes_after_it_was_hashed_is_refused_and_decides_the_hash_of_its_images(
    make_data_set, kind
):
    """Check each file of an image, also those of its annotation and its versions.

    A file that is written again is refused even if its content is the same.
    """
    data, preprocessing = make_data_set(kind)
    hashes = FileHashes()
    indices = range(len(data))
    before = [data.fingerprint(index, hashes) for index in indices]

    stamps = hashes.stamps_of(data, indices)
    assert set(stamps) == all_files(data) - {None}
    assert rows(data, preprocessing, stamps=stamps)

    for path in data.files(len(data) - 1):
        content = path.read_bytes() if path.exists() else b""
        for workers, new_content in enumerate((content + b"\0", content)):
            path.unlink(missing_ok=True)
            path.write_bytes(new_content)
            with pytest.raises(
                BenchError, match=r"was changed after its content was hashed; run the same command"
            ):
                rows(data, preprocessing, workers=workers, stamps=stamps)
            if new_content != content and kind in OWN_FILES:
                has_changed = [data.fingerprint(index) != before[index] for index in indices]
                assert has_changed == [path in data.files(index) for index in indices]


@pytest.mark.parametrize("kind", FROM_FILES)
def test_workers_change_nothing_beside_an_image_that_is_cut_short(make_data_set, kind):
    data, preprocessing = make_data_set(kind)
    if kind in OWN_FILES:
        cut(data.files(1)[0], 50)

    first = rows(data, preprocessing)
    second = rows(data, preprocessing, workers=2)

    bad = [item.image_id for item in first if isinstance(item, BadImage)]
    assert bad == ([data.ids[1]] if kind in OWN_FILES else [])
    for one, other in zip(first, second, strict=True):
        assert type(one) is type(other)
        if isinstance(one, BadImage):
            assert one.image_id == other.image_id
            assert one.status == other.status
            assert one.message == other.message
            continue
        assert torch.equal(one.images, other.images)
        assert one.image_ids == other.image_ids
        for note, same in zip(one.annotations, other.annotations, strict=True):
            assert torch.equal(note.boxes, same.boxes)
            assert note.mask is same.mask is None or torch.equal(note.mask, same.mask)


@pytest.mark.parametrize("kind", ROOTS)
def test_images_on_their_side_files_that_cannot_be_read_and_missing_folders(
    make_data_set, kind, tmp_path, monkeypatch
):
    """Check that photographs in a folder are turned according to EXIF.

    Photographs with annotations aren't turned.
    """
    data, _ = make_data_set(kind)
    size = data.read(0).size
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", size[::-1]).save(data.files(0)[0], exif=exif)
    is_turned = kind == "folder"
    assert data.read(0).turned is is_turned
    assert data.read(0).size == (size[::-1] if is_turned else size)

    def fail(path):
        raise OSError("no disk")

    monkeypatch.setattr("axiom_bench.data.formats.decoding.open_regular", fail)
    assert data.fingerprint(0).startswith(UNREADABLE)  # data.cache keeps no image under such a key

    with pytest.raises(
        BenchError, match=r"There is no folder .*nowhere.*; expected .*(<root>|JPEGImages)"
    ):
        load(kind, tmp_path / "nowhere")
