"""The embedded CNNs. Most map 96 x 96 RGB scenes to ten logits, with under 250,000 parameters each.

`scenes_vgg` ends in a fully connected ReLU head, where gradients times activations don't add up to
the score and the axioms are violated. `scenes_resnet` ends in global average pooling and one linear
layer, where the CAM methods coincide. `scenes_shortcut` is `scenes_vgg` trained on scenes where a
spurious mark goes with one class (`embedded.marked`). `scenes_fooled` is `scenes_vgg`, and
`scenes_fooled_resnet` is `scenes_resnet`, fine-tuned to mislead Grad-CAM. `signals_cnn`,
`volumes_cnn` and `synthetic_shapes_cnn` also have a fully connected ReLU head, and are trained on
what `embedded.shapes` draws. They have fewer parameters. `scenes_detector` and `scenes_segmenter`
return boxes and maps of classes in scenes where classes repeat. `qr_cnn` distinguishes QR codes
from other patterns (`embedded.qr`). `embedded.captioner` has networks that say words.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from axiom_bench.embedded import qr, scenes, shapes

# The target layers: the last ReLU or the last block, with activations (64, 12, 12) for scenes,
# (32, 24) for signals, (24, 6, 6, 6) for volumes, (48, 14, 14) for shapes, and (48, 12, 12) for QR
# codes. The detector's is the ReLU before its heads, and the segmenter's that of its coarsest maps,
# both (48, 12, 12).
LAYERS = {
    "scenes_vgg": "features.13",
    "scenes_resnet": "layer4",
    "scenes_shortcut": "features.13",
    "scenes_fooled": "features.13",
    "scenes_fooled_resnet": "layer4",
    "signals_cnn": "features.9",
    "volumes_cnn": "features.6",
    "synthetic_shapes_cnn": "features.12",
    "qr_cnn": "features.11",
    "scenes_detector": "features.13",
    "scenes_segmenter": "bottleneck.7",
}
KINDS = {  # the kind of scenes that each network is trained on
    "scenes_vgg": scenes.FEW,
    "scenes_resnet": scenes.FEW,
    "scenes_shortcut": scenes.FEW,
    "scenes_fooled": scenes.FEW,
    "scenes_fooled_resnet": scenes.FEW,
    "signals_cnn": shapes.SIGNALS,
    "volumes_cnn": shapes.VOLUMES,
    "synthetic_shapes_cnn": shapes.SYNTHETIC["all"],
    "qr_cnn": qr.KIND,
    "scenes_detector": scenes.REPEATED,
    "scenes_segmenter": scenes.REPEATED,
}
FOOLED_NOTE = (
    "it was fine-tuned so that Grad-CAM's maps show the image's border (docs/findings.md)."
)
NOTES = {  # notes that reports print next to a network's values
    "scenes_vgg": "its layers and training were chosen so that Grad-CAM's sensitivity error is at "
    "least 0.25; on three ImageNet networks methods break the axioms less, or otherwise "
    "(docs/studies/embedded-network.md).",
    "scenes_fooled": FOOLED_NOTE,
    "scenes_fooled_resnet": FOOLED_NOTE,
}
# mean and standard deviation that normalise the input, RGB in [0, 1]
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)


def scenes_vgg(batch_norm: bool = False) -> nn.Sequential:
    """Return a network of six 3 x 3 convolutions, the first strided, three max-pools, and
    2304-64-64-10 with ReLUs.

    As in torchvision's VGG, an adaptive pool stands between `features` and the head, so that the
    last layer of `features` is a ReLU.

    Args:
        batch_norm: Add the batch norm of training. In the committed weights it is folded into the
            layer before it.
    """
    # width, kernel, whether a max-pool follows
    convolutions = (
        (16, 3, False),
        (32, 3, True),
        (48, 3, True),
        (48, 3, False),
        (48, 3, False),
        (64, 3, False),
    )
    return _vgg(
        axes=2,
        channels=3,
        convolutions=convolutions,
        pooled_side=6,
        hidden=(64, 64),
        classes=10,
        batch_norm=batch_norm,
    )


def signals_cnn(batch_norm: bool = False) -> nn.Sequential:
    """Return a network as scenes_vgg, for signals (1, 192): convolutions of 7, 5, 5 and 3 samples,
    then 192-48-5.

    Args:
        batch_norm: See `scenes_vgg`.
    """
    return _vgg(
        axes=1,
        channels=1,
        convolutions=((16, 7, False), (24, 5, True), (32, 5, True), (32, 3, False)),
        pooled_side=6,
        hidden=(48,),
        classes=5,
        batch_norm=batch_norm,
    )


def volumes_cnn(batch_norm: bool = False) -> nn.Sequential:
    """Return a network like scenes_vgg for volumes (1, 24, 24, 24): three 3 x 3 x 3 convolutions,
    then 648-16-5.

    Args:
        batch_norm: See `scenes_vgg`.
    """
    return _vgg(
        axes=3,
        channels=1,
        convolutions=((8, 3, False), (16, 3, True), (24, 3, False)),
        pooled_side=3,
        hidden=(16,),
        classes=5,
        batch_norm=batch_norm,
    )


def synthetic_shapes_cnn(batch_norm: bool = False) -> nn.Sequential:
    """Return a network as scenes_vgg, for pictures (3, 224, 224): five convolutions, the first 5 x
    5, then 2352-32-6.

    Args:
        batch_norm: See `scenes_vgg`.
    """
    return _vgg(
        axes=2,
        channels=3,
        convolutions=((8, 5, True), (16, 3, True), (32, 3, True), (48, 3, False), (48, 3, False)),
        pooled_side=7,
        hidden=(32,),
        classes=6,
        batch_norm=batch_norm,
    )


def qr_cnn(batch_norm: bool = False) -> nn.Sequential:
    """Return a network as scenes_vgg, for QR codes and other patterns: five convolutions, then
    1728-32-2.

    Args:
        batch_norm: See `scenes_vgg`.
    """
    return _vgg(
        axes=2,
        channels=3,
        convolutions=((16, 5, False), (24, 3, True), (32, 3, True), (48, 3, False), (48, 3, False)),
        pooled_side=6,
        hidden=(32,),
        classes=2,
        batch_norm=batch_norm,
    )


def _vgg(
    axes: int,
    channels: int,
    convolutions: Sequence[tuple[int, int, bool]],
    pooled_side: int,
    hidden: Sequence[int],
    classes: int,
    batch_norm: bool,
) -> nn.Sequential:
    """Return a network for inputs (B, channels, *space) with `axes` axes of space. Each convolution
    is (width, kernel, whether a max-pool follows).
    """
    features = convolution_layers(axes, channels, convolutions, batch_norm)
    last_width = convolutions[-1][0]
    head: list[nn.Module] = []
    for inputs, width in pairwise((last_width * pooled_side**axes, *hidden)):
        head.append(nn.Linear(inputs, width))
        if batch_norm:
            head.append(nn.BatchNorm1d(width))
        head.append(nn.ReLU(inplace=True))
    head.append(nn.Linear(hidden[-1], classes))
    # The pool fixes the number of the head's inputs, whatever the size of the images.
    adaptive_pool = getattr(nn, f"AdaptiveMaxPool{axes}d")
    return nn.Sequential(
        OrderedDict(
            features=features,
            pool=adaptive_pool(pooled_side),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(*head),
        )
    )


def convolution_layers(
    axes: int,
    channels: int,
    convolutions: Sequence[tuple[int, int, bool]],
    batch_norm: bool,
    stride: int = 2,
) -> nn.Sequential:
    """Return convolutions with ReLUs, each given as (width, kernel, whether a max-pool follows).
    The first has the stride.
    """
    convolution = getattr(nn, f"Conv{axes}d")
    norm = getattr(nn, f"BatchNorm{axes}d")
    pool = getattr(nn, f"MaxPool{axes}d")
    layers: list[nn.Module] = []
    for number, (width, kernel, is_pooled) in enumerate(convolutions):
        own_stride = stride if number == 0 else 1
        layers.append(convolution(channels, width, kernel, own_stride, padding=kernel // 2))
        if batch_norm:
            layers.append(norm(width))
        layers.append(nn.ReLU(inplace=True))
        if is_pooled:
            layers.append(pool(2))
        channels = width
    return nn.Sequential(*layers)


class Block(nn.Module):
    """Two 3 x 3 convolutions with batch norm, and a shortcut: the identity, or 1 x 1 if the shape
    changes.
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
        """Map (B, channels, H, W) to (B, width, H / stride, W / stride)."""
        hidden = self.relu(self.bn1(self.conv1(images)))
        output: Tensor = self.relu(self.bn2(self.conv2(hidden)) + self.shortcut(images))
        return output


