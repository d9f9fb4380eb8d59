"""Tests of a run of a user's own network on arrays from files.

The values are the same as in Python. A second command resumes the run, and the run has pictures.
"""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import axiom_bench as ab
from axiom_bench.models.user_code import import_function
from axiom_bench.run.verification import recomputed

from .conftest import RUN, failure, write_module

NETWORK = """
from torch import nn

def build(axes, channels):
    convolution = getattr(nn, f"Conv{axes}d")
    pool = getattr(nn, f"AdaptiveAvgPool{axes}d")
    return nn.Sequential(
        convolution(channels, 4, 3),
        nn.ReLU(),
        convolution(4, 6, 3),
        nn.ReLU(),
        pool(2),
        nn.Flatten(),
        nn.Linear(6 * 2**axes, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    )

def mine(trace):
    return trace.gradients

mine.dimensions = [1]
"""
SIGNAL = (1, 24)
BANDS = (5, 9, 10)
VOLUME = (2, 7, 8, 9)
METHODS = ["grad_cam", "xgrad_cam", "hires_cam"]
METRICS = ["sensitivity_error", "conservation_error", "confidence_drop", "box_iou"]
COLUMNS = ["image_id", "method", "metric"]


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A function that writes four samples of a shape into a file.

    It returns the settings of a run on the file, and the samples as a batch.
    """
    write_module(tmp_path, "nets", NETWORK, monkeypatch)

    def write_samples(shape):
        axes = len(shape) - 1
        images = np.random.default_rng(0).normal(2, 3, (4, *shape)).astype(np.float32)
        labels = torch.tensor([0, 1, 1, 0])
        box = [1.0] * axes + [6.0] * axes
        np.savez(tmp_path / "a.npz", images=images, labels=labels, boxes=np.tile(box, (4, 1)))
        ids = tuple(f"a.npz/{number:09d}" for number in range(4))
        annotations = tuple(ab.Annotation(label[None], torch.tensor([box])) for label in labels)
        batch = ab.Batch(torch.from_numpy(images), ids, labels, annotations)
        words = (
            "model=user",
            "model.architecture=nets:build",
            f"model.kwargs={{axes: {axes}, channels: {shape[0]}}}",
            "data=arrays",
            f"data.root={tmp_path}/a.npz",
            "data.workers=0",
            "data.size=null",
            f"metric={METRICS}",
            f"method={METHODS}",
        )
        return words, batch

    return write_samples


def test_a_network_of_four_bands_and_photographs_the_way_of_the_sentence_followed(
    run, tmp_path, monkeypatch
):
    write_module(tmp_path, "nets", NETWORK, monkeypatch)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "bands").mkdir()
    np.save(tmp_path / "bands/a.npy", np.random.default_rng(0).random((4, 32, 32), np.float32))
    words = (
        "model=user",
        "model.architecture=nets:build",
        "model.kwargs={axes: 2, channels: 4}",
        "data.workers=0",
        "model.resize=[32,32]",
        "model.mean=[0,0,0]",
        "model.std=[1,1,1]",
        "model.weights=as_built",
        "method=[grad_cam]",
        "metric=[sensitivity_error]",
        "data.size=null",
    )

    message = failure(run(*words, "data=folder", f"data.root={tmp_path}"))
    assert "takes images of 4 channels, and pictures have 3" in message

    advice = re.search(r"set (data=arrays .*=null)\.", message)[1]
    settings = advice.replace("FOLDER", str(tmp_path / "bands")).split()
    (outcome,) = run(*words, *settings)
    assert outcome.failure is None
    assert outcome.computed.images == 1

    with pytest.raises(ab.BenchError, match=r"data=arrays data\.root=FOLDER"):
        run(*words, "data=folder", f"data.root={tmp_path}", "model.mean=[0,0,0,0]")


@pytest.mark.parametrize(("shape", "mean"), [(SIGNAL, 0), (BANDS, 2), (VOLUME, 0)])
def test_the_values_are_those_of_python(run, rows, stored, results, shape, mean):
    """Check a run with data.cache and pictures; a second command computes nothing."""
    words, batch = stored(shape)
    words += ("pictures.rows=2", "pictures.gallery=2", f"data.cache={results}/cache")
    if mean:
        words += (f"model.mean=[{mean}]", "model.std=[3]")
        batch = replace(batch, images=(batch.images - mean) / 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = import_function("nets:build")(len(shape) - 1, shape[0]).eval()

    (outcome,) = run(*words)
    python_values = ab.evaluate(network, "3", [batch], METHODS, METRICS)

    python_values = python_values.astype(dict.fromkeys(COLUMNS, str))
    both = rows([outcome]).merge(python_values, on=COLUMNS, suffixes=("_run", "_python"))
    assert len(both) == len(python_values) == 4 * len(METHODS) * len(METRICS)
    assert both["status_run"].tolist() == both["status_python"].tolist()
    assert np.allclose(
        both["value_run"], both["value_python"], rtol=1e-4, atol=1e-6, equal_nan=True
    )
    if not mean:
        (outcome,) = run(*words)
        assert outcome.computed.shards == 0
    assert len(list((results / RUN / "gallery").iterdir())) == 1


@pytest.mark.slow
def test_a_method_in_a_process_of_its_own_has_the_same_values(run, rows, stored):
    words, _ = stored(SIGNAL)
    (outcome,) = run(*words, "+method.mine._target_=nets.mine")
    values = recomputed(outcome.settings, 0)
    both = rows([outcome]).merge(values, on=COLUMNS, suffixes=("_run", "_recomputed"))
    assert len(both) == len(values)
    assert {*METRICS} == {*values[values["method"] == "mine"]["metric"]}
    assert {*both[both["method"] == "mine"]["status_recomputed"]} == {"ok"}
    assert np.array_equal(both["value_run"], both["value_recomputed"], equal_nan=True)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("model.resize=8", "model.resize=8 is for pictures, and these samples are arrays"),
        (
            "model.mean=[1,2] model.std=[1,1]",
            "have 5 channels, and there are 2 means and 2 standard deviations",
        ),
        (
            "data.channels=last",
            r"can't run on a sample of the shape \(10, 5, 9\), .*; say by data.channels where",
        ),
    ],
)
def test_what_a_run_cannot_do_is_one_sentence(run, stored, overrides, sentence):
    words, _ = stored(BANDS)
    assert re.search(sentence, failure(run(*words, *overrides.split())))
