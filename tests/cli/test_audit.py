"""`axiom-bench audit`: the command, its files and its mistakes."""

import numpy as np
import pytest
from PIL import Image

from axiom_bench.auditing import audit as auditing
from axiom_bench.cli.main import main

pytestmark = pytest.mark.usefixtures("few_objects_to_collect")

NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
"""


def refusal(capsys, *arguments):
    assert main(["audit", *arguments]) == 2
    return capsys.readouterr().err


@pytest.fixture
def few_cases(monkeypatch):
    """Audits of two networks instead of eleven, which take seconds."""
    chosen = auditing.cases()[:2]
    monkeypatch.setattr(auditing, "cases", lambda: chosen)
    for name in ("find_effects", "find_dependences"):
        monkeypatch.setattr(auditing, name, lambda cam, case: [])


@pytest.mark.slow
def test_a_method_is_audited_and_written(few_cases, tmp_path, capsys):
    names = {"--output": "a.html", "--markdown": "a.md", "--json": "a.json", "--badge": "a.svg"}
    words = []
    for option, name in names.items():
        words += [option, str(tmp_path / name)]
    assert main(["audit", "grad_cam", "--expect", "grad_cam", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Audited code runs with your rights, as any program that you start."
    assert lines[1].startswith("grad_cam computes Grad-CAM")
    assert lines[2] == "  As expected: grad_cam."
    assert lines[-4:] == [f"written: {tmp_path / name}" for name in names.values()]
    assert all((tmp_path / name).is_file() for name in names.values())


@pytest.mark.slow
def test_another_formula_is_exit_code_1(few_cases, capsys):
    assert main(["audit", "grad_cam", "--expect", "xgrad_cam"]) == 1
    assert "Not as expected: xgrad_cam." in capsys.readouterr().out


def test_the_kit_is_written(tmp_path, capsys):
    folder = tmp_path / "kit"
    assert main(["audit", "--export", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"then: axiom-bench audit {folder / 'maps'}" in out
    assert "Maps are missing" in refusal(capsys, str(folder / "maps"))
    assert "isn't an empty folder" in refusal(capsys, "--export", str(folder))


@pytest.mark.slow
def test_missing_maps_of_an_own_model_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(NETWORK)
    (tmp_path / "maps").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("a.png")
    (tmp_path / "targets.csv").write_text("image,class\na.png,3\n")
    words = ["audit", "maps", "--model", "own_net.py:build", "--layer", "1"]
    words += ["--targets", "targets.csv", "--expect", "grad_cam"]
    assert main(words) == 2
    assert "Maps are missing in maps: a.npy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give what to audit: axiom-bench audit my_module:my_cam, or --export kit"),
        (["team:cam", "--export", "kit"], "--export writes a kit and audits nothing"),
        (["team:cam", "--targets", "a.csv"], "--targets goes with a folder of maps"),
        (["maps", "--model", "resnet18"], "also give --targets FILE, with lines IMAGE,CLASS"),
        (["maps", "--with", "a=1"], "--with and --form go with a function"),
        (["maps", "--targets", "a.csv"], "also give --model net.py:build"),
        (["grad_cam", "--with", "a"], "--with 'a' is no KEY=VALUE; write --with 'use_relu=False'"),
        (["grad_cam", "--form", "class"], "--form is for your own functions"),
        (["grad_cm"], "There is no method 'grad_cm'; did you mean"),
        (["grad_cam", "--expect", "gradcm"], "There is no method 'gradcm'"),
        (["nowhere.py:cam"], "nowhere.py"),
        (["grad_cam", "--with", "sign=1"], "sign"),
    ],
)
def test_mistakes_have_one_message(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maps").mkdir()
    (tmp_path / "a.csv").write_text("a.png,1\n")
    error = refusal(capsys, *arguments)
    assert message in error
    assert error.count("axiom-bench: ") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lists 0 images; list 1 to 16"),
        ("a.png\n", "has the line 'a.png'; write IMAGE,CLASS"),
        ("a.png,1\nb/a.png,2\n", "two images called a; list each image once"),
        ("none.png,1\n", "there is no file"),
        ("a.png,9\n", "give an index from 0 to 4"),
    ],
)
def test_mistakes_in_the_list_of_targets(content, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(NETWORK)
    for folder in ("maps", "b"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (224, 224), "red").save("a.png")
    Image.new("RGB", (224, 224), "red").save("b/a.png")
    (tmp_path / "targets.csv").write_text(content)
    words = ["maps", "--model", "own_net.py:build", "--targets", "targets.csv", "--layer", "1"]
    assert message in refusal(capsys, *words)
