"""docs/your-method.md as a reader types it: its files, its one-line test, its commands."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import torch

from axiom_bench.cli.main import parse, parser
from axiom_bench.embedded.networks import scenes_resnet
from axiom_bench.run.job import chosen
from axiom_bench.run.spine import configuration

TEXT = (Path(__file__).parents[2] / "docs" / "your-method.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", TEXT, re.DOTALL))
YAML = dict(re.findall(r"^`(my_conf/\S+)`:\n\n```yaml\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^(axiom-bench .*)$", TEXT, re.MULTILINE)


@pytest.fixture(autouse=True)
def _written(tmp_path, monkeypatch):
    """The document's files in the current folder, importable as in a folder of their own."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    for path, text in YAML.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.slow
def test_the_method_is_ten_lines_and_passes_its_one_line_test():
    assert sum(bool(line.strip()) for line in FILES["my_module"].splitlines()) <= 10
    importlib.import_module("test_my_module").test_my_cam()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood_and_every_run_composes(command):
    words = shlex.split(command)[1:]
    if words[0] == "explain":
        assert parser().parse_args(words).methods == "xgrad_cam,my_module.my_cam"
    else:
        options = parse(words)
        chosen_ones = chosen(
            "method", configuration(options.overrides, options.config_dir)["method"]
        )
        targets = {
            target
            for method in chosen_ones
            for target in (method.target, getattr(method.inner, "target", ""))
        }
        assert targets & {"my_module.my_cam", "axiom_bench.methods.from_maps.from_maps"}


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
