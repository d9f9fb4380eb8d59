"""Checkpoints of transformers, saved to disk from tiny configurations with random weights."""

import json
import re

import huggingface_hub.errors
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import axiom_bench as ab
import axiom_bench.data.torchvision_import
from axiom_bench.cli import main
from axiom_bench.cli.model_options import model_overrides
from axiom_bench.models import checkpoints
from axiom_bench.models.checkpoints import Checkpoint, _hub_error
from axiom_bench.models.load import LoadedModel, background_of, load_model
from axiom_bench.models.spec import ModelSpec, model_config
from tests.models.test_conf import compose_model

transformers = pytest.importorskip("transformers")

NAMES = ["cat", "dog", "fox", "owl"]
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
RESNET = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
SWIN = {
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 2,
    "image_size": 32,
    "patch_size": 4,
}
DINOV2 = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "image_size": 56,
    "patch_size": 14,
}
LEVIT = {
    "image_size": 64,
    "hidden_sizes": [16, 16, 16],
    "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
}
EFFICIENTNET = {
    "width_coefficient": 0.1,
    "depth_coefficient": 0.1,
    "hidden_dim": 128,
    "image_size": 64,
}
SHORT = {"size": {"shortest_edge": 64}}
SQUARE = {"size": {"height": 32, "width": 32}}
CROPPED = {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}
# the architecture: its configuration, its processor and the processor's settings, the default layer
CLASSIFIERS = {
    "ResNet": (RESNET, "ConvNext", SHORT, "resnet.encoder.stages.1"),
    "ConvNext": (STAGES, "ConvNext", SHORT, "convnext.encoder.stages.3"),
    "ConvNextV2": (
        STAGES,
        "ConvNext",
        {"size": {"shortest_edge": 384}},
        "convnextv2.encoder.stages.3",
    ),
    "ViT": (VIT, "ViT", SQUARE, "vit.layers.1.layernorm_before"),
    "DeiT": (
        VIT,
        "DeiT",
        {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}},
        "deit.layers.1.layernorm_before",
    ),
    "Beit": (VIT, "Beit", {**SQUARE, "do_center_crop": False}, "beit.layers.1"),
    "Swin": (SWIN, "ViT", SQUARE, "swin.layernorm"),
    "Dinov2": (
        DINOV2,
        "Bit",
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}},
        "dinov2.layernorm",
    ),
    "MobileNetV2": ({"depth_multiplier": 0.1}, "MobileNetV2", CROPPED, "mobilenet_v2.conv_1x1"),
    "RegNet": (
        {**STAGES, "embedding_size": 8, "groups_width": 4},
        "ConvNext",
        SHORT,
        "regnet.encoder.stages.3",
    ),
    "EfficientNet": (
        EFFICIENTNET,
        "EfficientNet",
        {"size": {"height": 64, "width": 64}},
        "efficientnet.encoder.top_activation",
    ),
    "Levit": (
        LEVIT,
        "Levit",
        {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}},
        "levit.encoder.stages.1.layers.1",
    ),
}
DETECTOR = {
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "use_timm_backbone": False,
    "d_model": 16,
    "num_queries": 12,
}


def configuration(kind: str, settings, names=NAMES):
    """Return a configuration of transformers with names of classes."""
    labels = dict(enumerate(names))
    ids = {name: index for index, name in labels.items()}
    return getattr(transformers, f"{kind}Config")(**settings, id2label=labels, label2id=ids)


def save(folder, config, architecture: str, processor=None) -> nn.Module:
    """Save a network with random weights, and its processor, as a checkpoint."""
    torch.manual_seed(0)
    network = getattr(transformers, architecture)(config).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    network.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return network


