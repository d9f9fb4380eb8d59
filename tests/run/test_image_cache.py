"""Tests of `data.cache`: decoded images on disk, which networks and runs share.

A damaged file costs time, but changes no value.
"""

import os
import shutil
import threading
import time
import warnings
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
from PIL import Image

from axiom_bench.data.base import DataSet, FileHashes, Sample, fingerprints
from axiom_bench.data.embedded import Scenes
from axiom_bench.data.layouts import table as image_files
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.errors import BenchError
from axiom_bench.notes import DamagedFile
from axiom_bench.run import images
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.images import SUFFIX, ImageCache
from axiom_bench.run.job import HASHES, Job, keep_hashes, read_hashes
from axiom_bench.run.spine import configuration

from .conftest import failure, tiny_overrides, write_images
from .test_damage import flip_bit, replace_by_pipe

COMMON = ("target=predicted", "metric=[zeta]", "method=[grad_cam]")
PLAIN = Preprocessing(24, 20, (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))


def cache_of(dataset, folder, preprocessing=PLAIN, skipped=()):
    contents = {index: str(index) for index in range(len(dataset)) if index not in skipped}
    key = images.common_key(preprocessing, dataset.classes, ())
    return ImageCache(folder, key, contents)


def entries(folder):
    return sorted(folder.rglob(f"*{SUFFIX}"))


@pytest.fixture
def folder_data(tmp_path):
    """The settings of a run on five photographs of two classes and a damaged photograph."""
    names = [f"class{number % 2}/{number}.jpg" for number in range(6)]
    settings = write_images(tmp_path / "photographs", *names)
    path = tmp_path / "photographs" / names[-1]
    path.write_bytes(path.read_bytes()[:500])
    return (*settings, *COMMON)


@pytest.fixture
def decoded_ids(monkeypatch):
    """The ids of the images that the run has decoded so far."""
    ids = []
    open_scaled = image_files.open_scaled

    def record_id(source, image_id, *settings):
        ids.append(image_id)
        return open_scaled(source, image_id, *settings)

    monkeypatch.setattr(image_files, "open_scaled", record_id)
    return ids


def read(dataset, cache, workers=0, preprocessing=PLAIN, extras=()):
    return list(
        batches(
            dataset,
            range(len(dataset)),
            preprocessing,
            "each_label",
            4,
            workers,
            extras,
            cache=cache,
        )
    )


def plain(item):
    """Return batches, annotations and parts as lists of their numbers and texts."""
    if isinstance(item, torch.Tensor):
        return item.tolist()
    if isinstance(item, (list, tuple)):
        return [plain(part) for part in item]
    if is_dataclass(item):
        return [plain(getattr(item, field.name)) for field in fields(item)]
    return item


@pytest.mark.slow
def test_a_second_network_and_a_second_run_decode_nothing(
    folder_data, decoded_ids, run, results, tmp_path, capsys
):
    def records_of(name, outcomes):
        tables = []
        for outcome in outcomes:
            for path in sorted(outcome.files["records"]):
                tables.append(pd.read_parquet(results / "quick" / name / path))
        return pd.concat(tables)

    networks = "model=scenes_vgg,scenes_resnet"
    cached = (*folder_data, f"data.cache={tmp_path / 'cache'}")
    expected = records_of("plain", run([*folder_data, networks, "run=plain"]))

    decoded_ids.clear()
    first_outcomes = run([*cached, networks])
    printed = capsys.readouterr().out
    assert "0 of 6 images are in data.cache=" in printed
    assert "the others will take about 0.2 MB, and " in printed
    assert decoded_ids.count("class0/0.jpg") == 2  # once to estimate the size of all images
    for number in range(1, 5):
        assert decoded_ids.count(f"class{number % 2}/{number}.jpg") == 1
    assert len(entries(tmp_path / "cache")) == 5

    decoded_ids.clear()
    second_outcomes = run([*cached, networks, "run=again"])
    assert set(decoded_ids) == {"class1/5.jpg"}

    assert records_of("default", first_outcomes).equals(expected)
    assert records_of("again", second_outcomes).equals(expected)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_boxes_masks_and_extras_are_the_same(tmp_path, workers):
    """Check scenes, which have objects, masks, versions without an object, and other images.

    One scene has no entry in the cache.
    """
    dataset = Scenes(size=20, seed=1)
    cache = cache_of(dataset, tmp_path, skipped=(7,))
    extras = ("interventions", "other_images")
    expected = plain(read(dataset, None, extras=extras))
    for _ in range(2):
        assert plain(read(dataset, cache, workers, extras=extras)) == expected
        assert len(entries(tmp_path)) == 19


