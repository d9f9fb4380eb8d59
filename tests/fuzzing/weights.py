"""Files of weights: damaged as bytes, with other tensors, names or structure, or code in a pickle.

Each form that is refused is listed in tests/models/test_weights.py.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import note
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from axiom_bench.models import weights
from tests.fuzzing.damage import PLAIN, damaged

RAN = "axiom-bench-fuzz-ran"  # set in the environment by a pickle whose code has run


class Call:
    """A function that a pickle names: it is called as the pickle is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.putenv, (RAN, "yes")


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {  # of a file's content
    "as it was saved": lambda state: state,
    "half precision": lambda state: {name: tensor.half() for name, tensor in state.items()},
    "of DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
}
IN_PICKLES: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "under a key": lambda state: {"state_dict": state, "epoch": 3},
    "under a key twice": lambda state: {"model": {"state_dict": state}},
    "a list": lambda state: list(state.values()),
    "a call": lambda state: {**state, "x": Call()},
    "a call as a name": lambda state: {**state, Call(): torch.zeros(1)},
    "a call alone": lambda state: Call(),
}
DTYPES = (torch.float64, torch.bfloat16, torch.float8_e5m2, torch.int16, torch.bool)


def attempt(draw: st.DrawFn, folder: Path) -> None:
    path = folder / f"net{draw(st.sampled_from(('.pth', '.pt', '.safetensors')))}"
    path.write_bytes(draw(_contents(is_pickle=path.suffix != ".safetensors")))
    module = _network()
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    try:
        weights.load_into(module, weights.read_weights(path), "the network")
    finally:
        assert RAN not in os.environ, "code in the file was run"
    for name, tensor in module.state_dict().items():
        assert tensor.shape == shapes[name], f"{name} has another shape"
        assert tensor.isfinite().all(), f"{name} isn't finite"


@st.composite
def _contents(draw: st.DrawFn, is_pickle: bool) -> bytes:
    state = _network().state_dict()
    name = draw(st.sampled_from(sorted(state)))
    zipped = draw(st.booleans())
    how = draw(st.sampled_from(("damaged", "another form", "another tensor", "another name")))
    note(f"{how}, {name}")
    if how == "damaged":
        return draw(damaged(_undamaged(is_pickle, zipped)))
    if how == "another form":
        forms = FORMS | IN_PICKLES if is_pickle else FORMS
        return _saved(forms[draw(st.sampled_from(sorted(forms)))](state), is_pickle, zipped)
    if how == "another tensor":
        shape = draw(st.just(list(state[name].shape)) | st.lists(st.integers(0, 5), max_size=4))
        tensor = torch.full(shape, draw(st.floats()), dtype=torch.float64).to(
            draw(st.sampled_from(DTYPES))
        )
        is_plain = is_pickle and draw(st.booleans())
        return _saved({**state, name: draw(PLAIN) if is_plain else tensor}, is_pickle, zipped)
    other = draw(st.text(max_size=20) | st.just(f"module.{name}"))
    renamed = {other if key == name else key: tensor for key, tensor in state.items()}
    return _saved(renamed, is_pickle, zipped)


@cache
def _undamaged(is_pickle: bool, zipped: bool) -> bytes:
    """Save the weights once.

    The format that isn't zipped names storages by their addresses, whose length varies, and
    hypothesis needs the same bytes for the same case.
    """
    return _saved(_network().state_dict(), is_pickle, zipped)


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def _saved(content: Any, is_pickle: bool, zipped: bool) -> bytes:
    if not is_pickle:
        return save({name: tensor.contiguous() for name, tensor in content.items()})
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()
