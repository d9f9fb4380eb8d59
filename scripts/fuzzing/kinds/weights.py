"""Files of weights: damaged as bytes, odd tensors and names, pickles with code in them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from axiom_bench.models import weights

from ..case import Case, Kind
from ..damage import damaged

RAN = "axiom-bench-fuzz-ran"  # set in the environment by a pickle whose code has run


def attempt(case: Case) -> None:
    path = case.folder / f"net{case.random.choice(['.pth', '.pt', '.safetensors'])}"
    is_pickle = path.suffix != ".safetensors"
    if case.random.random() < 0.4:
        what, content = damaged(_whole(is_pickle, case.random.random() < 0.5), case.random)
    else:
        what = case.random.choice(sorted(CHANGES if is_pickle else PLAIN))
        content = _saved(CHANGES[what](_network().state_dict(), case.random), is_pickle, case.random.random() < 0.7)
    case.say(f"{path.suffix}: {what}")
    path.write_bytes(content)
    module = _network()
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    try:
        weights.fit(module, weights.read(path), "the network")
    finally:
        assert RAN not in os.environ, "code in the file was run"
    for name, tensor in module.state_dict().items():
        assert tensor.shape == shapes[name], f"{name} has another shape"
        assert tensor.isfinite().all(), f"{name} isn't finite"


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@cache
def _whole(is_pickle: bool, zipped: bool) -> bytes:
    return _saved(_network().state_dict(), is_pickle, zipped)


def _saved(content: Any, is_pickle: bool, zipped: bool) -> bytes:
    if not is_pickle:
        return save({name: tensor.contiguous() for name, tensor in content.items()})
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, (RAN, "yes")


class _Environment:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os; os.environ[{RAN!r}] = 'yes'",)


def _one(change: Callable[[torch.Tensor], object]) -> Callable[[dict[str, Any], Random], dict[str, Any]]:
    """One of the tensors changed."""

    def changed(state: dict[str, Any], random: Random) -> dict[str, Any]:
        name = random.choice(sorted(state))
        return {**state, name: change(state[name])}

    return changed


def _renamed(state: dict[str, Any], random: Random) -> dict[str, Any]:
    name = random.choice(sorted(state))
    other = random.choice(["", "x", f"module.{name}", "weight" * 100, "\x00"])
    return {other if own == name else own: tensor for own, tensor in state.items()}


def _filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: torch.full_like(tensor.double(), value)


PLAIN: dict[str, Callable[[dict[str, Any], Random], Any]] = {
    "as it was saved": lambda state, random: state,
    "half precision": lambda state, random: {name: tensor.half() for name, tensor in state.items()},
    "double precision": lambda state, random: {name: tensor.double() for name, tensor in state.items()},
    "bfloat16": lambda state, random: {name: tensor.bfloat16() for name, tensor in state.items()},
    "of DataParallel": lambda state, random: {f"module.{name}": tensor for name, tensor in state.items()},
    "another name": _renamed,
    "NaN": _one(_filled(float("nan"))),
    "infinite": _one(_filled(float("-inf"))),
    "too large for float32": _one(_filled(1e200)),
    "another shape": _one(lambda tensor: torch.zeros(3, 5)),
    "a scalar": _one(lambda tensor: torch.tensor(1.0)),
    "no elements": _one(lambda tensor: torch.zeros(0)),
    "fp8": _one(lambda tensor: tensor.float().to(torch.float8_e5m2)),
    "integers": _one(lambda tensor: tensor.to(torch.int16)),
}
CHANGES: dict[str, Callable[[dict[str, Any], Random], Any]] = {
    **PLAIN,
    "under keys": lambda state, random: {random.choice(["state_dict", "model"]): state, "epoch": 3},
    "under a key twice": lambda state, random: {"model": {"state_dict": state}},
    "under another key": lambda state, random: {"weights": state},
    "integer keys": lambda state, random: dict(enumerate(state.values())),
    "a list": lambda state, random: list(state.values()),
    "no tensor": _one(lambda tensor: random_value(tensor)),
    "sparse": _one(lambda tensor: tensor.float().to_sparse()),
    "meta": _one(lambda tensor: tensor.to("meta")),
    "complex": _one(lambda tensor: tensor.to(torch.complex64)),
    "quantized": _one(lambda tensor: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8)),
    "a view of one number": _one(lambda tensor: torch.zeros(1).expand(10**12)),
    "code": lambda state, random: {**state, "x": random.choice([_Code(), _Environment()])},
    "code as a name": lambda state, random: {**state, _Environment(): torch.zeros(1)},
    "code alone": lambda state, random: _Environment(),
    "a module": lambda state, random: _network(),
}


def random_value(tensor: torch.Tensor) -> object:
    """Something in a tensor's place."""
    return [None, 3, "x", {}, [tensor], tensor.numpy()][tensor.numel() % 6]


KIND = Kind(attempt, share=70)
