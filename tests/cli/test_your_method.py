"""docs/your-method.md as a reader types it: its files, its one-line test, its commands."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from axiom_bench.cli.main import parser
from axiom_bench.embedded.networks import scenes_resnet
from axiom_bench.run.jobs.job import chosen
from axiom_bench.run.sweep import configuration

TEXT = (Path(__file__).parents[2] / "docs" / "your-method.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = re.findall(r"^(axiom-bench .*)$", TEXT, re.MULTILINE)


@pytest.fixture(autouse=True)
def _written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The document's files in the current folder, importable as in a folder of their own."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in FILES:
        sys.modules.pop(name, None)


def test_the_method_is_ten_lines():
    assert sum(bool(line.strip()) for line in FILES["my_module"].splitlines()) <= 10


def test_it_passes_its_one_line_test():
    importlib.import_module("test_my_module").test_my_cam()


@pytest.mark.parametrize("command", [command for command in COMMANDS if " explain " not in command])
def test_every_run_composes(command: str):
    config = configuration(shlex.split(command)[1:])
    own = [method for method in chosen("method", config) if "my_module" in (method.target, method.target.split(".")[0])]
    wrapping = [
        method for method in chosen("method", config) if method.inner and method.inner.target == "my_module.my_cam"
    ]
    assert own or wrapping


@pytest.mark.parametrize("command", [command for command in COMMANDS if " explain " in command])
def test_every_other_command_is_understood(command: str):
    assert parser().parse_args(shlex.split(command)[1:]).methods == "xgrad_cam,my_module.my_cam"


def test_the_notebook():
    """The last block, on the embedded network."""
    (block,) = re.findall(r"```python\n(import axiom_bench as ab\n.*?)```", TEXT, re.DOTALL)
    images = torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    names = {"model": scenes_resnet().eval(), "images": images, "targets": torch.arange(4)}
    names["my_cam"] = importlib.import_module("my_module").my_cam
    *lines, last = block.strip().split("\n")
    exec("\n".join(lines), names)
    table = eval(last, names)
    assert table["method"].tolist() == ["grad_cam", "xgrad_cam"]
    assert (table["n"] == 4).all()
    assert "ab" in names
