"""Unit tests of the runner's small parts.

They are shards, sizes, devices, padding, and the memory that a run keeps.
"""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.environment import USER_SETTINGS, keep_freed_memory
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.shard import trimmed
from axiom_bench.run.composing.device import Device, DeviceSettings, bytes_of
from axiom_bench.run.job import shards

DEVICE = {
    "precision": "fp32",
    "head_precision": "fp32",
    "ablation_memory": "1GiB",
    "ablation_channels": None,
    "deterministic": True,
}


def test_shards_keep_the_order_and_lose_nothing():
    assert shards([5, 3, 8, 1, 9], 2) == ((5, 3), (8, 1), (9,))


def test_sizes():
    sizes = {"1GiB": 2**30, "512 MiB": 2**29, "2GB": 2 * 10**9, 4096: 4096, "1.5KiB": 1536}
    for text, size in sizes.items():
        assert bytes_of(text) == size
    for text in ("much", "1XB", "-1GiB", "0", "1..5GiB"):
        with pytest.raises(BenchError, match="Invalid size"):
            bytes_of(text)


DEVICES = [
    ("auto", 0, "cpu"),
    ("auto", 2, "cuda:0"),
    ("cpu", 2, "cpu"),
    ("cuda", 2, "cuda:0"),
    ("cuda:0", 1, "cuda:0"),
    ("cuda:7", 8, "cuda:7"),
    (
        "cuda:2",
        2,
        r"There is no GPU 2 for device\.name=cuda:2: this machine has 2, counted from 0\.",
    ),
    ("cuda:-1", 2, "There is no device 'cuda:-1'"),
]


@pytest.mark.parametrize(("name", "gpus", "expected"), DEVICES)
def test_the_device_that_a_name_means(monkeypatch, name, gpus, expected):
    """Check the device, or the message, on a machine with the given number of GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    settings = DeviceSettings(name=name, **DEVICE)
    wrong_precision = DEVICE | {"precision": "fp31"}
    if expected.startswith(("cpu", "cuda")):
        assert str(Device.of(settings).device) == expected
        with pytest.raises(BenchError, match="fp32"):
            Device.of(DeviceSettings(name=name, **wrong_precision))
    else:
        with pytest.raises(BenchError, match=expected):
            Device.of(settings)


def test_another_gpu_becomes_the_current_one(monkeypatch):
    """Check the current device: events and streams without a device belong to it."""
    current_devices: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current_devices.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for device in (torch.device("cuda", 1), torch.device("cpu")):
        Device(device, "fp32", "fp32", 1, None, deterministic=True).prepare()
    assert current_devices == [torch.device("cuda", 1)]


def test_padding_repeats_the_last_row_and_trimming_takes_it_off_again():
    annotations = tuple(Annotation(torch.tensor([row]), torch.zeros(1, 4)) for row in range(3))
    images = torch.arange(3.0).view(3, 1, 1, 1)
    batch = Batch(images, ("a", "b", "c"), torch.tensor([4, 5, 6]), annotations)

    padded = batch.repeated(5)
    assert padded.images.flatten().tolist() == [0, 1, 2, 2, 2]
    assert padded.image_ids == ("a", "b", "c", "c", "c")
    assert padded.targets.tolist() == [4, 5, 6, 6, 6]
    assert [int(annotation.labels) for annotation in padded.annotations] == [0, 1, 2, 2, 2]

    # two values of each of five rows
    part = {"image_id": np.array([*"abccc"] * 2), "value": np.arange(10.0)}
    assert trimmed(part, 5, 3)["value"].tolist() == [0, 1, 2, 5, 6, 7]


MIB = 2**20
FEW = 16  # page faults; 64 MiB are 16,384 pages, or 32 on a system with large pages
SCRIPT = f"""
import resource, sys
{{before}}
import torch
def fault():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({64 * MIB // 4})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fault()
# If a small object lies in a freed block, the block is too small for the next tensor.
print(min(fault() for _ in range(20)))
"""
# A run begins with this call.
KEEP = "import torch; from axiom_bench import environment; environment.keep_freed_memory()"
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is set")


def page_faults(before: str) -> int:
    """Return the pages that a block of 64 MiB needs from the system after `before`.

    A block of the same size was freed just before.
    """
    environment = {}
    for name, value in os.environ.items():
        if not name.startswith(("MALLOC_", "GLIBC_")):
            environment[name] = value
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(process.stdout)


@glibc
@pytest.mark.slow
def test_a_run_takes_freed_memory_again_and_a_notebook_is_left_alone():
    assert page_faults("") > FEW
    assert page_faults("import axiom_bench") > FEW
    assert page_faults(KEEP) <= FEW
    # A run ends with this call, before its report.
    assert page_faults(f"{KEEP}; environment.return_freed_memory()") > FEW


@glibc
@pytest.mark.parametrize(
    ("name", "value"),
    [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")],
)
def test_the_users_own_setting_wins(monkeypatch, name, value):
    for setting in USER_SETTINGS:
        monkeypatch.delenv(setting, raising=False)
    assert keep_freed_memory()
    monkeypatch.setenv(name, value)
    assert not keep_freed_memory()
