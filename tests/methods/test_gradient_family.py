"""Methods of gradients: the full Hessian, autograd, integrals along the path, and closed forms."""

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
    """Its mean is rounded, and no position stands out by that."""
    trace = readout(linear([1.0] * 105), torch.full((1, 3, 5, 7), value))
    assert not fem(
        replace(trace, activations=torch.full((1, 3, 5, 7), value, dtype=dtype))
    ).raw.any()


# ShapleyCAM
class Quadratic(nn.Module):
    """logits_c = F^T A_c F / 2 + b_c F, A_c symmetric."""

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
    """Positions attend to each other, in torch's one function for it."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.classes = nn.Linear(3, 3 * 8), nn.Linear(8, 2)

    def forward(self, maps: Tensor) -> Tensor:
        q, k, v = self.inputs(maps.flatten(2).mT).chunk(3, -1)
        return self.classes(functional.scaled_dot_product_attention(q, k, v).mean(1))


SMOOTH_HEADS: dict[str, Callable[[], nn.Module]] = {
    "softplus": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.Softplus(), nn.Linear(7, 2)),
    "gelu, max pooling": lambda: nn.Sequential(
        nn.Conv2d(3, 5, 2), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)
    ),
    "silu in place": lambda: nn.Sequential(nn.SiLU(inplace=True), nn.Flatten(), nn.Linear(36, 2)),
    "with relu, relu6 and max pooling": lambda: nn.Sequential(
        nn.MaxPool2d(2, 1), nn.Conv2d(3, 5, 2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(10, 6), nn.GELU(),
        nn.Linear(6, 4), nn.ReLU6(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2),
    ),
    "quadratic": lambda: Quadratic(36),
    "attention": Attention,
}  # fmt: skip


@pytest.fixture
def maps() -> Tensor:
    """Of both signs."""
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
    """ClassifierOutputReST of pytorch-grad-cam: the logit less the cross-entropy, of one image."""
    head = seeded(
        lambda: nn.Sequential(
            nn.Identity(), nn.Flatten(), nn.Linear(36, 7), nn.ReLU(), nn.Linear(7, 3)
        ),
        10,
    )
    actual = shapley_cam(ab.trace(head, "0", maps, torch.ones(2, dtype=torch.long), output="rest"))
    for row, flat in enumerate(maps.flatten(1)):

        def score(flat: Tensor) -> Tensor:
            logits = head(flat.view(1, 3, 3, 4))
            return logits[0, 1] - functional.cross_entropy(logits, torch.tensor([1]))

        hessian = torch.autograd.functional.hessian(score, flat)
        assert hessian.abs().max() > 1e-4
        expected = torch.autograd.functional.jacobian(score, flat) - hessian @ flat / 2
        torch.testing.assert_close(
            actual[row].flatten(), expected.view(3, 12).mean(1), rtol=1e-10, atol=1e-13
        )


def test_shapley_cam_equals_grad_cam_on_a_piecewise_linear_head(case):
    trace = case.trace()
    assert torch.equal(shapley_cam(trace), methods.get("grad_cam")(trace))


@pytest.mark.parametrize("pooling", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)])
def test_shapley_cam_runs_no_head_behind_which_all_is_linear(pooling, maps, readout):
    """As SqueezeNet's: a convolution's gradient could be differentiated again, but not with respect
    to F.
    """
    trace = readout(
        seeded(lambda: nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), pooling, nn.Flatten())), maps
    )
    shapley_cam(trace)  # the first image of a cut is looked at
    before = replace(trace.passes)
    assert torch.equal(shapley_cam(trace), trace.gradients.mean(XY, keepdim=True))
    assert trace.passes == before


class Clamped(nn.Module):
    """Hardsigmoid by another function, which torch differentiates twice."""

    def forward(self, x: Tensor) -> Tensor:
        return (x / 6 + 0.5).clamp(0, 1)


def test_shapley_cam_with_hardsigmoid(maps, readout):
    """As MobileNetV3's hardsigmoid."""

    def head(gate: nn.Module) -> nn.Module:
        last = (nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 2))
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 6), gate, *last)

    gates = (nn.Hardsigmoid(), Clamped())
    actual, expected = (readout(seeded(partial(head, gate)), 3 * maps) for gate in gates)
    # 1e-7: torch's hardsigmoid multiplies by a sixth in float32, whatever its input.
    torch.testing.assert_close(shapley_cam(actual), shapley_cam(expected), rtol=1e-7, atol=1e-15)
    assert not torch.allclose(
        shapley_cam(actual), actual.gradients.mean(XY, keepdim=True), rtol=1e-3
    )


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_shapley_cam_with_attention_and_without_autograd(mode, maps, readout):
    trace = readout(seeded(Attention), maps)
    expected = shapley_cam(trace)
    backends = torch.backends.cuda.flash_sdp_enabled()
    with mode():
        assert torch.equal(shapley_cam(trace), expected)
    assert torch.backends.cuda.flash_sdp_enabled() == backends


