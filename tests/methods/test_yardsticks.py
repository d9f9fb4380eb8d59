"""Methods of gradients with respect to pixels and along paths, of an optimiser, and the Sobel control: against their
definitions, closed forms, autograd, torch's own optimiser and loops."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.methods.input_x_gradient import input_x_gradient
from axiom_bench.methods.integrated_gradients import integrated_gradients
from axiom_bench.methods.opti_cam import opti_cam
from axiom_bench.methods.saliency import saliency
from axiom_bench.methods.smooth_grad import smooth_grad
from axiom_bench.methods.sobel import sobel
from axiom_bench.testing import CASES, Case
from tests.methods.plain import (
    EACH_CASE,
    generator_of,
    head_of,
    linear,
    maps_of,
    model_of,
    normal,
    score_of,
    seeded,
    upsampled,
)

CLOSE = {"rtol": 0, "atol": 1e-12}  # float64, maps of the size of 1


def pixel_gradient(case: Case, image: Tensor, target: int) -> Tensor:
    """dS/dX of one image, on the plain network."""
    leaf = image[None].clone().requires_grad_()
    return torch.autograd.grad(model_of(case)(leaf.clone())[0, target], leaf)[0][0]


@EACH_CASE
def test_saliency_and_input_x_gradient(case):
    trace = case.trace()
    plain, product = saliency(trace).raw, input_x_gradient(trace).raw
    for i, image in enumerate(case.images()):
        gradient = pixel_gradient(case, image, i % 3)
        for y, x in itertools.product(range(case.size[0]), range(case.size[1])):
            assert plain[i, y, x].item() == pytest.approx(max(abs(gradient[c, y, x].item()) for c in range(3)))
            total = sum(image[c, y, x].item() * gradient[c, y, x].item() for c in range(3))
            assert product[i, y, x].item() == pytest.approx(total, abs=1e-13)


def test_the_two_share_one_pass():
    trace = CASES["dense"].trace()
    before = trace.passes.trunk_forward, trace.passes.trunk_backward
    saliency(trace)
    input_x_gradient(trace)
    after = trace.passes.trunk_forward, trace.passes.trunk_backward
    assert [b - a for a, b in zip(before, after, strict=True)] == [len(trace), len(trace)]


def test_input_x_gradient_of_a_network_without_biases_adds_up_to_the_score():
    layers = (nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12, 3, bias=False))
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), *layers))
    trace = ab.trace(model, "1", normal(5, 2, 5, 6))
    torch.testing.assert_close(input_x_gradient(trace).raw.sum((1, 2)), trace.scores, **CLOSE)


@EACH_CASE
def test_smooth_grad_is_the_size_of_the_mean_gradient(case):
    actual = smooth_grad(case.trace(), samples=3, sigma=0.2, seed=5).raw
    for i, image in enumerate(case.images()):
        generator = generator_of(image, 5)
        spread = 0.2 * (image.max() - image.min())
        copies = [image + spread * torch.randn(image.shape, generator=generator, dtype=torch.float64) for _ in range(3)]
        gradients = [pixel_gradient(case, copy, i % 3) for copy in copies]
        expected = ((gradients[0] + gradients[1] + gradients[2]) / 3).abs().amax(0)
        torch.testing.assert_close(actual[i], expected, **CLOSE)


def test_smooth_grad_without_noise_is_saliency():
    trace = CASES["dense"].trace()
    torch.testing.assert_close(smooth_grad(trace, samples=2, sigma=0.0).raw, saliency(trace).raw, **CLOSE)


@EACH_CASE
def test_sobel_in_loops(case):
    actual = sobel(case.trace()).raw
    height, width = case.size
    kernel = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    for i, image in enumerate(case.images()):
        grey = (image[0] + image[1] + image[2]) / 3
        for y, x in itertools.product(range(height), range(width)):
            across = down = 0.0
            for dy, dx in itertools.product((-1, 0, 1), repeat=2):
                value = grey[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)].item()
                across += kernel[dy + 1][dx + 1] * value
                down += kernel[dx + 1][dy + 1] * value
            assert actual[i, y, x].item() == pytest.approx((across**2 + down**2) ** 0.5, abs=1e-12)


def test_sobel_of_a_step_edge(readout):
    """A vertical step of height 1: 4 on both of its sides, 0 elsewhere and at the image's border."""
    image = torch.zeros(1, 3, 5, 6)
    image[..., 3:] = 1
    assert sobel(readout(linear([1.0] * 90), image)).raw[0].tolist() == [[0, 0, 4, 4, 0, 0]] * 5


def test_sobel_reads_neither_class_nor_network():
    trace = CASES["dense"].trace()
    other = CASES["pooled"].trace().again(targets=(trace.targets + 1) % 3)
    assert torch.equal(sobel(trace).raw, sobel(other).raw)


