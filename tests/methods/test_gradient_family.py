"""Tests of gradient methods against the full Hessian, autograd, path integrals and closed forms."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.numerics import XY
from axiom_bench.errors import BenchError
from axiom_bench.methods.case import case as case_weights
from axiom_bench.methods.fem import fem
from axiom_bench.methods.finer_cam import finer_cam, nearest_classes
from axiom_bench.methods.input_x_gradient import input_x_gradient
from axiom_bench.methods.integrated_gradients import integrated_gradients
from axiom_bench.methods.opti_cam import opti_cam
from axiom_bench.methods.saliency import saliency
from axiom_bench.methods.shapley_cam import shapley_cam
from axiom_bench.methods.smooth_grad_cam_pp import smooth_grad_cam_pp
from axiom_bench.testing import CASES, Case
from tests.methods.plain import (
    linear,
    normal,
    seeded,
    uniform,
)


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request) -> Case:
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, -3.3, 1e-3])
def test_fem_of_a_constant_channel_is_zero(value, dtype, readout):
    """Check that no position stands out because the channel's mean is rounded."""
    trace = readout(linear([1.0] * 105), torch.full((1, 3, 5, 7), value))
    constant = torch.full((1, 3, 5, 7), value, dtype=dtype)
    assert not fem(replace(trace, activations=constant)).raw.any()


# ShapleyCAM
class Quadratic(nn.Module):
    """A head with logits_c = F^T A_c F / 2 + b_c F, A_c symmetric."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(8)
        A = torch.randn(2, inputs, inputs, dtype=torch.float64, generator=generator)
        self.A = nn.Parameter(A + A.mT)
        self.b = nn.Parameter(torch.randn(2, inputs, dtype=torch.float64, generator=generator))

    def forward(self, maps: Tensor) -> Tensor:
        flat = maps.flatten(1)
        squares = [(flat @ self.A[c] * flat).sum(1) / 2 for c in range(2)]
        return torch.stack(squares, 1) + flat @ self.b.T


class Attention(nn.Module):
    """A head whose positions attend to each other, by torch's function for attention."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(3, 3 * 8)
        self.classes = nn.Linear(8, 2)

    def forward(self, maps: Tensor) -> Tensor:
        q, k, v = self.inputs(maps.flatten(2).mT).chunk(3, -1)
        return self.classes(functional.scaled_dot_product_attention(q, k, v).mean(1))


def softplus_head() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.Softplus(), nn.Linear(7, 2))


def gelu_head() -> nn.Module:
    features = [nn.Conv2d(3, 5, 2), nn.GELU(), nn.MaxPool2d(2)]
    classifier = [nn.Flatten(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)]
    return nn.Sequential(*features, *classifier)


def silu_head() -> nn.Module:
    return nn.Sequential(nn.SiLU(inplace=True), nn.Flatten(), nn.Linear(36, 2))


def mixed_head() -> nn.Module:
    features = [nn.MaxPool2d(2, 1), nn.Conv2d(3, 5, 2), nn.ReLU(inplace=True), nn.Flatten()]
    first = [nn.Linear(10, 6), nn.GELU()]
    second = [nn.Linear(6, 4), nn.ReLU6()]
    third = [nn.Linear(4, 4), nn.Tanh()]
    return nn.Sequential(*features, *first, *second, *third, nn.Linear(4, 2))


def seven_classes(activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 9), activation(), nn.Linear(9, 7))


SMOOTH_HEADS: dict[str, Callable[[], nn.Module]] = {
    "softplus": softplus_head,
    "gelu, max pooling": gelu_head,
    "silu in place": silu_head,
    "with relu, relu6 and max pooling": mixed_head,
    "quadratic": partial(Quadratic, 36),
    "attention": Attention,
}


@pytest.fixture
def maps() -> Tensor:
    """Maps of both signs."""
    return normal(2, 3, 3, 4, seed=9)


