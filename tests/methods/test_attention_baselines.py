"""Tests of raw attention, rollout and transformer attribution against the authors' steps, written
out layer by layer: float64, one image at a time.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import methods
from axiom_bench.errors import BenchError
from axiom_bench.methods.raw_attention import raw_attention
from axiom_bench.methods.rollout import rollout
from axiom_bench.methods.transformer_attribution import transformer_attribution
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from tests.methods.plain import CLOSE, normal, seeded
from tests.methods.test_transformers import (
    IMAGES,
    MODEL,
    TARGETS,
    AttentionCase,
    attention_of,
    tokens_of,
    traced,
)

CLASS_INDEPENDENT = ["raw_attention", "rollout"]
NAMES = [*CLASS_INDEPENDENT, "transformer_attribution"]
FUSIONS = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}


def probabilities_of(image: Tensor) -> list[Tensor]:
    """Return the attention probabilities of each block, (2, 17, 17)."""
    x = tokens_of(image)
    probabilities = []
    for block in MODEL.encoder.layers:
        mixed, A, _ = attention_of(block, x)
        x = x + mixed
        x = x + block.mlp(block.ln_2(x))
        probabilities.append(A)
    return probabilities


def shown_row(matrix: Tensor, query: str) -> Tensor:
    """Return the class token's row of (17, 17), or the mean of the patches' rows, as a map."""
    row = matrix[0] if query == "class" else sum(matrix[index] for index in range(1, 17)) / 16
    return row[1:].unflatten(0, (4, 4))


@torch.no_grad()
@pytest.mark.parametrize("query", ["class", "mean"])
@pytest.mark.parametrize(("block", "heads"), [(-1, "mean"), (0, "max"), (2, "min"), (-3, "mean")])
def test_raw_attention(block, heads, query):
    actual = raw_attention(traced(), block, heads, query).raw
    matrices = [FUSIONS[heads](probabilities_of(image)[block], 0) for image in IMAGES]
    expected = torch.stack([shown_row(matrix, query) for matrix in matrices])
    torch.testing.assert_close(actual, expected, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("query", ["class", "mean"])
@pytest.mark.parametrize("heads", FUSIONS)
def test_rollout(heads, query):
    actual = rollout(traced(), heads, query).raw
    expected = []
    for image in IMAGES:
        joint = torch.eye(17, dtype=torch.float64)
        for A in probabilities_of(image):
            factor = 0.5 * FUSIONS[heads](A, 0) + 0.5 * torch.eye(17)
            for row in factor:
                row /= row.sum()
            joint = factor @ joint
        expected.append(shown_row(joint, query))
    torch.testing.assert_close(actual, torch.stack(expected), **CLOSE)


def planted(patch: int | None) -> nn.Module:
    """Return MODEL with uniform attention, except that each first head reads only this patch."""
    model = copy.deepcopy(MODEL)
    with torch.no_grad():
        for block in model.encoder.layers:
            block.self_attention.in_proj_weight[:32] = 0  # of queries and keys
            block.self_attention.in_proj_bias[:32] = 0
            if patch is not None:
                block.self_attention.in_proj_bias[0] = 100
                block.self_attention.in_proj_weight[16, 0] = 1
                block.ln_1.weight.fill_(1)
        if patch is not None:
            model.encoder.pos_embedding[..., 0] = -1000
            model.encoder.pos_embedding[:, 1 + patch, 0] = 1000
    return model


@pytest.mark.parametrize("name", CLASS_INDEPENDENT)
def test_a_uniform_attention_gives_a_uniform_map(name):
    raw = methods.get(name)(traced(model=planted(None))).raw
    # Of three factors (A + I) / 2 with A A = A, the product is 7/8 A + 1/8 I.
    value = 1 / 17 if name == "raw_attention" else 7 / 8 / 17
    torch.testing.assert_close(raw, torch.full_like(raw, value), **CLOSE)


def test_a_head_that_reads_one_patch_is_shown_there():
    trace = traced(model=planted(6))
    expected = torch.full((2, 4, 4), 1 / 34, dtype=torch.float64)
    expected[:, 1, 2] += 1 / 2
    torch.testing.assert_close(raw_attention(trace).raw, expected, **CLOSE)
    torch.testing.assert_close(rollout(trace).raw, 7 / 8 * expected, **CLOSE)
    alone = torch.full_like(expected, 1 / 17)
    alone[:, 1, 2] = 1
    torch.testing.assert_close(raw_attention(trace, heads="max").raw, alone, **CLOSE)


@pytest.mark.parametrize("name", NAMES)
def test_which_maps_depend_on_the_class(name):
    trace = traced()
    other_class = trace.again(targets=torch.tensor([0, 1]))
    first = methods.get(name)(trace).raw
    second = methods.get(name)(other_class).raw
    assert torch.equal(first, second) == (name in CLASS_INDEPENDENT)


def through_linear(layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    """Apply the z+ rule to z = W x, for rows x (n, j) and the relevance (n, i) of z."""
    passed = torch.zeros_like(x)
    for row in range(len(x)):
        parts = (x[row] * layer.weight).clamp(min=0)  # (i, j)
        passed[row] = (parts / parts.sum(1, keepdim=True) * relevance[row][:, None]).sum(0)
    return passed


def through_sum(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Apply equations 8 to 10 to a + b."""
    R_a = a / (a + b) * relevance
    R_b = b / (a + b) * relevance
    total = R_a.sum().abs() + R_b.sum().abs()
    return (
        R_a * R_a.sum().abs() / total * relevance.sum() / R_a.sum(),
        R_b * R_b.sum().abs() / total * relevance.sum() / R_b.sum(),
    )


