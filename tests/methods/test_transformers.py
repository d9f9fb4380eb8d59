"""Tests of methods made for vision transformers, against the steps of their authors' code: float64,
one image at a time.
"""

import copy
import itertools
import math
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.cutting.hooked_parts import HookedParts
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.methods.attention_guided_cam import attention_guided_cam
from axiom_bench.methods.attn_lrp import attn_lrp
from axiom_bench.methods.legrad import legrad
from axiom_bench.methods.recipro_cam import recipro_cam
from axiom_bench.testing import CASES, METHOD_CHECKS, Case, exemptions
from axiom_bench.testing.cases import CLASSES, TinyNetwork, run_checks
from tests.methods.plain import CLOSE, normal, seeded

ATTENTION_METHODS = [
    name for name in plugins.names("method") if methods.get(name).spec.of_attention
]
# Methods that read the attention probabilities of each key.
PROBABILITY_METHODS = [name for name in ATTENTION_METHODS if name != "attn_lrp"]
EACH_METHOD = pytest.mark.parametrize("name", ATTENTION_METHODS)
LAYERS = "encoder.layers.encoder_layer_"
IMAGES = normal(2, 3, 32, 32)
TARGETS = [2, 0]


def build() -> nn.Module:
    """Build a transformer of three blocks of two heads, over a class token and 4 x 4 patches."""
    model = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=3)
    nn.init.normal_(model.heads.head.weight)  # torchvision initialises it to zero
    return model


MODEL = seeded(build)


def traced(layer: str = f"{LAYERS}2.ln_1", model: nn.Module = MODEL) -> ab.Trace:
    return ab.trace(model, layer, IMAGES, torch.tensor(TARGETS), reshape="tokens")


def raw(name: str, trace: ab.Trace) -> Tensor:
    return Explanation.of(trace, methods.get(name)(trace)).raw_map


