"""The networks of torchvision (segmentation, detection), timm and transformers, random weights."""

import json
import operator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.evaluation.plugins import with_params
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from tests.models.builders import filled


def images(size: int, count: int = 1, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(
        count,
        channels,
        size,
        size,
        generator=generator,
        dtype=torch.float64,
    )


def assert_drops(
    trace,
    model,
    layer,
    batch,
    score,
    channels=(0, 5, 11),
    rtol=1e-8,
    atol=1e-10,
    leading=1,
):
    """Check the drops S - S_k of some channels against passes of the model itself.

    A hook sets the channel to zero. `leading` tokens, such as the class token, belong to no map.
    """

    def scores(channel: int | None) -> Tensor:
        def ablate(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            output = output.clone()
            if channel is not None and output.ndim == 3:
                output[:, leading:, channel] = 0
            elif channel is not None:
                output[:, channel] = 0
            return output

        handle = model.get_submodule(layer).register_forward_hook(ablate)
        try:
            with torch.no_grad():
                return score(model(batch))
        finally:
            handle.remove()

    all_scores = scores(None)
    drops = [all_scores - scores(channel) for channel in channels]
    torch.testing.assert_close(
        trace.ablation_drops[:, list(channels)],
        torch.stack(drops, 1),
        rtol=rtol,
        atol=atol,
    )


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["lraspp_mobilenet_v3_large", pytest.param("fcn_resnet50", marks=pytest.mark.slow)]
)
def test_segmentation_networks_of_torchvision(name):
    model = filled(name, weights_backbone=None, num_classes=4).double()
    layer = "backbone.15" if name.startswith("lraspp") else "classifier.2"
    batch = images(64, 2)
    region = torch.zeros(64, 64)
    region[10:40, 20:50] = 1
    trace = ab.trace(model, layer, batch, [1, 3], output=ab.outputs.segmentation(region))
    assert trace.cut_model.trunk_and_head.head_graph is not None

    def score(output: dict[str, Tensor]) -> Tensor:
        return output["out"][[0, 1], [1, 3], 10:40, 20:50].sum((1, 2))

    torch.testing.assert_close(trace.scores, score(model(batch)).detach(), rtol=1e-10, atol=1e-10)
    channels = trace.ablation_drops.abs().sum(0).argsort(descending=True)[:5].tolist()
    assert trace.ablation_drops[:, channels].abs().min() > 1
    assert_drops(trace, model, layer, batch, score, channels)


def suppress_by_loop(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppress non-maxima without torchvision's compiled operators.

    Returns the indices of the boxes that remain, by falling score.
    """
    left = scores.argsort(descending=True, stable=True)
    kept_indices = []
    while len(left):
        kept_indices.append(left[0])
        overlap = torchvision.ops.box_iou(boxes[left[:1]], boxes[left])[0]
        is_other = torch.arange(len(left)) > 0
        left = left[(overlap <= iou_threshold) & is_other]
    return torch.stack(kept_indices) if kept_indices else left


@pytest.mark.slow
def test_a_detection_network_of_torchvision(monkeypatch):
    if not torchvision.extension._has_ops():
        monkeypatch.setattr(torchvision.ops.boxes, "nms", suppress_by_loop)
    model = filled(
        "ssdlite320_mobilenet_v3_large",
        weights_backbone=None,
        num_classes=3,
        topk_candidates=10,
        score_thresh=0.0,
    ).double()
    model.transform.fixed_size = (96, 96)  # smaller maps than those of 320 pixels
    batch = images(64)
    with torch.no_grad():
        detected = model(batch)[0]
    assert len(detected["boxes"])
    output = ab.outputs.detection(detected["boxes"][:1], detected["labels"][:1])
    layer = "backbone.features.0.1"
    trace = ab.trace(model, layer, batch, [0], output=output)
    assert float(trace.scores[0]) == pytest.approx(float(detected["scores"][0]), rel=1e-9)
    assert trace.gradients.abs().max() > 0

    def score(found: list[dict[str, Tensor]]) -> Tensor:
        """Return the score of the detection of this class with the highest IoU.

        The IoU is torchvision's own.
        """
        one = found[0]
        overlap = torchvision.ops.box_iou(detected["boxes"][:1], one["boxes"])[0]
        overlap[one["labels"] != detected["labels"][0]] = 0
        if len(overlap) and overlap.max() >= 0.5:
            return one["scores"][overlap.argmax()][None]
        return torch.zeros(1, dtype=torch.float64)

    channels = trace.ablation_drops[0].argsort()[[0, 5, 10, 15]].tolist()
    least, *_, most = trace.ablation_drops[0, channels]
    # The score rises without one channel; without another the object isn't detected.
    assert least < 0 < 0.5 < most
    assert_drops(trace, model, layer, batch, score, channels, atol=1e-12)


@pytest.mark.slow
def test_networks_of_timm_as_features_and_of_grey_images():
    timm = pytest.importorskip("timm")
    grey = timm.create_model("resnet10t", pretrained=False, in_chans=1, num_classes=5)
    grey.double().eval()
    grey_images = images(64, 2, channels=1)

    trace = ab.trace(grey, "layer4", grey_images)

    expected = grey(grey_images).detach()
    torch.testing.assert_close(trace.logits, expected, rtol=1e-10, atol=1e-10)

    model = timm.create_model("resnet10t", pretrained=False, num_classes=0).double().eval()
    references = torch.randn(2, 512, dtype=torch.float64)

    output = ab.outputs.similarity(references)
    trace = ab.trace(model, "layer4", images(64, 2), [0, 1], output=output)

    expected = nn.functional.cosine_similarity(model(images(64, 2)), references)
    torch.testing.assert_close(trace.scores, expected.detach(), rtol=1e-10, atol=1e-12)
    assert trace.cut_model.trunk_and_head.head_graph is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_networks_of_transformers(kind):
    transformers = pytest.importorskip("transformers")
    if kind == "vit":
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            patch_size=8,
            num_labels=4,
        )
        model = transformers.ViTForImageClassification(config)
        reshape = "tokens"
    else:
        config = transformers.ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 1],
            layer_type="basic",
            num_labels=4,
        )
        model = transformers.ResNetForImageClassification(config)
        reshape = None
    model = model.double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    layer = "resnet.encoder.stages.1"
    if kind == "vit":
        names = [name for name, _ in model.named_modules()]
        before_attention = [name for name in names if name.endswith("layernorm_before")]
        layer = before_attention[-1]
    batch = images(32, 2)

    trace = ab.trace(model, layer, batch, [0, 3], reshape=reshape)
    torch.testing.assert_close(trace.logits, model(batch).logits.detach(), rtol=1e-10, atol=1e-10)

    def score(output: Any) -> Tensor:
        return output.logits[[0, 1], [0, 3]]

    assert_drops(trace, model, layer, batch, score)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        ("ViT", "vit.layers.1.layernorm_before"),
        ("DeiT", "deit.layers.1.layernorm_before"),
        ("Swin", "swin.layernorm"),
        ("Dinov2", "dinov2.layernorm"),  # the head also reads the mean of the patches
    ],
)
def test_transformers_have_a_default_layer(kind, layer):
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    if kind == "Swin":
        sizes = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2}
    elif kind == "Dinov2":
        sizes = {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mlp_ratio": 2,
        }
    config_class = getattr(transformers, f"{kind}Config")
    network_class = getattr(transformers, f"{kind}ForImageClassification")
    patch_size = 4 if kind == "Swin" else 8
    config = config_class(**sizes, image_size=32, patch_size=patch_size, num_labels=4)
    model = network_class(config).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    batch = images(32, 2)
    with pytest.warns(UserWarning, match=f"layer '{layer}' returns tokens"):
        assert ab.explain(model, images=batch, methods=["grad_cam"]).layer == layer
    trace = ab.trace(model, layer, batch, [0, 3], reshape="tokens")
    assert trace.activations.shape[2:] == (4, 4)
    assert trace.gradients.abs().amax((1, 2, 3)).all()

    def score(output: Any) -> Tensor:
        return output.logits[[0, 1], [0, 3]]

    leading = {"Swin": 0, "DeiT": 2}.get(kind, 1)
    assert_drops(trace, model, layer, batch, score, leading=leading)


class Tower(nn.Module):
    """The image tower of a CLIP as a user writes it.

    The model's own class takes captions too.
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, batch: Tensor) -> Tensor:
        encoded = self.clip.vision_model(pixel_values=batch)
        return self.clip.visual_projection(encoded.pooler_output)


@pytest.fixture
def clip():
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision = transformers.CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=12)
    text = transformers.CLIPTextConfig(
        **sizes,
        vocab_size=50,
        bos_token_id=0,
        eos_token_id=49,
        projection_dim=12,
    )
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    model = transformers.CLIPModel(config).double().eval()
    for parameter in model.parameters():
        if parameter.ndim:  # every parameter except the logit scale
            nn.init.normal_(parameter, std=0.3)
    return model