def through_product(u: Tensor, v: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Divide the relevance of u @ v (heads, n, m) in proportion to the terms, half to each."""
    share = relevance / (u @ v)
    return u * (share @ v.mT) / 2, v * (u.mT @ share) / 2


@torch.no_grad()
def relevances_of(image: Tensor, target: int) -> list[Tensor]:
    """Return the relevance of each block's attention probabilities, (2, 17, 17)."""
    x = tokens_of(image)
    inputs = []
    hidden_states = []
    for block in MODEL.encoder.layers:
        inputs.append(x)
        y = x + attention_of(block, x)[0]
        hidden_states.append(y)
        x = y + block.mlp(block.ln_2(y))
    last = MODEL.encoder.ln(x)

    relevance = torch.zeros(17, 16, dtype=torch.float64)
    start = torch.eye(3, dtype=torch.float64)[[target]]
    relevance[:1] = through_linear(MODEL.heads.head, last[:1], start)
    relevances = []
    for block, x, y in reversed(
        list(zip(MODEL.encoder.layers, inputs, hidden_states, strict=True))
    ):
        # Norms and the GELU pass relevance on unchanged.
        normed = block.ln_2(y)
        hidden = functional.gelu(block.mlp[0](normed))
        added = block.mlp[3](hidden)
        skipped, relevance = through_sum(y, added, relevance)
        relevance = through_linear(block.mlp[3], hidden, relevance)
        relevance = skipped + through_linear(block.mlp[0], normed, relevance)

        normed = block.ln_1(x)
        layer = block.self_attention
        mixed, A, _ = attention_of(block, x)
        projection = nn.Linear(16, 48).double()
        projection.load_state_dict({"weight": layer.in_proj_weight, "bias": layer.in_proj_bias})
        q, k, v = projection(normed).unflatten(1, (3, 2, 8)).permute(1, 2, 0, 3)
        inner = (A @ v).permute(1, 0, 2).flatten(1)
        skipped, relevance = through_sum(x, mixed, relevance)
        relevance = through_linear(layer.out_proj, inner, relevance)
        R_A, R_v = through_product(A, v, relevance.unflatten(1, (2, 8)).permute(1, 0, 2))
        relevances.insert(0, R_A)
        R_q, R_k = through_product(q / math.sqrt(8), k.mT, R_A)
        joined = torch.stack([R_q, R_k.mT, R_v]).permute(2, 0, 1, 3).flatten(1)
        relevance = skipped + through_linear(projection, normed, joined)
    return relevances


def attribution_code(image: Tensor, target: int, form: str, query: str) -> Tensor:
    """Follow compute_rollout_attention of baselines/ViT/ViT_LRP.py, hila-chefer's repository."""
    x = tokens_of(image)
    probabilities = []
    for block in MODEL.encoder.layers:
        mixed, A, _ = attention_of(block, x)
        x = x + mixed
        x = x + block.mlp(block.ln_2(x))
        probabilities.append(A)
    score = MODEL.heads(MODEL.encoder.ln(x))[0, target]
    gradients = torch.autograd.grad(score, probabilities)
    relevances = relevances_of(image, target) if form == "lrp" else probabilities
    joint = torch.eye(17, dtype=torch.float64)
    for gradient, relevance in zip(gradients, relevances, strict=True):
        joint = joint + (gradient * relevance).clamp(min=0).mean(0) @ joint
    return shown_row(joint - torch.eye(17), query).detach()


@pytest.mark.parametrize("query", ["class", "mean"])
@pytest.mark.parametrize("form", ["lrp", "generic"])
def test_transformer_attribution(form, query):
    actual = transformer_attribution(traced(), form, query).raw
    expected = [
        attribution_code(image, target, form, query)
        for image, target in zip(IMAGES, TARGETS, strict=True)
    ]
    # A division by z loses digits if z is small.
    torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-8, atol=1e-12)
    assert actual.flatten(1).count_nonzero(1).min() > 12


