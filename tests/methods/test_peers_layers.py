"""Classes of other libraries that explain several layers or a transformer's blocks, and options of captum's."""

from __future__ import annotations

import importlib

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor
from torchvision.models import VisionTransformer

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.testing import CASES

EPSILONS = 1e-3  # they add 1e-7 or 1e-8 to what they divide by; grad-cam resizes in float32
EXACT = 1e-6  # float64, but for the 1e-8 that torchcam adds to the maximum
BLOCK = "encoder.layers.encoder_layer_0"


def peer(library: str, **params: object) -> plugins.Plugin:
    """A class of a library that has no YAML; skips where the library is absent."""
    pytest.importorskip(library)
    target = f"axiom_bench.methods.peers.{library}.{library}"
    return plugins.from_config("method", "peer", {"_target_": target, "params": params})


def minmax(maps: Tensor) -> Tensor:
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / maps.amax((1, 2), keepdim=True)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


@pytest.mark.parametrize("library", ["pytorch_grad_cam", "torchcam"])
def test_refine_cam_is_the_product_over_layers(library):
    trace = CASES["dense"].trace()
    module = {"torchcam": "torchcam.methods"}.get(library, library)
    options = {"base_method": importlib.import_module(module).LayerCAM} if pytest.importorskip(library) else {}
    actual = peer(library, extractor="RefineCAM", layers=["features.1"], options=options)(trace).raw
    maps = [(at.gradients.relu() * at.activations).sum(1) for at in (trace, trace.at("features.1"))]
    size = tuple(actual.shape[1:])  # torchcam's is that of the largest layer, grad-cam's that of the image
    expected = minmax(torch.stack([minmax(enlarged(minmax(raw), size)) for raw in maps]).prod(0))
    if library == "torchcam":  # doesn't scale again after resizing; both layers have the same size
        expected = minmax(minmax(maps[0]) * minmax(maps[1]))
    torch.testing.assert_close(actual, expected, rtol=0, atol=EPSILONS)


@pytest.mark.parametrize("library", ["pytorch_grad_cam", "torchcam"])
def test_unknown_layer_error_message(library):
    with pytest.raises(BenchError, match=r"no layer 'nope'.*set params\.layers"):
        peer(library, extractor="RefineCAM", layers=["nope"])(CASES["dense"].trace())


def transformer() -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3).double().eval()
        torch.nn.init.normal_(model.heads.head.weight)
    return model


def test_legrad_is_the_rectified_gradient_of_the_attention():
    model, images = transformer(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    trace = ab.trace(model, BLOCK, images, reshape="tokens")
    actual = peer("torchcam", extractor="LeGrad")(trace).raw
    block = model.get_submodule(BLOCK)
    tokens = model._process_input(images)
    tokens = torch.cat([model.class_token.expand(2, -1, -1), tokens], 1) + model.encoder.pos_embedding
    attention = block.self_attention
    q, k, v = functional.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias).chunk(3, 2)
    q, k, v = (part.unflatten(2, (2, 8)).transpose(1, 2) for part in (q, k, v))
    A = (q @ k.mT / 8**0.5).softmax(-1).detach().requires_grad_()
    tokens = tokens + attention.out_proj((A @ v).transpose(1, 2).flatten(2))
    tokens = tokens + block.mlp(block.ln_2(tokens))
    scores = model.heads(model.encoder.ln(tokens.mean(1)))  # a block is scored by the mean of its tokens
    (gradient,) = torch.autograd.grad(scores.gather(1, trace.targets[:, None].clone()).sum(), A)
    expected = gradient.relu().mean((1, 2))[:, 1:].unflatten(1, (4, 4))
    torch.testing.assert_close(actual, minmax(expected), rtol=0, atol=EXACT)


def test_interpolation_of_captum_is_an_option():
    trace = CASES["dense"].trace()
    expected = methods.get("guided_grad_cam")(trace).raw
    actual = peer("captum", extractor="GuidedGradCam", options={"interpolate_mode": "bilinear"})(trace).raw
    shown = expected.flatten(1).amax(1) > 0
    scale = actual[shown].amax((1, 2)) / expected[shown].amax((1, 2))  # ours multiplies by a heatmap of maximum 1
    assert shown.any()
    assert not actual[~shown].any()
    torch.testing.assert_close(actual[shown], expected[shown] * scale[:, None, None], rtol=0, atol=1e-12)
