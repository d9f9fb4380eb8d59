"""The folder that is the registry; a wrong entry is one sentence."""

from __future__ import annotations

import json

import pytest

from axiom_bench import methods, metrics
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.xgrad_cam import xgrad_cam


@pytest.mark.parametrize("kind", ["method", "metric"])
def test_every_file_is_an_entry_of_its_own_name_and_its_metadata_are_plain_data(kind):
    assert plugins.names(kind)
    for name in plugins.names(kind):
        entry = plugins.load(kind, name)
        assert entry.name == name
        assert entry.description
        config = {"_target_": entry.target, "params": entry.params, **entry.spec.as_dict()}
        assert plugins.from_config(kind, name, config).spec == entry.spec
        assert json.loads(json.dumps(entry.as_dict())) == entry.as_dict()


def test_an_unknown_name_has_neighbours():
    message = r"There is no method 'xgrad_can'; did you mean 'xgrad_cam'"
    with pytest.raises(BenchError, match=message):
        methods.get("xgrad_can")
    with pytest.raises(BenchError, match=r"There is no metric 'box_iuo'; did you mean 'box_iou'"):
        metrics.get("box_iuo")
    with pytest.raises(BenchError, match=r"There is no method 'aaa"):  # too long for a file name
        plugins.load("method", "a" * 100_000)
    assert (
        str(unknown_name("metric", None, ["zeta"])) == "There is no metric None; there are: zeta."
    )


CONFIDENCE = {"_target_": "axiom_bench.metrics.confidence_drop.confidence_drop"}
BY_CAM = {"_target_": "axiom_bench.methods.cam.cam"}


WRONG_METRIC_SETTINGS = [
    (
        {"needs": ["boxse"]},
        r"no precondition \(metric\.mine\.needs\) 'boxse'; did you mean 'boxes'",
    ),
    (
        {"needs": [{"boxes": {"outptu": ["logit"]}}]},
        r"no parameter .* 'outptu'; did you mean 'output'",
    ),
    (
        {"needs": [{"boxes": "output == 'logit'"}]},
        r"metric\.mine\.needs: boxes must be a mapping of parameters",
    ),
    (
        {"values": {"a": {"titel": "A"}}},
        r"no setting 'titel' of metric\.mine\.values\.a; did you mean 'title'",
    ),
    ({"on_score_scale": True}, r"no setting 'on_score_scale' of metric\.mine"),
]
WRONG_METHOD_SETTINGS = [
    (
        {"on_scor_scale": True},
        r"no setting 'on_scor_scale' of method\.mine; did you mean 'on_score_scale'",
    ),
    ({"needs": []}, r"no setting 'needs' of method\.mine"),
    ({"control": 1}, r"method\.mine\.control must be true or false or null, not 1"),
    ({"spoiling": "noise"}, r"method\.mine needs both spoiling, the kind, and degree"),
    ({"degree": 0.5}, r"method\.mine needs both spoiling, the kind, and degree"),
    ({"unspoiled": "truth"}, r"method\.mine\.unspoiled is set, so spoiling and degree are needed"),
]


@pytest.mark.parametrize(
    ("kind", "config", "sentence"),
    [
        (
            "method",
            {"_target_": "axiom_bench.methods.xgrad_cam.no_such_function"},
            "can't be imported",
        ),
        ("method", {"_target_": "math.pi"}, "isn't callable"),
        *(
            ("metric", CONFIDENCE | settings, sentence)
            for settings, sentence in WRONG_METRIC_SETTINGS
        ),
        *(("method", BY_CAM | settings, sentence) for settings, sentence in WRONG_METHOD_SETTINGS),
    ],
)
def test_a_wrong_entry_is_one_sentence(kind, config, sentence):
    with pytest.raises(BenchError, match=sentence):
        plugins.from_config(kind, "mine", config)


def test_a_callable_is_its_own_entry():
    def mine(trace):
        """My map."""

    entry = plugins.plugin_for("method", mine)
    assert entry.name == "mine"
    assert entry.description == "My map."
    assert plugins.plugin_for("method", entry) is entry