def as_vit(library: str) -> tuple[nn.Module, str]:
    """Return a network of another library with MODEL's weights, and its last block's norm."""
    state = MODEL.state_dict()
    names = {"conv_proj": "", "heads.head": ""}
    if library == "timm":
        timm = pytest.importorskip("timm")
        network = timm.models.VisionTransformer(
            img_size=32,
            patch_size=8,
            num_classes=3,
            embed_dim=16,
            depth=3,
            num_heads=2,
            mlp_ratio=2,
        )
        names = {
            "class_token": "cls_token", "encoder.pos_embedding": "pos_embed",
            "conv_proj": "patch_embed.proj", "encoder.ln": "norm", "heads.head": "head",
            "encoder.layers.encoder_layer_": "blocks.", "ln_1": "norm1", "ln_2": "norm2",
            "self_attention.in_proj_": "attn.qkv.", "self_attention.out_proj": "attn.proj",
            "mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2",
        }  # fmt: skip
        layer = "blocks.2.norm1"
    else:
        transformers = pytest.importorskip("transformers")
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            patch_size=8,
            num_labels=3,
            layer_norm_eps=1e-6,
        )
        network = transformers.ViTForImageClassification(config)
        for index in range(3):
            prefix = f"encoder.layers.encoder_layer_{index}.self_attention"
            for kind in ("weight", "bias"):
                parts = state.pop(f"{prefix}.in_proj_{kind}").chunk(3)
                for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                    state[f"{prefix}.{name}.{kind}"] = part
        embeddings = "vit.embeddings"
        names = {
            "class_token": f"{embeddings}.cls_token",
            "encoder.pos_embedding": f"{embeddings}.position_embeddings",
            "conv_proj": f"{embeddings}.patch_embeddings.projection",
            "encoder.ln": "vit.layernorm", "heads.head": "classifier",
            "encoder.layers.encoder_layer_": "vit.layers.",
            "ln_1": "layernorm_before", "ln_2": "layernorm_after",
            "self_attention.out_proj": "attention.o_proj", "self_attention": "attention",
            "mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2",
        }  # fmt: skip
        layer = "vit.layers.2.layernorm_before"
    renamed = {}
    for key, value in state.items():
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = value
    network.double().load_state_dict(renamed)
    return network.eval(), layer