@pytest.mark.parametrize("name", ["saliency", "input_x_gradient", "smooth_grad", "sobel"])
@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_any_number_of_channels(name, channels):
    model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 5, 3)).double().eval()
    assert methods.get(name)(ab.trace(model, "1", normal(2, channels, 6, 7))).raw.shape == (2, 6, 7)


class Cube(nn.Module):
    """S_c = sum_k a_ck (mean F_k)^3: a polynomial, whose integral the rule takes exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]]))

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3)) ** 3 @ self.a.T


@EACH_CASE
def test_integrated_gradients_equal_the_mean_gradient_along_the_path(case):
    """Against many midpoints: both rules see the jumps of a ReLU head within one step of each."""
    trace, many = case.trace(), 500
    actual = methods.get("integrated_gradients")(trace)
    expected = torch.zeros_like(actual)
    for step in range(many):
        leaf = ((step + 0.5) / many * trace.activations).requires_grad_()
        score = head_of(case)(leaf.clone()).gather(1, trace.targets[:, None]).sum()
        expected += torch.autograd.grad(score, leaf)[0] / many
    torch.testing.assert_close(actual, expected, rtol=0, atol=0.05 * expected.abs().max().item())


@EACH_CASE
def test_completeness_of_integrated_gradients(case):
    trace = case.trace()
    zero = trace.head(torch.zeros_like(trace.activations)).gather(1, trace.targets[:, None])[:, 0]
    expected = trace.scores - zero
    for steps, share in ((50, 0.05), (400, 0.01)):
        total = (integrated_gradients(trace, steps) * trace.activations).sum((1, 2, 3))
        assert ((total - expected).abs() / expected.abs()).max() < share


def test_polynomial_is_integrated_exactly(readout):
    """d/dF of a m^3 is 3 a m^2 / HW, and its mean over t^2 a third of it: w = a m^2 / HW, from two points on. One step
    is the gradient at the midpoint."""
    maps = normal(2, 3, 2, 3)
    trace, half = readout(Cube(), maps, target=1), readout(Cube(), maps / 2, target=1)
    a = torch.tensor([0.5, 4.0, -1.0], dtype=torch.float64)
    expected = (a * maps.mean((2, 3)) ** 2 / 6)[..., None, None].expand_as(maps)
    for steps, gradients in ((2, expected), (50, expected), (1, half.gradients)):
        torch.testing.assert_close(integrated_gradients(trace, steps), gradients, rtol=1e-12, atol=1e-14)


def test_equals_the_gradient_of_a_linear_score():
    """So it coincides with HiResCAM on global average pooling and one linear layer."""
    trace = CASES["pooled"].trace()
    torch.testing.assert_close(integrated_gradients(trace), trace.gradients, rtol=1e-12, atol=1e-15)


def masked(case: Case, image: Tensor, weights: Tensor) -> Tensor:
    """The image (3, H', W') times the map of the weights (K,), scaled to [0, 1]."""
    combined = (weights[:, None, None] * maps_of(case, image[None])[0]).sum(0)
    mask = upsampled(combined, case.size)
    return image * (mask - mask.min()) / (mask.max() - mask.min())


@EACH_CASE
def test_weights_equal_torch_adam(case):
    actual = opti_cam(case.trace(), iterations=20, learning_rate=0.2)[..., 0, 0]
    for i, image in enumerate(case.images()):
        u = torch.full((case.channels,), 0.5, dtype=torch.float64, requires_grad=True)
        adam = torch.optim.Adam([u], lr=0.2)
        for _ in range(20):
            adam.zero_grad()
            (-case.model()(masked(case, image, u.softmax(0))[None])[0, i % 3]).backward()
            adam.step()
        # Adam divides by the gradient's size, which brings its rounding up to that of the step.
        torch.testing.assert_close(actual[i], u.detach().softmax(0), rtol=0, atol=1e-9)


@EACH_CASE
def test_optimisation_raises_the_score(case):
    start = torch.full((case.channels,), 1 / case.channels, dtype=torch.float64)
    for i, (image, weights) in enumerate(zip(case.images(), opti_cam(case.trace())[..., 0, 0], strict=True)):
        before, after = (score_of(case, masked(case, image, each), i % 3, "logit") for each in (start, weights))
        assert after > before


def test_memory_limit_does_not_change_weights():
    case = CASES["dense"]
    cut = ab.cut(case.model(), case.layer, ablation_memory=1)
    actual = opti_cam(cut.trace(case.images(), torch.arange(case.rows)), iterations=5)
    torch.testing.assert_close(actual, opti_cam(case.trace(), iterations=5), rtol=0, atol=1e-13)
