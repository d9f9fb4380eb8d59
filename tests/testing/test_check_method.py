"""The checks of methods: each fails for a broken method and passes for a correct one."""

import itertools

import pytest
import torch

from axiom_bench import methods
from axiom_bench.cutting.numerics import XY, generators
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.testing import CASES, METHOD_CHECKS, check_method, exemptions, method_checks


def user_cam(trace):
    """Compute LayerCAM, as a user's function outside of the project does."""
    return trace.gradients.relu()


def after(change):
    """Return a method that first changes the trace."""

    def method(trace):
        change(trace)
        return trace.gradients

    return method


def zero_weights(trace):
    with torch.no_grad():
        next(trace.cut_model.model.parameters()).zero_()


def by_channel_number(trace):
    gradients = trace.gradients
    numbers = torch.arange(gradients.shape[1], device=gradients.device)
    return gradients * numbers[:, None, None]


def by_row_number(trace):
    return trace.gradients * torch.arange(len(trace))[:, None, None, None]


def unguarded(trace):
    products = (trace.gradients * trace.activations).sum(XY, keepdim=True)
    return products / trace.activations.sum(XY, keepdim=True)


def normalised_over_channels(trace):
    return grad_cam(trace) / grad_cam(trace).abs().sum(1, True)


def root_of_the_score(trace):
    return trace.gradients * trace.scores.sqrt()[:, None, None, None]


def per_spread(trace):
    spread = (trace.gradients - grad_cam(trace)).abs().amax(XY, keepdim=True)
    return grad_cam(trace) / spread


def own_gradient(trace):
    images = trace.images.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(trace.forward(images).sum(), images)
    return Map(gradients.sum(1))


def claiming(**about):
    return Plugin("mine", "mine.mine", grad_cam, MethodSpec(**about))


def by_the_bits(trace):
    (draw,) = generators(trace.images[:1], 0)
    return trace.gradients * torch.rand((), generator=draw, dtype=torch.float64)


def of_images(trace):
    """Compute Grad-CAM with two axes of space, so that it takes only images."""
    return trace.gradients.mean((2, 3))[:, :, None, None]


OF_SIGNALS_TOO = Plugin("mine", "mine.mine", of_images, MethodSpec(dimensions=(1, 2)))