def test_problems_of_annotations_are_told_again(tmp_path):
    class Problematic(Scenes):
        def read(self, index):
            return replace(super().read(index), problems=("the file caf\xe9.xml is malformed",))

    dataset = Problematic(size=2, seed=1)
    expected = [f"{name}: the file caf\xe9.xml is malformed" for name in dataset.ids]
    for _ in range(2):
        with warnings.catch_warnings(record=True, action="always") as caught:
            read(dataset, cache_of(dataset, tmp_path))
        assert [str(warning.message) for warning in caught] == expected


def test_colours_don_t_matter_and_all_else_does(tmp_path):
    dataset = Scenes(size=2, seed=1)
    other_colours = replace(PLAIN, mean=(0.0,) * 3, std=(1.0,) * 3)
    read(dataset, cache_of(dataset, tmp_path))
    before = entries(tmp_path)
    cached = read(dataset, cache_of(dataset, tmp_path, other_colours), preprocessing=other_colours)
    assert plain(cached) == plain(read(dataset, None, preprocessing=other_colours))
    assert entries(tmp_path) == before

    keys = {images.common_key(PLAIN, ("a", "b"), ())}
    for preprocessing in (
        PLAIN,
        replace(PLAIN, crop=19),
        replace(PLAIN, resize=25),
        replace(PLAIN, interpolation="bicubic"),
        replace(PLAIN, mean=(0.5,), std=(0.5,)),
        replace(PLAIN, scaled_decoding=True),
    ):
        keys.add(images.common_key(preprocessing, dataset.classes, ()))
    assert len(keys) == 7


def flip_bit_of_first(path, other):
    flip_bit(path)


def replace_first_by_pipe(path, other):
    replace_by_pipe(path)


def copy_second_to_first(path, other):
    path.write_bytes(other.read_bytes())


DAMAGE = {  # functions that damage the first entry, given both entries
    "flipped": flip_bit_of_first,
    "a pipe": replace_first_by_pipe,
    "another entry": copy_second_to_first,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_entries_are_told_and_made_anew(tmp_path, damage):
    dataset = Scenes(size=3, seed=1)
    cache = cache_of(dataset, tmp_path)
    expected = plain(read(dataset, None))
    read(dataset, cache)
    path = cache.path(0)
    damage(path, cache.path(1))
    with pytest.warns(DamagedFile, match=path.name) as caught:
        assert plain(read(dataset, cache, workers=1)) == expected
    assert len(caught) == 1
    with warnings.catch_warnings(action="error"):
        assert plain(read(dataset, cache)) == expected


@pytest.mark.slow
def test_too_little_space_is_a_sentence(folder_data, run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20_000))
    message = failure(run([*folder_data, f"data.cache={tmp_path / 'cache'}"]))
    sentence = "the others would take about 0.2 MB, and 0.0 MB are free there. Free some space"
    assert sentence in message
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def images_folder(tmp_path) -> Path:
    """The folder of three images that were written a long time ago."""
    for number in range(3):
        path = tmp_path / f"images/{number}/a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (96, 96), (number, 0, 0)).save(path)
        os.utime(path, (1e9, 1e9))
    return tmp_path / "images"


