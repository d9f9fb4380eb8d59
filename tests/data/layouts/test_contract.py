"""The contract of all kinds of data sets: what was written is read, labels, copies, any order of
reading, fingerprints, files that change, workers, missing folders.
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

# written by `made`; npz is a file of arrays
PACKED = (
    "arrays",
    "npz",
    "webdataset",
    "parquet",
    "mosaic",
)
ROOTS = [kind for kind in KINDS if hasattr(conftest, f"{kind}_root")]  # whose fixture writes them
OWN_FILES = (*ROOTS, "arrays")  # of each image
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


@pytest.fixture
def made(request, tmp_path):
    """The data set of a kind, and its images' preprocessing."""

    def make(kind):
        if kind in DRAWN:
            settings = {"size": 3} if "size" in signature(KINDS[kind]).parameters else {}
            if kind == "hard":
                settings["content"] = "crops"  # of the others one image can't be read
            return load_dataset({"kind": kind, **settings}), PLAIN
        if kind in ROOTS:
            settings = {"categories": ["n07", "n03"]} if kind == "imagenet_s" else {}
            return load(kind, request.getfixturevalue(f"{kind}_root"), **settings), PLAIN
        if kind in ("arrays", "npz"):
            images, classes = (
                np.random.default_rng(0).normal(size=(6, 2, 3, 4, 5)),
                np.arange(6) % 2,
            )
            masks, boxes = (
                np.where(images[:, 0] > 0, classes[:, None, None, None], -1),
                np.tile([0, 1, 1, 3, 3, 9], (6, 1)),
            )
            np.savez(tmp_path / "a.npz", images=images, labels=classes, masks=masks, boxes=boxes)
            for number, (image, label) in enumerate(zip(images, classes, strict=True)):
                (tmp_path / f"{label}").mkdir(exist_ok=True)
                np.save(tmp_path / f"{label}/{number}.npy", image)
            return load("arrays", tmp_path if kind == "arrays" else tmp_path / "a.npz"), VOLUMES
        names = [f"{number % 4}/{number}.png" for number in range(8)]
        pictures = [
            save(tmp_path / name, seed=number).read_bytes() for number, name in enumerate(names)
        ]
        if kind == "mosaic":
            images = load_dataset(
                {"kind": "mosaic", "of": {"kind": "folder", "root": str(tmp_path)}}
            )
            data = images.mosaics(images.candidates(range(8)), PLAIN)
            return data, data.preprocessing
        if kind == "webdataset":
            members = zip((name.replace(".png", ".cls") for name in names), [b"1"] * 8, strict=True)
            path = write_tar(tmp_path / "a.tar", [*members, *zip(names, pictures, strict=True)])
        else:
            images = [{"bytes": each, "path": ""} for each in pictures]
            path = write_parquet(tmp_path / "a.parquet", images, [0, 1] * 4)
        return load(kind, path), PLAIN

    return make


STORED = {  # by the fixtures: {image id: (label, objects, how its one problem begins)}
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
    "webdataset": {
        f"a/{number % 4}/{number}.png": (1, [], "") for number in (0, 4, 1, 5, 2, 6, 3, 7)
    },
    "parquet": {f"a/00000000{number}": (number % 2, [], "") for number in range(8)},
    "arrays": {f"{number % 2}/{number}.npy": (number % 2, [], "") for number in (0, 2, 4, 1, 3, 5)},
    "npz": {
        f"a.npz/00000000{n}": (n % 2, [(n % 2, (0, 1, 1, 3, 3, 3))], "a.npz/0") for n in range(6)
    },
}
CLASSES = {  # the first, and its name
    **{"imagenet": ("n01", "tench, Tinca tinca"), "imagenet_s": ("n00", "name of n00")},
    **{
        "voc": ("aeroplane", "aeroplane"),
        "coco": ("person", "person"),
    },  # of COCO's by the lowest id
}
MASKS = {
    "imagenet_s": ("n07/a.JPEG", [(np.s_[:10], 7), (np.s_[10:15], 3), (np.s_[15:20], NO_VERDICT)]),
    "voc": (
        "2007_1",
        [(np.s_[:20, :10], 11), (np.s_[:, 10:], 14), (29, NO_VERDICT)],
    ),  # with a border
    # the dog is smaller, so it lies on top; a crowd
    "coco": (
        "000007.jpg",
        [(np.s_[:20, :30], 0), (np.s_[5:15, 10:20], 1), (np.s_[20:, 32:], NO_VERDICT)],
    ),
}


@pytest.mark.parametrize("kind", STORED)
def test_what_was_written_is_read(made, kind):
    data, _ = made(kind)
    assert data.ids == tuple(STORED[kind])
    for index, (label, objects, problem) in enumerate(STORED[kind].values()):
        sample = data.read(index)
        assert (sample.label, sample.objects) == (label, tuple(objects))
        of_objects = () if kind == "imagenet_s" else objects  # of which an image has one label
        assert data.labels(index) == classes_of(label, of_objects)
        assert [each.startswith(problem) for each in sample.problems] == [True] * bool(problem)
    assert (data.classes[0], data.class_names[0]) == CLASSES.get(kind, (data.classes[0],) * 2)


