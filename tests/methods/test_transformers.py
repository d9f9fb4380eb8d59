"""Methods made for vision transformers, beside the steps of their authors' code: float64, one image at a time."""

import math

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.trunk_and_head import HookedParts
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.methods.attention_guided_cam import attention_guided_cam
from axiom_bench.methods.legrad import legrad
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.testing import CASES, METHOD_CHECKS, exemptions
from axiom_bench.testing.cases import run_checks
from tests.methods.made_transformers import FUSED, LAYERED, Block
from tests.methods.plain import CLOSE, normal, seeded

OF_ATTENTION = [name for name in plugins.names("method") if methods.get(name).spec.of_attention]
LAYERS = "encoder.layers.encoder_layer_"
IMAGES, TARGETS = normal(2, 3, 32, 32), [2, 0]


def build() -> nn.Module:
    """Three blocks of two heads over a class token and 4 x 4 patches."""
    model = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero
    return model


MODEL = seeded(build)


def traced(layer: str) -> ab.Trace:
    return ab.trace(MODEL, layer, IMAGES, torch.tensor(TARGETS), reshape="tokens")


def vit_recipro_cam_code(image: Tensor, target: int, layer: nn.Module, gaussian: bool) -> Tensor:
    """github.com/sybyun/vitcam, src/vit_recipro_cam.py, before its min-max scaling: the class token stays."""
    window = torch.tensor([1 / 4, 1 / 2, 1 / 4] if gaussian else [0, 1, 0], dtype=torch.float64)

    def masked(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        new = torch.zeros(16, 17, 16, dtype=torch.float64)
        new[:, 0] = output[0, 0]
        for y, x, dy, dx in ((y, x, dy, dx) for y in range(4) for x in range(4) for dy in range(3) for dx in range(3)):
            if 0 <= y + dy - 1 < 4 and 0 <= x + dx - 1 < 4:
                token = 1 + (y + dy - 1) * 4 + x + dx - 1
                new[y * 4 + x, token] = output[0, token] * window[dy] * window[dx]
        return torch.cat([output, new])

    handle = layer.register_forward_hook(masked)
    with torch.no_grad():
        probabilities = MODEL(image[None]).softmax(1)
    handle.remove()
    return probabilities[1:, target].unflatten(0, (4, 4))


@pytest.mark.parametrize("gaussian", [True, False])
def test_recipro_cam_of_tokens_is_vit_recipro_cam(gaussian):
    """At the first norm of the last block but one, its authors' layer."""
    actual = recipro_cam(traced(f"{LAYERS}1.ln_1"), gaussian).raw
    layer = MODEL.get_submodule(f"{LAYERS}1.ln_1")
    code = [vit_recipro_cam_code(*each, layer, gaussian) for each in zip(IMAGES, TARGETS, strict=True)]
    torch.testing.assert_close(actual, torch.stack(code), **CLOSE)
    assert actual.flatten(1).std(1).min() > 1e-4


def attention_of(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What it adds to tokens (17, 16), its probabilities A and their scores before the softmax, (2, 17, 17) each."""
    attention = block.self_attention
    projected = attention.in_proj_weight @ block.ln_1(x).mT + attention.in_proj_bias[:, None]
    q, k, v = projected.unflatten(0, (3, 2, 8))
    scores = q.mT @ k / math.sqrt(8)
    A = scores.softmax(2)
    return attention.out_proj((A @ v.mT).permute(1, 0, 2).flatten(1)), A, scores


def tokens_of(image: Tensor) -> Tensor:
    """Class token and patches, with their places (17, 16)."""
    patches = MODEL.conv_proj(image[None])[0].flatten(1).mT
    return torch.cat([MODEL.class_token[0], patches]) + MODEL.encoder.pos_embedding[0]


def legrad_code(image: Tensor, target: int, blocks: int, readout: str) -> Tensor:
    """github.com/WalBouss/LeGrad, legrad/wrapper.py, compute_legrad_clip, before its resize and min-max scaling; own:
    the network's pooling, which compute_legrad_coca keeps."""
    x, total = tokens_of(image), torch.zeros(4, 4, dtype=torch.float64)
    for index, block in enumerate(MODEL.encoder.layers):
        mixed, A, _ = attention_of(block, x)
        x = x + mixed
        x = x + block.mlp(block.ln_2(x))
        pooled = x.mean(0) if readout == "mean" else x[0]
        (gradient,) = torch.autograd.grad(MODEL.heads(MODEL.encoder.ln(pooled))[target], A, retain_graph=True)
        if index >= 3 - blocks:
            total += gradient.clamp(min=0).mean(0).mean(0)[1:].unflatten(0, (4, 4))
    return total


@pytest.mark.parametrize(("blocks", "readout"), [(1, "mean"), (2, "mean"), (9, "mean"), (2, "own")])
def test_legrad(blocks, readout):
    actual = legrad(traced(f"{LAYERS}2.ln_1"), blocks, readout).raw
    code = [legrad_code(*each, blocks, readout) for each in zip(IMAGES, TARGETS, strict=True)]
    torch.testing.assert_close(actual, torch.stack(code), **CLOSE)
    assert actual.flatten(1).count_nonzero(1).min() > 12


def agcam_code(image: Tensor, target: int) -> Tensor:
    """Methods/AGCAM/AGCAM.py of the authors' repository (LeemSaebom), whose attentions detach their input."""
    x, kept = tokens_of(image), []
    for block in MODEL.encoder.layers:
        mixed, A, scores = attention_of(block, x.detach())
        x = x + mixed
        x = x + block.mlp(block.ln_2(x))
        kept.append((A, scores[:, 0].detach()))
    gradients = torch.autograd.grad(MODEL.heads(MODEL.encoder.ln(x))[0, target], [A for A, _ in kept])
    masks = [g[:, 0].relu() * scores.sigmoid() for g, (_, scores) in zip(gradients, kept, strict=True)]
    return torch.stack(masks)[:, :, 1:].sum(1).sum(0).unflatten(0, (4, 4))


def test_attention_guided_cam():
    actual = attention_guided_cam(traced(f"{LAYERS}2.ln_1")).raw
    code = [agcam_code(*each) for each in zip(IMAGES, TARGETS, strict=True)]
    torch.testing.assert_close(actual, torch.stack(code), **CLOSE)
    assert actual.flatten(1).count_nonzero(1).min() > 12


@pytest.mark.parametrize("case", [FUSED, LAYERED], ids=["fused", "layered"])
@pytest.mark.parametrize("name", OF_ATTENTION)
def test_a_method_of_attentions_passes_the_common_suite(name, case):
    method = methods.get(name)
    run_checks(method, METHOD_CHECKS, {"the transformer": case}, exemptions(method))
    with pytest.raises(BenchError, match="leave"):
        method(CASES["dense"].trace())


class OneByOne(nn.Module):
    """Looks at its data, so that torch.fx can't trace it, and images run alone."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MODEL

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images if images.isfinite().all() else images.nan_to_num())


@pytest.mark.parametrize("name", OF_ATTENTION)
def test_a_network_whose_images_run_alone(name):
    layer = f"{LAYERS}2.ln_1"
    trace = ab.trace(OneByOne().eval(), f"network.{layer}", IMAGES, torch.tensor(TARGETS), reshape="tokens")
    assert isinstance(trace.cut_model.trunk_and_head.parts.parts, HookedParts)
    torch.testing.assert_close(methods.get(name)(trace).raw, methods.get(name)(traced(layer)).raw, **CLOSE)


def test_a_network_without_a_class_token_has_no_attention_guided_cam():
    model = FUSED.model()
    model.head[0].first = nn.Parameter(torch.empty(1, 0, 8, dtype=torch.float64))
    assert legrad(FUSED.trace(model)).raw.any()
    with pytest.raises(BenchError, match="needs a class token"):
        attention_guided_cam(FUSED.trace(model))


@pytest.mark.parametrize("name", OF_ATTENTION)
def test_a_layer_larger_than_the_tokens_is_refused(name):
    model = FUSED.model()
    model.head.insert(0, nn.MaxPool2d(2))
    with pytest.raises(BenchError, match=r"whose maps are the patch tokens|set reshape to their grid"):
        methods.get(name)(FUSED.trace(model))


@pytest.mark.parametrize("name", OF_ATTENTION)
def test_a_masked_attention_is_refused(name):
    class Masked(Block):
        def forward(self, tokens: Tensor) -> Tensor:
            q = tokens.unflatten(2, (2, 4)).transpose(1, 2)
            return tokens + functional.scaled_dot_product_attention(q, q, q, is_causal=True).transpose(1, 2).flatten(2)

    model = FUSED.model()
    model.head[1] = nn.Sequential(*(Masked(True).double() for _ in range(2)))
    with pytest.raises(BenchError, match="without a mask"):
        methods.get(name)(FUSED.trace(model))
