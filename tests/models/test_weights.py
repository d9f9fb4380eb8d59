"""Weights from files: formats that are read, and error messages."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from axiom_bench.errors import BenchError
from axiom_bench.models import weights


def network() -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), fc=nn.Linear(4, 2)))


def save(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def fitted(path: Path) -> nn.Module:
    module = network()
    weights.fit(module, weights.read(path), "mine")
    return module


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    saved = network()
    path = save(saved.state_dict(), tmp_path / f"mine{suffix}")
    for name, tensor in fitted(path).state_dict().items():
        assert torch.equal(tensor, saved.state_dict()[name]), name
    assert weights.read(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.read(path).description == f"mine{suffix}"


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_checkpoint_with_nested_state_dict(tmp_path: Path, key: str) -> None:
    saved = network()
    torch.save({key: saved.state_dict(), "epoch": 3}, tmp_path / "mine.pth")
    assert torch.equal(fitted(tmp_path / "mine.pth").fc.weight, saved.fc.weight)


def test_float16_is_cast_to_float32(tmp_path: Path) -> None:
    state = {name: t.half() if t.is_floating_point() else t for name, t in network().state_dict().items()}
    weight = fitted(save(state, tmp_path / "half.safetensors")).fc.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["fc.weight"].float())


def test_missing_num_batches_tracked_is_accepted(tmp_path: Path) -> None:
    state = {name: t for name, t in network().state_dict().items() if "tracked" not in name}
    fitted(save(state, tmp_path / "old.safetensors"))


def test_mismatched_keys_error_message(tmp_path: Path) -> None:
    state = network().state_dict()
    state["fc.weight"] = torch.zeros(2, 5)
    for index in range(5):
        state[f"extra.{index}"] = torch.zeros(1)
    del state["conv.bias"]
    with pytest.raises(BenchError) as caught:
        fitted(save(state, tmp_path / "other.pth"))
    assert str(caught.value) == (
        "The weights other.pth don't fit mine (missing: conv.bias; unexpected: extra.0, extra.1, extra.2 and 2 more; "
        "of the wrong shape: fc.weight (2, 5) for (2, 4)); give the file of this architecture."
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_refused(tmp_path: Path, value: float) -> None:
    state = network().state_dict()
    state["norm.running_var"][1] = value
    with pytest.raises(BenchError, match=r"hold NaN or Inf in 'norm\.running_var'"):
        fitted(save(state, tmp_path / "nan.pth"))


@pytest.mark.parametrize("name", ["broken.safetensors", "broken.pth"])
def test_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(BenchError, match=r"can't be read \([^()]{12,}"):  # torch's own reason would be "101"
        weights.read(tmp_path / name)


def test_pickled_code_is_not_executed(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "whole.pth")  # a pickled module, which only code could restore
    with pytest.raises(BenchError, match="the file is damaged, or holds more than tensors"):
        weights.read(tmp_path / "whole.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(BenchError, match="hold no state dict"):
        weights.read(tmp_path / "none.pth")


def test_state_hash_depends_on_values_and_names() -> None:
    state = network().state_dict()
    before = weights.state_sha256(state)
    assert weights.state_sha256({name: tensor.clone() for name, tensor in state.items()}) == before
    state["norm.weight"][0] += 1
    assert weights.state_sha256(state) != before
    state["norm.weight"][0] -= 1
    assert weights.state_sha256({f"x{name}": tensor for name, tensor in state.items()}) != before


def test_old_torchvision_checkpoints_load(tmp_path: Path, filled: Callable[[str], nn.Module]) -> None:
    """DenseNet's files say norm.1 where its module says norm1; MNASNet's module asks for a version mark in the file."""
    densenet = filled("densenet121")
    old = {
        name.replace("norm1", "norm.1").replace("conv2", "conv.2") if "denselayer" in name else name: tensor
        for name, tensor in densenet.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    for name, module, state in (
        ("dense", densenet, old),
        ("mnas", mnasnet := filled("mnasnet0_5"), mnasnet.state_dict()),
    ):
        file = weights.read(save(state, tmp_path / f"{name}.safetensors"))
        before = weights.state_sha256(module.state_dict())
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
        weights.fit(module, file, name)
        assert weights.state_sha256(module.state_dict()) == before
