"""scripts/finetune_voc.py on a tiny VOC: killed and resumed it ends where an undisturbed run does; its mAP by hand."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from axiom_bench.data.voc import CLASSES
from axiom_bench.errors import BenchError
from axiom_bench.models.load import load_model

SCRIPT = Path(__file__).parents[2] / "scripts/finetune_voc.py"
SETTINGS = ("--architecture", "shufflenet_v2_x0_5", "--weights", "none", "--epochs", "3", "--batch", "2")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("finetune_voc", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tiny_voc(tmp_path, build):
    """Six images to train on and three to measure with, of three classes."""
    root = tmp_path / "VOC2012"
    names = [f"2007_{number}" for number in range(9)]
    for seed, name in enumerate(names):
        build[0](root / "JPEGImages" / f"{name}.jpg", seed=seed)
        build[1](root / "Annotations" / f"{name}.xml", [(("dog", "cat", "sofa")[seed % 3], 1, 1, 10, 20)])
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("\n".join(names[:6]))
    (root / "ImageSets/Main/val.txt").write_text("\n".join(names[6:]))
    return tmp_path


def start(root, output, *more):
    command = [sys.executable, str(SCRIPT), "--root", str(root), "--output", str(output), *SETTINGS]
    command += ["--checkpoint-steps", "2", "--workers", "0", "--device", "cpu", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finished(process):
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def test_a_killed_run_goes_on_to_the_same_weights(tiny_voc, tmp_path):
    code, said = finished(start(tiny_voc, tmp_path / "whole"))
    assert code == 0, said
    assert "mAP on val: " in said
    killed = start(tiny_voc, tmp_path / "killed")
    while not (tmp_path / "killed/checkpoint.pt").is_file() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    before = finished(killed)[1]
    assert "mAP" not in before
    code, said = finished(start(tiny_voc, tmp_path / "killed"))
    assert code == 0, said
    assert "goes on after step" in said
    name = "shufflenet_v2_x0_5_voc"
    ours, theirs = ((tmp_path / run / f"{name}.safetensors").read_bytes() for run in ("killed", "whole"))
    assert ours == theirs
    assert not list(tmp_path.glob("*/*.new"))
    loaded = load_model(yaml.safe_load((tmp_path / f"whole/model/{name}.yaml").read_text()))
    assert (loaded.name, loaded.number_of_classes, loaded.classes) == (name, 20, CLASSES)


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(script, tmp_path):
    module = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(module.parameters())
    script.keep(module, optimiser, 3, argparse.Namespace(output=tmp_path, seed=0, workers=0))
    go_on = [argparse.Namespace(output=tmp_path, seed=seed, workers=2) for seed in (0, 1)]
    assert script.restore(module, optimiser, go_on[0], torch.device("cpu")) == 3
    with pytest.raises(BenchError, match="a run with another seed"):
        script.restore(module, optimiser, go_on[1], torch.device("cpu"))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--root", "/nowhere"), "VOC layout"),
        (("--architecture", "resnet19"), "resnet18"),
        (("--weights", "missing.safetensors"), "missing.safetensors"),
    ],
)
def test_mistakes_are_one_sentence(script, tiny_voc, tmp_path, monkeypatch, more, says):
    given = ["--root", str(tiny_voc), "--output", str(tmp_path / "run"), *SETTINGS, *more]
    monkeypatch.setattr(sys, "argv", ["finetune_voc.py", *given])
    with pytest.raises(BenchError, match=says):
        script.main()


def by_hand(scores, truth):
    """At each recall, the best precision at this recall or more, over all thresholds."""
    points = []
    for threshold in set(scores):
        chosen = scores >= threshold
        points.append((truth[chosen].sum() / truth.sum(), truth[chosen].mean()))
    area, last = 0.0, 0.0
    for recall in sorted({recall for recall, _ in points}):
        area += (recall - last) * max(precision for other, precision in points if other >= recall)
        last = recall
    return area


def test_average_precision(script):
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.integers(0, 12, 30).astype(float)  # with ties
        truth = generator.random(30) < 0.3
        assert script.average_precision(scores, truth) == pytest.approx(by_hand(scores, truth), abs=1e-12)
    assert script.average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, True, False])) == 1
    assert math.isnan(script.average_precision(np.ones(3), np.zeros(3, dtype=bool)))


def test_steps_go_on_where_they_stopped(script):
    whole = list(script.Steps(images=7, batch=3, epochs=4, seed=0, first=0))
    assert list(script.Steps(7, 3, 4, 0, first=5)) == whole[5:]
    assert len(whole) == 8
    assert len({draw for step in whole for _, draw in step}) == 24  # each crop is drawn anew
    assert all(len({index for step in whole[epoch : epoch + 2] for index, _ in step}) == 6 for epoch in (0, 2, 4, 6))


@pytest.mark.real
def test_training_lowers_the_loss_on_photographs(real_root, tmp_path):
    weights = real_root / "weights/shufflenet_v2_x0_5.safetensors"
    more = ("--weights", str(weights), "--epochs", "2", "--batch", "8", "--checkpoint-steps", "8")
    code, said = finished(start(real_root / "data", tmp_path / "real", *more))
    assert code == 0, said
    losses = [float(line.rpartition(" ")[2]) for line in said.splitlines() if line.startswith("step")]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert "new: fc.bias, fc.weight" in said
