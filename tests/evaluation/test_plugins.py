"""The folder is the registry, and a wrong entry is one sentence."""

from __future__ import annotations

import pytest

from axiom_bench import methods, metrics
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation import plugins


@pytest.mark.parametrize("kind", ["method", "metric"])
def test_every_file_is_an_entry_of_its_own_name(kind):
    assert plugins.names(kind)
    for name in plugins.names(kind):
        entry = plugins.load(kind, name)
        assert entry.name == name
        assert entry.description


def test_an_unknown_name_has_neighbours():
    with pytest.raises(BenchError, match=r"There is no method 'xgradcam'; did you mean 'xgrad_cam'"):
        methods.get("xgradcam")
    with pytest.raises(BenchError, match=r"There is no metric 'box_iuo'; did you mean 'box_iou'"):
        metrics.get("box_iuo")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "has no _target_; set method.mine._target_=module.function"),
        ({"_target_": "no_such_module.cam"}, "can't be imported"),
        ({"_target_": "axiom_bench.methods.xgrad_cam.no_such_function"}, "can't be imported"),
        ({"_target_": "cam"}, "can't be imported"),
        ({"_target_": "math.pi"}, "isn't callable"),
        ({"_target_": "axiom_bench.methods.xgrad_cam.xgrad_cam", "params": {"epsilon": 1}}, "can't take its params"),
    ],
)
def test_a_wrong_entry_is_one_sentence(config, sentence):
    with pytest.raises(BenchError, match=sentence):
        plugins.from_config("method", "mine", config)


def test_the_fingerprint_follows_whatever_can_change_a_value():
    target = "axiom_bench.methods.random.random"
    one = plugins.from_config("method", "random", {"_target_": target, "params": {"seed": 0}})
    same = plugins.from_config("method", "random", {"_target_": target, "params": {"seed": 0}})
    other = plugins.from_config("method", "random", {"_target_": target, "params": {"seed": 1}})
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_callable_is_its_own_entry():
    def mine(trace):
        """My map."""

    entry = plugins.of("method", mine)
    assert (entry.name, entry.description) == ("mine", "My map.")
    assert plugins.of("method", entry) is entry


def test_a_name_that_is_no_text_is_unknown_too():
    assert str(unknown("metric", None, ["zeta"])) == "There is no metric None; there are: zeta."


def test_a_need_may_depend_on_the_parameters():
    def needs(output: str, *said: object) -> list[str]:
        return plugins.needs_of(plugins.Plugin("mine", "m.mine", print, {"output": output}, {"needs": list(said)}))

    said = ("boxes", {"other_logits": "output != 'logit'", "masks": True}, "nonzero_map")
    assert needs("accuracy", *said) == ["boxes", "other_logits", "masks", "nonzero_map"]
    assert needs("logit", *said) == ["boxes", "masks", "nonzero_map"]
    assert plugins.needs_of(plugins.Plugin("bare", "m.bare", print)) == []
    with pytest.raises(BenchError, match=r"metric\.mine\.needs is \"outptu == 'logit'\""):
        needs("logit", {"other_logits": "outptu == 'logit'"})