def vit_recipro_cam_code(image: Tensor, target: int, gaussian: bool) -> Tensor:
    """Follow src/vit_recipro_cam.py, github.com/sybyun/vitcam, without its min-max scaling. The
    class token is kept.
    """
    window = torch.tensor([1 / 4, 1 / 2, 1 / 4] if gaussian else [0, 1, 0], dtype=torch.float64)

    def masked(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        new = torch.zeros(16, 17, 16, dtype=torch.float64)
        new[:, 0] = output[0, 0]
        for y, x, dy, dx in itertools.product(range(4), range(4), range(3), range(3)):
            row = y + dy - 1
            column = x + dx - 1
            if 0 <= row < 4 and 0 <= column < 4:
                token = 1 + row * 4 + column
                new[y * 4 + x, token] = output[0, token] * window[dy] * window[dx]
        return torch.cat([output, new])

    handle = MODEL.encoder.layers[1].ln_1.register_forward_hook(masked)
    with torch.no_grad():
        probabilities = MODEL(image[None]).softmax(1)
    handle.remove()
    return probabilities[1:, target].unflatten(0, (4, 4))


@pytest.mark.parametrize("gaussian", [True, False])
def test_recipro_cam_of_tokens_is_vit_recipro_cam(gaussian):
    """Check the authors' layer: the first norm of the second last block."""
    actual = recipro_cam(traced(f"{LAYERS}1.ln_1"), gaussian).raw
    expected = [
        vit_recipro_cam_code(image, target, gaussian)
        for image, target in zip(IMAGES, TARGETS, strict=True)
    ]
    torch.testing.assert_close(actual, torch.stack(expected), **CLOSE)
    assert actual.flatten(1).std(1).min() > 1e-4


def attention_of(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the attention adds to tokens (17, 16), its probabilities A, and their scores
    before the softmax, (2, 17, 17) each.
    """
    attention = block.self_attention
    projected = attention.in_proj_weight @ block.ln_1(x).mT + attention.in_proj_bias[:, None]
    q, k, v = projected.unflatten(0, (3, 2, 8))
    scores = q.mT @ k / math.sqrt(8)
    A = scores.softmax(2)
    mixed = attention.out_proj((A @ v.mT).permute(1, 0, 2).flatten(1))
    return mixed, A, scores


def tokens_of(image: Tensor) -> Tensor:
    """Return the class token and the patches, with their position embeddings (17, 16)."""
    patches = MODEL.conv_proj(image[None])[0].flatten(1).mT
    return torch.cat([MODEL.class_token[0], patches]) + MODEL.encoder.pos_embedding[0]


def legrad_code(image: Tensor, target: int, blocks: int, readout: str) -> Tensor:
    """Follow compute_legrad_clip of legrad/wrapper.py, github.com/WalBouss/LeGrad, without its
    resize and min-max scaling.

    With the readout "own", the network's pooling is kept, as compute_legrad_coca does.
    """
    x = tokens_of(image)
    total = torch.zeros(4, 4, dtype=torch.float64)
    for index, block in enumerate(MODEL.encoder.layers):
        mixed, A, _ = attention_of(block, x)
        x = x + mixed
        x = x + block.mlp(block.ln_2(x))
        pooled = x.mean(0) if readout == "mean" else x[0]
        score = MODEL.heads(MODEL.encoder.ln(pooled))[target]
        (gradient,) = torch.autograd.grad(score, A, retain_graph=True)
        if index >= 3 - blocks:
            total += gradient.clamp(min=0).mean(0).mean(0)[1:].unflatten(0, (4, 4))
    return total


@pytest.mark.parametrize(("blocks", "readout"), [(1, "mean"), (2, "mean"), (9, "mean"), (2, "own")])
def test_legrad(blocks, readout):
    actual = legrad(traced(), blocks, readout).raw
    expected = [
        legrad_code(image, target, blocks, readout)
        for image, target in zip(IMAGES, TARGETS, strict=True)
    ]
    torch.testing.assert_close(actual, torch.stack(expected), **CLOSE)
    assert actual.flatten(1).count_nonzero(1).min() > 12


def agcam_code(image: Tensor, target: int) -> Tensor:
    """Follow Methods/AGCAM/AGCAM.py of the authors' repository (LeemSaebom). Its attentions detach
    their input.
    """
    x = tokens_of(image)
    probabilities = []
    class_scores = []
    for block in MODEL.encoder.layers:
        mixed, A, scores = attention_of(block, x.detach())
        x = x + mixed
        x = x + block.mlp(block.ln_2(x))
        probabilities.append(A)
        class_scores.append(scores[:, 0].detach())
    score = MODEL.heads(MODEL.encoder.ln(x))[0, target]
    gradients = torch.autograd.grad(score, probabilities)
    masks = [
        gradient[:, 0].relu() * scores.sigmoid()
        for gradient, scores in zip(gradients, class_scores, strict=True)
    ]
    return torch.stack(masks)[:, :, 1:].sum(1).sum(0).unflatten(0, (4, 4))


def test_attention_guided_cam():
    actual = attention_guided_cam(traced()).raw
    expected = [agcam_code(image, target) for image, target in zip(IMAGES, TARGETS, strict=True)]
    torch.testing.assert_close(actual, torch.stack(expected), **CLOSE)
    assert actual.flatten(1).count_nonzero(1).min() > 12


def through_linear(layer: nn.Module, a: Tensor, relevance: Tensor) -> Tensor:
    """Apply LRP-0 to z = W a + b, for rows a (n, j) and the relevance (n, i) of z."""
    return a * (relevance / layer(a) @ layer.weight)


def through_norm(norm: nn.Module, a: Tensor, relevance: Tensor) -> Tensor:
    """Apply LRP-0 to a layer norm: its input is centred, then scaled and shifted. The standard
    deviation counts as a constant.
    """
    if isinstance(norm, nn.RMSNorm):  # neither centres nor shifts
        return relevance
    deviation = (a.var(1, correction=0, keepdim=True) + norm.eps).sqrt()
    share = norm.weight * relevance / norm(a) / deviation
    return a * (share - share.mean(1, keepdim=True))


def attn_lrp_rules(image: Tensor, target: int, through: str) -> Tensor:
    """Return the patch tokens' relevance at the last block's first norm, by the paper's rules,
    without torch's graph.
    """
    x = tokens_of(image)
    for block in MODEL.encoder.layers[:2]:
        x = x + attention_of(block, x)[0]
        x = x + block.mlp(block.ln_2(x))
    block = MODEL.encoder.layers[2]
    F = block.ln_1(x)
    layer = block.self_attention
    mixed, A, _ = attention_of(block, x)
    projection = nn.Linear(16, 48).double()
    projection.load_state_dict({"weight": layer.in_proj_weight, "bias": layer.in_proj_bias})
    q, k, v = projection(F).unflatten(1, (3, 2, 8)).permute(1, 2, 0, 3)
    inner = (A @ v).permute(1, 0, 2).flatten(1)
    y = x + mixed
    normed = block.ln_2(y)
    hidden = block.mlp[0](normed)
    added = block.mlp[3](functional.gelu(hidden))
    last = MODEL.encoder.ln(y + added)

    relevance = torch.zeros(17, 16, dtype=torch.float64)
    start = torch.zeros(1, 3, dtype=torch.float64)
    start[0, target] = MODEL.heads(last)[0, target]
    relevance[0] = through_linear(MODEL.heads.head, last[:1], start)[0]
    relevance = through_norm(MODEL.encoder.ln, y + added, relevance)
    mlp_relevance = relevance * added / (y + added)
    mlp_relevance = through_linear(block.mlp[3], functional.gelu(hidden), mlp_relevance)
    mlp_relevance = through_linear(block.mlp[0], normed, mlp_relevance)
    mlp_relevance = through_norm(block.ln_2, y, mlp_relevance)
    relevance = (relevance * y / (y + added) + mlp_relevance) * mixed / y
    relevance = through_linear(layer.out_proj, inner, relevance)
    share = (relevance / inner).unflatten(1, (2, 8)).permute(1, 0, 2)  # per head (2, 17, 8)
    if through == "values":
        parts = [torch.zeros_like(q), torch.zeros_like(k), v * (A.mT @ share)]
    else:
        A_relevance = A * (share @ v.mT) / 2
        Z_share = (A_relevance - A * A_relevance.sum(2, keepdim=True)) / 2 / math.sqrt(8)
        parts = [q * (Z_share @ k), k * (Z_share.mT @ q), v * (A.mT @ share) / 2]
    joined = torch.stack(parts).permute(2, 0, 1, 3).flatten(1)
    return through_linear(projection, F, joined)[1:].mT.unflatten(1, (4, 4))


class Explicit(nn.Module):
    """An attention layer of MODEL, computed like Swin's by a softmax and two products."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *_: Tensor, need_weights: bool) -> tuple[Tensor, None]:
        projected = functional.linear(x, self.layer.in_proj_weight, self.layer.in_proj_bias)
        q, k, v = projected.unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        return self.layer.out_proj(self.mixed(q, k, v).transpose(1, 2).flatten(2)), None

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(8)).softmax(3) @ v


@torch.no_grad()
@pytest.mark.parametrize("norm", [None, nn.RMSNorm], ids=["layer norm", "RMS norm"])
@pytest.mark.parametrize("attention", [None, Explicit], ids=["torch's attention", "explicit"])
@pytest.mark.parametrize("through", ["all", "values"])
def test_attn_lrp(through, attention, norm, monkeypatch):
    plain = copy.deepcopy(MODEL)
    if norm is not None:
        plain.encoder.layers[2].ln_2 = norm(16).double()
        plain.encoder.ln = norm(16).double()
        nn.init.uniform_(plain.encoder.ln.weight, 0.5, 2)
    monkeypatch.setitem(globals(), "MODEL", plain)  # attn_lrp_rules reads it
    model = copy.deepcopy(plain)
    if attention is not None:
        for block in model.encoder.layers:
            block.self_attention = attention(block.self_attention)
    trace = traced(model=model)

    actual = attn_lrp(trace, through) * trace.activations

    expected = [
        attn_lrp_rules(image, target, through)
        for image, target in zip(IMAGES, TARGETS, strict=True)
    ]
    # A division by z loses digits if z is small.
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-8, atol=1e-12)
    assert actual.abs().amax((1, 2, 3)).min() > 1e-4


