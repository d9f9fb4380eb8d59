"""Methods whose score is a probability, on outputs that have none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.output import Output
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import with_params

NAMES = ["group_cam", "gscore_cam", "is_cam", "recipro_cam", "score_cam", "score_cam_top", "ss_cam"]
BY_DEFAULT = ["group_cam", "recipro_cam"]
WITHOUT = {
    "regression": ab.outputs.regression(),
    "multi_label": ab.outputs.multi_label(),
    "similarity": ab.outputs.similarity(torch.eye(3)[:2]),
}


def trace(output: str | Output = "logits", columns: int = 3) -> ab.Trace:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, columns)]
    return ab.trace(nn.Sequential(*body).eval(), "1", torch.rand(2, 3, 8, 8), [0, 0], output=output)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output", WITHOUT)
def test_probability_is_refused_where_there_is_none(name, output):
    with pytest.raises(BenchError, match=rf"score=probability.*{output}.*set score=logit"):
        with_params("method", name, {"score": "probability"})(trace(WITHOUT[output]))
    with_params("method", name, {"score": "logit"})(trace(WITHOUT[output]))


@pytest.mark.parametrize("name", NAMES)
def test_the_softmax_of_one_logit_is_no_probability(name):
    with pytest.raises(BenchError, match=r"score=probability.*one logit.*set score=logit"):
        with_params("method", name, {"score": "probability"})(trace(columns=1))


@pytest.mark.parametrize("name", BY_DEFAULT)
def test_a_default_of_probability_is_refused_too(name):
    with pytest.raises(BenchError, match="set score=logit"):
        ab.methods.get(name)(trace(WITHOUT["regression"]))


@pytest.mark.parametrize("output", ["logits", "probability", "margin"])
def test_classifiers_have_one(output):
    with_params("method", "score_cam", {"score": "probability"})(trace(output))


def test_captions_of_a_clip_have_one():
    """With the network's own scale, a softmax over the scores is its probability of each caption."""
    clip = ab.outputs.similarity(torch.eye(3)[:2], scale=100.0)
    with_params("method", "score_cam", {"score": "probability"})(trace(clip))