CHOICES = [
    *((gamma, count, "equal") for gamma, count in ((0.6, 3), (1.0, 1), (1.0, 2), (0.0, 2))),
    *((1.0, count, "probability") for count in (1, 2, 3)),
]


@pytest.mark.parametrize(("gamma", "references", "weighting"), CHOICES)
def test_finer_cam_by_autograd(gamma, references, weighting, maps, readout):
    """Seven classes, so that there is a choice; target 2 has neighbours above and below. By
    probability: github.com/Imageomics/Finer-CAM, FinerWeightedTarget, the gradient of the whole
    target, softmax included.
    """
    head = seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 7)), 10
    )
    trace = readout(head, maps, target=2)
    actual, sides = finer_cam(trace, gamma, references, weighting), set()
    for row in range(len(maps)):
        leaf = maps[row : row + 1].clone().requires_grad_()
        logits = head(leaf)[0]
        nearest = sorted((abs(logits[c].item() - logits[2].item()), c) for c in range(7) if c != 2)[
            :references
        ]
        sides |= {logits[c].item() > logits[2].item() for _, c in nearest}
        p = logits.softmax(0) if weighting == "probability" else torch.ones(7)
        compared = sum(p[c] * (logits[2] - gamma * logits[c]) for _, c in nearest) / sum(
            p[c] for _, c in nearest
        )
        (gradient,) = torch.autograd.grad(compared, leaf)
        torch.testing.assert_close(
            actual[row].flatten(), gradient[0].mean((1, 2)), rtol=1e-11, atol=1e-15
        )
    assert references == 1 or sides == {True, False}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_finer_cam_shares_the_head_pass_of_the_trace(mode, maps, readout):
    trace = readout(
        seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.Tanh(), nn.Linear(9, 7))),
        maps,
    )
    before = replace(trace.passes)
    with mode():
        expected = finer_cam(trace)
        assert torch.equal(finer_cam(trace), expected)
    assert trace.passes == replace(before, head_backward=before.head_backward + 4)
    parts = torch.cat([finer_cam(trace[i : i + 1]) for i in range(2)])
    others = finer_cam(replace(trace, activations=maps.flip(0), gradients=trace.gradients.flip(0)))
    # of other rows, and of other activations
    assert trace.passes.head_forward == before.head_forward + 4
    torch.testing.assert_close(parts, expected, rtol=0, atol=1e-15)
    assert not torch.allclose(others, expected)
    scaled = finer_cam(trace.scaled(output=2, inputs=4))
    torch.testing.assert_close(scaled, expected / 2, rtol=0, atol=1e-15)


def test_finer_cam_with_fewer_classes_than_references(case):
    trace = case.trace()
    # three classes in all
    assert torch.equal(finer_cam(trace, references=3), finer_cam(trace, references=2))
    assert nearest_classes(trace, 9).shape == (case.rows, 2)
    assert not (nearest_classes(trace, 9) == trace.targets[:, None]).any()


