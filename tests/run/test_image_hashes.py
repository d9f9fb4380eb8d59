"""A second run over the same image files reads none of them to find that nothing is missing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from axiom_bench.data.base import DataSet, FileHashes, Sample, fingerprints
from axiom_bench.data.layouts import bases as image_files
from axiom_bench.run.jobs.job import HASHES, Job, keep_hashes, read_hashes

MakeJob = Callable[..., Job]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images that were written a while ago."""
    folder = tmp_path / "images"
    for number in range(3):
        path = folder / f"{number}/a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (96, 96), (number, 0, 0)).save(path)
        os.utime(path, (1e9, 1e9))
    return folder


@pytest.fixture
def contents(job: MakeJob, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """() -> (hashes of the images as a new run finds them, how many were read)."""
    reads: list[tuple[Path, ...]] = []
    sha256 = image_files.sha256

    def counted(*paths: Path) -> str:
        reads.append(paths)
        return sha256(*paths)

    monkeypatch.setattr(image_files, "sha256", counted)
    classes = ",".join(f"'{number}'" for number in range(10))

    def run() -> tuple[dict[int, str], int]:
        reads.clear()
        folder = ("data=folder", f"data.root={images}", "data.size=null", "data.workers=0", "target=label")
        fresh_job = replace(job(*folder, f"data.classes=[{classes}]"), hashes=read_hashes(tmp_path))
        keep_hashes(fresh_job, tmp_path)
        return fresh_job.contents, len(reads)

    return run


def test_images_are_read_once(contents):
    first, reads = contents()
    assert reads == 3
    assert contents() == (first, 0)


def test_a_changed_image_is_read_again(contents, images: Path):
    first, _ = contents()
    size = (images / "1/a.png").stat().st_size
    Image.new("RGB", (96, 96), (9, 0, 0)).save(images / "1/a.png")
    assert (images / "1/a.png").stat().st_size == size  # its time alone tells
    os.utime(images / "1/a.png", (1e9 + 1, 1e9 + 1))
    second, reads = contents()
    assert reads == 1
    assert [first[index] == second[index] for index in range(3)] == [True, False, True]


def test_an_image_changed_just_now_is_read_each_time(contents, images: Path):
    just_now = time.time() + 60  # and so it is however slow the machine
    os.utime(images / "1/a.png", (just_now, just_now))
    assert [contents()[1] for _ in range(2)] == [3, 1]


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b'{"sha256": "0", "files": {"a": "b"}}'])
def test_a_damaged_file_of_hashes_is_as_none(contents, tmp_path: Path, damage: bytes):
    first, _ = contents()
    (tmp_path / HASHES).write_bytes(damage)
    assert contents() == (first, 3)
    assert contents() == (first, 0)


def test_a_flipped_bit_gives_no_other_hash(contents, tmp_path: Path):
    first, _ = contents()
    content = bytearray((tmp_path / HASHES).read_bytes())
    place = content.index(first[0].split()[1].encode())
    content[place] ^= 1
    (tmp_path / HASHES).write_bytes(bytes(content))
    assert contents() == (first, 3)


class Together(DataSet):
    """Images whose fingerprints are asked for by several threads at once: the first alone, then two at a time."""

    name, classes, threads_may_read = "together", ("0",), True

    def __init__(self, size: int) -> None:
        self.ids = tuple(map(str, range(size)))
        self.barrier, self.threads = threading.Barrier(2, timeout=20), set[str]()

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
    data = Together(7)
    assert list(fingerprints(data, range(7), FileHashes())) == [f"of {index}" for index in range(7)]
    assert threading.current_thread().name in data.threads
    assert len(data.threads) > 2


@pytest.mark.parametrize("known", [False, True])
def test_one_after_the_other_where_threads_may_not_read_or_hashes_are_known(known: bool):
    data = Together(3)
    data.threads_may_read, data.barrier = known, threading.Barrier(1)
    assert list(fingerprints(data, range(3), FileHashes({"a": "b"} if known else {}))) == ["of 0", "of 1", "of 2"]
    assert data.threads == {threading.current_thread().name}


def test_an_image_that_cannot_be_hashed_ends_the_threads():
    data = Together(3)
    data.barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        list(fingerprints(data, range(3), FileHashes()))
    assert not [thread for thread in threading.enumerate() if "axiom-bench hashes" in thread.name]
