"""A network that can't be cut, or images that it can't take, raise an error of one sentence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import axiom_bench as ab
from tests.cutting.small_network import IMAGES, small_network


def dynamically_quantised() -> nn.Module:
    layers = nn.Sequential(nn.Linear(6, 4))
    return small_network(fc=torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}))


def integer_weights() -> nn.Module:
    network = small_network()
    network.fc.weight = nn.Parameter(torch.ones(4, 6, dtype=torch.int8), requires_grad=False)
    return network


def traced_in_torchscript() -> nn.Module:
    return torch.jit.trace(small_network(), IMAGES)


def layer_in_torchscript() -> nn.Module:
    return small_network(c=torch.jit.script(nn.Sequential(nn.Conv2d(3, 6, 3))))


def lazy() -> nn.Module:
    return small_network(fc=nn.LazyLinear(4))


def on_meta_device() -> nn.Module:
    return small_network().to("meta")


def half_in_float16() -> nn.Module:
    network = small_network()
    network.fc.half()
    return network


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 6, 3)
        self.d = nn.Conv2d(1, 6, 3)
        self.fc = nn.Linear(6, 4)

    def forward(self, image: Tensor, depth: Tensor) -> Tensor:
        return self.fc((self.c(image) + self.d(depth)).relu().mean((2, 3)))


def without_gradient() -> nn.Module:
    def forward(net: Any, x: Tensor) -> Tensor:
        logits = net.fc(net.c(x).mean((2, 3)))
        return torch.from_numpy(logits.detach().numpy())

    return small_network(forward)


def volume_network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(4, 2, 3))


def list_wanted() -> nn.Module:
    return small_network(lambda net, x: net.c(torch.stack(x)))


def mirrored() -> nn.Module:
    def forward(net: Any, x: Tensor) -> Tensor:
        maps = net.c(torch.cat([x, x.flip(3)]))
        logits, mirrored_logits = net.fc(maps.mean((2, 3))).chunk(2)
        return logits + mirrored_logits

    return small_network(forward)


def channels_last() -> nn.Module:
    return small_network(lambda net, x: net.fc(net.c(x.movedim(-1, 1)).mean((2, 3))))


def pooled() -> nn.Module:
    layers = [nn.Conv2d(3, 6, 3), nn.MaxPool2d(8), nn.Conv2d(6, 4, 2), nn.Flatten()]
    return nn.Sequential(*layers).double()


@dataclass(frozen=True)
class Situation:
    """Images that are given to a network, and the sentence of the error."""

    sentence: str  # a regular expression
    network: Callable[[], nn.Module] = small_network
    layer: str = "c"
    images: Any = IMAGES


BYTES = (IMAGES * 255).byte()
IMAGE = IMAGES[0]
PHOTO = Image.new("RGB", (16, 16))
PAIR = {"image": IMAGES, "depth": IMAGES[:, :1]}
SITUATIONS = {
    "dynamic int8": Situation(
        r"is quantised \(its 'fc.0' is a Linear of integers\).*in floating point",
        dynamically_quantised,
    ),
    "int8": Situation(r"its 'fc' is a Linear of integers", integer_weights),
    "TorchScript": Situation(r"give the nn.Module that it was made from", traced_in_torchscript),
    "a layer in TorchScript": Situation(
        r"layer 'c.0' is TorchScript, .*; choose another layer", layer_in_torchscript, "c.0"
    ),
    "lazy": Situation(r"'fc.weight' has no shape yet; call the network", lazy),
    "meta": Situation(r"no values .device meta.; build it on a device", on_meta_device),
    "half a float16": Situation(
        r"can't run in torch.float16 and torch.float64 .*; give network.float", half_in_float16
    ),
    "no gradient": Situation(
        r"depend on the layer 'c' and have no gradient there", without_gradient
    ),
    "two inputs, one given": Situation(
        r"takes image and depth.*give depth by model.inputs=FILE.csv", TwoInputs
    ),
    "two inputs in a tuple": Situation(
        r"TwoInputs.forward takes image and depth", TwoInputs, images=tuple(PAIR.values())
    ),
    "two inputs in a list": Situation(
        r"TwoInputs.forward takes image and depth", TwoInputs, images=list(PAIR.values())
    ),
    "two inputs in a dict": Situation(
        r"TwoInputs.forward takes image and depth", TwoInputs, images=PAIR
    ),
    "bytes": Situation(r"are torch.uint8; give images.float\(\) / 255, normalised", images=BYTES),
    "channels last": Situation(
        r"takes 3 channels, .* have 16; give images.movedim\(-1, -3\)",
        images=IMAGES.movedim(1, -1),
    ),
    "one, channels last": Situation(
        r"give images.movedim\(-1, -3\)\[None\]", images=IMAGE.movedim(0, -1)
    ),
    "one": Situation(r"\(3, 16, 16\); give images\[None\]", images=IMAGE),
    "grey": Situation(
        r"'c', takes 3 channels, .* have 1; give images.expand\(-1, 3, -1, -1\)",
        images=IMAGES[:, :1],
    ),
    "no channels": Situation(r"\(16, 16\); give images\[None, None\]", images=IMAGE[0]),
    "NumPy bytes": Situation(
        r"from_numpy\(images\).movedim\(-1, -3\)\[None\] / 255",
        images=BYTES[0].movedim(0, -1).numpy(),
    ),
    "Pillow": Situation(r"functional.to_tensor\(images\)\[None\]", images=PHOTO),
    "list of Pillow": Situation(r"torch.stack of tensors, and for each image give", images=[PHOTO]),
    "list": Situation(r"torch.stack\(images\)", images=list(IMAGES)),
    "batch with labels": Situation(
        r"give only its images, images\[0\]", images=[IMAGES, torch.tensor([1, 2])]
    ),
    "dict": Situation(r"images\['pixel_values'\]", images={"pixel_values": IMAGES}),
    "a volume": Situation(r"C, D, H, W\), .*; give images\[None\]", volume_network, "0"),
    "list wanted": Situation(r"self.net\(list\(images\)\)", list_wanted),
    "copies in the batch": Situation(
        r"'c' gives maps of 2 images for one, such as its crops", mirrored
    ),
    "a network of channels last": Situation(
        r"takes images \(16, 16, 3\), their channels last; .*self.net\(images.movedim\(1, -1\)",
        channels_last,
        images=IMAGES.movedim(1, -1),
    ),
    "too small": Situation(
        r"can't run on an image of 3 x 16 x 16 \(.*\); give images", pooled, "0"
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*quantize.*:UserWarning")
@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation_is_one_sentence(name):
    situation = SITUATIONS[name]
    network = situation.network()
    with pytest.raises(ab.BenchError, match=situation.sentence) as error:
        ab.trace(network, situation.layer, situation.images)
    assert "\n" not in str(error.value)