@pytest.mark.parametrize("library", ["timm", "transformers"])
def test_other_libraries_networks_have_the_same_maps(library):
    network, layer = as_vit(library)
    trace = traced(layer, network)
    torch.testing.assert_close(trace.logits, traced().logits, **CLOSE)
    for name in NAMES:
        actual = methods.get(name)(trace).raw
        expected = methods.get(name)(traced()).raw
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-12)


def test_a_network_of_only_patches():
    model = AttentionCase().model()
    model.head[0].first = nn.Parameter(torch.empty(1, 0, 8, dtype=torch.float64))
    trace = AttentionCase().trace(model)
    for name in NAMES:
        by_default = methods.get(name)(trace).raw
        assert by_default.any()
        module = {"raw_attention": raw_attention, "rollout": rollout}
        method = module.get(name, transformer_attribution)
        assert torch.equal(by_default, method(trace, query="mean").raw)


def test_unknown_block():
    assert raw_attention(traced(), block=2).raw.any()
    with pytest.raises(BenchError, match=r"Invalid block=3 .* from -3 to 2"):
        raw_attention(traced(), block=3)


class Sine(nn.Module):
    """An activation function without a relevance rule."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


def test_an_operation_without_a_rule():
    model = copy.deepcopy(MODEL)
    model.encoder.layers[1].mlp[1] = Sine()
    trace = traced(model=model)
    with pytest.raises(BenchError, match=r"no relevance rule for 'sin'.*params\.form=generic"):
        transformer_attribution(trace)
    assert transformer_attribution(trace, form="generic").raw.any()


class SumInPlace(nn.Module):
    """A sum whose output isn't used: the tensor itself changes."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x.add_(x.detach())
        return x


def test_a_sum_in_place_is_refused():
    model = copy.deepcopy(MODEL)
    model.encoder.layers[1].mlp[1] = SumInPlace()
    trace = traced(model=model)
    with pytest.raises(BenchError, match=r"no relevance rule for 'add_'.*params\.form=generic"):
        transformer_attribution(trace)