@pytest.mark.parametrize("kind", MASKS)
def test_masks_hold_class_indices(made, kind):
    (data, _), (image_id, regions) = made(kind), MASKS[kind]
    expected = np.full((30, 40), BACKGROUND)
    for place, value in regions:
        expected[place] = value
    assert np.array_equal(data.read(data.ids.index(image_id)).mask, expected)
    without = data.read(1 if kind == "voc" else 0)  # an image without a mask; COCO's is of a crowd
    assert (without.mask is None) == (kind != "coco")


def rows(data, preprocessing, **settings):
    return list(batches(data, range(len(data)), preprocessing, "predicted", 2, **settings))


@pytest.mark.parametrize("kind", [*FROM_FILES, *DRAWN])
def test_labels_copies_and_fingerprints(made, kind):
    (data, _), hashes = made(kind), FileHashes()
    # whose code is part of values' keys
    assert data.module == KINDS["arrays" if kind == "npz" else kind].__module__
    copy = pickle.loads(pickle.dumps(data))
    assert list(data.ids) == sorted(set(data.ids))
    forwards = [copy.read(index) for index in range(len(data))]
    for index, same in reversed([*enumerate(forwards)]):
        sample = data.read(index)
        assert sample.image_id == data.ids[index]
        assert np.array_equal(sample.image, same.image)
        assert (sample.label, sample.objects, sample.problems) == (
            same.label,
            same.objects,
            same.problems,
        )
        assert data.labels(index) == copy.labels(index)
        assert (
            {*classes_of(sample.label, ())} <= {*data.labels(index)} <= {*range(len(data.classes))}
        )
        assert sample.mask is None or sample.mask.shape == sample.size
    for path in {path for index in range(len(data)) for path in data.files(index) if path.exists()}:
        os.utime(path, (1e9, 1e9))  # so that hashes are kept, of several images in one file too
    prints = [data.fingerprint(index, hashes) for index in range(len(data))]
    same = {"funnybirds": 2}  # two of its birds are drawn alike
    assert len(set(prints)) == len(data) - same.get(kind, 1) + 1
    for other in (None, hashes, FileHashes(hashes.current)):
        assert [copy.fingerprint(index, other) for index in range(len(data))] == prints


@pytest.mark.parametrize("kind", FROM_FILES)
def test_a_file_that_changes_after_it_was_hashed_is_refused_and_decides_the_hash_of_its_images(
    made, kind
):
    """Also where its content stays; and each of an image's files, be it of the annotation or of a
    version.
    """
    (data, preprocessing), hashes = made(kind), FileHashes()
    places, last = range(len(data)), len(data) - 1
    before = [data.fingerprint(place, hashes) for place in places]
    stamps = hashes.stamps_of(data, places)
    assert set(stamps) == {path for place in places for path in data.files(place)} - {None}
    assert rows(data, preprocessing, stamps=stamps)
    for path in data.files(last):
        content = path.read_bytes() if path.exists() else b""
        for workers, change in enumerate((content + b"\0", content)):
            path.unlink(missing_ok=True)
            path.write_bytes(change)
            with pytest.raises(
                BenchError, match=r"was changed after its content was hashed; run the same command"
            ):
                rows(data, preprocessing, workers=workers, stamps=stamps)
            if change != content and kind in OWN_FILES:
                changed = [data.fingerprint(place) != before[place] for place in places]
                assert changed == [path in data.files(place) for place in places]


@pytest.mark.parametrize("kind", FROM_FILES)
def test_workers_change_nothing_beside_an_image_that_is_cut_short(made, kind):
    data, preprocessing = made(kind)
    if kind in OWN_FILES:
        cut(data.files(1)[0], 50)
    first, second = rows(data, preprocessing), rows(data, preprocessing, workers=2)
    bad = [item.image_id for item in first if isinstance(item, BadImage)]
    assert bad == ([data.ids[1]] if kind in OWN_FILES else [])
    for one, other in zip(first, second, strict=True):
        assert type(one) is type(other)
        if isinstance(one, BadImage):
            assert (one.image_id, one.status, one.message) == (
                other.image_id,
                other.status,
                other.message,
            )
            continue
        assert torch.equal(one.images, other.images)
        assert one.image_ids == other.image_ids
        for note, same in zip(one.annotations, other.annotations, strict=True):
            assert torch.equal(note.boxes, same.boxes)
            assert note.mask is same.mask is None or torch.equal(note.mask, same.mask)


@pytest.mark.parametrize("kind", ROOTS)
def test_images_on_their_side_files_that_cannot_be_read_and_missing_folders(
    made, kind, tmp_path, monkeypatch
):
    """Photographs in a folder are turned as their EXIF says, those with annotations aren't."""
    (data, _), exif = made(kind), Image.Exif()
    exif[0x0112] = 6
    size = data.read(0).size
    Image.new("RGB", size[::-1]).save(data.files(0)[0], exif=exif)
    assert (data.read(0).turned, data.read(0).size) == (
        (True, size[::-1]) if kind == "folder" else (False, size)
    )

    def fail(path):
        raise OSError("no disk")

    monkeypatch.setattr("axiom_bench.data.formats.decoding.open_regular", fail)
    assert data.fingerprint(0).startswith(UNREADABLE)  # data.cache keeps no image by it
    with pytest.raises(
        BenchError, match=r"There is no folder .*nowhere.*; expected .*(<root>|JPEGImages)"
    ):
        load(kind, tmp_path / "nowhere")