CAPTIONS = torch.tensor([[0, 5, 6, 49], [0, 7, 8, 49], [0, 9, 4, 49]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tower", "class with projection"])
def test_the_tower_of_a_clip(clip, kind):
    """Check that the scores are the logits of each caption, whose softmax is its probability."""
    batch = images(32, 2)
    with torch.no_grad():
        expected = clip(input_ids=CAPTIONS, pixel_values=batch)
    if kind == "tower":
        network = Tower(clip)
        prefix = "clip."
        read = None
    else:
        transformers = pytest.importorskip("transformers")
        network = transformers.CLIPVisionModelWithProjection(clip.config.vision_config)
        network.double().eval()
        network.load_state_dict(clip.state_dict(), strict=False)
        prefix = ""
        read = operator.attrgetter("image_embeds")
    scale = clip.logit_scale.exp().item()
    output = ab.outputs.similarity(expected.text_embeds, scale=scale, read=read)
    layer = f"{prefix}vision_model.encoder.layers.1.layer_norm1"
    trace = ab.trace(network, layer, batch, [0, 2], reshape="tokens", output=output)

    torch.testing.assert_close(trace.logits, expected.logits_per_image, rtol=1e-9, atol=1e-10)
    assert trace.activations.shape == (2, 16, 4, 4)
    assert trace.has_probability

    def score(embedding: Any) -> Tensor:
        vectors = embedding if read is None else read(embedding)
        unit = nn.functional.normalize(vectors, dim=1)
        return scale * (unit * expected.text_embeds[[0, 2]]).sum(1)

    assert_drops(trace, network, layer, batch, score)


@pytest.mark.slow
def test_gscore_cam_of_a_clip(clip):
    """Check the weights against CLIP's own logits of masked images.

    Each of the channels with the largest mean gradient masks the image.
    """
    batch = images(32, 2)
    with torch.no_grad():
        captions = clip(input_ids=CAPTIONS, pixel_values=batch).text_embeds
    output = ab.outputs.similarity(captions, scale=clip.logit_scale.exp().item())
    layer = "clip.vision_model.encoder.layers.1.layer_norm1"
    trace = ab.trace(Tower(clip), layer, batch, [1, 2], reshape="tokens", output=output)

    weights = with_params("method", "gscore_cam", {"top": 5})(trace)

    for row, target in enumerate([1, 2]):
        chosen = trace.gradients[row].mean((1, 2)).argsort(descending=True)[:5]
        scores = torch.zeros(16, dtype=torch.float64)
        for channel in chosen.tolist():
            activation = trace.activations[row, channel][None, None]
            mask = nn.functional.interpolate(activation, size=(32, 32), mode="bilinear")
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            with torch.no_grad():
                masked = clip(input_ids=CAPTIONS, pixel_values=batch[row : row + 1] * mask)
            scores[channel] = masked.logits_per_image[0, target]
        expected = scores.softmax(0)
        torch.testing.assert_close(weights[row, :, 0, 0], expected, rtol=1e-8, atol=1e-12)


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a CLIP of random weights whose words are letters, its network and tokenizer."""
    transformers = pytest.importorskip("transformers")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    last_letters = [f"{letter}</w>" for letter in letters]
    words = [*letters, *last_letters, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(tmp_path / "vocab.json"),
        str(tmp_path / "merges.txt"),
    )
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 12,
        "num_attention_heads": 2,
    }
    vision = transformers.CLIPVisionConfig(**sizes, image_size=32, patch_size=8, projection_dim=12)
    text = transformers.CLIPTextConfig(
        **sizes,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        vocab_size=len(words),
        projection_dim=12,
    )
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    network = transformers.CLIPModel(config).eval()
    for saved in (tokenizer, network):
        saved.save_pretrained(tmp_path)
    return tmp_path, network, tokenizer


@pytest.mark.slow
def test_clip_by_name_scores_captions(checkpoint):
    folder, network, tokenizer = checkpoint
    captions = ["a cat", "two dogs", "no one"]
    batch = images(32, 2).float()
    settings = {
        "resize": 32,
        "crop": 32,
        "kwargs": {"checkpoint": str(folder), "captions": captions},
    }

    loaded = load_model({**model_config("clip"), **settings})
    assert loaded.classes == tuple(captions)
    assert loaded.output.returns == "logits"
    trace = ab.trace(loaded.module, loaded.layer, batch, [0, 2], reshape=loaded.reshape)

    words = tokenizer(captions, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = network(**words, pixel_values=batch)
    torch.testing.assert_close(trace.logits, expected.logits_per_image, rtol=1e-5, atol=1e-5)
    assert_drops(
        trace,
        loaded.module,
        loaded.layer,
        batch,
        lambda logits: logits[[0, 1], [0, 2]],
        range(0, 16, 5),
        rtol=1e-4,
        atol=1e-5,
    )
    with pytest.raises(ab.BenchError, match="needs captions, which are its classes"):
        load_model({**model_config("clip"), "kwargs": {"checkpoint": str(folder), "captions": []}})


@pytest.mark.slow
def test_a_word_of_a_caption_has_the_score_that_it_adds(checkpoint):
    folder, network, tokenizer = checkpoint
    captions = ["a cat on a mat", "a cat on a", "a on a mat"]
    batch = images(32, 2).float()
    kwargs = {"checkpoint": str(folder), "captions": captions[:1], "words": ["mat", "cat"]}
    settings = {**model_config("clip"), "resize": 32, "crop": 32}

    loaded = load_model({**settings, "kwargs": kwargs})
    assert loaded.classes == ("mat", "cat")
    trace = ab.trace(
        loaded.module,
        loaded.layer,
        batch,
        [0, 1],
        reshape=loaded.reshape,
        output=loaded.output,
    )

    tokens = tokenizer(captions, padding=True, return_tensors="pt")
    with torch.no_grad():
        whole, *without = network(**tokens, pixel_values=batch).logits_per_image.T
    expected = torch.stack([whole - score for score in without], 1)
    torch.testing.assert_close(trace.logits, expected, rtol=1e-4, atol=1e-4)
    # its sigmoid is the probability of the caption, compared with the caption without the word
    assert loaded.output.name == "multi_label"


@pytest.mark.parametrize(
    ("captions", "words", "message"),
    [
        (["a cat", "a dog"], ["cat"], "words of one caption are explained, not of 2"),
        (["a cat on a mat"], ["dog"], "'a cat on a mat' has no word 'dog'"),
        (["cat"], ["cat"], "Nothing is left of the caption 'cat' without 'cat'"),
        (["a cat"], "cat", r"model\.kwargs\.words is a list"),
    ],
)
def test_words_that_a_caption_does_not_have(checkpoint, captions, words, message):
    kwargs = {"checkpoint": str(checkpoint[0]), "captions": captions, "words": words}
    settings = {**model_config("clip"), "resize": 32, "crop": 32}
    with pytest.raises(ab.BenchError, match=message):
        load_model({**settings, "kwargs": kwargs})


@pytest.mark.slow
def test_a_siglip_scores_captions_that_do_not_exclude_each_other(checkpoint, tmp_path):
    transformers = pytest.importorskip("transformers")
    _, _, tokenizer = checkpoint
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    text = {**sizes, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    network = transformers.SiglipModel(config).eval()
    nn.init.constant_(network.logit_bias, -2)
    folder = tmp_path / "siglip"
    for saved in (tokenizer, network):
        saved.save_pretrained(folder)
    captions = ["a cat", "two dogs", "no one"]
    batch = images(32, 2).float()

    settings = {"checkpoint": str(folder), "resize": [32, 32], "kwargs": {"captions": captions}}
    loaded = load_model({**model_config("huggingface"), **settings})

    assert loaded.classes == tuple(captions)
    assert loaded.output.name == "multi_label"
    # The tokenizer of SigLIP 2 doesn't know the length of the captions in training.
    words = tokenizer(captions, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        expected = network(**words, pixel_values=batch).logits_per_image
        torch.testing.assert_close(loaded.module(batch), expected, rtol=1e-5, atol=1e-5)

    settings["kwargs"] = {"captions": ["a cat on a red sofa today", "a cat on a red sofa tomorrow"]}
    with pytest.raises(ab.BenchError, match="Two captions have the same first 16 tokens"):
        load_model({**model_config("huggingface"), **settings})


@pytest.mark.slow
def test_dinov2_by_name(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 24,
        "num_hidden_layers": 12,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "num_labels": 4,
    }
    config = transformers.Dinov2Config(**sizes, image_size=56, patch_size=14)
    network = transformers.Dinov2ForImageClassification(config).eval()
    network.save_pretrained(tmp_path)
    settings = {"resize": 56, "crop": 56, "kwargs": {"checkpoint": str(tmp_path)}}
    batch = images(56, 2).float()

    loaded = load_model({**model_config("dinov2"), **settings})
    trace = ab.trace(loaded.module, loaded.layer, batch, [0, 2], reshape=loaded.reshape)

    torch.testing.assert_close(trace.logits, network(batch).logits.detach(), rtol=1e-5, atol=1e-5)
    assert trace.activations.shape == (2, 24, 4, 4)
    assert_drops(
        trace,
        loaded.module,
        loaded.layer,
        batch,
        lambda output: output.logits[[0, 1], [0, 2]],
        rtol=1e-3,
        atol=1e-6,
    )
    by_default = load_model({**model_config("dinov2"), **settings, "layer": "default"})
    assert by_default.layer == "dinov2.layernorm"
    message = r"There is no folder .*no-such-folder; set model\.checkpoint"
    missing_checkpoint = {"checkpoint": f"{tmp_path}/no-such-folder"}
    with pytest.raises(ab.BenchError, match=message):
        load_model({**model_config("dinov2"), "kwargs": missing_checkpoint})
