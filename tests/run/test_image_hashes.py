"""A second run over the same image files reads none of them to find that nothing is missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from axiom_bench.data import files as image_files
from axiom_bench.run import image_hashes
from axiom_bench.run.job import Job

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
        fresh_job = replace(job(*folder, f"data.classes=[{classes}]"), hashes=image_hashes.read(tmp_path))
        image_hashes.keep(fresh_job, tmp_path)
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
    Image.new("RGB", (96, 96), (9, 0, 0)).save(images / "1/a.png")
    assert [contents()[1] for _ in range(2)] == [3, 1]


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b'{"sha256": "0", "files": {"a": "b"}}'])
def test_a_damaged_file_of_hashes_is_as_none(contents, tmp_path: Path, damage: bytes):
    first, _ = contents()
    (tmp_path / image_hashes.NAME).write_bytes(damage)
    assert contents() == (first, 3)
    assert contents() == (first, 0)


def test_a_flipped_bit_gives_no_other_hash(contents, tmp_path: Path):
    first, _ = contents()
    content = bytearray((tmp_path / image_hashes.NAME).read_bytes())
    place = content.index(first[0].split()[1].encode())
    content[place] ^= 1
    (tmp_path / image_hashes.NAME).write_bytes(bytes(content))
    assert contents() == (first, 3)
