"""The scripts can be imported, and the speed table runs on a small network."""

import importlib
from pathlib import Path

import bench_speed
import pytest
import torch
from torch import nn

FOLDER = Path(bench_speed.__file__).parent


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_script_can_be_imported(name):
    module = importlib.import_module(name)
    assert module.__doc__
    # mkdocs calls the hook, write_docs the links, and audit_public the classes
    assert name in ("docs_hook", "line_links", "public_cams") or hasattr(module, "main")


def test_cases_are_timed_in_turn_after_a_warm_up():
    calls = []
    seconds = bench_speed.timed(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        repeats=2,
        device=torch.device("cpu"),
    )
    assert calls == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_all_cases_of_the_speed_table_run(capsys):
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(5 * 8 * 8, 4)).eval()
    network = bench_speed.Network("small", model, "2", torch.randn(2, 3, 16, 16))
    seconds = bench_speed.timed(bench_speed.cases(network, "fp32"), 1, torch.device("cpu"))
    bench_speed.show(network.title, seconds, batch=2)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "x one forward" in line]) == len(seconds) == 7
