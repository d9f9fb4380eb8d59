"""Tests of docs/your-method.md as a reader types it: its files, one-line test and commands."""

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
def _page_files(tmp_path, monkeypatch):
    """The page's files in the current folder, from which Python imports them."""
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
    for path, text in YAML.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
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
        return
    options = parse(words)
    config = configuration(options.overrides, options.config_dir)
    methods = chosen("method", config["method"])
    targets = {method.target for method in methods}
    # A method that wraps another one, such as a smoothed one, has it as `inner`.
    targets |= {getattr(method.inner, "target", "") for method in methods}
    assert targets & {"my_module.my_cam", "axiom_bench.methods.from_maps.from_maps"}


def test_the_notebook():
    """Run the page's last block with an embedded network."""
    (block,) = re.findall(r"```python\n(import axiom_bench as ab\n.*?)```", TEXT, re.DOTALL)
    names = {
        "model": scenes_resnet().eval(),
        "images": torch.randn(4, 3, 96, 96, generator=torch.Generator().manual_seed(0)),
        "targets": torch.arange(4),
        "my_cam": importlib.import_module("my_module").my_cam,
    }
    *lines, last = block.strip().split("\n")

    exec("\n".join(lines), names)
    table = eval(last, names)

    assert table["method"].tolist() == ["grad_cam", "xgrad_cam"]
    assert (table["n"] == 4).all()
    assert "ab" in names
