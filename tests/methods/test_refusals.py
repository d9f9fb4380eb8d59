"""Tests of one-sentence errors for parameters out of range, unknown names, and scores that an
output doesn't have.
"""

import math
import re

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench.cutting.output import Output
from axiom_bench.errors import BenchError, InvalidParameter
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import method_answer
from axiom_bench.evaluation.plugins import with_params
from axiom_bench.methods.axiom_cam import axiom_cam
from axiom_bench.methods.fused import fused
from axiom_bench.methods.guided import guided
from axiom_bench.methods.negated import negated
from axiom_bench.methods.shuffled_channels import shuffled_channels
from axiom_bench.notes import Notes
from axiom_bench.testing import CASES

TRACE = CASES["dense"].trace()


# A method is given by its module. If no function is given, it has the module's name.
WRONG = [
    ("augmented", {"scales": []}, "Invalid scales="),
    ("augmented", {"scales": [0.5, 0]}, "Invalid scales="),
    ("axiom_cam", {"t": -0.1}, r"Invalid t=-0.1 of axiom_cam; give 0"),
    ("axiom_cam", {"t": 1.5}, r"Invalid t=1.5 of axiom_cam; give 0"),
    (
        "axiom_cam",
        {"split": "positive_drop"},
        "no split of axiom_cam 'positive_drop'; did you mean 'positive_drops'",
    ),
    ("centered", {"sigma": 0.0}, "sigma=0.0"),
    ("fd_cam", {"quantile": 1.5}, "quantile=1.5"),
    ("finer_cam", {"references": 0}, "Invalid references=0"),
    ("finer_cam", {"weighting": "probabilities"}, "did you mean 'probability'"),
    ("fused", {"layers": []}, "needs a list of layers"),
    ("fused", {"layers": ["features.1"], "fusion": "max"}, "no fusion 'max'"),
    ("group_cam", {"groups": 0}, "groups=0"),
    ("group_cam", {"kernel": 4}, "kernel=4"),
    ("group_cam", {"percentile": 101}, "101"),
    ("group_cam", {"sigma": 0.0}, "sigma=0.0"),
    ("attn_lrp", {"attention": "value"}, "did you mean 'values'"),
    ("gscore_cam", {"score": "logits"}, "did you mean 'logit'"),
    ("gscore_cam", {"top": 0}, "top=0"),
    ("integrated_gradients", {"steps": 0}, "steps=0"),
    ("is_cam", {"steps": 0}, "steps=0"),
    ("kpca_cam", {"kernel": "sigmoide"}, "did you mean 'sigmoid'"),
    ("legrad", {"blocks": 0}, "Invalid blocks=0"),
    ("legrad", {"readout": "means"}, "did you mean 'mean'"),
    ("occlusion", {"window": 0}, "Invalid window=0; give a share"),
    ("occlusion", {"window": 2.5}, "Invalid window=2.5; give a share"),
    ("occlusion", {"window": 13}, "Invalid window=13; the image's longest side has 12 pixels"),
    ("occlusion", {"stride": -1}, "Invalid stride=-1; give a share"),
    ("occlusion", {"window": 2, "stride": 3}, "Invalid stride=3: .* at most window=2"),
    ("occlusion", {"fill": "means"}, "no fill 'means'; did you mean 'mean'"),
    ("occlusion", {"score": "logits"}, "did you mean 'logit'"),
    ("opti_cam", {"iterations": 0}, "iterations=0"),
    ("opti_cam", {"learning_rate": -0.1}, "learning_rate=-0.1"),
    ("raw_attention", {"heads": "men"}, "did you mean 'mean'"),
    ("raw_attention", {"query": "clas"}, "did you mean 'class'"),
    ("recipro_cam", {"score": "softmax"}, "score"),
    ("recipro_cam", {"vectors": "center"}, "did you mean 'centre'"),
    ("rollout", {"heads": "maximum"}, "no fusion of heads of rollout 'maximum'"),
    ("score_cam", {"score": "logits"}, "did you mean 'logit'"),
    ("score_cam.score_cam_top", {"ranking": "varianc"}, "did you mean 'variance'"),
    ("score_cam.score_cam_top", {"top": 0}, "top=0"),
    ("rise", {"masks": 0}, "masks=0 and grid=7; give both"),
    ("rise", {"grid": 0}, "masks=4000 and grid=0; give both"),
    ("rise", {"kept": 0.0}, "kept=0.0; give the probability"),
    ("rise", {"score": "softmax"}, "score"),
    (
        "shuffled_channels",
        {"wrapped": "saliency"},
        r"without channel weights; wrap one such as xgrad_cam",
    ),
    ("smooth_grad", {"samples": 0}, "samples=0"),
    ("smooth_grad", {"sigma": -1.0}, "sigma=-1"),
    ("smooth_grad_cam_pp", {"samples": 0}, "Invalid samples=0"),
    ("smooth_grad_cam_pp", {"sigma": -1.0}, "sigma=-1.0"),
    ("smoothed", {"samples": 0}, "Invalid samples=0"),
    ("smoothed", {"sigma": -1.0}, "sigma=-1.0"),
    ("ss_cam", {"mask": "row"}, "did you mean 'raw'"),
    ("ss_cam", {"noise": "maps"}, "did you mean 'map'"),
    ("ss_cam", {"samples": 0}, "samples=0"),
    ("ss_cam", {"sigma": -1.0}, "sigma=-1.0"),
    ("transformer_attribution", {"form": "gneric"}, "did you mean 'generic'"),
]


