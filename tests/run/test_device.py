"""device.name: which GPU is meant, on a machine with as many as the test says."""

from __future__ import annotations

import pytest
import torch

from axiom_bench.errors import BenchError
from axiom_bench.run.composing import device
from axiom_bench.run.composing.device import Device

SETTINGS = {"precision": "fp32", "head_precision": "fp32", "ablation_memory": "1GiB", "deterministic": True}


def chosen(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int) -> str:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    return str(Device.of({"name": name, **SETTINGS}).device)


@pytest.mark.parametrize(
    ("name", "gpus", "meant"),
    [
        *(("auto", 0, "cpu"), ("auto", 2, "cuda:0"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda:0")),
        *(("cuda:0", 1, "cuda:0"), ("cuda:7", 8, "cuda:7"), ("each_gpu", 8, "cuda:0")),
    ],
)
def test_the_device_that_a_name_means(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, meant: str):
    assert chosen(monkeypatch, name, gpus) == meant


@pytest.mark.parametrize(
    ("name", "gpus", "sentence"),
    [
        ("cuda", 0, "needs an NVIDIA GPU"),
        ("cuda:1", 0, "needs an NVIDIA GPU"),
        ("each_gpu", 0, "needs an NVIDIA GPU"),
        ("cuda:2", 2, r"There is no GPU 2 for device\.name=cuda:2: this machine has 2, counted from 0\."),
        ("cuda:", 2, "There is no device 'cuda:'"),
        ("cuda:-1", 2, "There is no device 'cuda:-1'"),
        ("gpu", 2, "There is no device 'gpu'"),
    ],
)
def test_what_there_isn_t_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, sentence: str):
    with pytest.raises(BenchError, match=sentence):
        chosen(monkeypatch, name, gpus)


def test_another_gpu_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch):
    """Events and streams that no device is named for are the current device's."""
    made: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *_, **__: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    Device(torch.device("cuda", 1), "fp32", "fp32", 1, deterministic=True).prepare()
    Device(torch.device("cpu"), "fp32", "fp32", 1, deterministic=True).prepare()
    assert made == [torch.device("cuda", 1)]
    assert device.EACH_GPU in device.NAMES
