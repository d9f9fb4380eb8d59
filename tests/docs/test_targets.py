"""The examples of docs/targets.md run, in the order of the page."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision
from tests.models.test_networks_of_libraries import suppress_by_loop

PAGE = (Path(__file__).resolve().parents[2] / "docs/targets.md").read_text()


@pytest.mark.slow
def test_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torchvision.extension._has_ops():
        monkeypatch.setattr(torchvision.ops.boxes, "nms", suppress_by_loop)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 10
    *standing_alone, transformers = examples
    for example in standing_alone:
        exec(compile(example, "docs/targets.md", "exec"), names)
    networks = (
        torchvision.models.VisionTransformer(
            64, 16, num_layers=12, num_heads=2, hidden_dim=16, mlp_dim=32
        ),
        torchvision.models.SwinTransformer(
            [4, 4], embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=[4, 4]
        ),
    )
    names["batches"] = [(names["images"], None)]
    # a statement for each network
    statements = ast.parse(transformers).body
    for statement, model in zip(statements, networks, strict=True):
        code = compile(ast.Module([statement], []), "docs/targets.md", "exec")
        exec(code, names | {"model": model.eval()})


def test_every_preset_is_on_the_page() -> None:
    assert not [name for name in ab.outputs.__all__ if f"outputs.{name}(" not in PAGE]
