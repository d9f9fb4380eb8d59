"""The examples of docs/targets.md run, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision
from tests.models.test_networks_of_libraries import suppress_by_loop

PAGE = (Path(__file__).resolve().parents[2] / "docs/targets.md").read_text()


def test_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torchvision.extension._has_ops():
        monkeypatch.setattr(torchvision.ops.boxes, "nms", suppress_by_loop)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 8
    for example in examples:
        exec(compile(example, "docs/targets.md", "exec"), names)


def test_every_preset_is_on_the_page() -> None:
    assert not [name for name in ab.outputs.__all__ if f"outputs.{name}(" not in PAGE]
