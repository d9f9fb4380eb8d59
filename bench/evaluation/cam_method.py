"""A CAM implementation of any form as a method: a function of a trace that returns its maps.

The implementation runs on a copy of the network. The hooks that it leaves end with the copy, and
their number comes with the maps, so that a run can report it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.cam_call import Cam
from axiom_bench.evaluation.cam_forms import Implementation
from axiom_bench.evaluation.cam_forms import is_cam as is_cam
from axiom_bench.evaluation.cam_function import as_cam_function
from axiom_bench.evaluation.cam_map import CamMap
from axiom_bench.isolation.global_state import (
    global_hooks,
    num_hooks,
    remove_global_hooks_since,
)
from axiom_bench.isolation.sandbox import sandbox


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
        with sandbox(trace, self.name) as box:
            cam = self.cam
            if cam.takes("reshape_transform"):
                cam = replace(cam, options={**cam.options, **box.options})
            num_hooks_before = num_hooks(box.model)
            hooks_before = global_hooks()
            maps = cam(box.model, box.layer, box.images, trace.targets.clone())
            num_hooks_left = num_hooks(box.model) - num_hooks_before
            num_hooks_left += remove_global_hooks_since(hooks_before)
        return CamMap(maps.detach().to(trace.activations), num_hooks_left=max(0, num_hooks_left))


def cam_method(
    implementation: Implementation,
    name: str,
    options: Mapping[str, object],
    form: str | None,
) -> CamMethod:
    """Return the method of a CAM implementation. See `as_cam_function` for the arguments."""
    return CamMethod(as_cam_function(implementation, options, form), name)
