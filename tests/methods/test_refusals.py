"""Parameters out of range, unknown names, and scores that an output doesn't have: one sentence for each."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.output import Output
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import with_params
from axiom_bench.methods.augmented import augmented
from axiom_bench.methods.axiom_cam import axiom_cam
from axiom_bench.methods.fd_cam import fd_cam
from axiom_bench.methods.finer_cam import finer_cam
from axiom_bench.methods.fused import fused
from axiom_bench.methods.group_cam import group_cam
from axiom_bench.methods.gscore_cam import gscore_cam
from axiom_bench.methods.guided import guided
from axiom_bench.methods.is_cam import is_cam
from axiom_bench.methods.kpca_cam import kpca_cam
from axiom_bench.methods.negated import negated
from axiom_bench.methods.opti_cam import opti_cam
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.methods.saliency import saliency
from axiom_bench.methods.score_cam import score_cam, score_cam_top
from axiom_bench.methods.shuffled_channels import shuffled_channels
from axiom_bench.methods.smooth_grad import smooth_grad
from axiom_bench.methods.smooth_grad_cam_pp import smooth_grad_cam_pp
from axiom_bench.methods.smoothed import smoothed
from axiom_bench.methods.ss_cam import ss_cam
from axiom_bench.testing import CASES

TRACE = CASES["dense"].trace()
WRONG = [
    (partial(augmented, scales=[]), "Invalid scales="),
    (partial(augmented, scales=[0.5, 0]), "Invalid scales="),
    (partial(augmented, scales=[0.5]), r"doesn't take images of 4 x 6 pixels \(mat1"),
    (partial(axiom_cam, t=-0.1), r"Invalid t=-0.1 of axiom_cam; give 0"),
    (partial(axiom_cam, t=1.5), r"Invalid t=1.5 of axiom_cam; give 0"),
    (partial(axiom_cam, t=math.nan), r"Invalid t=nan of axiom_cam; give 0"),
    (partial(axiom_cam, split="positive_drop"), "no split of axiom_cam 'positive_drop'; did you mean 'positive_drops'"),
    (partial(fd_cam, quantile=1.5), "quantile=1.5"),
    (partial(finer_cam, references=0), "Invalid references=0"),
    (partial(finer_cam, weighting="probabilities"), "did you mean 'probability'"),
    (partial(fused, layers=[]), "needs a list of layers"),
    (partial(fused, layers="features.1"), "needs a list of layers"),
    (partial(fused, layers=["feature.1"]), "no layer 'feature.1'; did you mean 'features.1'"),
    (partial(fused, layers=["features.1"], fusion="max"), "no fusion 'max'"),
    (partial(group_cam, groups=0), "groups=0"),
    (partial(group_cam, kernel=4), "kernel=4"),
    (partial(group_cam, percentile=101), "101"),
    (partial(gscore_cam, top=0), "top=0"),
    (partial(gscore_cam, score="logits"), "did you mean 'logit'"),
    (partial(guided, wrapped="grad_cam"), r"give a callable, such as methods\.get\('grad_cam'\)"),
    (partial(is_cam, steps=0), "steps=0"),
    (partial(kpca_cam, kernel="sigmoide"), "did you mean 'sigmoid'"),
    (partial(negated, wrapped="xgrad_cam"), r"Invalid wrapped='xgrad_cam'; give a callable"),
    (partial(opti_cam, iterations=0), "iterations=0"),
    (partial(recipro_cam, score="softmax"), "score"),
    (partial(recipro_cam, vectors="center"), "did you mean 'centre'"),
    (partial(score_cam, score="logits"), "did you mean 'logit'"),
    (partial(score_cam_top, ranking="varianc"), "did you mean 'variance'"),
    (partial(score_cam_top, top=0), "top=0"),
    (partial(shuffled_channels, wrapped="xgrad_cam"), r"Invalid wrapped='xgrad_cam'; give a callable"),
    (partial(shuffled_channels, wrapped=saliency), r"without channel weights; wrap one such as xgrad_cam"),
    (partial(smooth_grad, samples=0), "samples=0"),
    (partial(smooth_grad, sigma=-1.0), "sigma=-1"),
    (partial(smooth_grad_cam_pp, samples=0), "Invalid samples=0"),
    (partial(smoothed, samples=0), "Invalid samples=0"),
    (partial(ss_cam, mask="row"), "did you mean 'raw'"),
    (partial(ss_cam, noise="maps"), "did you mean 'map'"),
    (partial(ss_cam, samples=0), "samples=0"),
]
OF_CONF = [
    ("centered", {"sigma": 0.0}, "sigma=0.0"),
    ("group_cam", {"sigma": 0.0}, "sigma=0.0"),
    ("integrated_gradients", {"steps": 0}, "steps=0"),
    ("opti_cam", {"learning_rate": -0.1}, "learning_rate=-0.1"),
    ("smooth_grad_cam_pp", {"sigma": -1.0}, "sigma=-1.0"),
    ("smoothed_xgrad_cam", {"sigma": -1.0}, "sigma=-1.0"),
    ("ss_cam", {"sigma": -1.0}, "sigma=-1.0"),
]


@pytest.mark.parametrize(
    ("method", "message"), [pytest.param(*each, id=f"{each[0].func.__name__} {each[1]}") for each in WRONG]
)
def test_invalid_parameters(method, message):
    with pytest.raises(BenchError, match=message) as caught:
        method(TRACE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "params", "message"), OF_CONF, ids=[name for name, *_ in OF_CONF])
def test_parameter_out_of_range_error_message(name, params, message):
    method = plugins.load("method", name)
    config = {**method.spec.as_dict(), "_target_": method.target, "params": {**method.params, **params}}
    with pytest.raises(BenchError, match=message):
        plugins.from_config("method", name, config)(TRACE)


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