class Fused(Explicit):
    """An attention layer of MODEL, computed by torch's function, which timm's networks call."""

    causal = False

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)


class OneByOne(nn.Module):
    """A network that looks at its data. torch.fx can't trace it, so images run one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MODEL

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images if images.isfinite().all() else images.nan_to_num())


@EACH_METHOD
def test_a_trunk_in_bf16(name):
    model = copy.deepcopy(MODEL).float()
    cut_model = ab.cut(model, f"{LAYERS}2.ln_1", "bf16", reshape="tokens")
    trace = cut_model.trace(IMAGES, torch.tensor(TARGETS))
    expected = raw(name, traced())
    actual = raw(name, trace)
    assert actual.dtype == torch.float32
    # The trunk has three digits, and so have the attention's scores and gradients.
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=0.1 * expected.max().item())


@EACH_METHOD
def test_other_ways_to_run_attention(name):
    expected = raw(name, traced())

    one_by_one = traced(f"network.{LAYERS}2.ln_1", OneByOne().eval())
    assert isinstance(one_by_one.cut_model.trunk_and_head.parts.parts, HookedParts)
    torch.testing.assert_close(raw(name, one_by_one), expected, **CLOSE)

    model = copy.deepcopy(MODEL)
    for block in model.encoder.layers:
        block.self_attention = Fused(block.self_attention)
    torch.testing.assert_close(raw(name, traced(model=model)), expected, **CLOSE)

    if name not in PROBABILITY_METHODS:
        return
    for block in model.encoder.layers:
        block.self_attention.causal = True
    with pytest.raises(BenchError, match="without a mask"):
        methods.get(name)(traced(model=model))


class Tokens(nn.Module):
    """A layer that turns maps (B, K, H, W) into a class token and other tokens (B, 1 + H W, 8)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(channels, 8)
        self.first = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, maps: Tensor) -> Tensor:
        tokens = self.embedding(maps.flatten(2).mT)
        return torch.cat([self.first.expand(len(tokens), -1, -1), tokens], 1)


