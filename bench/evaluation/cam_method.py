"""A CAM implementation of any form as a method: a function of a trace that returns its maps.

The implementation runs on a copy of the network. The hooks that it leaves end with the copy, and
their number comes with the maps, so that a run can report it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, MutableMapping
from dataclasses import replace

import torch.nn.modules.module as torch_module
from torch import nn

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.cam_forms import Cam, Implementation, as_cam_function
from axiom_bench.evaluation.cam_forms import is_cam as is_cam
from axiom_bench.evaluation.cam_map import CamMap
from axiom_bench.evaluation.global_state import restored_global_state
from axiom_bench.methods.peers.sandbox import sandbox


class CamMethod:
    """A method that calls a CAM implementation on a copy of the network."""

    def __init__(self, cam: Cam, name: str) -> None:
        self.cam = cam
        self.name = name

    @property
    def implementation(self) -> Implementation:
        """The implementation, whose docstring describes the method."""
        return self.cam.implementation

    def __call__(self, trace: Trace) -> CamMap:
        """Return the maps (B, h, w) of a trace's images.

        Raises:
            BenchError: If the implementation fails on the network.
        """
        with restored_global_state(), sandbox(trace, self.name) as box:
            random.seed(0)  # the sandbox seeds torch and NumPy
            cam = self.cam
            if cam.takes("reshape_transform"):
                cam = replace(cam, options={**(cam.options or {}), **box.options})
            num_hooks = sum(hook_counts(box.model).values())
            global_hooks = _global_hooks()
            try:
                maps = cam(box.model, box.layer, box.images, trace.targets.clone())
                num_hooks_left = sum(hook_counts(box.model).values()) - num_hooks
            finally:
                num_global_hooks = _remove_hooks_since(global_hooks)
        left = max(0, num_hooks_left) + num_global_hooks
        return CamMap(maps.detach().to(trace.activations), num_hooks_left=left)


def cam_method(
    implementation: Implementation,
    name: str,
    options: Mapping[str, object],
    form: str | None,
) -> CamMethod:
    """Return the method of a CAM implementation. See `as_cam_function` for the arguments."""
    return CamMethod(as_cam_function(implementation, options, form), name)


def hook_counts(model: nn.Module) -> dict[str, int]:
    """Return the number of hooks of each module, by the module's name."""
    counts = {}
    for name, module in model.named_modules():
        counts[name] = sum(map(len, _hook_tables(vars(module))))
    return counts


def num_global_hooks() -> int:
    """Return the number of hooks of all modules together."""
    return sum(map(len, _hook_tables(vars(torch_module))))


def _hook_tables(attributes: Mapping[str, object]) -> list[MutableMapping[int, object]]:
    tables = [value for name, value in attributes.items() if name.endswith("_hooks")]
    return [table for table in tables if isinstance(table, MutableMapping)]


def _global_hooks() -> list[set[int]]:
    """Return the keys of torch's hooks of all modules."""
    return [set(table) for table in _hook_tables(vars(torch_module))]


def _remove_hooks_since(keys: list[set[int]]) -> int:
    """Remove torch's hooks of all modules that aren't among these, and return their number."""
    count = 0
    for table, known in zip(_hook_tables(vars(torch_module)), keys, strict=True):
        for key in set(table) - known:
            del table[key]
            count += 1
    return count