COUNTER = itertools.count(1)
# The check that fails, and a method, by the name of the mistake.
BROKEN = {
    "NaN": ("finite", lambda trace: torch.nan * trace.gradients),
    "one axis of space": ("shape_is_declared", lambda trace: trace.gradients.mean(-1)),
    "a map without batch": ("shape_is_declared", lambda trace: Map(trace.gradients[0].sum(0))),
    "always float32": ("dtype_follows", lambda trace: trace.gradients.float()),
    "with a graph": ("is_detached", lambda trace: trace.gradients.clone().requires_grad_() * 2),
    "on the default device": (
        "follows_the_device",
        lambda trace: trace.gradients * torch.ones(len(trace), 1, 1, 1),
    ),
    "answered on the CPU": ("follows_the_device", lambda trace: trace.gradients.cpu()),
    "overwrites gradients": ("leaves_trace_alone", lambda trace: trace.gradients.relu_()),
    "overwrites and restores": (
        "leaves_trace_alone",
        after(lambda trace: trace.activations.mul_(2).div_(2)),
    ),
    "overwrites the model": ("leaves_model_alone", after(zero_weights)),
    "trains": ("leaves_model_alone", after(lambda trace: trace.cut_model.model.train())),
    "draws from the global state": (
        "deterministic",
        lambda trace: torch.rand_like(trace.gradients),
    ),
    "counts its calls": ("deterministic", lambda trace: trace.gradients * next(COUNTER)),
    "normalised over the batch": ("batch_invariant", lambda trace: trace.gradients.softmax(0)),
    "by row number": ("order_invariant", by_row_number),
    "drawn by the bits of a copy": ("follows_the_image", by_the_bits),
    "by channel number": ("channel_equivariant", by_channel_number),
    "unguarded, of a dead channel": ("dead_channel_is_silent", unguarded),
    "normalised over channels": ("dead_channel_is_silent", normalised_over_channels),
    "unguarded, of zeros": ("takes_zero_activations", unguarded),
    "root of the score": ("takes_negative_scores", root_of_the_score),
    "squeezing": ("takes_one_channel", lambda trace: grad_cam(trace).squeeze()[..., None, None]),
    "per spread": ("takes_one_pixel", per_spread),
    "a gradient": ("works_without_autograd", own_gradient),
    "a claim of the scale": ("score_scale_claim_holds", claiming(on_score_scale=False)),
    "a claim of drops": ("needs_drops_claim_holds", claiming(needs_drops=True)),
    "a claim of passes": ("passes_claim_holds", claiming(passes="K")),
    "a claim of signals": ("dimensions_claim_holds", OF_SIGNALS_TOO),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_check_detects_a_broken_method(broken):
    name, method = BROKEN[broken]
    check = getattr(method_checks, name)
    with pytest.raises((AssertionError, RuntimeError)):
        check(method, CASES["dense"])
    check(grad_cam, CASES["dense"])


def test_all_checks_are_public_and_documented_and_have_a_broken_method():
    assert {check for check, _ in BROKEN.values()} == {check.__name__ for check in METHOD_CHECKS}
    for check in METHOD_CHECKS:
        assert getattr(method_checks, check.__name__) is check
        assert check.__doc__
    assert exemptions(methods.get("random")).keys() == {"channel_equivariant"}


def refusing(trace):
    raise BenchError("Only for transformers.")


_, ALL_NAN = BROKEN["NaN"]
_, ONE_AXIS = BROKEN["one axis of space"]


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (
            by_channel_number,
            r"by_channel_number fails channel_equivariant on the pooled network: \w+",
        ),
        (ALL_NAN, r"fails finite on the pooled network: Weights, map and heatmap hold no NaN"),
        (
            ONE_AXIS,
            r"fails shape_is_declared .* the weights are \(3, 4, 4\), not \(3, 4, 1, 1\)",
        ),
        (
            lambda trace: None,
            r"fails shape_is_declared .* a NoneType is neither a tensor nor an ab\.Map",
        ),
        (lambda trace: trace.gradients.numpy(), r"fails shape_is_declared .* a ndarray is neither"),
        (refusing, "networks: pooled, dense, signed: Only for transformers"),
        (ALL_NAN, r"288 of 288 values of the result are NaN or infinite"),
        (
            ALL_NAN,
            r"Fix .*<lambda>\. If it fails by its nature, "
            r'pass exempt=\{"finite": "the reason"\}',
        ),
        (
            claiming(on_score_scale=False),
            r"method\.mine: `on_score_scale` is false, .* Write `on_score_scale: true`",
        ),
        (claiming(needs_drops=True), "Write `needs_drops: false`, or fix mine.mine"),
        (claiming(passes="K"), "Write `passes: 0`"),
        (OF_SIGNALS_TOO, r"With 1 it ends in IndexError.* Write `dimensions: \[2\]`"),
    ],
)
def test_failure_message_contains_expected_and_actual(method, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_method(method)


@pytest.mark.slow
def test_a_users_function_and_a_registered_name_pass_and_an_error_is_raised_with_a_note():
    check_method(user_cam)
    check_method("xgrad_cam")
    with pytest.raises(RuntimeError) as caught:
        check_method(own_gradient)
    plugin_note, check_note = caught.value.__notes__
    assert plugin_note.startswith("raised by 'own_gradient' (")
    assert check_note == "in works_without_autograd, on the pooled network"


@pytest.mark.slow
def test_needless_and_unknown_exemptions_are_refused():
    check_method(by_channel_number, exempt={"channel_equivariant": "weights count the channels"})
    with pytest.raises(AssertionError, match="passes it: remove the exemption"):
        check_method(user_cam, exempt={"finite": "none"})
    with pytest.raises(BenchError, match="did you mean 'finite'"):
        check_method(user_cam, exempt={"finit": "none"})
