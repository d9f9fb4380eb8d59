"""scripts/finetune_voc.py on a tiny VOC: a killed and resumed run ends with the weights of an
undisturbed one; mAP.
"""

import argparse
import io
import math
import sys
from contextlib import redirect_stdout
from unittest import mock

import finetune_voc
import numpy as np
import pytest
import torch
import yaml

from axiom_bench.data.layouts.voc import CLASSES
from axiom_bench.errors import BenchError
from axiom_bench.models.load import load_model
from tests.data.builders import save, xml

SETTINGS = (
    "--architecture",
    "shufflenet_v2_x0_5",
    "--weights",
    "none",
    "--epochs",
    "3",
    "--batch",
    "2",
)
CHECKPOINTS = ("--checkpoint-steps", "2", "--workers", "0", "--device", "cpu")


@pytest.fixture
def tiny_voc(tmp_path):
    """Six images to train on and three to measure with, of three classes."""
    root = tmp_path / "VOC2012"
    names = [f"2007_{number}" for number in range(9)]
    for seed, name in enumerate(names):
        save(root / "JPEGImages" / f"{name}.jpg", seed=seed)
        xml(
            root / "Annotations" / f"{name}.xml", [(("dog", "cat", "sofa")[seed % 3], 1, 1, 10, 20)]
        )
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("\n".join(names[:6]))
    (root / "ImageSets/Main/val.txt").write_text("\n".join(names[6:]))
    return tmp_path


def run(root, output, more=()):
    """Run the script in this process, and return its output."""
    argv = [
        "finetune_voc.py",
        "--root",
        str(root),
        "--output",
        str(output),
        *SETTINGS,
        *CHECKPOINTS,
        *more,
    ]
    with mock.patch.object(sys, "argv", argv), redirect_stdout(io.StringIO()) as printed:
        finetune_voc.main()
    return printed.getvalue()


@pytest.mark.slow
def test_resumed_run_ends_with_the_same_weights(tiny_voc, tmp_path):
    """One that was killed behind its first checkpoint."""

    def killed(*arguments):
        save_checkpoint(*arguments)
        raise KeyboardInterrupt

    save_checkpoint = finetune_voc.save_checkpoint
    assert "mAP on val: " in run(tiny_voc, tmp_path / "undisturbed")
    with (
        mock.patch.object(finetune_voc, "save_checkpoint", killed),
        pytest.raises(KeyboardInterrupt),
    ):
        run(tiny_voc, tmp_path / "killed")
    assert "continues after step" in run(tiny_voc, tmp_path / "killed")
    name = "shufflenet_v2_x0_5_voc"
    resumed, undisturbed = (
        (tmp_path / folder / f"{name}.safetensors").read_bytes()
        for folder in ("killed", "undisturbed")
    )
    assert resumed == undisturbed
    assert not list(tmp_path.glob("*/*.new"))
    loaded = load_model(yaml.safe_load((tmp_path / f"undisturbed/model/{name}.yaml").read_text()))
    assert (loaded.name, loaded.number_of_classes, loaded.classes) == (name, 20, CLASSES)


def test_checkpoint_of_other_settings_is_refused(tmp_path):
    module = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(module.parameters())
    finetune_voc.save_checkpoint(
        module, optimiser, 3, argparse.Namespace(output=tmp_path, seed=0, workers=0)
    )
    options = [argparse.Namespace(output=tmp_path, seed=seed, workers=2) for seed in (0, 1)]
    assert finetune_voc.load_checkpoint(module, optimiser, options[0], torch.device("cpu")) == 3
    with pytest.raises(BenchError, match="a run with another seed"):
        finetune_voc.load_checkpoint(module, optimiser, options[1], torch.device("cpu"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--root", "/nowhere"), "VOC layout"),
        (("--architecture", "resnet19"), "resnet18"),
        (("--weights", "missing.safetensors"), "missing.safetensors"),
    ],
)
def test_error_messages(tiny_voc, tmp_path, monkeypatch, more, message):
    argv = ["--root", str(tiny_voc), "--output", str(tmp_path / "run"), *SETTINGS, *more]
    monkeypatch.setattr(sys, "argv", ["finetune_voc.py", *argv])
    with pytest.raises(BenchError, match=message):
        finetune_voc.main()


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


def test_average_precision():
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.integers(0, 12, 30).astype(float)  # with ties
        truth = generator.random(30) < 0.3
        assert finetune_voc.average_precision(scores, truth) == pytest.approx(
            by_hand(scores, truth), abs=1e-12
        )
    assert (
        finetune_voc.average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, True, False]))
        == 1
    )
    assert math.isnan(finetune_voc.average_precision(np.ones(3), np.zeros(3, dtype=bool)))


def test_each_epoch_permutes_the_images_and_draws_anew():
    steps = finetune_voc.step_batches(images=7, batch=3, epochs=4, seed=0)
    assert len(steps) == 8
    assert len({draw for step in steps for _, draw in step}) == 24
    for epoch in (0, 2, 4, 6):
        images = set()
        for step in steps[epoch : epoch + 2]:
            images |= {index for index, _ in step}
        assert len(images) == 6
    assert steps != finetune_voc.step_batches(images=7, batch=3, epochs=4, seed=1)


@pytest.mark.real
@pytest.mark.slow
def test_training_lowers_the_loss_on_photographs(real_root, tmp_path):
    weights = real_root / "weights/shufflenet_v2_x0_5.safetensors"
    more = ("--weights", str(weights), "--epochs", "2", "--batch", "8", "--checkpoint-steps", "8")
    printed = run(real_root / "data", tmp_path / "real", more)
    losses = [
        float(line.rpartition(" ")[2]) for line in printed.splitlines() if line.startswith("step")
    ]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert "new: fc.bias, fc.weight" in printed
