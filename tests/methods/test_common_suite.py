"""All methods of conf/method pass the common suite."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.testing import CASES, METHOD_CHECKS, accepted_cases, exemptions
from axiom_bench.testing.cases import Case

ROOT = Path(__file__).parents[2]
# Parameters that decide how often a method runs the network, not what it does.
FEWER = {
    "integrated_gradients": {"steps": 5},
    "opti_cam": {"iterations": 10},
    "smooth_grad": {"samples": 4},
    "smooth_grad_cam_pp": {"samples": 4},
    "smoothed_xgrad_cam": {"samples": 4},
}


def with_fewer(name: str) -> Plugin:
    return plugins.with_params("method", name, FEWER.get(name, {}))


@cache
def accepted_by(name: str) -> dict[str, Case]:
    """The networks that the method takes: tried once for all checks."""
    return accepted_cases(with_fewer(name))


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", methods.names())
def test_method(name, check, request):
    method = with_fewer(name)
    if check.__name__ in exemptions(method):
        reason = exemptions(method)[check.__name__]
        request.applymarker(pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason))
    for case in accepted_by(name).values():
        check(method, case)


@pytest.mark.parametrize("name", methods.names())
def test_method_accepts_at_least_one_network(name):
    """So that the checks above have run on it."""
    assert accepted_by(name)


def test_cam_accepts_only_the_pooled_network():
    assert set(accepted_cases(methods.get("cam"))) == {"pooled"}


@pytest.mark.parametrize("name", methods.names())
def test_yaml_metadata_is_complete(name):
    method = methods.get(name)
    assert method.target.startswith("axiom_bench.methods.")
    assert method.description
    assert method.spec.title
    assert isinstance(method.spec.on_score_scale, bool)
    reference = method.spec.reference
    assert reference is None or f"{{{reference},\n" in (ROOT / "conf" / "references.bib").read_text()


def test_unknown_method():
    with pytest.raises(BenchError, match="did you mean 'xgrad_cam'"):
        methods.get("xgradcam")


def test_assumptions_about_the_tiny_networks():
    """Without dead channels or zero scores, with both signs where the layer is signed, and with hidden units off."""
    for name, case in CASES.items():
        trace = case.trace()
        assert (trace.activations.sum((2, 3)) != 0).all()
        assert (trace.scores != 0).all()
        assert (trace.activations.min() < 0) == (name == "signed")
        assert trace.gradients.abs().amax((2, 3)).min() > 0
        assert torch.equal(trace.activations, case.trace().activations)