def test_finer_cam_ties_go_to_the_first(readout):
    head = linear(*[[0.0] * 3] * 5)
    with torch.no_grad():
        head[1].bias.copy_(torch.tensor([1.0, 3.0, 2.0, 1.0, 3.0]))
    trace = readout(head, torch.ones(2, 3, 1, 1), target=2)
    assert nearest_classes(trace, 3).tolist() == [[0, 1, 3]] * 2


def test_finer_cam_of_a_single_class(readout):
    with pytest.raises(BenchError, match="needs a second class"):
        finer_cam(readout(linear([1.0] * 3), torch.ones(1, 3, 1, 1)))


@pytest.mark.parametrize("contrasts", [1, 3, 9])
def test_case_by_autograd(contrasts, maps, readout):
    """github.com/dwil2444/case-saliency, CAM_eval/case_logits.py, without the 1e-8 that it adds to
    the divisor: one backward pass for each contrast class.
    """
    head = seeded(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 9), nn.ReLU(), nn.Linear(9, 7)), 10
    )
    actual = case_weights(readout(head, maps, target=2), contrasts)
    for row in range(len(maps)):
        leaf = maps[row : row + 1].clone().requires_grad_()
        logits = head(leaf)[0]
        means = [
            torch.autograd.grad(each, leaf, retain_graph=True)[0].mean((0, 2, 3)) for each in logits
        ]
        top = [c for c in logits.argsort(descending=True).tolist() if c != 2][:contrasts]
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
    """Of 1e-15, whose third power float32 doesn't hold: alpha = 1 / 2, as the sum of F is nothing
    beside 1 / g.
    """
    maps = uniform(2, 3, 2, 2).float()
    model = readout(linear([1e-15] * 12, [1e-15] * 12), maps).cut_model.model.float()
    single = ab.trace(model, "layer", maps, torch.zeros(2, dtype=torch.long))
    assert single.dtype == torch.float32
    assert smooth_grad_cam_pp(single, samples=2).flatten().tolist() == pytest.approx(
        [2e-15] * 6, rel=1e-5, abs=0
    )


def test_the_two_share_one_pass():
    trace = CASES["dense"].trace()
    before = trace.passes.trunk_forward, trace.passes.trunk_backward
    saliency(trace)
    input_x_gradient(trace)
    after = trace.passes.trunk_forward, trace.passes.trunk_backward
    assert [b - a for a, b in zip(before, after, strict=True)] == [len(trace), len(trace)]


class Cube(nn.Module):
    """S_c = sum_k a_ck (mean F_k)^3: a polynomial, whose integral the rule takes exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]]))

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3)) ** 3 @ self.a.T


def test_polynomial_is_integrated_exactly(readout):
    """d/dF of a m^3 is 3 a m^2 / HW, and its mean over t^2 a third of it: w = a m^2 / HW, from two
    points on. One step is the gradient at the midpoint.
    """
    maps = normal(2, 3, 2, 3)
    trace, half = readout(Cube(), maps, target=1), readout(Cube(), maps / 2, target=1)
    a = torch.tensor([0.5, 4.0, -1.0], dtype=torch.float64)
    expected = (a * maps.mean((2, 3)) ** 2 / 6)[..., None, None].expand_as(maps)
    for steps, gradients in ((2, expected), (50, expected), (1, half.gradients)):
        torch.testing.assert_close(
            integrated_gradients(trace, steps), gradients, rtol=1e-12, atol=1e-14
        )


def test_memory_limit_does_not_change_weights():
    case = CASES["dense"]
    cut = ab.cut(case.model(), case.layer, ablation_memory=1)
    actual = opti_cam(cut.trace(case.images(), torch.arange(case.rows)), iterations=5)
    torch.testing.assert_close(actual, opti_cam(case.trace(), iterations=5), rtol=0, atol=1e-13)