def load(folder, **changes) -> LoadedModel:
    return load_model({**model_config("huggingface"), "checkpoint": str(folder), **changes})


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((240, 180), Image.Resampling.BICUBIC)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_has_layer_classes_and_preprocessing(kind, tmp_path, picture):
    settings, processor_kind, sizes, layer = CLASSIFIERS[kind]
    architecture = f"{kind}ForImageClassification"
    if kind == "DeiT":
        architecture += "WithTeacher"
    processor = getattr(transformers, f"{processor_kind}ImageProcessor")(**sizes)
    network = save(tmp_path, configuration(kind, settings), architecture, processor)

    loaded = load(tmp_path)

    assert loaded.note == ""
    assert loaded.name == tmp_path.name
    assert loaded.classes == tuple(NAMES)
    assert loaded.layer == layer
    expected = processor(images=picture, return_tensors="pt")["pixel_values"]
    pixels = loaded.preprocessing(picture)[None]
    assert pixels.shape == expected.shape
    # a crop may start at the next pixel
    assert (pixels - expected).abs().mean() < 0.1 * expected.std()
    with torch.no_grad():
        logits = network(expected).logits
    trace = ab.trace(loaded.module, loaded.layer, expected, [1], reshape=loaded.reshape)
    torch.testing.assert_close(trace.logits, logits, rtol=1e-4, atol=1e-4)
    assert trace.gradients.any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Detr", "ConditionalDetr"])
def test_a_detector_finds_what_transformers_does(kind, tmp_path):
    backbone = transformers.ResNetConfig(**RESNET, out_features=["stage2"])
    has_softmax = kind == "Detr"  # with ids without a category: test_networks_of_objects.py
    names = NAMES if has_softmax else ["N/A", "cat", "N/A", "dog", "fox", "owl"]
    config = configuration(kind, {**DETECTOR, "backbone_config": backbone}, names)
    processor = getattr(transformers, f"{kind}ImageProcessor")(
        size={"shortest_edge": 64, "longest_edge": 96}
    )
    network = save(tmp_path, config, f"{kind}ForObjectDetection", processor)
    images = torch.rand(1, 3, 64, 64)

    loaded = load(tmp_path)

    assert loaded.preprocessing.resize == (64, 64)
    assert loaded.layer == "model.input_projection"
    settings = {**model_config("huggingface"), "checkpoint": str(tmp_path)}
    assert background_of(settings) == (-1 if has_softmax else None)
    assert loaded.classes == (*NAMES, "no object")[: 4 + has_softmax]
    with torch.no_grad():
        output = network(pixel_values=images)
    (expected,) = processor.post_process_object_detection(output, 0.0, target_sizes=[(64, 64)])
    objects = loaded.module.found(images, 0.0)[0]
    compared = 0
    labels = expected["labels"].tolist()
    for box, label, score in zip(expected["boxes"], labels, expected["scores"], strict=True):
        for found in objects:
            is_same_box = torch.allclose(found.box, box, rtol=0, atol=1e-2)
            if is_same_box and loaded.classes[found.label] == names[label]:
                assert found.probability == pytest.approx(float(score), rel=1e-4)
                compared += 1
    assert compared
    assert_one_drop_by_hand(loaded, images)


def assert_one_drop_by_hand(loaded: LoadedModel, images: Tensor) -> None:
    """Compare the largest drop of the most probable object with a pass without its channel."""
    found = loaded.module.found(images, 0.0)[0][0]
    place = found.place[None]
    trace = ab.trace(loaded.module, loaded.layer, (images, place), [found.label])
    drops = trace.ablation_drops[0]
    channel = int(drops.abs().argmax())
    layer = loaded.module.get_submodule(f"module.module.{loaded.layer}")

    def without_channel(_, __, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, channel] = 0
        return output

    with torch.no_grad():
        score = loaded.module(images, place)[0, found.label]
        with layer.register_forward_hook(without_channel):
            changed = loaded.module(images, place)[0, found.label]
    torch.testing.assert_close(drops[channel], score - changed, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_segmenter_of_queries_has_the_maps_of_transformers(tmp_path):
    stages = [f"stage{number}" for number in range(1, 5)]
    backbone = transformers.SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        image_size=64,
        out_features=stages,
    )
    sizes = dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 32)
    settings = {
        **sizes,
        "backbone_config": backbone,
        "encoder_feedforward_dim": 16,
        "dim_feedforward": 16,
        "num_attention_heads": 2,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_queries": 8,
    }
    config = configuration("Mask2Former", settings)
    processor = transformers.Mask2FormerImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 128}
    )
    network = save(tmp_path, config, "Mask2FormerForUniversalSegmentation", processor)
    images = torch.rand(1, 3, 64, 64)

    loaded = load(tmp_path)

    with torch.no_grad():
        output = network(pixel_values=images)
        maps = loaded.module.module(images)
    classes = output.class_queries_logits[0].softmax(1)[:, :4]
    scores = torch.einsum("qc,qhw->chw", classes, output.masks_queries_logits[0].sigmoid())
    torch.testing.assert_close(maps[0].exp(), scores, rtol=1e-4, atol=1e-5)
    assert loaded.classes == tuple(NAMES)
    assert loaded.preprocessing.resize == (64, 64)
    assert loaded.layer == "model.transformer_module.input_projections.0"
    assert_one_drop_by_hand(loaded, images)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """Return the folder of a checkpoint of a ResNet without a processor."""
    folder = tmp_path_factory.mktemp("resnet")
    save(folder, configuration("ResNet", RESNET), "ResNetForImageClassification")
    return folder


