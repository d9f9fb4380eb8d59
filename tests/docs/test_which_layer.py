"""Tests that the page on layers prints what the package computes."""

import re
from pathlib import Path

import pytest
import torch

import axiom_bench as ab
from axiom_bench.cli.main import main

PAGE = (Path(__file__).resolve().parents[2] / "docs/which-layer.md").read_text(encoding="utf-8")
SIDES = {"layer1": 48, "layer2": 24, "layer3": 12, "layer4": 12}  # positions along a side of a map
METRICS = ["single_deletion", "class_discriminability"]  # the order of the table's columns
METHODS = ["grad_cam", "xgrad_cam"]  # the order in a cell


@pytest.mark.parametrize("layer", SIDES)
def test_maps_have_the_size_on_the_page(layer):
    model = ab.load_model("scenes_resnet")
    activations = ab.trace(model, layer, torch.zeros(1, 3, 96, 96)).activations
    side = SIDES[layer]
    assert activations.shape[2:] == (side, side)
    assert f"| `{layer}` | {side} x {side} |" in PAGE


@pytest.mark.slow
def test_doctor_prints_the_lines_on_the_page(capsys):
    lines_on_page = re.findall(r"^(scenes_resnet at .*)$", PAGE, re.MULTILINE)
    assert len(lines_on_page) == 3
    assert main(["doctor", "model=scenes_resnet"]) == 0
    printed_lines = capsys.readouterr().out.splitlines()
    assert set(lines_on_page) <= set(printed_lines)


@pytest.mark.slow
def test_the_command_of_the_page_gives_the_values_on_the_page(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    command = [
        "model=scenes_resnet",
        "model.layer=layer3,layer4",
        f"method=[{','.join(METHODS)}]",
        f"metric=[{','.join(METRICS)}]",
        "run=layers",
    ]
    assert main(command) == 0
    rows = ab.read_run("results/quick/layers")
    means = rows.groupby(["layer", "metric", "method"])["value"].mean()
    for layer in ("layer3", "layer4"):
        line = next(line for line in PAGE.splitlines() if line.startswith(f"| `{layer}` |"))
        cells = line.strip("| ").split(" | ")[2:]
        assert len(cells) == len(METRICS)
        for metric, cell in zip(METRICS, cells, strict=True):
            values_on_page = [float(value) for value in cell.split(",")]
            computed = [means[layer, metric, method] for method in METHODS]
            assert computed == pytest.approx(values_on_page, abs=6e-4)  # three digits
