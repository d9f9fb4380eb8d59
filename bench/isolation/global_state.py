"""The global state of torch, NumPy and Python that foreign code may change: reading and restoring.

Random states, torch's default dtype and grad mode outlive a call. Code that is only tried, or
audited, must not change the results of the code that runs after it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.modules.module as torch_module
from torch import nn

from axiom_bench.isolation.foreign_calls import quiet


@dataclass(frozen=True)
class GlobalSetting:
    """A setting of the process."""

    read: Callable[[], object]
    """Return the value, which later changes leave as it is."""
    write: Callable[[Any], object]
    """Set a value that `read` returned."""


def _write_determinism(is_deterministic: bool) -> None:
    if is_deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(is_deterministic)


GLOBAL_SETTINGS: Mapping[str, GlobalSetting] = {
    "torch_random_state": GlobalSetting(torch.get_rng_state, torch.set_rng_state),
    "numpy_random_state": GlobalSetting(np.random.get_state, np.random.set_state),
    "python_random_state": GlobalSetting(random.getstate, random.setstate),
    "default_dtype": GlobalSetting(torch.get_default_dtype, torch.set_default_dtype),
    "grad_mode": GlobalSetting(torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic_algorithms": GlobalSetting(
        torch.are_deterministic_algorithms_enabled, _write_determinism
    ),
    "cudnn_benchmark": GlobalSetting(
        partial(getattr, torch.backends.cudnn, "benchmark"),
        partial(setattr, torch.backends.cudnn, "benchmark"),
    ),
}


def seed_all(seed: int) -> None:
    """Seed the random states of torch, NumPy and Python. NumPy's takes 32 bits of the seed."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def read_global_state() -> dict[str, object]:
    """Return the value of every setting by its key."""
    return {key: setting.read() for key, setting in GLOBAL_SETTINGS.items()}


@contextmanager
def restored_global_state() -> Iterator[None]:
    """Restore every setting at the end, including the random states of GPUs. Remove new hooks of
    all modules of torch.
    """
    before = read_global_state()
    hooks = global_hooks()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        remove_global_hooks_since(hooks)
        for key, setting in GLOBAL_SETTINGS.items():
            setting.write(before[key])


@contextmanager
def isolated_code() -> Iterator[None]:
    """Run foreign code with gradients and without output, and restore every setting at the end."""
    with restored_global_state(), quiet(), torch.inference_mode(False), torch.enable_grad():
        yield


def num_hooks(model: nn.Module) -> int:
    """Return the number of hooks of a model's modules."""
    return sum(len(table) for module in model.modules() for table in _hook_tables(vars(module)))


def global_hooks() -> list[set[int]]:
    """Return the keys of torch's hooks of all modules, for each kind of hook."""
    return [set(table) for table in _hook_tables(vars(torch_module))]


def remove_global_hooks_since(hooks: list[set[int]]) -> int:
    """Remove torch's hooks of all modules that aren't among these, and return their number."""
    count = 0
    for table, known in zip(_hook_tables(vars(torch_module)), hooks, strict=True):
        for key in set(table) - known:
            del table[key]
            count += 1
    return count


def _hook_tables(attributes: Mapping[str, object]) -> list[MutableMapping[int, object]]:
    tables = [value for name, value in attributes.items() if name.endswith("_hooks")]
    return [table for table in tables if isinstance(table, MutableMapping)]
