"""The rule for the default layer, on small networks."""

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.models import layers


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def choose(module: nn.Module, layer: str = "default", size: int = 16) -> str:
    return layers.choose(module, layer, layers.record(module, (size, size)))


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]


class Residual(nn.Module):
    """A ReLU that is called twice, and whose last output is the block's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second, self.relu = conv(channels, channels), conv(channels, channels), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))) + x)


class Tokens(nn.Module):
    """A patch embedding and layers over tokens; maps before them where `stem` says so."""

    def __init__(self, stem: int, tokens: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*(conv(3, 3) for _ in range(stem)))
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.mixing = nn.Sequential(*(nn.Linear(8, 8) for _ in range(tokens)))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(self.stem(x)).flatten(2).transpose(1, 2)
        return self.fc(self.mixing(tokens).mean(1))


class Functional(nn.Module):
    """Scores made by a function: no module makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 8), nn.ReLU())
        self.prototypes = nn.Parameter(torch.ones(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3)) @ self.prototypes.T


def vgg() -> nn.Sequential:
    features = nn.Sequential(conv(3, 4), nn.ReLU(True), nn.MaxPool2d(2), conv(4, 8), nn.ReLU(True), nn.MaxPool2d(2))
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(72, 5))


def resnet() -> nn.Sequential:
    return nn.Sequential(conv(3, 4), nn.Sequential(Residual(4), Residual(4)), *head(4))


def squeezenet() -> nn.Sequential:
    classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(4, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(conv(3, 4), nn.Sequential(conv(4, 4), nn.Tanh()), classifier, nn.Flatten())


def fully_convolutional() -> nn.Sequential:
    """The layer of the classes makes the scores, which are its maps' means."""
    return nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 6), nn.ReLU(), conv(6, 5))


def idle() -> nn.Module:
    network = Functional()
    network.idle = conv(3, 3)
    return network


@pytest.mark.parametrize(
    ("network", "default", "last_relu"),
    [
        (vgg(), "0.5", "0.4"),  # the pool, not the container of the first layer, the adaptive pool or the dropout
        (resnet(), "1", "1"),  # the stage: the last output of the ReLU that is called four times
        (Functional(), "body.3", "body.3"),  # the last weight matrix makes features, not scores
        (squeezenet(), "1", None),  # not the maps of classes
        (fully_convolutional(), "3", "3"),
        (nn.Sequential(nn.Sequential(conv(3, 4)), *head(4)), "0.0", None),  # not the container of the first layer
        (Tokens(stem=4, tokens=2), "patches", None),
        (nn.Sequential(conv(3, 4), nn.MaxPool2d(16), nn.ZeroPad2d(1), nn.Conv2d(4, 4, 3), *head(4)), "0", None),
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
        (resnet(), "zz", r"no layer 'zz'; there are: 0, 1\."),  # which give maps
        (resnet(), "1.0.secnd.4", r"did you mean '1\.0\.second'"),
        (resnet(), "4", r"'4' gives \(1, 5\), not maps .* as '1' is"),
        (resnet(), "2", r"'2' gives \(1, 4, 1, 1\), not maps"),
        (idle(), "idle", "'idle' isn't called"),
        (nn.Sequential(conv(3, 4), nn.Flatten(2)), "0", r"Sequential returns shape \(1, 4, 256\) .*, not scores"),
    ],
)
def test_layers_that_are_refused(network, layer, message):
    with pytest.raises(BenchError, match=message):
        choose(network, layer)


def test_named_layer_and_second_name_of_a_shared_module():
    network = resnet()
    network[1][0].alias = network[1][0].second
    assert choose(network, "1.0.second") == choose(network, "1.0.alias") == "1.0.second"


def test_a_network_of_bands_is_told_how_it_gets_them():
    network = nn.Sequential(conv(4, 4), nn.ReLU(), *head(4))
    with pytest.raises(BenchError, match=r"images of 4 channels, and pictures have 3.*\(4, H, W\).*data=arrays"):
        layers.record(network, (16, 16))


def test_record_does_not_modify_the_network():
    network = vgg().train()
    network[0].eval()
    state = [(m.training, len(m._forward_hooks)) for m in network.modules()]
    layers.record(network, (16, 16))
    with pytest.raises(BenchError, match="can't run on one RGB image of 1x1 pixels"):
        layers.record(network, (1, 1))
    assert [(m.training, len(m._forward_hooks)) for m in network.modules()] == state


class Backwards(nn.Module):
    """Runs the module that it defines last first."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = conv(4, 4), conv(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(images)).mean((2, 3))
        return scores


def test_depth_follows_execution_order():
    assert layers.record(fully_convolutional(), (16, 16))[-1].shape == (1, 5)
    calls = layers.record(Backwards(), (8, 8))
    assert layers.depth("first", calls) < layers.depth("last", calls)


class Block(nn.Module):
    """Attention and a small network over tokens, each behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attention, self.mlp = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(*[self.before(x)] * 3, need_weights=False)[0]
        return x + self.mlp(self.after(x))


class ByClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.rand(1, 1, 8))
        self.blocks, self.norm, self.fc = nn.Sequential(Block(), Block()), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.fc(self.norm(self.blocks(tokens))[:, 0])


def test_the_layer_that_a_transformer_is_told_to_name_has_maps():
    torch.manual_seed(0)
    network, images = ByClassToken(), torch.rand(1, 3, 16, 16)
    sentence = (
        r"give layer='blocks\.1\.before' and reshape='tokens' \(model\.layer=blocks\.1\.before model\.reshape=tokens"
    )
    with pytest.raises(BenchError, match=sentence):
        ab.explain(network, images=images)
    trace = ab.trace(network, "blocks.1.before", images, reshape="tokens")
    assert trace.gradients.abs().amax((2, 3)).all()


class Copies(nn.Module):
    """Runs its part on an image and its mirror image as one batch. named: whether the part is a module of its own."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        self.part = nn.Sequential(conv(3, 4), nn.ReLU(), *head(4)) if named else conv(3, 4)
        self.fc = nn.Linear(5 if named else 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.part(torch.stack([x, x.flip(-1)], 1).flatten(0, 1))
        scores = scores if scores.ndim == 2 else scores.mean((2, 3))
        return self.fc(scores.unflatten(0, (-1, 2)).mean(1))


def test_a_network_of_several_copies_is_no_transformer():
    with pytest.raises(
        BenchError, match=r"maps of 2 images for one.*explain the part .*network\.get_submodule\('part'\)"
    ):
        choose(Copies(named=True))
    assert choose(Copies(named=True).get_submodule("part")) == "1"
    with pytest.raises(BenchError, match=r"maps of 2 images for one.* explain a network of one"):
        choose(Copies(named=False))
