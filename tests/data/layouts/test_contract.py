"""The contract of all kinds of data sets: labels, copies, any order of reading, fingerprints, files that change,
workers, missing folders."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from axiom_bench.data.base import UNREADABLE, BadImage, FileHashes, classes_of
from axiom_bench.data.layouts.bases import ImageFiles
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import KINDS, load_dataset
from axiom_bench.errors import BenchError
from tests.data.builders import PLAIN, cut, load, save, write_parquet, write_tar

ROOTS = {  # by the fixture that writes them
    "imagenet": "imagenet_root", "imagenet_s": "s_root", "voc": "voc_root", "coco": "coco_root",
    "folder": "folder_root", "funnybirds": "birds_root",
}  # fmt: skip
FROM_FILES = (*ROOTS, "webdataset", "parquet", "mosaic", "arrays", "npz")
VOLUMES = Preprocessing(None, None, (), (), shape=(2, 3, 4, 5))
DRAWN = {"scenes": {"size": 3}, "planted": {"size": 3}, "scenes_marked": {"size": 3}, "hard": {"content": "crops"}}
DRAWN |= {"signals": {"size": 3}, "volumes": {"size": 3}, "synthetic_shapes": {"size": 3}}


@pytest.fixture
def made(request, tmp_path):
    """The data set of a kind, and its images' preprocessing."""

    def make(kind):
        if kind in DRAWN:
            return load_dataset({"kind": kind, **DRAWN[kind]}), PLAIN
        if kind in ROOTS:
            settings = {"categories": ["n07", "n03"]} if kind == "imagenet_s" else {}
            return load(kind, request.getfixturevalue(ROOTS[kind]), **settings), PLAIN
        if kind in ("arrays", "npz"):
            images, classes = np.random.default_rng(0).normal(size=(6, 2, 3, 4, 5)), np.arange(6) % 2
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
        pictures = [save(tmp_path / name, seed=number).read_bytes() for number, name in enumerate(names)]
        if kind == "mosaic":
            images = load_dataset({"kind": "mosaic", "of": {"kind": "folder", "root": str(tmp_path)}})
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


def rows(data, preprocessing, **settings):
    return list(batches(data, range(len(data)), preprocessing, "predicted", 2, **settings))


def test_every_kind_is_here_or_in_a_file_of_its_own():
    assert {*FROM_FILES, *DRAWN, "pasted"} - {"npz"} == set(KINDS)


@pytest.mark.parametrize("kind", [*FROM_FILES, *DRAWN])
def test_labels_copies_and_fingerprints(made, kind):
    (data, _), hashes = made(kind), FileHashes()
    copy = pickle.loads(pickle.dumps(data))
    assert list(data.ids) == sorted(set(data.ids))
    forwards = [copy.read(index) for index in range(len(data))]
    for index, same in reversed([*enumerate(forwards)]):
        sample = data.read(index)
        assert sample.image_id == data.ids[index]
        assert np.array_equal(sample.image, same.image)
        assert (sample.label, sample.objects, sample.problems) == (same.label, same.objects, same.problems)
        assert data.labels(index) == copy.labels(index)
        assert {*classes_of(sample.label, ())} <= {*data.labels(index)} <= {*range(len(data.classes))}
        assert sample.mask is None or sample.mask.shape == sample.size
    prints = [data.fingerprint(index, hashes) for index in range(len(data))]
    assert len(set(prints)) >= 2
    for other in (None, hashes, FileHashes(hashes.current)):
        assert [copy.fingerprint(index, other) for index in range(len(data))] == prints


@pytest.mark.parametrize("kind", FROM_FILES)
def test_a_file_that_changes_after_it_was_hashed_is_refused_and_decides_the_hash_of_its_images(made, kind):
    """Also where its content stays; and each of an image's files, be it of the annotation or of a version."""
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
            with pytest.raises(BenchError, match=r"was changed after its content was hashed; run the same command"):
                rows(data, preprocessing, workers=workers, stamps=stamps)
            if change != content and isinstance(data, ImageFiles):
                changed = [data.fingerprint(place) != before[place] for place in places]
                assert changed == [path in data.files(place) for place in places]


@pytest.mark.parametrize("kind", FROM_FILES)
def test_workers_change_nothing_beside_an_image_that_is_cut_short(made, kind):
    data, preprocessing = made(kind)
    if isinstance(data, ImageFiles):
        cut(data.path(1), 50)
    first, second = rows(data, preprocessing), rows(data, preprocessing, workers=2)
    bad = [item.image_id for item in first if isinstance(item, BadImage)]
    assert bad == ([data.ids[1]] if isinstance(data, ImageFiles) else [])
    for one, other in zip(first, second, strict=True):
        assert type(one) is type(other)
        if isinstance(one, BadImage):
            assert (one.image_id, one.status, one.message) == (other.image_id, other.status, other.message)
            continue
        assert torch.equal(one.images, other.images)
        assert one.image_ids == other.image_ids
        for note, same in zip(one.annotations, other.annotations, strict=True):
            assert torch.equal(note.boxes, same.boxes)
            assert note.mask is same.mask is None or torch.equal(note.mask, same.mask)


@pytest.mark.parametrize("kind", ROOTS)
def test_images_on_their_side_files_that_cannot_be_read_and_missing_folders(made, kind, tmp_path, monkeypatch):
    """Photographs in a folder are turned as their EXIF says, those with annotations aren't."""
    (data, _), exif = made(kind), Image.Exif()
    exif[0x0112] = 6
    size = data.read(0).size
    Image.new("RGB", size[::-1]).save(data.path(0), exif=exif)
    assert (data.read(0).turned, data.read(0).size) == ((True, size[::-1]) if kind == "folder" else (False, size))

    def fail(path):
        raise OSError("no disk")

    monkeypatch.setattr("axiom_bench.data.formats.decoding.open_regular", fail)
    assert data.fingerprint(0).startswith(UNREADABLE)  # data.cache keeps no image by it
    with pytest.raises(BenchError, match=r"There is no folder .*nowhere.*; expected .*(<root>|JPEGImages)"):
        load(kind, tmp_path / "nowhere")