@pytest.mark.parametrize("build", SMOOTH_HEADS.values(), ids=SMOOTH_HEADS)
def test_shapley_cam_equals_the_full_hessian(build, maps, readout):
    head = seeded(build, 10)
    actual = shapley_cam(readout(head, maps, target=1))
    for row, flat in enumerate(maps.flatten(1)):

        def score(flat: Tensor) -> Tensor:
            return head(flat.clone().view(1, 3, 3, 4))[0, 1]

        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            hessian = torch.autograd.functional.hessian(score, flat)
            gradient = torch.autograd.functional.jacobian(score, flat)
        assert hessian.abs().max() > 1e-4
        expected = (gradient - hessian @ flat / 2).view(3, 12).mean(1)
        torch.testing.assert_close(actual[row].flatten(), expected, rtol=1e-10, atol=1e-13)


def test_shapley_cam_of_rest_equals_the_full_hessian(maps):
    """Check ClassifierOutputReST of pytorch-grad-cam: the logit minus the cross-entropy."""

    def build() -> nn.Module:
        hidden = nn.Linear(36, 7)
        return nn.Sequential(nn.Identity(), nn.Flatten(), hidden, nn.ReLU(), nn.Linear(7, 3))

    head = seeded(build, 10)
    targets = torch.ones(2, dtype=torch.long)
    actual = shapley_cam(ab.trace(head, "0", maps, targets, output="rest"))
    for row, flat in enumerate(maps.flatten(1)):

        def score(flat: Tensor) -> Tensor:
            logits = head(flat.view(1, 3, 3, 4))
            return logits[0, 1] - functional.cross_entropy(logits, torch.tensor([1]))

        hessian = torch.autograd.functional.hessian(score, flat)
        assert hessian.abs().max() > 1e-4
        gradient = torch.autograd.functional.jacobian(score, flat)
        expected = (gradient - hessian @ flat / 2).view(3, 12).mean(1)
        torch.testing.assert_close(actual[row].flatten(), expected, rtol=1e-10, atol=1e-13)


def test_shapley_cam_equals_grad_cam_on_a_piecewise_linear_head(case):
    trace = case.trace()
    assert torch.equal(shapley_cam(trace), methods.get("grad_cam")(trace))


@pytest.mark.parametrize("pooling", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)])
def test_shapley_cam_runs_no_head_behind_which_all_is_linear(pooling, maps, readout):
    """Check a head like SqueezeNet's. A convolution's gradient could be differentiated again, but
    not with respect to F.
    """
    head = seeded(lambda: nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), pooling, nn.Flatten()))
    trace = readout(head, maps)
    shapley_cam(trace)  # the first call inspects the first image
    before = replace(trace.passes)
    assert torch.equal(shapley_cam(trace), trace.gradients.mean(XY, keepdim=True))
    assert trace.passes == before


class Clamped(nn.Module):
    """A hardsigmoid computed by another function, which torch differentiates twice."""

    def forward(self, x: Tensor) -> Tensor:
        return (x / 6 + 0.5).clamp(0, 1)


