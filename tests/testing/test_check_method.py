"""The checks of methods: each fails for a broken method and passes for a correct one."""

from __future__ import annotations

import itertools

import pytest
import torch

from axiom_bench import methods
from axiom_bench.cutting.numerics import XY
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.testing import CASES, METHOD_CHECKS, check_method, exemptions, method_checks


def user_cam(trace):
    """LayerCAM, from outside of the project."""
    return trace.gradients.relu()


def nan_weights(trace):
    return torch.full_like(trace.gradients, float("nan"))


def without_spatial_axes(trace):
    return trace.gradients.mean(XY)


def map_without_batch(trace):
    return Map(trace.gradients[0].sum(0))


def always_float32(trace):
    return trace.gradients.float()


def with_a_graph(trace):
    return (trace.gradients.clone().requires_grad_()) * 2


def on_the_default_device(trace):
    return trace.gradients * torch.ones(trace.gradients.shape[1], 1, 1)


def answered_on_the_cpu(trace):
    return trace.gradients.cpu()


def overwrites_gradients(trace):
    return trace.gradients.relu_()


def overwrites_and_restores(trace):
    trace.activations.mul_(2)
    weights = grad_cam(trace)
    trace.activations.div_(2)
    return weights


def overwrites_the_model(trace):
    with torch.no_grad():
        next(trace.cut_model.model.parameters()).zero_()
    return trace.gradients


def draws_from_the_global_state(trace):
    return torch.rand_like(trace.gradients)


def counting(counter=itertools.count(1)):  # noqa: B008 - a state that outlives the call is what this method is for
    return lambda trace: trace.gradients * next(counter)


def normalised_over_the_batch(trace):
    return trace.gradients.softmax(0)


def by_row_number(trace):
    return trace.gradients * torch.arange(len(trace))[:, None, None, None]


def by_channel_number(trace):
    return trace.gradients * torch.arange(trace.gradients.shape[1], device=trace.gradients.device)[:, None, None]


def normalised_over_channels(trace):
    weights = grad_cam(trace)
    return weights / weights.abs().sum(1, keepdim=True)


def unguarded(trace):
    return (trace.gradients * trace.activations).sum(XY, keepdim=True) / trace.activations.sum(XY, keepdim=True)


def root_of_the_score(trace):
    return trace.gradients * trace.scores.sqrt()[:, None, None, None]


def squeezing(trace):
    return grad_cam(trace).squeeze()[..., None, None]


def per_spread(trace):
    return grad_cam(trace) / (trace.gradients - grad_cam(trace)).abs().amax(XY, keepdim=True)


def own_gradient(trace):
    images = trace.images.clone().requires_grad_()
    return Map(torch.autograd.grad(trace.forward(images).sum(), images)[0].sum(1))


def claiming(**about):
    return Plugin("mine", "mine.mine", grad_cam, MethodSpec(**about))


BROKEN = [
    ("finite", nan_weights),
    ("shape_is_declared", without_spatial_axes),
    ("shape_is_declared", map_without_batch),
    ("dtype_follows", always_float32),
    ("is_detached", with_a_graph),
    ("follows_the_device", on_the_default_device),
    ("follows_the_device", answered_on_the_cpu),
    ("leaves_trace_alone", overwrites_gradients),
    ("leaves_trace_alone", overwrites_and_restores),
    ("leaves_model_alone", overwrites_the_model),
    ("deterministic", draws_from_the_global_state),
    ("deterministic", counting()),
    ("batch_invariant", normalised_over_the_batch),
    ("order_invariant", by_row_number),
    ("channel_equivariant", by_channel_number),
    ("dead_channel_is_silent", unguarded),
    ("dead_channel_is_silent", normalised_over_channels),
    ("takes_zero_activations", unguarded),
    ("takes_negative_scores", root_of_the_score),
    ("takes_one_channel", squeezing),
    ("takes_one_pixel", per_spread),
    ("works_without_autograd", own_gradient),
    ("score_scale_claim_holds", claiming(on_score_scale=False)),
    ("needs_drops_claim_holds", claiming(needs_drops=True)),
]


@pytest.mark.parametrize(("check", "method"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_check_detects_a_broken_method(check, method):
    with pytest.raises((AssertionError, RuntimeError)):
        getattr(method_checks, check)(method, CASES["dense"])
    getattr(method_checks, check)(grad_cam, CASES["dense"])


def test_all_checks_have_a_broken_method():
    assert {check for check, _ in BROKEN} == {check.__name__ for check in METHOD_CHECKS}


def test_user_function_passes():
    check_method(user_cam)


def test_registered_name_passes():
    check_method("xgrad_cam")


def test_failure_message_contains_method_check_and_network():
    with pytest.raises(AssertionError, match=r"by_channel_number fails channel_equivariant on the pooled network: \w+"):
        check_method(by_channel_number)


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (nan_weights, r"fails finite on the pooled network: Weights, map and heatmap hold no NaN"),
        (without_spatial_axes, r"fails shape_is_declared .* the weights are \(3, 4\), not \(3, 4, 1, 1\)"),
        (lambda trace: None, r"fails shape_is_declared .* a NoneType is neither a tensor nor an ab\.Map"),
        (lambda trace: trace.gradients.numpy(), r"fails shape_is_declared .* a ndarray is neither"),
    ],
)
def test_failure_message_contains_expected_and_actual(method, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_method(method)


def test_error_of_the_method_is_raised_with_a_note():
    with pytest.raises(RuntimeError) as caught:
        check_method(own_gradient)
    where, which = caught.value.__notes__
    assert where.startswith("raised by 'own_gradient' (")
    assert which == "in works_without_autograd, on the pooled network"


def test_needless_and_unknown_exemptions_are_refused():
    check_method(by_channel_number, exempt={"channel_equivariant": "weights count the channels"})
    with pytest.raises(AssertionError, match="passes it: remove the exemption"):
        check_method(user_cam, exempt={"finite": "none"})
    with pytest.raises(BenchError, match="did you mean 'finite'"):
        check_method(user_cam, exempt={"finit": "none"})


def test_method_that_refuses_all_networks_fails():
    def refusing(trace):
        raise BenchError("Only for transformers.")

    with pytest.raises(AssertionError, match="networks: pooled, dense, signed: Only for transformers"):
        check_method(refusing)


def test_checks_are_public_and_documented():
    assert all(getattr(method_checks, check.__name__) is check and check.__doc__ for check in METHOD_CHECKS)
    assert exemptions(methods.get("random")).keys() == {"channel_equivariant"}