@pytest.mark.slow
def test_without_a_processor_a_note_says_what_is_assumed(resnet):
    loaded = load(resnet)
    assert "has no preprocessor_config.json, so images are resized to 224 x 224" in loaded.note
    assert any(loaded.note in line for line in loaded.lines)
    assert loaded.preprocessing.size == (224, 224)


def test_pixels_in_another_order_are_noted(tmp_path):
    """MobileViT's processor swaps red and blue."""
    config = configuration("ResNet", RESNET)
    processor = transformers.MobileViTImageProcessor(**CROPPED)
    save(tmp_path, config, "ResNetForImageClassification", processor)
    assert (
        "MobileViTImageProcessor gives other pixels than resize=72, crop=64" in load(tmp_path).note
    )


def test_random_weights_and_another_number_of_classes(resnet):
    random = load(resnet, weights=None, kwargs={"num_labels": 7})
    assert random.random_weights
    assert random.number_of_classes == 7
    with pytest.raises(ab.BenchError, match=r"leave out model\.kwargs\.num_lables"):
        load(resnet, kwargs={"num_lables": 7})


def test_weights_of_another_number_of_classes_are_refused(resnet):
    with pytest.raises(
        ab.BenchError, match=r"has classifier\.1\.bias of another shape .* leave out"
    ):
        load(resnet, kwargs={"num_labels": 7})


@pytest.mark.parametrize(
    ("names", "output", "background"),
    [
        (["polyp"], "regions", None),  # trained with a sigmoid
        (["Background", "polyp"], "exclusive_regions", 0),
        (["wall", "polyp"], "exclusive_regions", None),
    ],
)
def test_a_segmenter_of_one_class_and_one_with_a_background(tmp_path, names, output, background):
    sizes = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1] * 4}
    config = configuration("Segformer", {**sizes, "decoder_hidden_size": 8}, names)
    save(tmp_path, config, "SegformerForSemanticSegmentation")
    checkpoint = Checkpoint.of(str(tmp_path), {})
    assert (checkpoint.output, checkpoint.background) == (output, background)
    assert load(tmp_path, resize=[64, 64]).classes == tuple(names)


def test_labels_that_do_not_exclude_each_other(tmp_path):
    config = configuration("ResNet", RESNET)
    config.problem_type = "multi_label_classification"
    save(tmp_path, config, "ResNetForImageClassification")
    assert load(tmp_path).output.name == "multi_label"


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("ResNetModel", r"is a ResNetModel\. model=huggingface explains .*; it has no classes"),
        ("BertForMaskedLM", r"set model=user model\.architecture=net\.py:build"),
        ("OwlViTForObjectDetection", "is a OwlViTForObjectDetection"),
        (None, "names no architecture"),
    ],
)
def test_another_network_is_refused(architecture, message, resnet, tmp_path):
    config = transformers.AutoConfig.from_pretrained(resnet)
    config.architectures = architecture and [architecture]
    config.save_pretrained(tmp_path)
    with pytest.raises(ab.BenchError, match=message):
        load(tmp_path)


def test_a_checkpoint_without_a_trained_classifier_is_refused(resnet, tmp_path):
    network = transformers.ResNetModel.from_pretrained(resnet)
    network.config.architectures = ["ResNetForImageClassification"]
    network.save_pretrained(tmp_path)
    config = transformers.AutoConfig.from_pretrained(resnet)
    config.save_pretrained(tmp_path)
    with pytest.raises(ab.BenchError, match=r"has no weights for classifier\.1\.bias and 1 others"):
        load(tmp_path)