@pytest.fixture
def contents(images_folder, tmp_path, monkeypatch):
    """A function that returns the images' hashes in a new run, and the number of images it read."""
    sha256 = Mock(wraps=image_files.sha256)
    monkeypatch.setattr(image_files, "sha256", sha256)
    settings = (
        "data=folder",
        f"data.root={images_folder}",
        "data.size=null",
        "data.workers=0",
        "target=label",
        f"data.classes={list(map(str, range(10)))}",
    )
    config = configuration(tiny_overrides(settings))

    def hashes_and_reads() -> tuple[dict[int, str], int]:
        sha256.reset_mock()
        fresh_job = replace(Job.of(Settings.of(config)), hashes=read_hashes(tmp_path))
        keep_hashes(fresh_job, tmp_path)
        return fresh_job.contents, sha256.call_count

    return hashes_and_reads


@pytest.mark.slow
def test_images_are_read_once_and_a_changed_one_again(contents, images_folder):
    first, reads = contents()
    assert reads == 3
    assert contents() == (first, 0)

    path = images_folder / "1/a.png"
    size = path.stat().st_size
    Image.new("RGB", (96, 96), (9, 0, 0)).save(path)
    assert path.stat().st_size == size  # so that only the time shows the change
    os.utime(path, (1e9 + 1, 1e9 + 1))
    second, reads = contents()
    assert reads == 1
    assert [first[index] == second[index] for index in range(3)] == [True, False, True]

    # A file that was written just now is read each time. It is a minute newer than now, so that it
    # still counts as new on a slow machine.
    just_now = time.time() + 60
    os.utime(path, (just_now, just_now))
    for _ in range(2):
        _, reads = contents()
        assert reads == 1


@pytest.mark.slow
def test_a_damaged_file_of_hashes_is_as_none(contents, tmp_path):
    first, _ = contents()
    flip_bit(tmp_path / HASHES)
    assert contents() == (first, 3)
    assert contents() == (first, 0)


class ThreadedImages(DataSet):
    """Images whose fingerprints two threads must read at once, except that of the first image."""

    name = "together"
    classes = ("0",)
    threads_may_read = True

    def __init__(self, size: int) -> None:
        self.ids = tuple(map(str, range(size)))
        self.barrier = threading.Barrier(2, timeout=20)
        self.threads = set[str]()

    def fingerprint(self, index: int, hashes: FileHashes | None = None) -> str:
        if self.threads_may_read and index > 0:
            self.barrier.wait()
        self.threads.add(threading.current_thread().name)
        return f"of {index}"

    def read(self, index: int) -> Sample:
        raise NotImplementedError

    def labels(self, index: int) -> tuple[int, ...]:
        return ()


def test_several_images_are_hashed_at_once_in_their_order():
    data = ThreadedImages(7)
    expected = [f"of {index}" for index in range(7)]
    assert list(fingerprints(data, range(7), FileHashes())) == expected
    assert threading.current_thread().name in data.threads
    assert len(data.threads) > 2

    # An image that can't be hashed ends the threads.
    data.barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        list(fingerprints(data, range(3), FileHashes()))
    assert not any("axiom-bench hashes" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize(("threads_may_read", "hashes"), [(False, {}), (True, {"a": "b"})])
def test_one_after_the_other_where_threads_may_not_read_or_hashes_are_there(
    threads_may_read, hashes
):
    data = ThreadedImages(3)
    data.threads_may_read = threads_may_read
    data.barrier = threading.Barrier(1)
    assert list(fingerprints(data, range(3), FileHashes(hashes))) == ["of 0", "of 1", "of 2"]
    assert data.threads == {threading.current_thread().name}


def test_an_image_that_is_replaced_after_it_was_hashed_is_not_kept_for_the_old_one(
    job, folder_data, tmp_path
):
    cached_job = job([*folder_data, f"data.cache={tmp_path / 'cache'}"])
    assert len(cached_job.contents) == 6
    Image.new("RGB", (200, 96)).save(tmp_path / "photographs/class0/0.jpg")
    sentence = r"The image 'class0/0\.jpg', or its annotation, was changed"
    with pytest.raises(BenchError, match=sentence):
        list(images.rows(cached_job, cached_job.indices))
    assert not images.image_cache(cached_job).path(0).exists()
