"""RefineCAM: the product of heatmaps, and the layers that it takes where none are set."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.methods.grad_cam_pp import grad_cam_pp
from axiom_bench.methods.refine_cam import finer_layers, refine_cam
from axiom_bench.testing import CASES


def network() -> nn.Sequential:
    """Maps of 16, 8 and 4 pixels; a convolution and a ReLU at each."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 4), (4, 5), (5, 6)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    head = nn.Sequential(nn.Flatten(), nn.Linear(24, 3))
    return nn.Sequential(nn.Sequential(*layers), head).eval()


@pytest.fixture
def trace() -> ab.Trace:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return ab.trace(network().double(), "0.8", torch.randn(2, 3, 16, 16, dtype=torch.float64), [0, 2])


def test_last_module_of_each_finer_resolution(trace):
    assert finer_layers(trace) == ("0.7", "0.4", "0.1")
    assert finer_layers(trace.at("0.5")) == ("0.4", "0.1")
    assert finer_layers(trace.at("0.1")) == ()


def test_stages_of_a_resnet_are_the_authors_layers():
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        model = torchvision.models.resnet18().eval()
    trace = ab.trace(model, "layer4", torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert finer_layers(trace) == ("layer3", "layer2", "layer1")


@pytest.mark.parametrize("wrapped", [grad_cam_pp, grad_cam])
def test_product_of_heatmaps_of_the_layers(trace, wrapped):
    expected = torch.ones(2, 16, 16, dtype=torch.float64)
    for layer in ("0.8", "0.7", "0.4", "0.1"):
        other = trace.at(layer)
        expected *= ab.heatmap((wrapped(other) * other.activations).sum(1), (16, 16))
    actual = refine_cam(trace, wrapped=wrapped).raw
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(refine_cam(trace, ["0.1", "0.4", "0.7"], wrapped).raw, expected, rtol=0, atol=1e-12)


def test_one_resolution_gives_the_wrapped_methods_heatmap():
    trace = CASES["dense"].trace()
    expected = ab.heatmap((grad_cam_pp(trace) * trace.activations).sum(1), CASES["dense"].size)
    assert torch.equal(refine_cam(trace).raw, expected)


def test_named_entry_leaves_no_hooks_behind(trace):
    methods.get("refine_cam")(trace)
    assert not any(module._forward_hooks for module in trace.cut_model.model.modules())


def test_a_transformers_layers_are_set_by_hand():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3).eval()
    trace = ab.trace(model, "encoder.layers.encoder_layer_1.ln_1", torch.randn(1, 3, 32, 32), reshape="tokens")
    with pytest.raises(BenchError, match="set the layers of refine_cam"):
        refine_cam(trace)
    assert refine_cam(trace, ["encoder.layers.encoder_layer_0.ln_1"]).raw.shape == (1, 32, 32)
