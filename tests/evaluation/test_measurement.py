"""Answers of metrics come to the CPU in float64, those of a GPU in one copy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from axiom_bench.evaluation.measurement import on_cpu
from axiom_bench.explanation.explanation import Curve


class CopiesToTheCPU(TorchDispatchMode):
    """Counts what a process would wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        copied = func is torch.ops.aten._to_copy.default
        self.count += bool(copied and args[0].is_cuda and torch.device(kwargs.get("device", "cuda")).type == "cpu")
        return func(*args, **kwargs or {})


def test_tensors_and_points_are_copied_and_anything_else_stays():
    values, points = torch.rand(3), torch.rand(3, 5)
    first, second = on_cpu([{"a": values, "b": Curve(points, x=range(5))}, {"c": "no tensor", "d": values > 0.5}])
    assert first["a"].dtype == torch.float64
    assert torch.equal(first["a"], values.double())
    assert torch.equal(first["b"].points, points.double())
    assert first["b"].x == range(5)
    assert second["c"] == "no tensor"
    assert torch.equal(second["d"], (values > 0.5).double())


@pytest.mark.parametrize("methods", [1, 4])
def test_a_gpu_is_waited_for_once(methods: int):
    with FakeTensorMode(), CopiesToTheCPU() as copies:
        answers = [
            {"a": torch.empty(3, device="cuda"), "b": torch.empty(3), "c": Curve(torch.empty(3, 7, device="cuda"))}
            for _ in range(methods)
        ]
        found = on_cpu(answers)
    assert copies.count == 1
    for answer in found:
        shapes = (answer["a"].shape, answer["b"].shape, answer["c"].points.shape)
        assert shapes == ((3,), (3,), (3, 7))
        assert {answer["a"].device.type, answer["b"].device.type, answer["c"].points.device.type} == {"cpu"}
