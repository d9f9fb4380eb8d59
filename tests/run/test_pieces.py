"""The runner's small parts, each alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.shard import padded, trimmed
from axiom_bench.records import files
from axiom_bench.run.composing.device import Device, bytes_of
from axiom_bench.run.jobs.job import shards

DEVICE = {
    "name": "cpu",
    "precision": "fp32",
    "head_precision": "fp32",
    "ablation_memory": "1GiB",
    "deterministic": True,
}


def test_shards_keep_the_order_and_lose_nothing():
    cut = shards([5, 3, 8, 1, 9], 2)
    assert [shard.indices for shard in cut] == [(5, 3), (8, 1), (9,)]
    assert [shard.number for shard in cut] == [0, 1, 2]
    assert [len(shard) for shard in cut] == [2, 2, 1]


def test_a_shard_of_nothing_is_refused():
    with pytest.raises(BenchError, match="shard_size is 0"):
        shards([1], 0)


@pytest.mark.parametrize(
    ("text", "size"), [("1GiB", 2**30), ("512 MiB", 2**29), ("2GB", 2 * 10**9), (4096, 4096), ("1.5KiB", 1536)]
)
def test_sizes(text: str | int, size: int):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["much", "1XB", "-1GiB", "0", "1..5GiB"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(BenchError, match="Invalid size"):
        bytes_of(text)


def test_device_is_checked():
    assert Device.of(DEVICE).device == torch.device("cpu")
    with pytest.raises(BenchError, match="fp32"):
        Device.of(DEVICE | {"precision": "fp31"})
    with pytest.raises(BenchError, match="did you mean 'cuda'"):
        Device.of(DEVICE | {"name": "cuba"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there():
    with pytest.raises(BenchError, match="use device=cpu"):
        Device.of(DEVICE | {"name": "cuda"})


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files.write(tmp_path / "a", b"before")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BenchError, match=f"to {tmp_path}: the disk is full"):
        files.write(tmp_path / "a", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # the draft is gone
    assert (tmp_path / "a").read_bytes() == b"before"


def test_a_folder_that_is_a_file_can_not_be_written(tmp_path: Path):
    (tmp_path / "results").write_text("")
    with pytest.raises(BenchError, match="results=FOLDER"):
        files.ensure_writable(tmp_path / "results")


def test_padding_repeats_the_last_row_and_trimming_takes_it_off_again():
    notes = tuple(Annotation(torch.tensor([row]), torch.zeros(1, 4)) for row in range(3))
    batch = Batch(torch.arange(3.0).view(3, 1, 1, 1), ("a", "b", "c"), torch.tensor([4, 5, 6]), notes)
    full = padded(batch, 5)
    assert full.images.flatten().tolist() == [0, 1, 2, 2, 2]
    assert full.image_ids == ("a", "b", "c", "c", "c")
    assert full.targets is not None
    assert full.targets.tolist() == [4, 5, 6, 6, 6]
    assert [int(note.labels) for note in full.annotations] == [0, 1, 2, 2, 2]
    part = {"image_id": np.array([*"abccc"] * 2), "value": np.arange(10.0)}  # two values of five rows
    assert trimmed(part, 5, 3)["value"].tolist() == [0, 1, 2, 5, 6, 7]
