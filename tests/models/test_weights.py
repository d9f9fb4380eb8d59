"""Weights from files: the formats that are read, and the error messages."""

import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from axiom_bench.errors import BenchError
from axiom_bench.models import weights
from tests.models.builders import filled


def network() -> nn.Sequential:
    parts = OrderedDict(
        conv=nn.Conv2d(3, 4, 3),
        norm=nn.BatchNorm2d(4),
        fc=nn.Linear(4, 2),
    )
    return nn.Sequential(parts)


def save(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def fitted(path: Path) -> nn.Module:
    module = network()
    weights.load_into(module, weights.read_weights(path), "mine")
    return module


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_round_trip(tmp_path, suffix):
    saved = network()
    path = save(saved.state_dict(), tmp_path / f"mine{suffix}")
    for name, tensor in fitted(path).state_dict().items():
        assert torch.equal(tensor, saved.state_dict()[name]), name
    assert weights.read_weights(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.read_weights(path).description == f"mine{suffix}"


def test_a_profilers_counts_are_left_out(tmp_path):
    state = network().state_dict()
    profiled = {**state, "fc.total_ops": torch.ones(1)}
    content = {f"model.module.{name}": tensor for name, tensor in profiled.items()}
    content["n_averaged"] = torch.tensor(1)
    path = save(content, tmp_path / "mine.pth")
    assert torch.equal(fitted(path).fc.weight, state["fc.weight"])


def test_a_place_in_a_checkpoint_is_told_and_two_of_other_values_are_asked_for(tmp_path):
    one = network().state_dict()
    other = network().state_dict()

    wrapped = {f"module.encoder_q.{name}": tensor for name, tensor in one.items()}
    wrapped["module.queue"] = torch.zeros(2)
    file = weights.read_weights(save({"state_dict": wrapped}, tmp_path / "a.pth"))
    line = "the network is at state_dict.module.encoder_q in a.pth; left out: module.queue."
    assert weights.load_into(network(), file, "mine") == [line]

    file = weights.read_weights(
        save({"model": one, "model_ema": {"module": other}}, tmp_path / "b.pth")
    )
    message = r"at model, model_ema\.module; choose one by model\.weights_key=model\."
    with pytest.raises(BenchError, match=message):
        weights.load_into(network(), file, "mine")
    for key, state in (("model", one), ("model_ema.module", other), ("model_ema", other)):
        module = network()
        weights.load_into(module, file, "mine", key)
        assert torch.equal(module.fc.weight, state["fc.weight"])
    with pytest.raises(BenchError, match=r"no network 'emma' in b\.pth"):
        weights.load_into(network(), file, "mine", "emma")

    # mmcv's hook writes such names.
    average = {f"ema_{name.replace('.', '_')}": tensor for name, tensor in other.items()}
    file = weights.read_weights(save({"state_dict": one | average}, tmp_path / "c.pth"))
    message = r"at state_dict, state_dict\.ema_; choose one by model\.weights_key=state_dict\."
    with pytest.raises(BenchError, match=message):
        weights.load_into(network(), file, "mine")
    module = network()
    weights.load_into(module, file, "mine", "state_dict.ema_")
    assert torch.equal(module.fc.weight, other["fc.weight"])


def test_a_network_s_file_fits_what_stands_around_it_and_no_smaller_network(tmp_path):
    file = weights.read_weights(save(network().state_dict(), tmp_path / "a.pth"))
    wrapper = nn.Sequential(network())
    weights.load_into(wrapper, file, "mine")
    assert torch.equal(wrapper[0].fc.weight, file.state["fc.weight"])
    with pytest.raises(BenchError, match=r"don't fit mine \(unexpected: fc\.weight, fc\.bias\)"):
        weights.load_into(network()[:2], file, "mine")


def test_a_name_that_is_no_prefix(tmp_path):
    first = nn.Sequential(OrderedDict(module=nn.Linear(2, 2)))
    other = nn.Sequential(OrderedDict(module=nn.Linear(2, 2)))
    file = weights.read_weights(save(first.state_dict(), tmp_path / "first.pth"))
    weights.load_into(other, file, "first")
    assert torch.equal(other.module.weight, first.module.weight)


def test_mismatched_keys_error_message(tmp_path):
    state = network().state_dict()
    state["fc.weight"] = torch.zeros(2, 5)
    for index in range(5):
        state[f"extra.{index}"] = torch.zeros(1)
    del state["conv.bias"]
    with pytest.raises(BenchError) as caught:
        fitted(save(state, tmp_path / "other.pth"))
    assert str(caught.value) == (
        "The weights other.pth don't fit mine (missing: conv.bias; unexpected: extra.0, extra.1, "
        "extra.2 and 2 more; of the wrong shape: fc.weight (2, 5) for (2, 4)); give the file of "
        "this architecture."
    )


class Touch:
    """An object that makes a folder when Python itself unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["alone", "beside the weights", "as a name", "under state_dict"])
def test_code_in_a_pickle_is_not_run(tmp_path, legacy, place):
    touch = Touch(tmp_path / "ran")
    state = network().state_dict()
    content = {
        "alone": touch,
        "beside the weights": {**state, "x": touch},
        "as a name": {touch: state["fc.bias"]},
        "under state_dict": {"state_dict": state, "args": touch},
    }[place]
    file = tmp_path / "evil.pth"
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)

    message = r"evil\.pth can't be read \(the file is damaged, or holds more than tensors"
    with pytest.raises(BenchError, match=message):
        weights.read_weights(file)
    assert not (tmp_path / "ran").exists()

    # Python itself runs the code. What it returns can't be a name, which is a TypeError.
    with suppress(TypeError):
        torch.load(file, weights_only=False)
    assert (tmp_path / "ran").exists()


class Copy(Touch):
    """An object that copies a file, by a function that torch's reader doesn't know as dangerous."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return shutil.copyfile, (__file__, str(self.path))


def test_an_object_beside_the_weights_is_left_out_and_its_code_not_run(tmp_path):
    state = network().state_dict()
    file = tmp_path / "evil.pth"
    torch.save({"model": state, "args": Copy(tmp_path / "ran")}, file)
    assert torch.equal(fitted(file).fc.weight, state["fc.weight"])
    assert not (tmp_path / "ran").exists()
    torch.load(file, weights_only=False)  # Python itself runs the code
    assert (tmp_path / "ran").exists()


def with_weight(tensor: object) -> dict[object, object]:
    return {**network().state_dict(), "fc.weight": tensor}


def with_variance(value: float) -> dict[str, Tensor]:
    return {**network().state_dict(), "norm.running_var": torch.tensor([1, value, 1, 1])}


ONES = torch.ones(2, 4)
# name: (the tensor 'fc.weight', which may warn when it is made, the sentence)
REFUSED_WEIGHTS: dict[str, tuple[Callable[[], Tensor], str]] = {
    "sparse": (ONES.to_sparse, "hold a sparse tensor, 'fc.weight'"),
    "sparse rows": (ONES.to_sparse_csr, "hold a sparse tensor, 'fc.weight'"),
    "meta": (lambda: ONES.to("meta"), "hold a meta tensor, 'fc.weight'"),
    "fp8": (lambda: ONES.to(torch.float8_e4m3fn), "hold a float8_e4m3fn tensor, 'fc.weight'"),
    "complex": (lambda: ONES.to(torch.complex64), "hold a complex tensor, 'fc.weight'"),
    "quantized": (
        lambda: torch.quantize_per_tensor(ONES, 0.1, 0, torch.qint8),
        "hold a quantized tensor, 'fc.weight'|can't be read",
    ),
    "integers": (ONES.char, "hold int8 numbers in 'fc.weight'"),
    "too large for float32": (lambda: ONES.double() * 1e300, "NaN or Inf in 'fc.weight'"),
    "a scalar": (lambda: torch.tensor(1.0), r"of the wrong shape: fc.weight \(\) for \(2, 4\)"),
    "nothing but a view": (
        lambda: torch.zeros(1).expand(10**12),
        "of the wrong shape: fc.weight",
    ),
}
# name: (the content of the file, the sentence)
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "integer keys": (lambda: dict(enumerate(network().state_dict().values())), "don't fit mine"),
    "no tensors": (lambda: {"fc.weight": [1.0]}, "hold no state dict"),
    "one tensor": (lambda: torch.zeros(3), "hold no state dict"),
    "empty": (lambda: {}, "hold no state dict"),
    "NaN": (lambda: with_variance(float("nan")), r"hold NaN or Inf in 'norm\.running_var'"),
    "infinity": (lambda: with_variance(float("inf")), r"hold NaN or Inf in 'norm\.running_var'"),
    # Only code could restore a module.
    "a module": (network, r"a whole pickled object, .*model\.state_dict"),
    "no weights": (lambda: {"epoch": 3}, "hold no state dict"),
}


def assert_refused(file: Path, content: object, sentence: str) -> None:
    torch.save(content, file)
    with pytest.raises(BenchError, match=sentence) as caught:
        fitted(file)
    assert file.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*(CSR|sparse|quantize|TypedStorage)")
@pytest.mark.parametrize("name", REFUSED_WEIGHTS)
def test_a_tensor_that_is_no_weight_is_refused(tmp_path, name):
    tensor, sentence = REFUSED_WEIGHTS[name]
    assert_refused(tmp_path / "odd.pth", with_weight(tensor()), sentence)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, name):
    content, sentence = REFUSED[name]
    assert_refused(tmp_path / "odd.pth", content(), sentence)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file_of_weights_is_refused(tmp_path, suffix):
    """Check damaged files, a saved "not found" page, folders and pipes, which have no end."""
    whole = save(network().state_dict(), tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"odd{suffix}"
    page = b"<!DOCTYPE html><html>404</html>"
    for content in (
        b"",
        page,
        b"not weights at all",
        whole[: len(whole) // 2],
        whole[:-1],
        b"PK\x03\x04",
        b"\x80",
    ):
        path.write_bytes(content)
        # The reason must be a sentence; torch's would be "101".
        with pytest.raises(BenchError, match=rf"odd\{suffix} can't be read \([^()]{{9,}}"):
            weights.read_weights(path)
    path.unlink()
    with pytest.raises(BenchError, match=rf"odd\{suffix} can't be read"):
        weights.read_weights(path)
    for make, remove in ((os.mkfifo, os.unlink), (os.mkdir, os.rmdir)):
        make(path)
        with pytest.raises(BenchError, match=r"can't be read \(it is no file\)"):
            weights.read_weights(path)
        remove(path)


OTHERS = {
    "keras.h5": (b"\x89HDF\r\n", "HDF5"),
    "page.pth": (b"<!DOCTYPE html>", "web page"),
    "net.onnx": (b"\x08\x07\x12\x07pytorch", "another library"),
    "lfs.pth": (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
    "model.safetensors.index.json": (b'{"weight_map": {}}', "several files"),
    "net.pth.tar.gz": (b"\x1f\x8b\x08", "unpack it"),
    "empty.ckpt": (b"", "it is empty"),
    "script.pt": (None, r"it is TorchScript\); .*torch\.jit\.load"),
    "b.zip": (None, "zip of other files"),
    "torn.pth": (None, "the file is damaged"),
    "model-00002-of-00003.safetensors": (None, "one of several files of weights"),
}


def test_files_of_another_kind_are_called_by_it(tmp_path):
    torch.jit.script(nn.ReLU()).save(str(tmp_path / "script.pt"))
    with ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("folder/net.pth", "")
    save(network().state_dict(), tmp_path / "model-00002-of-00003.safetensors")
    torn = tmp_path / "torn.pth"
    torch.save(network().state_dict(), torn)
    # Damage the list of files in the zip.
    torn.write_bytes(torn.read_bytes().replace(b"PK\1\2", b"PK\0\0"))

    for name, (content, message) in OTHERS.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
            (tmp_path / name).write_bytes(content)
        with pytest.raises(BenchError, match=message):
            weights.read_weights(tmp_path / name)


def test_state_hash_depends_on_values_and_names():
    state = network().state_dict()
    before = weights.state_sha256(state)
    same = {name: tensor.clone() for name, tensor in state.items()}
    assert weights.state_sha256(same) == before
    renamed = {f"x{name}": tensor for name, tensor in state.items()}
    assert weights.state_sha256(renamed) != before
    state["norm.weight"][0] += 1
    assert weights.state_sha256(state) != before


@pytest.mark.slow
def test_old_torchvision_checkpoints_load(tmp_path):
    """Check two networks whose files differ from their modules.

    DenseNet's files say norm.1 and its module says norm1. MNASNet's module needs a version mark in
    the file.
    """
    densenet = filled("densenet121")
    old = {}
    for name, tensor in densenet.state_dict().items():
        if "denselayer" in name:
            name = name.replace("norm1", "norm.1").replace("conv2", "conv.2")
        old[name] = tensor
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    mnasnet = filled("mnasnet0_5")
    for name, module, state in (("dense", densenet, old), ("mnas", mnasnet, mnasnet.state_dict())):
        file = weights.read_weights(save(state, tmp_path / f"{name}.safetensors"))
        before = weights.state_sha256(module.state_dict())
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
        weights.load_into(module, file, name)
        assert weights.state_sha256(module.state_dict()) == before


def test_a_checkpoint_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    path = save(network().state_dict(), tmp_path / "a.pt")
    with ZipFile(path) as plain, ZipFile(tmp_path / "bomb.pt", "w", ZIP_DEFLATED) as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
        bomb.writestr("archive/data/9", bytes(2**21))
    monkeypatch.setattr(weights, "MAX_UNPACKED", 2**20)
    monkeypatch.setattr(weights.torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    message = r"bomb\.pt can't be read \(it would unpack to 2,[\d,]+ bytes\)"
    with pytest.raises(BenchError, match=message):
        weights.read_weights(tmp_path / "bomb.pt")
