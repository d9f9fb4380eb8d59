"""The rules for the default layer and for `last_relu`, on small networks."""

import pytest
import torch
from torch import Tensor, nn

from axiom_bench.errors import BenchError
from axiom_bench.models import layers
from tests.models.small_networks import Tokens, choose, conv, head, resnet


class Functional(nn.Module):
    """A network whose scores are computed by a function, not by a module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 8), nn.ReLU())
        self.prototypes = nn.Parameter(torch.ones(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3)) @ self.prototypes.T


def vgg() -> nn.Sequential:
    stages = []
    for inputs, outputs in [(3, 4), (4, 8)]:
        stages += [conv(inputs, outputs), nn.ReLU(True), nn.MaxPool2d(2)]
    features = nn.Sequential(*stages)
    return nn.Sequential(
        features,
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(72, 5),
    )


def squeezenet() -> nn.Sequential:
    features = nn.Sequential(conv(4, 4), nn.Tanh())
    classifier = nn.Sequential(
        nn.Dropout(),
        nn.Conv2d(4, 5, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
    )
    return nn.Sequential(conv(3, 4), features, classifier, nn.Flatten())


def fully_convolutional() -> nn.Sequential:
    """Return a network whose last convolution has one map per class; its scores are their means."""
    return nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 6), nn.ReLU(), conv(6, 5))


def with_unused_layer() -> nn.Module:
    network = Functional()
    network.idle = conv(3, 3)
    return network


def pooled_to_a_pixel() -> nn.Module:
    layers = [conv(3, 4), nn.MaxPool2d(16), nn.ZeroPad2d(1), nn.Conv2d(4, 4, 3)]
    return nn.Sequential(*layers, *head(4))


@pytest.mark.parametrize(
    ("network", "default", "last_relu"),
    [
        # The last pool; not the container of the first layer, the adaptive pool or the dropout.
        (vgg(), "0.5", "0.4"),
        # The stage, which ends in the last output of the ReLU that is called four times.
        (resnet(), "1", "1"),
        # The last module with weights makes features, not scores.
        (Functional(), "body.3", "body.3"),
        # The features, not the maps of the classes.
        (squeezenet(), "1", None),
        (fully_convolutional(), "3", "3"),
        # The layer itself, not its container.
        (nn.Sequential(nn.Sequential(conv(3, 4)), *head(4)), "0.0", None),
        (Tokens(stem=4, tokens=2), "patches", None),
        # The layer before the pool, which leaves one pixel.
        (pooled_to_a_pixel(), "0", None),
    ],
)
def test_default_and_last_relu(network, default, last_relu):
    assert choose(network) == default
    if last_relu:
        assert choose(network, "last_relu") == last_relu


@pytest.mark.parametrize(
    ("network", "layer", "message"),
    [
        (squeezenet(), "last_relu", r"no ReLU module up to '1'"),
        (Tokens(stem=0, tokens=4), "default", "tokens or vectors"),
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), "default", "tokens or vectors"),
        (resnet(), "1.0.secnd", r"no layer '1\.0\.secnd'; did you mean '1\.0\.second'"),
        (resnet(), "zz", r"no layer 'zz'; there are: 0, 1\."),  # only layers that return maps
        (resnet(), "1.0.secnd.4", r"did you mean '1\.0\.second'"),
        (resnet(), "4", r"'4' gives \(1, 5\), not maps .* such as '1'\."),
        (resnet(), "2", r"'2' gives \(1, 4, 1, 1\), not maps"),
        (with_unused_layer(), "idle", "'idle' isn't called"),
        (
            nn.Sequential(conv(3, 4), nn.Flatten(2)),
            "0",
            r"Sequential returns shape \(1, 4, 256\) .*, not scores",
        ),
    ],
)
def test_layers_that_are_refused(network, layer, message):
    with pytest.raises(BenchError, match=message):
        choose(network, layer)


def test_named_layer_and_second_name_of_a_shared_module():
    network = resnet()
    network[1][0].alias = network[1][0].second
    assert choose(network, "1.0.second") == choose(network, "1.0.alias") == "1.0.second"


def test_a_network_of_bands_is_refused_with_the_way_to_give_them():
    network = nn.Sequential(conv(4, 4), nn.ReLU(), *head(4))
    message = r"images of 4 channels, and pictures have 3.*\(4, H, W\).*data=arrays"
    with pytest.raises(BenchError, match=message):
        layers.record_calls(network, (16, 16))


def training_and_hooks(network: nn.Module) -> list[tuple[bool, int]]:
    return [(module.training, len(module._forward_hooks)) for module in network.modules()]


def test_record_does_not_modify_the_network():
    network = vgg().train()
    network[0].eval()
    state = training_and_hooks(network)

    layers.record_calls(network, (16, 16))
    with pytest.raises(BenchError, match="can't run on one RGB image of 1x1 pixels"):
        layers.record_calls(network, (1, 1))

    assert training_and_hooks(network) == state


class Backwards(nn.Module):
    """A network that defines its last module first."""

    def __init__(self) -> None:
        super().__init__()
        self.last = conv(4, 4)
        self.first = conv(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(images)).mean((2, 3))
        return scores


def test_depth_follows_execution_order():
    assert layers.record_calls(fully_convolutional(), (16, 16))[-1].shape == (1, 5)
    calls = layers.record_calls(Backwards(), (8, 8))
    assert layers.cut_index("first", calls) < layers.cut_index("last", calls)


class Copies(nn.Module):
    """A network that runs its part on an image and its mirror image as one batch.

    If `named`, the part is a module with scores of its own; otherwise it is one convolution.
    """

    def __init__(self, named: bool) -> None:
        super().__init__()
        if named:
            self.part = nn.Sequential(conv(3, 4), nn.ReLU(), *head(4))
            self.fc = nn.Linear(5, 5)
        else:
            self.part = conv(3, 4)
            self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([x, x.flip(-1)], 1).flatten(0, 1)
        scores = self.part(both)
        scores = scores if scores.ndim == 2 else scores.mean((2, 3))
        return self.fc(scores.unflatten(0, (-1, 2)).mean(1))


def test_a_network_of_several_copies_is_no_transformer():
    message = r"maps of 2 images for one.*explain the part .*network\.get_submodule\('part'\)"
    with pytest.raises(BenchError, match=message):
        choose(Copies(named=True))
    assert choose(Copies(named=True).get_submodule("part")) == "1"
    with pytest.raises(BenchError, match=r"maps of 2 images for one.* explain a network of one"):
        choose(Copies(named=False))
