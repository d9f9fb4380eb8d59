"""Low precision in the weights or within forward is reported once, and a surrounding autocast
rounds nothing.
"""

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.explanation.explanation import Explanation
from tests.cutting.small_network import IMAGES, classify, small_network


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_few_digits_are_reported(dtype):
    sentence = rf"computes in {dtype}, of three digits .*; give network.float\(\)"
    with pytest.warns(UserWarning, match=sentence):
        trace = ab.trace(small_network().to(dtype), "c", IMAGES.to(dtype))
    expected = ab.trace(small_network(), "c", IMAGES).logits
    largest_error = (trace.logits.double() - expected).abs().max() / expected.abs().max()
    assert 1e-4 < largest_error < 1e-2


def autocast(net: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return classify(net, x).float()


def data_dependent(net: Any, x: Tensor) -> Tensor:
    return autocast(net, x if x.sum() > 0 else -x)


def cast_to_float16(net: Any, x: Tensor) -> Tensor:
    return net.fc(net.c(x).half().float().relu().mean((2, 3)))


def rounded_scores(net: Any, x: Tensor) -> Tensor:
    return classify(net, x).bfloat16()


def part_in_bfloat16(net: Any, x: Tensor) -> Tensor:
    maps = net.rounded(net.c(x).relu().bfloat16())
    return net.fc(maps.float().mean((2, 3)))


# name: (the forward pass, the sentence of the warning)
LOW_PRECISION: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "autocast": (autocast, r"bfloat16, of three digits .* drops; leave out autocast"),
    "hooks": (data_dependent, r"bfloat16, of three digits .* drops; leave out autocast"),
    "a cast to float16": (cast_to_float16, r"float16, .* \.half\(\)"),
    "rounded scores": (rounded_scores, r"bfloat16, .* leave out auto"),
    "a part in bfloat16": (
        part_in_bfloat16,
        r"bfloat16, .* give network\.float\(\) and leave out autocast, .* \.bfloat16\(\)",
    ),
}


@pytest.mark.parametrize("name", LOW_PRECISION)
def test_low_precision_within_forward_is_reported_once(name):
    forward, sentence = LOW_PRECISION[name]
    network = small_network(forward).float()
    if forward is part_in_bfloat16:
        network.rounded = nn.Conv2d(6, 6, 1).bfloat16()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trace = ab.trace(network, "c", IMAGES.float())
        trace.again(model=network)
    messages = [str(warning.message) for warning in caught]
    (message,) = [message for message in messages if "computes in" in message]
    assert re.search(sentence, message)


def test_a_mask_that_is_cast_to_bfloat16_rounds_nothing():
    def masked(net: Any, x: Tensor) -> Tensor:
        mask = (x[:, :1] > 0).bfloat16().float()
        return net.fc((net.c(x) * mask).relu().mean((2, 3)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ab.trace(small_network(masked).float(), "c", IMAGES.float())


def test_weights_that_the_head_rounds_itself_stay_in_their_type():
    def rounded(net: Any, x: Tensor) -> Tensor:
        pooled = net.c(x).relu().mean((2, 3))
        return (pooled.bfloat16() @ net.fc.weight.T.bfloat16()).float()

    network = small_network(rounded).float()
    with pytest.warns(UserWarning, match="bfloat16"):
        trace = ab.trace(network, "c", IMAGES.float())
    expected = network.eval()(IMAGES.float()).detach()
    torch.testing.assert_close(trace.logits, expected, rtol=0, atol=0)


def test_no_warning_reports_the_precision_of_a_trunk_that_is_to_run_in_bf16():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.autocast("cpu", torch.bfloat16):  # which an axiom-bench call turns off
            cut_model = ab.cut(small_network().float(), "c", precision="bf16")
            cut_model.trace(IMAGES.float())


def first_logit(logits: Tensor) -> Tensor:
    return logits[:, 0]


def test_an_autocast_around_a_call_rounds_no_gradient():
    expected = ab.trace(small_network().float(), "c", IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        trace = ab.trace(small_network().float(), "c", IMAGES)
        gradient = trace.gradient_of(first_logit)
        assert torch.equal(gradient, expected.gradient_of(first_logit))
    assert torch.equal(trace.gradients, expected.gradients)


class Rounding(torch.autograd.Function):
    """The identity with a gradient of its own, which runs in every backward pass.

    The backward pass notes whether TF32 or an autocast could round it.
    """

    seen: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rounds_products = torch.backends.cuda.matmul.allow_tf32
        rounds_convolutions = torch.backends.cudnn.allow_tf32
        is_autocast = torch.is_autocast_enabled("cpu")
        Rounding.seen.append(rounds_products or rounds_convolutions or is_autocast)
        return 2 * gradient


def slope(explanation: Explanation) -> Tensor:
    """A user's own metric that needs a gradient."""
    images = explanation.trace.images.clone().requires_grad_()
    with torch.enable_grad():
        scores = explanation.trace.forward(images)
    return torch.autograd.grad(scores.sum(), images)[0].abs().amax((1, 2, 3))


def round_twice(net: Any, x: Tensor) -> Tensor:
    maps = net.c(Rounding.apply(x)).relu()
    return net.fc(Rounding.apply(maps).mean((2, 3)))


METHODS_WITH_GRADIENTS = [
    "saliency",
    "integrated_gradients",
    "guided_xgrad_cam",
    "opti_cam",
    "shapley_cam",
    "smooth_grad",
]


def test_no_gradient_is_rounded_to_tf32_or_an_autocasts_type():
    """A backward pass has the settings of the time when it runs; torch allows TF32 in convolutions
    of a GPU.
    """
    assert torch.backends.cudnn.allow_tf32
    Rounding.seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        trace = ab.trace(small_network(round_twice), "c", IMAGES)
        trace.gradient_of(first_logit)
        assert Rounding.seen
        explanation = Explanation.of(trace, methods.get("grad_cam")(trace))
        plugin = plugins.plugin_for("metric", slope)
        calls = {name: partial(methods.get(name), trace) for name in METHODS_WITH_GRADIENTS}
        calls["a metric"] = partial(measure, plugin, explanation, True)
        for name, call in calls.items():
            passes_before = len(Rounding.seen)
            call()
            assert len(Rounding.seen) > passes_before, name
    assert not any(Rounding.seen)
