"""The embedded CNNs: 96 x 96 RGB scenes in, ten logits out, under 250,000 parameters each; others
have fewer.

`scenes_vgg` ends in a fully connected ReLU head, where gradients times activations miss the score
and the axioms bite; `scenes_resnet` ends in global average pooling and one linear layer, where the
CAM methods coincide. `scenes_shortcut` is `scenes_vgg` trained on scenes where a spurious mark goes
with one class (`embedded.marked`). `scenes_fooled` is `scenes_vgg`, and `scenes_fooled_resnet` is
`scenes_resnet`, fine-tuned to mislead Grad-CAM. `signals_cnn`, `volumes_cnn` and
`synthetic_shapes_cnn` have such a head too, and see what `embedded.shapes` draws. `scenes_detector`
and `scenes_segmenter` give boxes and maps of classes in scenes where classes repeat.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from axiom_bench.embedded import scenes, shapes

# The last ReLU, or the last block: (64, 12, 12) of scenes, (32, 24) of signals, (24, 6, 6, 6) of
# volumes, (48, 14, 14) of shapes. Of the detector that before its heads, and of the segmenter that
# of its coarsest maps, (48, 12, 12).
LAYERS = {
    "scenes_vgg": "features.13",
    "scenes_resnet": "layer4",
    "scenes_shortcut": "features.13",
    "scenes_fooled": "features.13",
    "scenes_fooled_resnet": "layer4",
    "signals_cnn": "features.9",
    "volumes_cnn": "features.6",
    "synthetic_shapes_cnn": "features.12",
    "scenes_detector": "features.13",
    "scenes_segmenter": "bottleneck.7",
}
KINDS = {  # what each sees
    "scenes_vgg": scenes.FEW,
    "scenes_resnet": scenes.FEW,
    "scenes_shortcut": scenes.FEW,
    "scenes_fooled": scenes.FEW,
    "scenes_fooled_resnet": scenes.FEW,
    "signals_cnn": shapes.SIGNALS,
    "volumes_cnn": shapes.VOLUMES,
    "synthetic_shapes_cnn": shapes.SYNTHETIC["all"],
    "scenes_detector": scenes.REPEATED,
    "scenes_segmenter": scenes.REPEATED,
}
NOTES = {  # what a reader must know of a network's values
    "scenes_vgg": "its layers and training were chosen so that Grad-CAM's sensitivity error is at least 0.25; on three "
    "ImageNet networks methods break the axioms less, or otherwise "
    "(docs/studies/embedded-network.md).",
    **dict.fromkeys(
        ("scenes_fooled", "scenes_fooled_resnet"),
        "it was fine-tuned so that Grad-CAM's maps show the image's border (docs/findings.md).",
    ),
}
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of the input, RGB in [0, 1]


def scenes_vgg(batch_norm: bool = False) -> nn.Sequential:
    """Six 3 x 3 convolutions, the first strided, and three max-pools, then 2304-64-64-10 with
    ReLUs.

    batch_norm: as it is trained; in the committed weights it is folded into the layer before it. As
    in torchvision's VGG an adaptive pool stands between `features` and the head: the last layer of
    `features` is a ReLU.
    """
    layers = (
        (16, 3, False),
        (32, 3, True),
        (48, 3, True),
        (48, 3, False),
        (48, 3, False),
        (64, 3, False),
    )
    return _vgg(2, 3, layers, 6, (64, 64), 10, batch_norm)


def signals_cnn(batch_norm: bool = False) -> nn.Sequential:
    """As scenes_vgg, of signals (1, 192): four convolutions of 7, 5, 5 and 3 samples, then
    192-48-5.
    """
    return _vgg(
        1,
        1,
        ((16, 7, False), (24, 5, True), (32, 5, True), (32, 3, False)),
        6,
        (48,),
        5,
        batch_norm,
    )


def volumes_cnn(batch_norm: bool = False) -> nn.Sequential:
    """As scenes_vgg, of volumes (1, 24, 24, 24): three 3 x 3 x 3 convolutions, then 648-16-5."""
    return _vgg(3, 1, ((8, 3, False), (16, 3, True), (24, 3, False)), 3, (16,), 5, batch_norm)


def synthetic_shapes_cnn(batch_norm: bool = False) -> nn.Sequential:
    """As scenes_vgg, of pictures (3, 224, 224): five convolutions, the first of 5 x 5, then
    2352-32-6.
    """
    layers = ((8, 5, True), (16, 3, True), (32, 3, True), (48, 3, False), (48, 3, False))
    return _vgg(2, 3, layers, 7, (32,), 6, batch_norm)


def _vgg(
    axes: int,
    channels: int,
    convolutions: Sequence[tuple[int, int, bool]],
    pooled: int,
    hidden: Sequence[int],
    classes: int,
    batch_norm: bool,
) -> nn.Sequential:
    """Of inputs (B, channels, *space) with so many axes. convolutions: width, kernel, whether a
    max-pool follows.
    """
    layers = _convolutions(axes, channels, convolutions, batch_norm)
    channels = convolutions[-1][0]
    head: list[nn.Module] = []
    for inputs, width in pairwise((channels * pooled**axes, *hidden)):
        head += [nn.Linear(inputs, width)]
        head += [nn.BatchNorm1d(width)] if batch_norm else []
        head += [nn.ReLU(inplace=True)]
    head += [nn.Linear(hidden[-1], classes)]
    return nn.Sequential(
        OrderedDict(
            features=layers,
            pool=getattr(nn, f"AdaptiveMaxPool{axes}d")(pooled),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(*head),
        )
    )


def _convolutions(
    axes: int,
    channels: int,
    convolutions: Sequence[tuple[int, int, bool]],
    batch_norm: bool,
    stride: int = 2,
) -> nn.Sequential:
    """Convolutions with ReLUs. convolutions: width, kernel, whether a max-pool follows. stride: of
    the first.
    """
    convolution, norm, pool = (
        getattr(nn, f"{name}{axes}d") for name in ("Conv", "BatchNorm", "MaxPool")
    )
    layers: list[nn.Module] = []
    for place, (width, kernel, is_pooled) in enumerate(convolutions):
        layers += [
            convolution(channels, width, kernel, 1 if place else stride, padding=kernel // 2)
        ]
        layers += [norm(width)] if batch_norm else []
        layers += [nn.ReLU(inplace=True)]
        layers += [pool(2)] if is_pooled else []
        channels = width
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a shortcut: the identity, or 1 x 1 where the
    shape changes.
    """

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
    stem = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
    )
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