def test_a_name_that_is_not_in_the_cache_asks_the_hub_once(monkeypatch):
    requests = []

    def model_info(self, name, timeout):
        requests.append(name)
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    message = (
        r"someone/no-such-network isn't in the cache .*\(no network\)\. .* `hf download "
        r"someone/no-such-network --local-dir FOLDER`; then set model\.checkpoint=FOLDER"
    )
    with pytest.raises(ab.BenchError, match=message):
        load("someone/no-such-network")
    assert requests == ["someone/no-such-network"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", r"is gated: .*huggingface\.co/a/b, and type `hf auth login`"),
        ("RepositoryNotFoundError", r"has no model a/b, or it is private; correct model\.check"),
        ("RemoteEntryNotFoundError", r"a/b lacks a file of a checkpoint of transformers"),
        ("LocalEntryNotFoundError", r"a/b isn't in the cache .* can't be downloaded"),
        ("OfflineModeIsEnabled", r"a/b isn't in the cache .*`unset HF_HUB_OFFLINE`"),
    ],
)
def test_each_reason_of_a_failed_download_has_its_own_step(kind, message):
    kinds = vars(huggingface_hub.errors)
    hub_error = kinds[kind].__new__(kinds[kind])
    error = OSError("Can't load the configuration\nof a/b")
    error.__cause__ = hub_error
    assert re.search(message, str(_hub_error("a/b", error)))


@pytest.mark.slow
def test_the_tokens_of_patches_of_a_yolos_are_a_layer(tmp_path):
    config = transformers.YolosConfig(
        **{**VIT, "image_size": [32, 48]}, num_detection_tokens=5, id2label=dict(enumerate(NAMES))
    )
    torch.manual_seed(0)
    transformers.YolosForObjectDetection(config).save_pretrained(tmp_path)
    layer = "vit.encoder.layer.0"
    loaded = load(tmp_path, reshape="tokens", layer=layer, resize=[32, 48])
    detector = loaded.module.double()
    images = torch.rand(2, 3, 32, 48, dtype=torch.float64)
    trace = ab.cut(detector, f"module.{layer}", reshape=loaded.reshape).trace(
        (images, detector.ends(images[:1])), torch.tensor([0, 2])
    )
    assert trace.activations.shape == (2, 16, 4, 6)
    with torch.no_grad():
        embedded = detector.module.module.vit.embeddings(images)
        tokens = detector.module.module.vit.encoder.layer[0](embedded)
    tokens = tokens[0] if isinstance(tokens, tuple) else tokens
    maps = tokens[:, 1:-5].mT.unflatten(2, (4, 6))
    torch.testing.assert_close(trace.activations, maps, rtol=1e-12, atol=1e-12)
    assert trace.gradients.abs().sum() > 0
    scores = trace.head(trace.activations)[torch.arange(2), trace.targets]
    torch.testing.assert_close(scores, trace.scores, rtol=1e-10, atol=1e-12)
    # from maps to tokens is the inverse
    restored = loaded.reshape.from_maps(*loaded.reshape.to_maps(tokens, (32, 48)))
    assert torch.equal(restored, tokens)


def test_weights_have_the_type_that_the_user_names(resnet):
    assert next(load(resnet).module.parameters()).dtype == torch.float32
    kwargs = {"dtype": "bfloat16"}
    loaded = load(resnet, kwargs=kwargs)
    assert {tensor.dtype for tensor in loaded.module.parameters()} == {torch.bfloat16}
    random = load(resnet, kwargs=kwargs, weights=None)
    assert {tensor.dtype for tensor in random.module.parameters()} == {torch.bfloat16}
    with pytest.raises(ab.BenchError, match=r"dtype 'int8'; there are: bfloat16"):
        load(resnet, kwargs={"dtype": "int8"})


