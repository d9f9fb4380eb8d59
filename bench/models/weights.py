"""Weights from a file: read without running code, checked, and fitted to the architecture with clear errors."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from axiom_bench.errors import BenchError

# torchvision's DenseNet files are older than its module: norm.1.weight there is norm1.weight here.
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


@dataclass(frozen=True)
class Weights:
    """A state dict, where it comes from, and its SHA-256, as a manifest has them."""

    state: Mapping[str, Tensor]
    description: str
    sha256: str


def read(path: Path) -> Weights:
    """The state dict of a .safetensors, .pth or .pt file, alone or under the key `state_dict` or `model`.

    Raises BenchError where the file can't be read or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        readable = isinstance(error, OSError | SafetensorError)  # torch's messages don't help: "101", or nothing
        reason = str(error).split("\n")[0] if readable else "the file is damaged, or holds more than tensors"
        raise BenchError(
            f"The weights {path} can't be read ({reason}); "
            "save them with safetensors, or with torch.save(model.state_dict(), ...)."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise BenchError(f"The weights {path} hold no state dict (names and tensors); save model.state_dict().")
    return Weights(state, path.name, file_sha256(path))


def fit(module: nn.Module, weights: Weights, architecture: str) -> None:
    """Loads the weights into the module, strictly; each tensor is cast to the module's dtype (float16 to float32).

    Raises BenchError where names or shapes differ, naming the first few, and where a tensor holds NaN or Inf.
    """
    state = OrderedDict((OLD_DENSENET.sub(r"\1\2", name), tensor) for name, tensor in weights.state.items())
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise BenchError(
                f"The weights {weights.description} hold NaN or Inf in {name!r}; use a checkpoint that is finite."
            )
    expected = module.state_dict()
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
    # A file without version marks (safetensors) is read as one that today's module has written.
    state._metadata = getattr(weights.state, "_metadata", None) or expected._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=False)


def random(module: nn.Module, seed: int) -> Weights:
    """The weights that the module was built with, described."""
    state = module.state_dict()
    return Weights(state, f"random, seed {seed}", state_sha256(state))


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


def _few(names: Iterable[str], limit: int = 3) -> str:
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
