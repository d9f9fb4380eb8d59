"""Tests of guided backpropagation against modules swapped by hand, for all ways to call a ReLU."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.guided import guided_gradient
from tests.methods.plain import normal, seeded


class GuidedReLU(nn.Module):
    """A replica of ReLU or ReLU6, with its guided derivative written by hand."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, ceiling):
            ctx.save_for_backward((x > 0) & (x < ceiling))
            return torch.where(x > 0, x, 0 * x).clamp(max=ceiling)

        @staticmethod
        def backward(ctx, gradient):
            (passing,) = ctx.saved_tensors
            return torch.where(passing & (gradient > 0), gradient, 0 * gradient), None

    def __init__(self, ceiling: float = float("inf")) -> None:
        super().__init__()
        self.ceiling = ceiling

    def forward(self, x: Tensor) -> Tensor:
        return self.Function.apply(x, self.ceiling)


class Called(nn.Module):
    """A rectifier called as a function, so that there is no module to swap."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def ignoring_the_result(x: Tensor) -> Tensor:
    x = x + 0
    x.relu_()
    return x


RECTIFIERS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU(inplace)": nn.ReLU(inplace=True),
    "nn.ReLU6": nn.ReLU6(),
    "nn.ReLU6(inplace)": nn.ReLU6(inplace=True),
    "nn.Hardtanh(0, 6)": nn.Hardtanh(0, 6),
    "F.relu": Called(functional.relu),
    "F.relu(inplace)": Called(lambda x: functional.relu(x + 0, inplace=True)),
    "F.relu6": Called(functional.relu6),
    "torch.relu": Called(torch.relu),
    "torch.relu_": Called(lambda x: torch.relu_(x + 0)),
    "Tensor.relu": Called(lambda x: x.relu()),
    "Tensor.relu_, result ignored": Called(ignoring_the_result),
}


def network(first: nn.Module, second: nn.Module) -> nn.Sequential:
    """Return a network with weights so large that also a ReLU6 saturates."""

    def build() -> nn.Module:
        features = [nn.Conv2d(3, 6, 3, padding=1), first, nn.Conv2d(6, 4, 3, padding=1), second]
        return nn.Sequential(*features, nn.Flatten(), nn.Linear(48, 3))

    model = seeded(build, 5)
    with torch.no_grad():
        model[0].weight *= 8
    return model


@pytest.fixture
def images() -> Tensor:
    return normal(2, 3, 3, 4, seed=6)


def gradient_by_hand(model: nn.Module, images: Tensor, targets: list[int]) -> Tensor:
    rows = []
    for image, target in zip(images, targets, strict=True):
        leaf = image[None].clone().requires_grad_()
        model(leaf)[0, target].backward()
        rows.append(leaf.grad)
    return torch.cat(rows)


@pytest.mark.parametrize("name", RECTIFIERS)
def test_all_rectifiers_are_guided(name, images):
    ceiling = 6.0 if "6" in name else float("inf")
    model = network(RECTIFIERS[name], copy.deepcopy(RECTIFIERS[name]))
    replica = network(GuidedReLU(ceiling), GuidedReLU(ceiling))
    guided = gradient_by_hand(replica, images, [2, 0])
    plain = gradient_by_hand(model, images, [2, 0])
    assert (guided - plain).abs().max() > 0.1 * plain.abs().max()  # guiding makes a difference here

    assert_guided(model, "3", images, replica)

    # The model is unguided again after the call.
    assert torch.equal(gradient_by_hand(model, images, [2, 0]), plain)


def assert_guided(model: nn.Module, layer: str, images: Tensor, replica: nn.Module) -> None:
    expected = gradient_by_hand(replica, images.clone(), [2, 0])
    trace = ab.trace(model, layer, images.clone(), torch.tensor([2, 0]))
    trace = replace(trace, images=images)
    atol = 1e-12 * expected.abs().max().item()
    torch.testing.assert_close(guided_gradient(trace), expected, rtol=0, atol=atol)


def test_other_activation_functions_keep_their_gradient(images):
    """Check a Hardtanh that clips at -1, so it is no rectifier. Only the ReLU is guided."""
    replica = network(nn.Hardtanh(), GuidedReLU())
    assert_guided(network(nn.Hardtanh(), nn.ReLU()), "3", images, replica)


def test_network_without_relu_is_refused(images):
    trace = ab.trace(network(nn.SiLU(), nn.GELU()), "3", images)
    with pytest.raises(BenchError, match="needs a network with ReLUs"):
        methods.get("guided_xgrad_cam")(trace)


def test_in_place_first_layer_does_not_modify_images(images):
    """Check that the first layer doesn't overwrite the image at which the gradient is computed."""
    before = images.clone()
    model = nn.Sequential(nn.ReLU(inplace=True), *network(nn.ReLU(), nn.ReLU()))
    replica = nn.Sequential(GuidedReLU(), *network(GuidedReLU(), GuidedReLU()))
    assert_guided(model, "4", images, replica)
    assert torch.equal(images, before)