def test_weights_that_do_not_fit_into_memory_are_not_loaded(resnet, monkeypatch):
    count = sum(tensor.numel() for tensor in load(resnet).module.parameters())

    def refuse_load(*arguments, **kwargs):
        raise AssertionError("loaded")

    monkeypatch.setattr(checkpoints, "available_memory", lambda: 3 * count)
    with monkeypatch.context() as patch:
        patch.setattr(transformers.ResNetForImageClassification, "from_pretrained", refuse_load)
        with pytest.raises(ab.BenchError, match=r"free; set model\.kwargs\.dtype=bfloat16"):
            load(resnet)
    assert load(resnet, kwargs={"dtype": "bfloat16"})

    monkeypatch.setattr(checkpoints, "available_memory", lambda: count)
    with pytest.raises(ab.BenchError, match="choose a smaller checkpoint, or a machine with more"):
        load(resnet, kwargs={"dtype": "bfloat16"})

    monkeypatch.setattr(checkpoints, "available_memory", lambda: None)  # not Linux
    assert load(resnet)


def test_a_package_that_a_processor_needs_is_one_sentence(resnet, monkeypatch):
    def refuse(*arguments, **kwargs):
        raise ImportError(
            "Package `num2words` is required. Install it with `pip install num2words`."
        )

    monkeypatch.setattr(transformers.AutoImageProcessor, "from_pretrained", refuse)
    with pytest.raises(ab.BenchError, match=r"can't be loaded: Package .* `pip install num2words`"):
        checkpoints._from_pretrained("AutoImageProcessor", str(resnet))


@pytest.mark.slow
def test_a_folder_of_timm_leads_to_its_architecture(tmp_path):
    config = {"architecture": "resnet18", "num_classes": 3, "num_features": 512}
    config["pretrained_cfg"] = {"tag": "a1_in1k"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ab.BenchError, match=r"timm; set model=resnet18 model\.weights=FILE"):
        load(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:ORG/NAME",
        "hf_hub:ORG/NAME",
        "hf://ORG/NAME",
        "https://huggingface.co/ORG/NAME",
        "https://www.huggingface.co/ORG/NAME/tree/main",
    ],
)
def test_names_of_the_hub_as_other_programs_write_them(name):
    spec = ModelSpec.of({"source": "huggingface", "checkpoint": name})
    assert spec.checkpoint == "ORG/NAME"
    assert spec.name == "NAME"


def test_names_that_lead_elsewhere(tmp_path):
    with pytest.raises(ab.BenchError, match=r"is a network of timm; set model=resnet50\.a1_in1k"):
        load("timm/resnet50.a1_in1k")
    with pytest.raises(ab.BenchError, match=r"timm/vit is a network of timm; set model=vit"):
        load("hf-hub:timm/vit")
    with pytest.raises(
        ab.BenchError, match=r"There is no folder \./nothing; set model\.checkpoint"
    ):
        load("./nothing")
    with pytest.raises(ab.BenchError, match="can't be read as a checkpoint of transformers"):
        load(tmp_path)
    save(tmp_path, configuration("ResNet", RESNET), "ResNetForImageClassification")
    captions = {"captions": ["a cat"]}
    with pytest.raises(ab.BenchError, match=r"of its own; leave out model\.kwargs\.captions"):
        load(tmp_path, kwargs=captions)


def test_code_of_a_checkpoint_isnt_run_and_nobody_is_asked_whether_it_may(tmp_path, monkeypatch):
    """Public: OpenGVLab's InternVL2, whose configuration asks for `trust_remote_code`."""
    config = {"model_type": "internvl_chat", "architectures": ["InternVLChatModel"]}
    config["auto_map"] = {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with pytest.raises(ab.BenchError, match=r"needs code of its own, which isn't run; set model"):
        load(tmp_path)


@pytest.mark.slow
def test_the_option_and_the_setting_take_a_checkpoint(capsys, tmp_path):
    parsed = main.parser().parse_args(["explain", "a.png", "--model", "microsoft/resnet-50"])
    assert model_overrides(parsed) == ["model=huggingface", "model.checkpoint=microsoft/resnet-50"]
    settings = compose_model("huggingface", "model.checkpoint=microsoft/resnet-50")
    assert settings.checkpoint == "microsoft/resnet-50"
    assert main.main(["doctor", "model=microsoft/resnet-50"]) == 2
    expected = "set model=huggingface model.checkpoint=microsoft/resnet-50."
    assert expected in capsys.readouterr().err
