"""All methods of conf/method pass the common suite."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.testing import CASES, METHOD_CHECKS, accepted_cases, exemptions
from axiom_bench.testing.cases import Case
from tests.methods.fewer import OF_ANY_NETWORK, with_fewer

ROOT = Path(__file__).parents[2]


@cache
def accepted_by(name: str) -> dict[str, Case]:
    """The networks that the method takes: tried once for all checks."""
    return accepted_cases(with_fewer(name))


def quick_cases(name: str, check: Callable[[Plugin, Case], None]) -> list[Case]:
    """The hardest network, with signed maps before an in-place ReLU; what depends on the head also on the first one,
    since the second has the last one's head. Of a check that must fail, all: it may fail on any."""
    cases = list(accepted_by(name).values())
    if check.__name__ in exemptions(with_fewer(name)):
        return cases
    return cases[-1:] if check in OF_ANY_NETWORK or len(cases) == 1 else [cases[0], cases[-1]]


def run_check(name: str, check: Callable[[Plugin, Case], None], cases: list[Case], request) -> None:
    """The check on these networks; a check that the method's YAML exempts must fail on one of them."""
    method = with_fewer(name)
    if check.__name__ in exemptions(method):
        reason = exemptions(method)[check.__name__]
        request.applymarker(pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason))
    for case in cases:
        check(method, case)


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", methods.names())
def test_method(name, check, request):
    run_check(name, check, quick_cases(name, check), request)


@pytest.mark.slow
@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", methods.names())
def test_method_on_the_other_networks(name, check, request):
    quick = quick_cases(name, check)
    others = [case for case in accepted_by(name).values() if case not in quick]
    if others:
        run_check(name, check, others, request)


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