def test_a_need_may_depend_on_the_parameters():
    entries = [
        "boxes",
        {"other_logits": {"output": ["probability", "accuracy"]}, "masks": {}},
        "nonzero_map",
    ]

    def needs(**params: object) -> list[str]:
        config = {**CONFIDENCE, "params": params, "needs": entries}
        return plugins.precondition_names(plugins.from_config("metric", "mine", config))

    assert needs(output="accuracy") == needs() == ["boxes", "other_logits", "masks", "nonzero_map"]
    assert needs(output="logit") == ["boxes", "masks", "nonzero_map"]
    assert plugins.precondition_names(plugins.plugin_for("metric", print)) == []


def test_a_spoiled_explainer_says_how_far():
    spoiling = {"spoiling": "noise", "degree": 0.0, "unspoiled": "truth", "control": False}
    config = {**BY_CAM, **spoiling}
    spec = plugins.from_config("method", "mine", config).spec
    assert spec.as_dict() == {**spoiling, "needs_drops": False}
    message = r"method\.mine\.degree must be 0, for not spoiled, or more, not -1"
    with pytest.raises(BenchError, match=message):
        plugins.from_config("method", "mine", {**config, "degree": -1})


def test_the_controls_are_marked():
    marked = {name for name in plugins.names("method") if plugins.load("method", name).spec.control}
    assert marked >= {"random", "uniform", "centered", "sobel", "equal_shares"}
    assert not marked & {"grad_cam", "xgrad_cam", "saliency"}


def wrapping(trace: Trace, wrapped: Method = xgrad_cam, strength: float = 1.0) -> Map:
    """Return the map of a wrapper whose parameter takes only a callable."""
    return Map(strength * (wrapped(trace) * trace.activations).sum(1))


def test_a_wrapped_method_is_resolved_as_the_entry_is_read():
    def entry(**params: str) -> plugins.Plugin:
        config = {"_target_": f"{__name__}.wrapping", "params": params}
        return plugins.from_config("method", "mine", config)

    assert entry().inner.target == "axiom_bench.methods.xgrad_cam.xgrad_cam"
    by_name = entry(wrapped="grad_cam")
    assert by_name.inner is by_name.call.keywords["wrapped"] is methods.get("grad_cam")
    assert by_name.params == {"wrapped": "grad_cam"}  # plain data, for manifests and keys
    assert methods.get("guided_grad_cam").inner is methods.get("grad_cam")
    assert methods.get("grad_cam").inner is None
    with pytest.raises(BenchError, match="no method 'grad_cams'; did you mean 'grad_cam'"):
        entry(wrapped="grad_cams")
    outer = entry(wrapped="smoothed_xgrad_cam")  # a wrapper itself
    assert outer.inner is methods.get("smoothed_xgrad_cam")
    assert outer.inner.inner is methods.get("xgrad_cam")


def of_two(trace, explanation):
    """Take the trace and the explanation, as if both were passed."""


def of_none():
    """Take nothing."""


@pytest.mark.parametrize(
    ("kind", "function", "definition"),
    [
        ("metric", of_two, r"of_two\(trace, explanation\)"),
        ("metric", of_none, r"of_none\(\)"),
        ("method", of_two, r"of_two\(trace, explanation\)"),
        ("method", of_none, r"of_none\(\)"),
        ("method", lambda trace, *, power: trace, "power"),
    ],
)
def test_a_function_of_other_arguments_is_answered_with_the_one_that_it_gets(
    kind, function, definition
):
    arguments = {
        "metric": r"the explanation, which has .*\.trace",
        "method": "the trace, which has",
    }
    argument = arguments[kind]
    if definition == "power":
        sentence = f"one argument, {argument}"
    else:
        sentence = f"{definition}, and a {kind} takes one argument, {argument}.*a default value"

    with pytest.raises(BenchError, match=sentence):
        plugins.plugin_for(kind, function)
    if function.__name__ != "<lambda>":
        with pytest.raises(BenchError, match=sentence) as caught:
            plugins.from_config(kind, "mine", {"_target_": f"{__name__}.{function.__name__}"})
        assert "params" not in str(caught.value)
