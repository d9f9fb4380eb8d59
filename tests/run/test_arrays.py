"""A run on arrays from files, of a user's own network: the same values as in Python, resumed, with pictures."""

import re

import numpy as np
import pytest
import torch

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
"""
SHAPES = [(1, 24), (5, 9, 10), (2, 7, 8, 9)]
METHODS = ["grad_cam", "xgrad_cam", "hires_cam"]
METRICS = ["sensitivity_error", "conservation_error", "confidence_drop", "box_iou"]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Of a run on five samples of a shape in a file, and these."""
    module_of(tmp_path, "nets", NETWORK, monkeypatch)

    def settings_of(shape):
        axes = len(shape) - 1
        images = np.random.default_rng(0).normal(2, 3, (5, *shape)).astype(np.float32)
        boxes = np.tile([*(1.0 for _ in range(axes)), *(6.0 for _ in range(axes))], (5, 1))
        np.savez(tmp_path / "a.npz", images=images, labels=np.arange(5) % 2, boxes=boxes)
        own = ("model=user", "model.architecture=nets:build", f"+model.kwargs.axes={axes}")
        data = ("data=arrays", f"data.root={tmp_path}/a.npz", "data.workers=0", "data.size=null")
        return (
            (*own, f"+model.kwargs.channels={shape[0]}", *data, f"metric={METRICS}", f"method={METHODS}"),
            images,
            boxes,
        )

    return settings_of


@pytest.mark.parametrize(("shape", "mean"), [(SHAPES[0], None), (SHAPES[1], 2.0), (SHAPES[2], None)], ids=str)
def test_the_values_are_those_of_python(run, rows, settings, results, shape, mean):
    """Also from the cache; the second command computes nothing, and a map is drawn of each sample."""
    words, images, boxes = settings(shape)
    words += ("pictures.rows=2", "pictures.gallery=2", f"data.cache={results}/cache")
    words += () if mean is None else (f"model.mean=[{mean}]", "model.std=[3]")
    (outcome,) = run(*words)
    table = rows([outcome])
    assert len(outcome.missing) == 3
    assert run(*words)[0].missing == ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = import_function("nets:build")(len(shape) - 1, shape[0]).eval()
    labels, given = torch.arange(5) % 2, torch.from_numpy(images if mean is None else (images - mean) / 3)
    notes = [ab.Annotation(label[None], torch.from_numpy(box[None]).float())
             for label, box in zip(labels, boxes, strict=True)]  # fmt: skip
    batch = ab.Batch(given, tuple(f"a.npz/{number:09d}" for number in range(5)), labels, tuple(notes))
    columns = ["image_id", "method", "metric"]
    python = ab.evaluate(network, "3", [batch], METHODS, METRICS).sort_values(columns, ignore_index=True)
    stored = table.sort_values(columns, ignore_index=True)
    assert stored[columns].equals(python[columns].astype(str))
    assert stored["status"].tolist() == python["status"].tolist()
    assert set(stored["status"]) >= {"ok"}
    assert np.allclose(stored["value"], python["value"], rtol=1e-4, atol=1e-6, equal_nan=True)
    assert len(list((results / "quick/default/gallery").iterdir())) == 1


@pytest.mark.slow
def test_a_method_in_a_process_of_its_own_has_the_same_values(run, rows, settings):
    words, *_ = settings(SHAPES[0])
    (outcome,) = run(*words, "+method.mine._target_=nets.mine", "+method.mine.dimensions=[1]")
    table, again = rows([outcome]), recomputed(outcome.config, 0)
    assert set(again[again["method"] == "mine"]["metric"]) == {*METRICS}
    columns = ["image_id", "method", "metric"]
    both = table.merge(again, on=columns)
    assert len(both) == len(again)
    assert np.array_equal(both["value_x"], both["value_y"], equal_nan=True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("model.resize=8", "model.resize=8 is for pictures, and these samples are arrays"),
        ("model.mean=[1,2] model.std=[1,1]", "have 5 channels, and there are 2 means and 2 standard deviations"),
        ("data.channels=last", r"can't run on a sample of the shape \(10, 5, 9\), .*; say by data.channels where"),
    ],
)
def test_what_a_run_cannot_do_is_one_sentence(run, settings, words, sentence):
    assert re.search(sentence, failure(run(*settings(SHAPES[1])[0], *words.split())))