class Transformer(TinyNetwork):
    """A network of two transformer blocks over a convolution's maps, read at the class token."""

    def __init__(self, case: Case) -> None:
        super().__init__("pooled", case.channels, case.size)
        blocks = [
            nn.TransformerEncoderLayer(8, 2, 8, batch_first=True, norm_first=True) for _ in range(2)
        ]
        self.head = nn.Sequential(
            Tokens(case.channels), nn.Sequential(*blocks), nn.Linear(8, CLASSES)
        )

    @property
    def readout(self) -> Tensor:
        return self.head[0].embedding.weight

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)[:, 0]


@dataclass(frozen=True)
class AttentionCase(Case):
    def build(self) -> Transformer:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return Transformer(self).to(self.dtype).eval()

    def trace(self, model=None, device=None) -> ab.Trace:
        images = self.images()
        others = self.other_images()
        targets = torch.arange(self.rows) % CLASSES
        if model is None and device is None:
            cut = cached_cut_of_tokens(self)
        else:
            model = model or self.model()
            if device is not None:
                device.put(*model.parameters(), *model.buffers(), images, others, targets)
            cut = ab.cut(model, self.layer, reshape="tokens")
        return replace(cut.trace(images, targets), other_images=others)


@cache
def cached_cut_of_tokens(case: AttentionCase) -> ab.CutModel:
    """Return the cut of the case's network, which all methods and checks share."""
    return ab.cut(case.model(), case.layer, reshape="tokens")


@pytest.mark.slow
@EACH_METHOD
def test_a_method_of_attentions_passes_the_common_suite(name):
    method = methods.get(name)
    case = AttentionCase()
    run_checks(method, METHOD_CHECKS, {"the transformer": case}, exemptions(method))
    with pytest.raises(BenchError, match="leave"):
        method(CASES["dense"].trace())
    if name not in PROBABILITY_METHODS:
        return
    model = case.model()
    model.head.insert(0, nn.MaxPool2d(2))
    message = r"whose maps are the patch tokens|set reshape to their grid"
    with pytest.raises(BenchError, match=message):
        method(case.trace(model))


def test_a_network_without_a_class_token():
    model = AttentionCase().model()
    model.head[0].first = nn.Parameter(torch.empty(1, 0, 8, dtype=torch.float64))
    assert legrad(AttentionCase().trace(model)).raw.any()
    with pytest.raises(BenchError, match="needs a class token"):
        attention_guided_cam(AttentionCase().trace(model))
