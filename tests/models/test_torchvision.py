"""Every family of torchvision's classifiers.

The default layer of its smallest network is known, and the model cut there equals the model bit by
bit.
"""

from collections.abc import Collection, Iterable
from typing import Any

import pytest
import torch

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.models import layers
from tests.models.builders import build, filled

pytestmark = pytest.mark.slow  # networks of their real sizes

models = torchvision.models
NAMES = models.list_models(module=models)
NOT_SPATIAL = ("vit_b_16", "vit_b_32", "vit_h_14", "vit_l_16", "vit_l_32")  # tokens
# The keys begin the networks' names; the longest key that fits counts.
DEFAULT_LAYERS = {
    "alexnet": "features.12",
    "squeezenet": "features.12",
    "convnext": "features.7",
    "densenet": "features.norm5",
    "efficientnet": "features.8",
    "efficientnet_v2_s": "features.7",
    "maxvit": "blocks.3",
    "mnasnet": "layers.16",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "regnet": "trunk_output",
    "shufflenet": "conv5",
    "mobilenet_v2": "features.18",
    "mobilenet_v3_large": "features.16",
    "mobilenet_v3_small": "features.12",
    "resnet": "layer4",
    "resnext": "layer4",
    "wide_resnet": "layer4",
    "swin": "permute",
    "vgg11": "features.20",
    "vgg13": "features.24",
    "vgg16": "features.30",
    "vgg19": "features.36",
    "vgg11_bn": "features.28",
    "vgg13_bn": "features.34",
    "vgg16_bn": "features.43",
    "vgg19_bn": "features.52",
}
LAST_RELU = {
    "alexnet": "features.11",
    "vgg16": "features.29",
    "vgg19_bn": "features.51",
    "resnet101": "layer4",
}
SMALLEST_SIDE = {  # 64 pixels leave no map at the layer, or the network doesn't accept them
    "alexnet": 96,
    "inception_v3": 128,
    "maxvit_t": 224,
}


def family_of(name: str, families: Iterable[str]) -> str:
    """Return the longest family name that `name` begins with."""
    return max((family for family in families if name.startswith(family)), key=len)


def default_layer(name: str) -> str:
    return DEFAULT_LAYERS[family_of(name, DEFAULT_LAYERS)]


def number_of_parameters(name: str) -> int:
    """Return the number that torchvision's weights report, which needs no download."""
    return models.get_model_weights(name).DEFAULT.meta["num_params"]


def smallest_of_families() -> list[str]:
    """Return the network with the fewest parameters of each family.

    The versions of regnet and swin count as families, since their modules differ.
    """
    families = (*DEFAULT_LAYERS, "regnet_x", "regnet_y", "swin_v2")
    spatial = [name for name in NAMES if name not in NOT_SPATIAL]
    smallest: dict[str, str] = {}
    for name in sorted(spatial, key=number_of_parameters):
        smallest.setdefault(family_of(name, families), name)
    return sorted(smallest.values())


SMALLEST = smallest_of_families()
# Large networks whose cut other networks cover: VGGs by vgg11, ResNets by resnet18, windows by
# swin_t.
SLOW = {"maxvit_t", "swin_v2_t", "wide_resnet50_2", "efficientnet_v2_s", "vgg11_bn"}
SLOW |= {"vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"}


def mostly_slow(names: Iterable[str], slow: Collection[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


@pytest.mark.parametrize("name", mostly_slow(SMALLEST, SLOW))
def test_cut_at_the_default_layer_equals_the_model(name):
    model = filled(name)
    side = SMALLEST_SIDE.get(name, 64)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    layer = layers.default_layer(layers.record_calls(model, (side, side)))
    assert layer == default_layer(name)

    trace = ab.trace(model, layer, images)

    with torch.no_grad():
        logits = model(images)
    assert torch.equal(trace.logits, logits)
    assert trace.activations.shape[-2:].numel() > 1
    assert logits.isfinite().all()
    # The logits depend on the image; otherwise their equality would mean nothing.
    assert not torch.equal(logits[0], logits[1])


def test_a_vision_transformer_has_its_last_norm_before_attention():
    model = ab.load_model("vit_b_32", weights=None)
    assert model.loaded.layer == "encoder.layers.encoder_layer_11.ln_1"
    assert model.loaded.reshape == "tokens"
    assert "encoder_layer_11.ln_1' returns tokens" in model.loaded.lines[0]


LARGE = ["convnext_large", "densenet201", "efficientnet_b7", "regnet_y_128gf", "swin_v2_b"]


@pytest.mark.parametrize("name", mostly_slow([*LARGE, *sorted(SLOW)], LARGE))
def test_default_layer_of_large_models_on_the_meta_device(name):
    """Use the meta device, which computes only shapes."""
    side = SMALLEST_SIDE.get(name, 64)
    calls = layers.record_calls(build(name).to("meta"), (side, side))
    assert layers.default_layer(calls) == default_layer(name)


@pytest.mark.parametrize(("name", "layer"), LAST_RELU.items())
def test_last_relu_layer(name, layer):
    assert layers.last_relu(layers.record_calls(build(name).to("meta"), (224, 224))) == layer


VIDEO = {"mc3_18": "layer4", "r2plus1d_18": "layer4", "r3d_18": "layer4", "s3d": "features.15"}


@pytest.mark.parametrize("name", mostly_slow(VIDEO, ("r2plus1d_18", "r3d_18", "s3d")))
def test_a_network_of_videos_takes_frames_of_bytes(name):
    """Check the layer, the classes and the normalisation of a network that is loaded by its name.

    The cut network equals the network.
    """
    model = ab.load_model(name, weights=None)
    assert model.loaded.layer == VIDEO[name]
    assert model.loaded.classes[0] == "abseiling"
    videos, count, side = (1, 16, 224) if name == "s3d" else (2, 8, 32)
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (videos, 3, count, side, side), generator=generator)
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    mean = torch.tensor(transforms.mean).view(-1, 1, 1, 1)
    std = torch.tensor(transforms.std).view(-1, 1, 1, 1)

    maps = ab.explain(model, images=frames.byte(), methods=["grad_cam"])

    expected = (frames / 255 - mean) / std
    torch.testing.assert_close(maps.images, expected, rtol=1e-5, atol=1e-5)  # float32's rounding
    assert maps["grad_cam"].shape == (videos, count, side, side)
    if name == "s3d":  # a pass takes seconds, and cutting it has compared its parts with it
        return
    with torch.no_grad():
        assert torch.equal(ab.trace(model, VIDEO[name], maps.images).logits, model(maps.images))


@pytest.mark.parametrize("name", ["mvit_v2_s", "swin3d_t"])
def test_a_transformer_of_videos_has_no_default_layer(name):
    with pytest.raises(ab.BenchError, match="tokens"):
        ab.load_model(name, weights=None)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ("photo.jpg", r"takes arrays \(C, D, H, W\), not photographs"),
        (torch.zeros(8, 48, 48, 3, dtype=torch.uint8), r"movedim\(-1, 1\)"),
    ],
)
def test_what_is_no_video_is_a_sentence(images, sentence):
    with pytest.raises(ab.BenchError, match=sentence):
        ab.explain(ab.load_model("mc3_18", weights=None), images=images, methods=["cam"])
