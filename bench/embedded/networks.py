"""The embedded CNNs: 96 x 96 RGB scenes in, ten logits out, under 250,000 parameters each; of signals and volumes less.

`scenes_vgg` ends in a fully connected ReLU head, where gradients times activations miss the score and the axioms bite;
`scenes_resnet` ends in global average pooling and one linear layer, where the CAM methods coincide.
`scenes_shortcut` is `scenes_vgg` trained on scenes where a spurious mark goes with one class (`embedded.marked`).
`signals_cnn` and `volumes_cnn` have such a head too, and see the signals and volumes of `embedded.shapes`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from axiom_bench.embedded import scenes, shapes

LAYERS = {  # the last ReLU, or the last block: (64, 12, 12) of scenes, (32, 24) of signals, (24, 6, 6, 6) of volumes
    "scenes_vgg": "features.13",
    "scenes_resnet": "layer4",
    "scenes_shortcut": "features.13",
    "signals_cnn": "features.9",
    "volumes_cnn": "features.6",
}
KINDS = {  # what each sees
    "scenes_vgg": scenes.FEW,
    "scenes_resnet": scenes.FEW,
    "scenes_shortcut": scenes.FEW,
    "signals_cnn": shapes.SIGNALS,
    "volumes_cnn": shapes.VOLUMES,
}
NOTES = {  # what a reader must know of a network's values
    "scenes_vgg": "its layers and training were chosen so that Grad-CAM's sensitivity error is at least 0.25; on three "
    "ImageNet networks methods break the axioms less, or otherwise (docs/studies/embedded-network.md).",
}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of the input, RGB in [0, 1]


def scenes_vgg(batch_norm: bool = False) -> nn.Sequential:
    """Six 3 x 3 convolutions, the first strided, and three max-pools, then 2304-64-64-10 with ReLUs.

    batch_norm: as it is trained; in the committed weights it is folded into the layer before it. As in torchvision's
    VGG an adaptive pool stands between `features` and the head: the last layer of `features` is a ReLU.
    """
    layers = ((16, 3, False), (32, 3, True), (48, 3, True), (48, 3, False), (48, 3, False), (64, 3, False))
    return _vgg(2, 3, layers, 6, (64, 64), 10, batch_norm)


def signals_cnn(batch_norm: bool = False) -> nn.Sequential:
    """As scenes_vgg, of signals (1, 192): four convolutions of 7, 5, 5 and 3 samples, then 192-48-5."""
    return _vgg(1, 1, ((16, 7, False), (24, 5, True), (32, 5, True), (32, 3, False)), 6, (48,), 5, batch_norm)


def volumes_cnn(batch_norm: bool = False) -> nn.Sequential:
    """As scenes_vgg, of volumes (1, 24, 24, 24): three 3 x 3 x 3 convolutions, then 648-16-5."""
    return _vgg(3, 1, ((8, 3, False), (16, 3, True), (24, 3, False)), 3, (16,), 5, batch_norm)


def _vgg(
    axes: int,
    channels: int,
    convolutions: Sequence[tuple[int, int, bool]],
    pooled: int,
    hidden: Sequence[int],
    classes: int,
    batch_norm: bool,
) -> nn.Sequential:
    """Of inputs (B, channels, *space) with so many axes. convolutions: width, kernel, whether a max-pool follows."""
    convolution, norm, pool, adaptive = (
        getattr(nn, f"{name}{axes}d") for name in ("Conv", "BatchNorm", "MaxPool", "AdaptiveMaxPool")
    )
    layers: list[nn.Module] = []
    for place, (width, kernel, is_pooled) in enumerate(convolutions):
        layers += [convolution(channels, width, kernel, 1 if place else 2, padding=kernel // 2)]
        layers += [norm(width)] if batch_norm else []
        layers += [nn.ReLU(inplace=True)]
        layers += [pool(2)] if is_pooled else []
        channels = width
    head: list[nn.Module] = []
    for inputs, width in pairwise((channels * pooled**axes, *hidden)):
        head += [nn.Linear(inputs, width)]
        head += [nn.BatchNorm1d(width)] if batch_norm else []
        head += [nn.ReLU(inplace=True)]
    head += [nn.Linear(hidden[-1], classes)]
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*layers),
            pool=adaptive(pooled),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(*head),
        )
    )


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a shortcut: the identity, or 1 x 1 where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            projection = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, width, H / stride, W / stride)."""
        hidden = self.relu(self.bn1(self.conv1(images)))
        return self.relu(self.bn2(self.conv2(hidden)) + self.shortcut(images))


def scenes_resnet() -> nn.Sequential:
    """A strided stem and four residual blocks, then global average pooling and 64-10."""
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
    return nn.Sequential(
        OrderedDict(
            stem=stem,
            layer1=Block(16, 16, 1),
            layer2=Block(16, 32, 2),
            layer3=Block(32, 64, 2),
            layer4=Block(64, 64, 1),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(64, 10),
        )
    )


BUILDERS: Mapping[str, Callable[..., nn.Sequential]] = {
    "scenes_vgg": scenes_vgg,
    "scenes_resnet": scenes_resnet,
    "scenes_shortcut": scenes_vgg,
    "signals_cnn": signals_cnn,
    "volumes_cnn": volumes_cnn,
}


def weights_file(name: str, seed: int = 0) -> Path:
    """Where the committed weights of an embedded network lie. seed: of its training."""
    return Path(__file__).with_name(f"{name}_seed{seed}.safetensors" if seed else f"{name}.safetensors")


def weights_files(name: str) -> dict[str, Path]:
    """The committed weights of an embedded network: `default`, from seed 0, and `seed1`, ... of its other trainings."""
    others = sorted(Path(__file__).parent.glob(f"{name}_seed*.safetensors"))
    return {"default": weights_file(name), **{path.stem.removeprefix(f"{name}_"): path for path in others}}


def load(name: str, seed: int = 0) -> nn.Sequential:
    """An embedded network by name, trained with this seed, in eval mode, float32."""
    network = BUILDERS[name]()
    network.load_state_dict(load_file(weights_file(name, seed)))
    return network.eval()