# Refused by a network that doesn't have it; another network may have it.
WRONG_HERE = [
    ("augmented", {"scales": [0.5]}, r"doesn't take images of 4 x 6 pixels \(mat1"),
    ("fused", {"layers": ["feature.1"]}, "no layer 'feature.1'; did you mean 'features.1'"),
]
# Refused before a network is loaded.
WRONG_SETTINGS = [
    (
        "fused",
        {},
        r"fused\(trace, layers, wrapped, fusion\), and a method takes.* "
        r"set \+method\.mine\.params\.layers=",
    ),
    ("guided", {"wrapped": "grad_cams"}, "did you mean 'grad_cam'"),
]


def configured(name, params):
    """Return the method of a module, with these parameters, as a YAML file would."""
    module, _, function = name.partition(".")
    config = {"_target_": f"axiom_bench.methods.{module}.{function or module}", "params": params}
    return plugins.from_config("method", "mine", config)


@pytest.mark.parametrize(("name", "params", "message"), WRONG, ids=str)
def test_invalid_parameters(name, params, message):
    """A run stops at such a value. It doesn't leave the method out, as if it didn't apply."""
    method = configured(name, params)
    with pytest.raises(InvalidParameter, match=message) as caught:
        method_answer(method, TRACE)
    assert str(caught.value).startswith("The method 'mine' can't run: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "params", "message"), WRONG_HERE, ids=str)
def test_what_this_network_lacks_leaves_the_method_out(name, params, message):
    notes = Notes()
    assert method_answer(configured(name, params), TRACE, notes) is None
    (note,) = notes
    assert re.search(message, str(note))


@pytest.mark.parametrize(("name", "params", "message"), WRONG_SETTINGS, ids=str)
def test_wrong_settings(name, params, message):
    with pytest.raises(BenchError, match=message):
        configured(name, params)


A_CALLABLE = r"Invalid wrapped='grad_cam'; give a callable, such as methods\.get\('grad_cam'\)"


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        (guided, {"wrapped": "grad_cam"}, A_CALLABLE),
        (negated, {"wrapped": "grad_cam"}, A_CALLABLE),
        (shuffled_channels, {"wrapped": "grad_cam"}, A_CALLABLE),
        (axiom_cam, {"t": math.nan}, r"Invalid t=nan of axiom_cam; give 0"),
        (fused, {"layers": "features.1"}, "needs a list of layers"),
    ],
)
def test_invalid_arguments_in_python(method, params, message):
    with pytest.raises(BenchError, match=message):
        method(TRACE, **params)


def trace(output: str | Output = "logits", columns: int = 3) -> ab.Trace:
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 4, 3), nn.ReLU()]
    classifier = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, columns)]
    model = nn.Sequential(*features, *classifier)
    return ab.trace(model.eval(), "1", torch.rand(2, 3, 8, 8), [0, 0], output=output)


NAMES = ["group_cam", "gscore_cam", "is_cam", "recipro_cam", "score_cam", "score_cam_top", "ss_cam"]
PROBABILITY_BY_DEFAULT = ["group_cam", "recipro_cam"]
TRACES_WITHOUT_PROBABILITY = {
    "regression": trace(ab.outputs.regression()),
    "multi_label": trace(ab.outputs.multi_label()),
    "similarity": trace(ab.outputs.similarity(torch.eye(3)[:2])),
    "one logit": trace(columns=1),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output", TRACES_WITHOUT_PROBABILITY)
def test_probability_is_refused_where_there_is_none(name, output):
    probability_params = [{"score": "probability"}]
    if name in PROBABILITY_BY_DEFAULT:
        probability_params.append({})
    for params in probability_params:
        with pytest.raises(BenchError, match=rf"score=probability.*{output}.*set score=logit"):
            with_params("method", name, params)(TRACES_WITHOUT_PROBABILITY[output])
    with_params("method", name, {"score": "logit"})(TRACES_WITHOUT_PROBABILITY[output])


CLIP = ab.outputs.similarity(torch.eye(3)[:2], scale=100.0)


@pytest.mark.parametrize("output", ["logits", "probability", "margin", CLIP])
def test_classifiers_have_one(output):
    """Check CLIP too. With its scale, the softmax of its scores is the probability per caption."""
    with_params("method", "score_cam", {"score": "probability"})(trace(output))
