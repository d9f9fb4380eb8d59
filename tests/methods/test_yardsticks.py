"""The plain gradient family and the Sobel control, against their definitions: closed forms, autograd, loops."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.input_x_gradient import input_x_gradient
from axiom_bench.methods.saliency import saliency
from axiom_bench.methods.smooth_grad import smooth_grad
from axiom_bench.methods.sobel import sobel
from axiom_bench.testing import CASES, Case
from tests.methods.plain import generator_of, model_of

EACH_CASE = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12, 3, bias=False))
        images = torch.randn(5, 2, 5, 6, dtype=torch.float64)
    trace = ab.trace(model.double().eval(), "1", images)
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
    trace = readout(nn.Sequential(nn.Flatten(), nn.Linear(90, 2)), image)
    assert sobel(trace).raw[0].tolist() == [[0, 0, 4, 4, 0, 0]] * 5


def test_sobel_reads_neither_class_nor_network():
    trace = CASES["dense"].trace()
    other = CASES["pooled"].trace().again(targets=(trace.targets + 1) % 3)
    assert torch.equal(sobel(trace).raw, sobel(other).raw)


@pytest.mark.parametrize("name", ["saliency", "input_x_gradient", "smooth_grad", "sobel"])
@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_any_number_of_channels(name, channels):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 5, 3)).eval()
        images = torch.randn(2, channels, 6, 7)
    assert methods.get(name)(ab.trace(model, "1", images)).raw.shape == (2, 6, 7)


@pytest.mark.parametrize(("params", "message"), [({"samples": 0}, "samples=0"), ({"sigma": -1.0}, "sigma=-1")])
def test_invalid_parameters(params, message):
    with pytest.raises(BenchError, match=message):
        smooth_grad(CASES["dense"].trace(), **params)