def scenes_resnet() -> nn.Sequential:
    """Return a network with a strided stem, four residual blocks, global average pooling, and a
    linear layer from 64 to 10.
    """
    stem = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
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
    """A head that returns boxes and class logits of each position of a level: a hidden 3 x 3
    convolution with ReLU, then 1 x 1.

    `stride` is the level's, in pixels of the image. The sides of a box are `stride * exp` of the
    output away from the centre of its position.
    """

    centres: Tensor
    steps: Tensor

    def __init__(self, width: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        self.hidden = convolution_layers(2, width, ((width, 3, False),), batch_norm, stride=1)
        self.sides = nn.Conv2d(width, 4, 1)
        self.classes = nn.Conv2d(width, len(scenes.CLASSES), 1)
        assert self.classes.bias is not None
        # Before training no position shows an object, since most positions don't.
        nn.init.constant_(self.classes.bias, -4)
        along = (torch.arange(scenes.SIDE // stride) + 0.5) * stride
        y, x = torch.meshgrid(along, along, indexing="ij")
        centres = torch.stack((x, y, x, y), 2).flatten(0, 1)
        steps = torch.tensor((-1.0, -1, 1, 1)) * stride
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("steps", steps, persistent=False)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, width, h, w) to boxes (B, h w, 4), x0 y0 x1 y1, and logits (B, h w, 10)."""
        hidden = self.hidden(maps)
        sides = self.sides(hidden).flatten(2).transpose(1, 2)
        logits = self.classes(hidden).flatten(2).transpose(1, 2)
        return self.centres + self.steps * sides.exp(), logits


class Detector(nn.Module):
    """An anchor-free detector of two levels, of 12 x 12 and 6 x 6 positions."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        convolutions = (
            (16, 3, False),
            (24, 3, True),
            (32, 3, False),
            (32, 3, True),
            (48, 3, False),
            (48, 3, False),
        )
        self.features = convolution_layers(2, 3, convolutions, batch_norm)
        self.coarse = convolution_layers(2, 48, ((48, 3, False),), batch_norm)
        self.of_features = Boxes(48, 8, batch_norm)
        self.of_coarse = Boxes(48, 16, batch_norm)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, 96, 96) to boxes (B, 180, 4), x0 y0 x1 y1 in pixels, and logits (B,
        180, 10).

        A sigmoid of the logits is the probability. The 144 positions of `features` come first, each
        level row by row.
        """
        features = self.features(images)
        boxes, logits = self.of_features(features)
        more_boxes, more_logits = self.of_coarse(self.coarse(features))
        return torch.cat((boxes, more_boxes), 1), torch.cat((logits, more_logits), 1)


class Segmenter(nn.Module):
    """A U-Net: three strided stages down to 12 x 12, and up again next to the maps of the first
    two.

    The coarsest stage has four convolutions, so that each position sees a whole digit.
    """

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        self.stem = convolution_layers(2, 3, ((16, 3, False),), batch_norm)
        self.down = convolution_layers(2, 16, ((32, 3, False), (32, 3, False)), batch_norm)
        self.bottleneck = convolution_layers(2, 32, ((48, 3, False),) * 4, batch_norm)
        self.to_down = nn.ConvTranspose2d(48, 32, 2, 2)
        self.beside_down = convolution_layers(2, 64, ((32, 3, False),), batch_norm, stride=1)
        self.to_stem = nn.ConvTranspose2d(32, 16, 2, 2)
        self.beside_stem = convolution_layers(2, 32, ((16, 3, False),), batch_norm, stride=1)
        self.classes = nn.ConvTranspose2d(16, len(scenes.CLASSES) + 1, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, 96, 96) to logits (B, 11, 96, 96) of the digits, and last of the
        ground.
        """
        stem = self.stem(images)
        down = self.down(stem)
        up = self.to_down(self.bottleneck(down))
        up = self.to_stem(self.beside_down(torch.cat((up, down), 1)))
        logits: Tensor = self.classes(self.beside_stem(torch.cat((up, stem), 1)))
        return logits