def detr_of(folder, num_queries: int):
    """Return a tiny DETR of random weights, and the network of transformers."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        out_features=["stage2"],
    )
    config = transformers.DetrConfig(
        encoder_layers=2,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_attention_heads=2,
        use_timm_backbone=False,
        backbone_config=backbone,
        d_model=16,
        num_queries=num_queries,
        id2label={0: "person", 1: "cat"},
        label2id={"person": 0, "cat": 1},
        attn_implementation="eager",
    )
    network = transformers.DetrForObjectDetection(config).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    network.save_pretrained(folder)
    settings = {"resize": [64, 96], "kwargs": {"checkpoint": str(folder)}}
    return load_model({**model_config("detr"), **settings}), network


def detr_code(network: nn.Module, image: Tensor, query: int, target: int) -> Tensor:
    """Follow generate_ours of DETR/modules/ExplanationGenerator.py, hila-chefer's second
    repository, with the attentions that transformers returns.
    """
    output = network(pixel_values=image[None], output_attentions=True)
    of_encoder = output.encoder_attentions
    of_queries = output.decoder_attentions
    of_both = output.cross_attentions
    attentions = [*of_encoder, *of_queries, *of_both]
    gradients = torch.autograd.grad(output.logits[0, query, target], attentions)
    bars = [
        (A * gradient).clamp(min=0).mean(1)[0]
        for A, gradient in zip(attentions, gradients, strict=True)
    ]

    def without_identity(R: Tensor) -> Tensor:
        rest = R - torch.eye(len(R))
        return rest / rest.sum(1, keepdim=True) + torch.eye(len(R))

    R_ii = torch.eye(96, dtype=torch.float64)
    for bar in bars[:2]:
        R_ii = R_ii + bar @ R_ii
    R_qq = torch.eye(12, dtype=torch.float64)
    R_qi = torch.zeros(12, 96, dtype=torch.float64)
    for self_bar, cross_bar in zip(bars[2:4], bars[4:], strict=True):
        R_qi = R_qi + self_bar @ R_qi
        R_qq = R_qq + self_bar @ R_qq
        R_qi = R_qi + without_identity(R_qq).T @ cross_bar @ without_identity(R_ii)
    return R_qi[query].unflatten(0, (8, 12)).detach()


def test_a_detr(tmp_path):
    loaded, network = detr_of(tmp_path, num_queries=12)
    loaded.module.double()
    network.double()
    images = normal(2, 3, 64, 96)
    found = [objects[0] for objects in loaded.module.found(images, 0.0)]
    places = torch.stack([one.place for one in found])
    labels = [one.label for one in found]
    trace = ab.trace(loaded.module, loaded.layer, (images, places), labels)

    actual = transformer_attribution(trace).raw

    expected = [
        detr_code(network, image, int(one.place[0]), one.label)
        for image, one in zip(images, found, strict=True)
    ]
    # float64; rows are divided by small sums
    largest = float(torch.stack(expected).max())
    torch.testing.assert_close(actual, torch.stack(expected), rtol=0, atol=1e-9 * largest)
    assert largest > 1e-4
    with pytest.raises(BenchError, match=r"rules for a DETR.*params\.form=generic"):
        transformer_attribution(trace, form="lrp")
    for name in CLASS_INDEPENDENT:
        with pytest.raises(BenchError, match="leave the method out"):
            methods.get(name)(trace)


def test_a_detr_with_as_many_queries_as_positions(tmp_path):
    loaded, _ = detr_of(tmp_path, num_queries=96)
    images = normal(1, 3, 64, 96).float()
    found = loaded.module.found(images, 0.0)[0][0]
    trace = ab.trace(loaded.module, loaded.layer, (images, found.place[None]), [found.label])
    with pytest.raises(BenchError, match=r"queries and of positions differ; set model\.resize"):
        transformer_attribution(trace, form="generic")
    smaller = normal(1, 3, 64, 64).float()
    found = loaded.module.found(smaller, 0.0)[0][0]
    trace = ab.trace(loaded.module, loaded.layer, (smaller, found.place[None]), [found.label])
    assert transformer_attribution(trace, form="generic").raw.any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["CLIP", "Dinov2", "Dinov2 with gates"])
def test_networks_of_transformers(kind):
    """Check quick GELU, layer scale and gated layers: the image alone decides a finite map."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"image_size": 32, "patch_size": 8}
    output = "logits"
    if kind == "CLIP":
        config = transformers.CLIPVisionConfig(**sizes, intermediate_size=32, projection_dim=12)
        build = transformers.CLIPVisionModelWithProjection
        layer = "vision_model.encoder.layers.1.layer_norm1"
        read = lambda returned: returned.image_embeds  # noqa: E731
        output = ab.outputs.similarity(normal(3, 12), scale=20.0, read=read)
    else:
        gates = kind == "Dinov2 with gates"
        config = transformers.Dinov2Config(**sizes, mlp_ratio=2, num_labels=3, use_swiglu_ffn=gates)
        build = transformers.Dinov2ForImageClassification
        layer = "dinov2.layernorm"
    network = seeded(lambda: build(config))
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    trace = ab.trace(network, layer, IMAGES, TARGETS, reshape="tokens", output=output)
    for name in NAMES:
        raw = methods.get(name)(trace).raw
        assert raw.isfinite().all()
        assert raw.flatten(1).std(1).min() > 0
        torch.testing.assert_close(methods.get(name)(trace[1:2]).raw, raw[1:2], **CLOSE)
