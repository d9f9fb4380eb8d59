"""Files of weights: damaged as bytes, odd tensors and names, pickles with code in them."""

from __future__ import annotations

import io
import os
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import note
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from axiom_bench.models import weights
from tests.fuzzing.damage import damaged

RAN = "axiom-bench-fuzz-ran"  # set in the environment by a pickle whose code has run


class Code:
    """Code that a pickle names: runs as it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os; os.environ[{RAN!r}] = 'yes'",)


class Call:
    """A function that a pickle names."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, (RAN, "yes")


ODD = {  # in place of one tensor
    "NaN": lambda tensor: torch.full_like(tensor.double(), float("nan")),
    "infinite": lambda tensor: torch.full_like(tensor.double(), float("-inf")),
    "too large for float32": lambda tensor: torch.full_like(tensor.double(), 1e200),
    "another shape": lambda tensor: torch.zeros(3, 5),
    "a scalar": lambda tensor: torch.tensor(1.0),
    "no elements": lambda tensor: torch.zeros(0),
    "fp8": lambda tensor: tensor.float().to(torch.float8_e5m2),
    "integers": lambda tensor: tensor.to(torch.int16),
}
ODD_IN_PICKLES = {
    "no tensor": lambda tensor: [None, 3, "x", {}, [tensor], tensor.numpy()][tensor.numel() % 6],
    "sparse": lambda tensor: tensor.float().to_sparse(),
    "meta": lambda tensor: tensor.to("meta"),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "quantized": lambda tensor: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
    "a view of one number": lambda tensor: torch.zeros(1).expand(10**12),
}
FILES = {  # in place of all
    "as it was saved": lambda state: state,
    "half precision": lambda state: {name: tensor.half() for name, tensor in state.items()},
    "double precision": lambda state: {name: tensor.double() for name, tensor in state.items()},
    "bfloat16": lambda state: {name: tensor.bfloat16() for name, tensor in state.items()},
    "of DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
}
PICKLES = {
    "under a key": lambda state: {"state_dict": state, "epoch": 3},
    "under another key": lambda state: {"model": state, "epoch": 3},
    "under a key twice": lambda state: {"model": {"state_dict": state}},
    "under an unknown key": lambda state: {"weights": state},
    "integer keys": lambda state: dict(enumerate(state.values())),
    "a list": lambda state: list(state.values()),
    "code": lambda state: {**state, "x": Code()},
    "a call": lambda state: {**state, "x": Call()},
    "code as a name": lambda state: {**state, Code(): torch.zeros(1)},
    "code alone": lambda state: Code(),
    "a module": lambda state: _network(),
}


def attempt(draw: st.DrawFn, folder: Path) -> None:
    path = folder / f"net{draw(st.sampled_from(('.pth', '.pt', '.safetensors')))}"
    path.write_bytes(draw(_contents(is_pickle=path.suffix != ".safetensors")))
    module = _network()
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    try:
        weights.fit(module, weights.read(path), "the network")
    finally:
        assert RAN not in os.environ, "code in the file was run"
    for name, tensor in module.state_dict().items():
        assert tensor.shape == shapes[name], f"{name} has another shape"
        assert tensor.isfinite().all(), f"{name} isn't finite"


@st.composite
def _contents(draw: st.DrawFn, is_pickle: bool) -> bytes:
    state = _network().state_dict()
    name, zipped = draw(st.sampled_from(sorted(state))), draw(st.booleans())
    if draw(st.integers(0, 4)) < 2:
        return draw(damaged(_undamaged(is_pickle, zipped)))
    odd, files = (ODD | ODD_IN_PICKLES, FILES | PICKLES) if is_pickle else (ODD, FILES)
    how = draw(st.sampled_from([*odd, *files, "another name"]))
    note(f"{how}, {name}")
    if how in odd:
        return _saved({**state, name: odd[how](state[name])}, is_pickle, zipped)
    if how in files:
        return _saved(files[how](state), is_pickle, zipped)
    other = draw(st.sampled_from(("", "x", f"module.{name}", "weight" * 100, "\x00")))
    renamed = {other if each == name else each: tensor for each, tensor in state.items()}
    return _saved(renamed, is_pickle, zipped)


@cache
def _undamaged(is_pickle: bool, zipped: bool) -> bytes:
    """Saved once: the format that isn't zipped names storages by their addresses, which are longer at times, and
    hypothesis wants the same bytes whenever it draws the same."""
    return _saved(_network().state_dict(), is_pickle, zipped)


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def _saved(content: Any, is_pickle: bool, zipped: bool) -> bytes:
    if not is_pickle:
        return save({name: tensor.contiguous() for name, tensor in content.items()})
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()