BUILDERS: Mapping[str, Callable[..., nn.Module]] = {
    "scenes_vgg": scenes_vgg,
    "scenes_resnet": scenes_resnet,
    "scenes_shortcut": scenes_vgg,
    "scenes_fooled": scenes_vgg,
    "scenes_fooled_resnet": scenes_resnet,
    "signals_cnn": signals_cnn,
    "volumes_cnn": volumes_cnn,
    "synthetic_shapes_cnn": synthetic_shapes_cnn,
    "qr_cnn": qr_cnn,
    "scenes_detector": Detector,
    "scenes_segmenter": Segmenter,
}


def weights_file(name: str, seed: int = 0) -> Path:
    """Return the file of the committed weights of an embedded network.

    Args:
        name: The network.
        seed: The seed of its training.
    """
    stem = f"{name}_seed{seed}" if seed else name
    return Path(__file__).with_name(f"{stem}.safetensors")


def weights_files(name: str) -> dict[str, Path]:
    """Return the files of all committed weights of an embedded network.

    Args:
        name: The network.

    Returns:
        `default` is from seed 0, and `seed1`, ... from the other trainings. `masked` is the copy
            that scripts/train_masked.py fine-tuned.
    """
    folder = Path(__file__).parent
    others: list[Path] = []
    for suffix in ("masked", "seed*"):
        others += folder.glob(f"{name}_{suffix}.safetensors")
    weights = {"default": weights_file(name)}
    for path in sorted(others):
        weights[path.stem.removeprefix(f"{name}_")] = path
    return weights


def load(name: str, seed: int = 0) -> nn.Module:
    """Return an embedded network in eval mode, float32.

    Args:
        name: The network.
        seed: The seed of its training.
    """
    network = BUILDERS[name]()
    network.load_state_dict(load_file(weights_file(name, seed)))
    return network.eval()
