"""What epsilon is: S - sum_k sum_xy g_k F_k of a piecewise-linear network is the sum of its later layers' biases, each
times the score's gradient at that layer's output. Fu et al., BMVC 2020, arXiv:2008.02312."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.embedded import networks


def bias_terms(model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> Tensor:
    """(B,) sum over the affine layers after `layer` of bias x gradient of the score at their output. Leaves hooks."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        outputs[name] = output.detach() if name == layer else output  # what comes before the layer has no gradient
        return outputs[name].requires_grad_().clone()  # the next layer may work in place

    affine = {name: module for name, module in model.named_modules() if hasattr(module, "bias") and name != layer}
    for name in (layer, *affine):
        model.get_submodule(name).register_forward_hook(partial(keep, name))
    scores = model(images).gather(1, targets[:, None])
    gradients = torch.autograd.grad(scores.sum(), [outputs[name] for name in affine], allow_unused=True)
    total = torch.zeros_like(scores[:, 0])
    for module, gradient in zip(affine.values(), gradients, strict=True):
        bias = module.bias
        if isinstance(module, nn.BatchNorm2d):
            bias = bias - module.weight * module.running_mean / (module.running_var + module.eps).sqrt()
        if gradient is not None and bias is not None:
            total += gradient.reshape(*gradient.shape[:2], -1).sum(2) @ bias
    return total.detach()


def vgg(activation: nn.Module) -> nn.Sequential:
    """Small, with VGG-16's kinds of layers."""
    features = torchvision.models.vgg.make_layers([8, "M", 16, 16, "M", 16, "M"])
    between = [nn.Conv2d(16, 16, 3, padding=1), activation, nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(features, *between, nn.Linear(64, 32), activation, nn.Dropout(), nn.Linear(32, 5))


def with_random_biases(model: nn.Module) -> nn.Module:
    """Nor are the statistics of batch norms those of a new network, whose bias terms are 0."""
    for name, value in model.state_dict().items():
        if name.endswith(("bias", "running_mean", "running_var")):
            nn.init.uniform_(value, 0.1, 1)
    return model


NETWORKS = [
    *((name, partial(networks.load, name), networks.LAYERS[name]) for name in ("scenes_vgg", "scenes_resnet")),
    ("scenes_resnet", partial(networks.load, "scenes_resnet"), "layer2"),
    ("vgg", lambda: with_random_biases(vgg(nn.ReLU())), "0"),
    ("resnet18", lambda: with_random_biases(torchvision.models.resnet18()), "layer3"),
    ("squeezenet1_1", lambda: with_random_biases(torchvision.models.squeezenet1_1()), "features.10"),
]


def traced(build: Callable[[], nn.Module], layer: str) -> tuple[ab.Explanation, Tensor, Tensor]:
    """Gradient x activations; (B,) S - sum_k sum_xy g_k F_k and the bias terms, both over |S|."""
    torch.manual_seed(0)
    model, images = build().double().eval(), torch.randn(3, 3, 96, 96, dtype=torch.float64)
    trace = ab.trace(model, layer, images)
    product, size = trace.gradients * trace.activations, trace.scores.abs()
    gap, terms = trace.scores - product.sum((1, 2, 3)), bias_terms(model, layer, images, trace.targets)
    return ab.Explanation(trace=trace, contributions=product), gap / size, terms / size


@pytest.mark.parametrize(("name", "build", "layer"), NETWORKS)
def test_epsilon_is_the_bias_terms_of_the_later_layers(name, build, layer):
    explanation, gap, terms = traced(build, layer)
    assert terms.abs().min() > 1e-3
    torch.testing.assert_close(gap, terms, rtol=0, atol=1e-12)
    torch.testing.assert_close(ab.metrics.get("epsilon")(explanation), terms.abs(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU()])
def test_it_is_not_where_activations_are_curved(activation):
    _, gap, terms = traced(lambda: with_random_biases(vgg(activation)), "0")
    assert (gap - terms).abs().min() > 1e-3
