"""Weights from a file: read without running code, checked, and fitted to the architecture with clear errors."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from axiom_bench.errors import BenchError

WRAPPERS = ("module.", "model.")  # of nn.DataParallel, and of a module around the network
DTYPES = (  # of weights, and of the counts and indices beside them
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool,
    torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip
DAMAGED = "the file is damaged, or holds more than tensors"
SAVE = "save them with safetensors, or with torch.save(model.state_dict(), ...)"
MAX_REASON = 200  # characters
MAX_UNPACKED = 2**30  # bytes of a checkpoint's archive, which torch doesn't compress, beyond twice the file's own
# torchvision's DenseNet files are older than its module: norm.1.weight there is norm1.weight here.
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


@dataclass(frozen=True)
class Weights:
    """A state dict, where it comes from, and its SHA-256, as a manifest has them."""

    state: Mapping[str, Tensor]
    description: str
    sha256: str


def read(path: Path) -> Weights:
    """The state dict of a .safetensors, .pth or .pt file, alone or under the keys `state_dict` or `model`, also one in
    the other. A pickle's code is never run.

    Raises BenchError where the file can't be read or holds something else.
    """
    try:
        if not path.is_file() and path.exists():  # reading a pipe would wait without end
            raise IsADirectoryError("it is no file")
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            _check_size(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        readable = isinstance(error, OSError | SafetensorError)  # torch's messages don't help: "101", or nothing
        reason = str(error).split("\n")[0][:MAX_REASON] if readable else DAMAGED
        raise BenchError(f"The weights {path} can't be read ({reason}); {SAVE}.") from error
    for key in ("state_dict", "model", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise BenchError(f"The weights {path} hold no state dict (names and tensors); save model.state_dict().")
    for name, tensor in state.items():
        if kind := _unusable(tensor):
            raise BenchError(f"The weights {path} hold {kind} tensor, {name[:MAX_REASON]!r}; {SAVE}, as plain floats.")
    return Weights(state, path.name, file_sha256(path))


def _check_size(path: Path) -> None:
    """Raises OSError for a checkpoint whose archive would unpack to far more than it has."""
    if not is_zipfile(path):
        return
    try:
        with ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (BadZipFile, NotImplementedError, ValueError):  # torch says what it is
        return
    if unpacked > MAX_UNPACKED + 2 * path.stat().st_size:
        raise OSError(f"it would unpack to {unpacked:,} bytes")


def _unusable(tensor: Tensor) -> str | None:
    """What a tensor is, with its article, that can't be a weight; None for one that can."""
    kinds = {
        "a meta": tensor.is_meta,  # it has no values
        "a nested": tensor.is_nested,
        "a quantized": tensor.is_quantized,
        "a sparse": tensor.layout != torch.strided,
        "a complex": tensor.is_complex(),
        f"a {str(tensor.dtype).removeprefix('torch.')}": tensor.dtype not in DTYPES,
    }
    return next((kind for kind, holds in kinds.items() if holds), None)


def fit(module: nn.Module, weights: Weights, architecture: str) -> None:
    """Loads the weights into the module, strictly; each tensor is cast to the module's dtype (float16 to float32). The
    names of a file that was saved from nn.DataParallel, or from a module around the network, begin with `module.`,
    `model.` or both, which is left out.

    Raises BenchError where names or shapes differ, naming the first few, and where a tensor holds NaN, Inf, or integers
    in the place of floats.
    """
    expected = module.state_dict()
    state = _renamed(weights.state, expected)
    wrong = [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape]
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    if wrong or missing or unexpected:
        shapes = [f"{name} {tuple(state[name].shape)} for {tuple(expected[name].shape)}" for name in sorted(wrong)]
        parts = {"missing": missing, "unexpected": unexpected, "of the wrong shape": shapes}
        differences = "; ".join(f"{problem}: {_few(names)}" for problem, names in parts.items() if names)
        raise BenchError(
            f"The weights {weights.description} don't fit {architecture} ({differences}); "
            "give the file of this architecture."
        )
    for name, tensor in state.items():
        if not (dtype := expected[name].dtype).is_floating_point:
            continue
        is_floats = tensor.is_floating_point()
        if not is_floats or not tensor.to(dtype).isfinite().all():
            problem = "NaN or Inf" if is_floats else f"{str(tensor.dtype).removeprefix('torch.')} numbers"
            raise BenchError(
                f"The weights {weights.description} hold {problem} in {name!r}; use a checkpoint that is finite, in "
                "floats."
            )
    # A file without version marks (safetensors) is read as one that today's module has written.
    state._metadata = getattr(weights.state, "_metadata", None) or expected._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=False)


def _renamed(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The state dict by the names of today's modules."""
    names = {name: OLD_DENSENET.sub(r"\1\2", name) for name in state}
    for wrapper in WRAPPERS:
        is_wrapped = all(name.startswith(wrapper) for name in names.values())
        if is_wrapped and not any(name.startswith(wrapper) for name in expected):
            names = {name: new.removeprefix(wrapper) for name, new in names.items()}
    return OrderedDict((names[name], tensor) for name, tensor in state.items())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _few(names: Sequence[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