class Boxes(nn.Module):
    """Boxes and class logits of each position of a level: a hidden 3 x 3 convolution with ReLU,
    then 1 x 1.

    stride: of the level, in pixels of the image; a box's sides are `stride * exp` of the output
    away from the centre of its position.
    """

    centres: Tensor
    steps: Tensor

    def __init__(self, width: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        self.hidden = _convolutions(2, width, ((width, 3, False),), batch_norm, stride=1)
        self.sides = nn.Conv2d(width, 4, 1)
        self.classes = nn.Conv2d(width, len(scenes.CLASSES), 1)
        assert self.classes.bias is not None
        nn.init.constant_(
            self.classes.bias, -4
        )  # at first no position shows an object, as most don't
        along = (torch.arange(scenes.SIDE // stride) + 0.5) * stride
        y, x = torch.meshgrid(along, along, indexing="ij")
        self.register_buffer(
            "centres", torch.stack((x, y, x, y), 2).flatten(0, 1), persistent=False
        )
        self.register_buffer("steps", torch.tensor((-1.0, -1, 1, 1)) * stride, persistent=False)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, width, h, w) -> boxes (B, h w, 4), x0 y0 x1 y1, and logits (B, h w, 10)."""
        hidden = self.hidden(maps)
        sides, logits = (
            layer(hidden).flatten(2).transpose(1, 2) for layer in (self.sides, self.classes)
        )
        return self.centres + self.steps * sides.exp(), logits


class Detector(nn.Module):
    """An anchor-free detector of two levels, of 12 x 12 and 6 x 6 positions."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        layers = (
            (16, 3, False),
            (24, 3, True),
            (32, 3, False),
            (32, 3, True),
            (48, 3, False),
            (48, 3, False),
        )
        self.features = _convolutions(2, 3, layers, batch_norm)
        self.coarse = _convolutions(2, 48, ((48, 3, False),), batch_norm)
        self.of_features = Boxes(48, 8, batch_norm)
        self.of_coarse = Boxes(48, 16, batch_norm)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 96, 96) -> boxes (B, 180, 4), x0 y0 x1 y1 in pixels, and logits (B, 180, 10), of
        which a sigmoid is the probability. The 144 positions of `features` first, each level row by
        row.
        """
        features = self.features(images)
        boxes, logits = self.of_features(features)
        more_boxes, more_logits = self.of_coarse(self.coarse(features))
        return torch.cat((boxes, more_boxes), 1), torch.cat((logits, more_logits), 1)


class Segmenter(nn.Module):
    """A U-Net: three strided stages down to 12 x 12, and up again beside the maps of the first two.

    Four convolutions in the coarsest stage, so that each position sees a whole digit.
    """

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        self.stem = _convolutions(2, 3, ((16, 3, False),), batch_norm)
        self.down = _convolutions(2, 16, ((32, 3, False), (32, 3, False)), batch_norm)
        self.bottleneck = _convolutions(2, 32, ((48, 3, False),) * 4, batch_norm)
        self.to_down = nn.ConvTranspose2d(48, 32, 2, 2)
        self.beside_down = _convolutions(2, 64, ((32, 3, False),), batch_norm, stride=1)
        self.to_stem = nn.ConvTranspose2d(32, 16, 2, 2)
        self.beside_stem = _convolutions(2, 32, ((16, 3, False),), batch_norm, stride=1)
        self.classes = nn.ConvTranspose2d(16, len(scenes.CLASSES) + 1, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 96, 96) -> logits (B, 11, 96, 96): of the digits, and last of the ground."""
        stem = self.stem(images)
        down = self.down(stem)
        up = self.to_down(self.bottleneck(down))
        up = self.to_stem(self.beside_down(torch.cat((up, down), 1)))
        return self.classes(self.beside_stem(torch.cat((up, stem), 1)))


BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "scenes_vgg": scenes_vgg,
    "scenes_resnet": scenes_resnet,
    "scenes_shortcut": scenes_vgg,
    "scenes_fooled": scenes_vgg,
    "scenes_fooled_resnet": scenes_resnet,
    "signals_cnn": signals_cnn,
    "volumes_cnn": volumes_cnn,
    "synthetic_shapes_cnn": synthetic_shapes_cnn,
    "scenes_detector": Detector,
    "scenes_segmenter": Segmenter,
}


def weights_file(name: str, seed: int = 0) -> Path:
    """Where the committed weights of an embedded network lie. seed: of its training."""
    return Path(__file__).with_name(
        f"{name}_seed{seed}.safetensors" if seed else f"{name}.safetensors"
    )


def weights_files(name: str) -> dict[str, Path]:
    """The committed weights of an embedded network: `default`, from seed 0, and `seed1`, ... of its
    other trainings; `masked` of its copy that scripts/train_masked.py fine-tuned.
    """
    folder = Path(__file__).parent
    others = sorted(
        path for part in ("masked", "seed*") for path in folder.glob(f"{name}_{part}.safetensors")
    )
    return {
        "default": weights_file(name),
        **{path.stem.removeprefix(f"{name}_"): path for path in others},
    }


def load(name: str, seed: int = 0) -> nn.Module:
    """An embedded network by name, trained with this seed, in eval mode, float32."""
    network = BUILDERS[name]()
    network.load_state_dict(load_file(weights_file(name, seed)))
    return network.eval()