def test_shapley_cam_with_hardsigmoid(maps, readout):
    """Check a head with MobileNetV3's hardsigmoid."""

    def head(gate: nn.Module) -> nn.Module:
        first = [nn.Flatten(), nn.Linear(36, 6), gate]
        second = [nn.Linear(6, 5), nn.SiLU()]
        return nn.Sequential(*first, *second, nn.Linear(5, 2))

    trace = readout(seeded(partial(head, nn.Hardsigmoid())), 3 * maps)
    clamped_trace = readout(seeded(partial(head, Clamped())), 3 * maps)

    actual = shapley_cam(trace)

    # 1e-7: torch's hardsigmoid multiplies by a sixth in float32, whatever its input.
    torch.testing.assert_close(actual, shapley_cam(clamped_trace), rtol=1e-7, atol=1e-15)
    grad_cam = trace.gradients.mean(XY, keepdim=True)
    assert not torch.allclose(actual, grad_cam, rtol=1e-3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_shapley_cam_with_attention_and_without_autograd(mode, maps, readout):
    trace = readout(seeded(Attention), maps)
    expected = shapley_cam(trace)
    backends = torch.backends.cuda.flash_sdp_enabled()
    with mode():
        assert torch.equal(shapley_cam(trace), expected)
    assert torch.backends.cuda.flash_sdp_enabled() == backends


CHOICES = [
    (0.6, 3, "equal"),
    (1.0, 1, "equal"),
    (1.0, 2, "equal"),
    (0.0, 2, "equal"),
    (1.0, 1, "probability"),
    (1.0, 2, "probability"),
    (1.0, 3, "probability"),
]


@pytest.mark.parametrize(("gamma", "references", "weighting"), CHOICES)
def test_finer_cam_by_autograd(gamma, references, weighting, maps, readout):
    """Check seven classes, so that there is a choice of references.

    Target 2 has neighbours with higher and with lower logits. The weighting by probability follows
    FinerWeightedTarget of github.com/Imageomics/Finer-CAM: the gradient of the whole target,
    softmax included.
    """
    head = seeded(seven_classes, 10)
    trace = readout(head, maps, target=2)

    actual = finer_cam(trace, gamma, references, weighting)

    sides = set()
    others = [0, 1, 3, 4, 5, 6]
    for row in range(len(maps)):
        leaf = maps[row : row + 1].clone().requires_grad_()
        logits = head(leaf)[0]
        distances = [abs(logit - logits[2].item()) for logit in logits.tolist()]
        nearest = sorted(others, key=distances.__getitem__)[:references]
        sides |= {logits[c].item() > logits[2].item() for c in nearest}
        p = logits.softmax(0) if weighting == "probability" else torch.ones(7)
        total = sum(p[c] * (logits[2] - gamma * logits[c]) for c in nearest)
        compared = total / sum(p[c] for c in nearest)
        (gradient,) = torch.autograd.grad(compared, leaf)
        expected = gradient[0].mean((1, 2))
        torch.testing.assert_close(actual[row].flatten(), expected, rtol=1e-11, atol=1e-15)
    assert references == 1 or sides == {True, False}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_finer_cam_shares_the_head_pass_of_the_trace(mode, maps, readout):
    trace = readout(seeded(partial(seven_classes, nn.Tanh)), maps)
    before = replace(trace.passes)

    with mode():
        expected = finer_cam(trace)
        assert torch.equal(finer_cam(trace), expected)
    assert trace.passes == replace(before, head_backward=before.head_backward + 4)

    parts = torch.cat([finer_cam(trace[i : i + 1]) for i in range(2)])
    flipped = replace(trace, activations=maps.flip(0), gradients=trace.gradients.flip(0))
    others = finer_cam(flipped)
    # Two passes of single rows, and two of other activations.
    assert trace.passes.head_forward == before.head_forward + 4
    torch.testing.assert_close(parts, expected, rtol=0, atol=1e-15)
    assert not torch.allclose(others, expected)
    scaled = finer_cam(trace.scaled(output=2, inputs=4))
    torch.testing.assert_close(scaled, expected / 2, rtol=0, atol=1e-15)


def test_finer_cam_with_fewer_classes_than_references(case):
    trace = case.trace()
    # There are three classes, so at most two references.
    assert torch.equal(finer_cam(trace, references=3), finer_cam(trace, references=2))
    assert nearest_classes(trace, 9).shape == (case.rows, 2)
    assert not (nearest_classes(trace, 9) == trace.targets[:, None]).any()


def test_finer_cam_ties_go_to_the_first(readout):
    head = linear(*[[0.0, 0.0, 0.0]] * 5)
    with torch.no_grad():
        head[1].bias.copy_(torch.tensor([1.0, 3.0, 2.0, 1.0, 3.0]))
    trace = readout(head, torch.ones(2, 3, 1, 1), target=2)
    assert nearest_classes(trace, 3).tolist() == [[0, 1, 3]] * 2


def test_finer_cam_of_a_single_class(readout):
    with pytest.raises(BenchError, match="needs a second class"):
        finer_cam(readout(linear([1.0] * 3), torch.ones(1, 3, 1, 1)))


@pytest.mark.parametrize("contrasts", [1, 3, 9])
def test_case_by_autograd(contrasts, maps, readout):
    """Follow CAM_eval/case_logits.py, github.com/dwil2444/case-saliency: one backward pass per
    contrast class. The 1e-8 that it adds to the divisor is left out.
    """
    head = seeded(seven_classes, 10)
    actual = case_weights(readout(head, maps, target=2), contrasts)
    for row in range(len(maps)):
        leaf = maps[row : row + 1].clone().requires_grad_()
        logits = head(leaf)[0]
        means = []
        for logit in logits:
            (gradient,) = torch.autograd.grad(logit, leaf, retain_graph=True)
            means.append(gradient.mean((0, 2, 3)))
        ranking = logits.argsort(descending=True).tolist()
        top = [c for c in ranking if c != 2][:contrasts]
        contrast = sum(means[c] for c in top) / len(top)
        expected = means[2] - (means[2] @ contrast) / contrast.norm() ** 2 * contrast
        torch.testing.assert_close(actual[row].flatten(), expected, rtol=1e-11, atol=1e-15)
        assert abs(expected @ contrast) < 1e-12 < abs(means[2] @ contrast)


def test_case_refuses_what_it_cannot_contrast(readout):
    trace = readout(linear([1.0] * 3), torch.ones(1, 3, 1, 1))
    for contrasts, sentence in ((1, "needs a second class"), (0, "at least 1")):
        with pytest.raises(BenchError, match=sentence):
            case_weights(trace, contrasts)


def test_smooth_grad_cam_pp_with_tiny_gradients(readout):
    """Check gradients of 1e-15, whose third power is zero in float32.

    Alpha is 1 / 2, because the sum of F is negligible compared with 1 / g.
    """
    maps = uniform(2, 3, 2, 2).float()
    model = readout(linear([1e-15] * 12, [1e-15] * 12), maps).cut_model.model.float()
    single = ab.trace(model, "layer", maps, torch.zeros(2, dtype=torch.long))
    assert single.dtype == torch.float32
    actual = smooth_grad_cam_pp(single, samples=2).flatten().tolist()
    assert actual == pytest.approx([2e-15] * 6, rel=1e-5, abs=0)


def test_the_two_share_one_pass():
    trace = CASES["dense"].trace()
    forward_before = trace.passes.trunk_forward
    backward_before = trace.passes.trunk_backward
    saliency(trace)
    input_x_gradient(trace)
    assert trace.passes.trunk_forward - forward_before == len(trace)
    assert trace.passes.trunk_backward - backward_before == len(trace)


class Cube(nn.Module):
    """A head with S_c = sum_k a_ck (mean F_k)^3: a polynomial, which is integrated exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]]))

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3)) ** 3 @ self.a.T


def test_polynomial_is_integrated_exactly(readout):
    """Check the closed form. d/dF of a m^3 is 3 a m^2 / HW. The mean over t of t^2 is a third, so
    w = a m^2 / HW from two points on. One step gives the gradient at the midpoint.
    """
    maps = normal(2, 3, 2, 3)
    trace = readout(Cube(), maps, target=1)
    half = readout(Cube(), maps / 2, target=1)
    a = torch.tensor([0.5, 4.0, -1.0], dtype=torch.float64)
    expected = (a * maps.mean((2, 3)) ** 2 / 6)[..., None, None].expand_as(maps)
    for steps, gradients in ((2, expected), (50, expected), (1, half.gradients)):
        actual = integrated_gradients(trace, steps)
        torch.testing.assert_close(actual, gradients, rtol=1e-12, atol=1e-14)


def test_memory_limit_does_not_change_weights():
    case = CASES["dense"]
    cut = ab.cut(case.model(), case.layer, ablation_memory=1)
    trace = cut.trace(case.images(), torch.arange(case.rows))
    actual = opti_cam(trace, iterations=5)
    expected = opti_cam(case.trace(), iterations=5)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-13)
