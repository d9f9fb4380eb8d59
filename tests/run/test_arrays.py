"""A run on arrays from files, of a user's own network: the same values as in Python, resumed, with
pictures.
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

from .conftest import failure, module_of

NETWORK = """
from torch import nn

def build(axes, channels):
    convolution, pool = getattr(nn, f"Conv{axes}d"), getattr(nn, f"AdaptiveAvgPool{axes}d")
    return nn.Sequential(convolution(channels, 4, 3), nn.ReLU(), convolution(4, 6, 3), nn.ReLU(), pool(2), nn.Flatten(),
                         nn.Linear(6 * 2**axes, 5), nn.ReLU(), nn.Linear(5, 2))

def mine(trace):
    return trace.gradients

mine.dimensions = [1]
"""
SIGNAL, BANDS, VOLUME = (1, 24), (5, 9, 10), (2, 7, 8, 9)
METHODS = ["grad_cam", "xgrad_cam", "hires_cam"]
METRICS = ["sensitivity_error", "conservation_error", "confidence_drop", "box_iou"]
COLUMNS = ["image_id", "method", "metric"]


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The settings of a run on four samples of a shape in a file, and these as a batch."""
    module_of(tmp_path, "nets", NETWORK, monkeypatch)

    def write(shape):
        axes, labels = len(shape) - 1, torch.tensor([0, 1, 1, 0])
        images, box = (
            np.random.default_rng(0).normal(2, 3, (4, *shape)).astype(np.float32),
            [1.0] * axes + [6.0] * axes,
        )
        np.savez(tmp_path / "a.npz", images=images, labels=labels, boxes=np.tile(box, (4, 1)))
        notes = tuple(ab.Annotation(label[None], torch.tensor([box])) for label in labels)
        batch = ab.Batch(
            torch.from_numpy(images), tuple(f"a.npz/{n:09d}" for n in range(4)), labels, notes
        )
        network = (
            "model=user",
            "model.architecture=nets:build",
            f"model.kwargs={{axes: {axes}, channels: {shape[0]}}}",
        )
        data = ("data=arrays", f"data.root={tmp_path}/a.npz", "data.workers=0", "data.size=null")
        return (*network, *data, f"metric={METRICS}", f"method={METHODS}"), batch

    return write


def test_a_network_of_four_bands_and_photographs_the_way_of_the_sentence_followed(
    run, tmp_path, monkeypatch
):
    module_of(tmp_path, "nets", NETWORK, monkeypatch)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "bands").mkdir()
    np.save(tmp_path / "bands/a.npy", np.random.default_rng(0).random((4, 32, 32), np.float32))
    words = (
        "model=user",
        "model.architecture=nets:build",
        "model.kwargs={axes: 2, channels: 4}",
        "data.workers=0",
    )
    words += (
        "model.resize=[32,32]",
        "model.mean=[0,0,0]",
        "model.std=[1,1,1]",
        "model.weights=as_built",
    )
    words += ("method=[grad_cam]", "metric=[sensitivity_error]", "data.size=null")
    sentence = failure(run(*words, "data=folder", f"data.root={tmp_path}"))
    assert "takes images of 4 channels, and pictures have 3" in sentence
    way = re.search(r"set (data=arrays .*=null)\.", sentence)[1].replace(
        "FOLDER", str(tmp_path / "bands")
    )
    (outcome,) = run(*words, *way.split())
    assert (outcome.failure, outcome.computed.images) == (None, 1)
    with pytest.raises(ab.BenchError, match=r"data=arrays data\.root=FOLDER"):
        run(*words, "data=folder", f"data.root={tmp_path}", "model.mean=[0,0,0,0]")


@pytest.mark.parametrize(("shape", "mean"), [(SIGNAL, 0), (BANDS, 2), (VOLUME, 0)])
def test_the_values_are_those_of_python(run, rows, stored, results, shape, mean):
    """Also by way of data.cache; the second command computes nothing, and the samples are drawn."""
    words, batch = stored(shape)
    words += ("pictures.rows=2", "pictures.gallery=2", f"data.cache={results}/cache")
    (outcome,) = run(*words, *([f"model.mean=[{mean}]", "model.std=[3]"] if mean else []))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = import_function("nets:build")(len(shape) - 1, shape[0]).eval()
    batch = replace(batch, images=(batch.images - mean) / 3) if mean else batch
    python = ab.evaluate(network, "3", [batch], METHODS, METRICS).astype(
        dict.fromkeys(COLUMNS, str)
    )
    both = rows([outcome]).merge(python, on=COLUMNS)
    assert len(both) == len(python) == 4 * len(METHODS) * len(METRICS)
    assert both["status_x"].tolist() == both["status_y"].tolist()
    assert np.allclose(both["value_x"], both["value_y"], rtol=1e-4, atol=1e-6, equal_nan=True)
    if not mean:
        assert run(*words)[0].computed.shards == 0
    assert len(list((results / "quick/default/gallery").iterdir())) == 1


@pytest.mark.slow
def test_a_method_in_a_process_of_its_own_has_the_same_values(run, rows, stored):
    (outcome,) = run(*stored(SIGNAL)[0], "+method.mine._target_=nets.mine")
    again = recomputed(outcome.settings, 0)
    both = rows([outcome]).merge(again, on=COLUMNS)
    assert len(both) == len(again)
    assert {*METRICS} == {*again[again["method"] == "mine"]["metric"]}
    assert {*both[both["method"] == "mine"]["status_y"]} == {"ok"}
    assert np.array_equal(both["value_x"], both["value_y"], equal_nan=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
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
def test_what_a_run_cannot_do_is_one_sentence(run, stored, words, sentence):
    assert re.search(sentence, failure(run(*stored(BANDS)[0], *words.split())))
