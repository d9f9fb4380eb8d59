"""The rules for the default layer and for `last_relu`, on small networks."""

import re

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.errors import BenchError
from axiom_bench.models import layers


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def choose(module: nn.Module, layer: str = "default", size: int = 16) -> str:
    return layers.choose_layer(module, layer, layers.record_calls(module, (size, size)))


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]


class Residual(nn.Module):
    """A ReLU that is called twice, and whose last output is the block's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = conv(channels, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(x))) + x)


class Tokens(nn.Module):
    """`stem` convolutions, a patch embedding, and `tokens` linear layers over its tokens."""

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
    """A network whose scores are computed by a function, not by a module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 8), nn.ReLU())
        self.prototypes = nn.Parameter(torch.ones(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).mean((2, 3)) @ self.prototypes.T


def vgg() -> nn.Sequential:
    features = nn.Sequential(
        conv(3, 4),
        nn.ReLU(True),
        nn.MaxPool2d(2),
        conv(4, 8),
        nn.ReLU(True),
        nn.MaxPool2d(2),
    )
    return nn.Sequential(
        features,
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(72, 5),
    )


def resnet() -> nn.Sequential:
    blocks = nn.Sequential(Residual(4), Residual(4))
    return nn.Sequential(conv(3, 4), blocks, *head(4))


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
        (
            nn.Sequential(
                conv(3, 4),
                nn.MaxPool2d(16),
                nn.ZeroPad2d(1),
                nn.Conv2d(4, 4, 3),
                *head(4),
            ),
            "0",
            None,
        ),
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
        (resnet(), "4", r"'4' gives \(1, 5\), not maps .* as '1' is"),
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


def test_a_network_of_bands_is_told_how_it_gets_them():
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


class Block(nn.Module):
    """Attention over tokens and a linear layer, each after a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.LayerNorm(8)
        self.after = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.before(x)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        x = x + attended
        return x + self.mlp(self.after(x))


class ByClassToken(nn.Module):
    """A transformer whose scores come from its class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.rand(1, 1, 8))
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.fc(self.norm(self.blocks(tokens))[:, 0])


class ByMean(ByClassToken):
    """A transformer whose scores come from the mean of all tokens."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.fc(self.norm(self.blocks(tokens)).mean(1))


class ByPooling(ByMean):
    """A transformer whose scores come from a query that attends to all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.norm(self.blocks(patches))
        query = self.token.expand(len(x), -1, -1)
        pooled, _ = self.pool(query, tokens, tokens, need_weights=False)
        return self.fc(pooled[:, 0])


class Grids(ByMean):
    """A network whose tokens are a grid (B, H, W, K)."""

    def forward(self, x: Tensor) -> Tensor:
        grid = self.patches(x).permute(0, 2, 3, 1)
        return self.fc(self.norm(grid).mean((1, 2)))


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (ByClassToken(), "blocks.1.before"),
        (ByMean(), "norm"),
        (ByPooling(), "norm"),
        (Grids(), "norm"),
    ],
)
def test_a_transformer_has_a_default_layer_and_its_maps(network, layer):
    torch.manual_seed(0)
    network.double()
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    note = rf"layer '{layer}' returns tokens, which become maps \(reshape=tokens\)"

    with pytest.warns(UserWarning, match=note):
        maps = ab.explain(network, images=images, methods=["grad_cam"])
    assert maps.layer == layer
    trace = ab.trace(network, layer, images, [0, 1], reshape="tokens")
    assert trace.activations.shape == (2, 8, 4, 4)
    assert trace.gradients.abs().amax(1).all()

    def scores_without(channel: int) -> Tensor:
        def ablate(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            has_class_token = output.shape[1] == 17
            first_patch = 1 if has_class_token else 0  # the class token belongs to no map
            ablated = output.clone()
            ablated[:, first_patch:, ..., channel] = 0
            return ablated

        handle = network.get_submodule(layer).register_forward_hook(ablate)
        try:
            return network(images)[[0, 1], [0, 1]]
        finally:
            handle.remove()

    with torch.no_grad():
        scores = network(images)[[0, 1], [0, 1]]
        drops = [scores - scores_without(channel) for channel in range(8)]
    expected = torch.stack(drops, 1)
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=1e-9, atol=1e-12)
    assert trace.ablation_drops.abs().max() > 1e-3


def test_tokens_that_fill_no_grid_need_one():
    network = ByMean()
    images = torch.rand(1, 3, 13, 18)
    message = r"12 tokens of an image of 13x18 pixels fill no grid .*set reshape to their"

    with pytest.raises(BenchError, match=message):
        ab.explain(network, images=images)

    maps = ab.explain(network, images=images, methods=["grad_cam"], reshape=(3, 4))
    assert maps.layer == "norm"


class Concatenation(nn.Module):
    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, 1)


class Mixed(nn.Module):
    """Two branches and their concatenation.

    `cat` is a module that concatenates them; without it the block's forward does. `last`, if any,
    runs on the result.
    """

    def __init__(self, cat: nn.Module | None, last: nn.Module | None = None) -> None:
        super().__init__()
        self.wide = conv(4, 6)
        self.narrow = nn.Conv2d(4, 2, 1)
        self.relu = nn.ReLU()
        self.cat = cat
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        wide = self.relu(self.wide(x))
        narrow = self.relu(self.narrow(x))
        joined = torch.cat([wide, narrow], 1) if self.cat is None else self.cat(wide, narrow)
        return joined if self.last is None else self.last(joined)


class Branches(nn.Module):
    """Two branches, or one part that is called twice, whose results are joined as vectors."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 4), nn.ReLU())
        self.one = conv(4, 4)
        self.fc = nn.Linear(8, 5)
        self.other = self.one if shared else conv(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x)
        left = self.one(maps[..., :8]).mean((2, 3))
        right = self.other(maps[..., 8:]).mean((2, 3))
        return self.fc(torch.cat([left, right], 1))


class First(nn.Module):
    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        return parts[0]


class Halves(nn.Module):
    """A module that returns one half of a split, and a head that reads the other half too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 4)
        self.first = First()
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        halves = self.stem(x).chunk(2, 1)
        joined = torch.cat([self.first(halves).relu(), halves[1]], 1)
        return self.fc(joined.mean((2, 3)))


def body(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv(3, 4), *parts, *head(8))


NETWORKS_OF_PATHS = {
    "a concatenation": (body(Mixed(Concatenation())), "1"),
    "a concatenation of the first block": (
        nn.Sequential(conv(3, 4), Mixed(Concatenation()), *head(8)),
        "1",
    ),
    "in the forward of a block": (body(Mixed(None)), "1"),
    "in place": (body(Mixed(None, nn.ReLU(inplace=True))), "1"),
    "a residual block": (resnet(), "1"),
    "two branches": (Branches(shared=False), "stem.1"),
    "a half": (Halves(), "stem"),
}


@pytest.mark.parametrize("case", NETWORKS_OF_PATHS)
def test_everything_passes_through_the_default_layer(case):
    """Check that the scores don't depend on the image when the layer's output is detached."""
    network, layer = NETWORKS_OF_PATHS[case]
    assert choose(network) == layer
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    network.requires_grad_(requires_grad=False)

    handle = network.get_submodule(layer).register_forward_hook(lambda *call: call[-1].detach())
    assert not network(images).requires_grad

    handle.remove()
    assert network(images).requires_grad


class Detached(nn.Module):
    """Two branches after a stem without gradients; `how` is why the stem has none."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.stem = conv(3, 4)
        self.mixed = Mixed(None)
        self.head = nn.Sequential(*head(8))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "numpy":
            maps = torch.from_numpy(self.stem(x).numpy())
        else:
            with torch.no_grad():
                maps = self.stem(x)
        return self.head(self.mixed(maps))


@pytest.mark.parametrize(
    ("network", "layer"),
    [(Detached("numpy"), "mixed"), (Detached("no_grad"), "mixed"), (Branches(shared=True), "one")],
)
def test_the_last_map_is_the_default_where_the_graph_shows_no_other(network, layer):
    """Check networks whose autograd graph shows no layer that everything passes through.

    If one part is called on both halves of a map, both results are channels of the part's map.
    """
    assert choose(network) == layer
    maps = ab.explain(network, images=torch.rand(1, 3, 16, 16), methods=["grad_cam"])
    assert maps.layer == layer
    with torch.inference_mode():
        assert choose(network) == layer


class Fused(nn.Module):
    """A stem and two stages, each with its own head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 2, 2)
        self.one = conv(2, 16)
        self.two = conv(16, 16)
        self.heads = nn.ModuleList([nn.Linear(16, 5), nn.Linear(16, 5)])

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(self.stem(x))
        two = self.two(one)
        scores = [
            self.heads[0](one.mean((2, 3))),
            self.heads[1](two.mean((2, 3))),
        ]
        return torch.stack(scores).mean(0)


class Crossed(nn.Module):
    """Tokens of two sizes, each with a class token that contributes to the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = ByClassToken()
        self.coarse = ByClassToken()
        self.coarse.patches = nn.Conv2d(3, 8, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fine(x) + self.coarse(x)


class Forked(nn.Module):
    """Two branches whose results are joined as vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(4, 2, 1)
        self.two = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x).flatten(1), self.two(x).flatten(1)], 1)


class TokensBehindMaps(nn.Module):
    """A block (or no block) and a norm over the positions of the last map."""

    def __init__(self, mixing: nn.Module) -> None:
        super().__init__()
        convolutions = [conv(3, 3) for _ in range(8)]
        self.maps = nn.Sequential(*convolutions, nn.Conv2d(3, 8, 4, 4))
        self.mixing = mixing
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.maps(x).flatten(2).transpose(1, 2)
        return self.fc(self.norm(self.mixing(tokens)).mean(1))


@pytest.mark.parametrize(
    ("network", "layer"), [(Fused(), "two"), (Crossed(), "coarse.blocks.1.before")]
)
def test_a_network_of_branches_has_its_last_layer_with_a_note(network, layer):
    """Check networks in which everything passes only through a stem layer, or through none."""
    note = (
        rf"branches that no late layer joins.*doesn't pass through the layer '{re.escape(layer)}'"
    )
    with pytest.warns(UserWarning, match=note):
        maps = ab.explain(network, images=torch.rand(1, 3, 16, 16), methods=["grad_cam"])
    assert maps.layer == layer


def test_a_large_head_makes_no_layer_early():
    """Check that a head with most of the parameters doesn't make the last map count as early.

    No note about branches appears either.
    """
    head = nn.Sequential(nn.Flatten(), nn.Linear(1024, 300), nn.ReLU(), nn.Linear(300, 5))
    stage = nn.Sequential(conv(4, 4), nn.ReLU())
    networks = [
        nn.Sequential(conv(3, 4), stage, head),
        nn.Sequential(conv(3, 4), conv(4, 4), Forked(), head),
    ]

    for network in networks:
        assert choose(network) == "1"
        assert not layers.default_notes("1", layers.record_calls(network, (16, 16)))


@pytest.mark.parametrize(("mixing", "layer"), [(Block(), "norm"), (nn.Identity(), "maps.8")])
def test_tokens_of_a_block_behind_the_last_map_are_the_default(mixing, layer):
    network = TokensBehindMaps(mixing)
    assert choose(network) == layer

    notes = layers.default_notes(layer, layers.record_calls(network, (16, 16)))

    if layer == "norm":
        (note,) = notes
        assert "tokens" in note
        assert "branches" not in note
    else:
        assert not notes


def test_a_refusal_names_a_layer_of_tokens_that_works():
    network = Tokens(stem=0, tokens=4)
    with pytest.raises(BenchError, match=r"such as '(mixing\.3|mixing)'") as refusal:
        choose(network)
    named = re.search("such as '(.+?)'", str(refusal.value))
    assert named is not None
    trace = ab.trace(network, named[1], torch.rand(1, 3, 16, 16), reshape="tokens")
    assert trace.activations.shape == (1, 8, 4, 4)


def test_tokens_of_windows_are_no_tokens_of_the_image():
    """Check a network such as TNT, whose first norm in a block is over the pixels of each patch."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.LayerNorm(48)
            self.norm = nn.LayerNorm(48)
            self.fc = nn.Linear(48, 5)

        def forward(self, x: Tensor) -> Tensor:
            patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
            pixels = self.inner(patches.reshape(-1, 1, 48).expand(-1, 4, -1))
            mixed = patches + pixels.mean(1).reshape_as(patches)
            return self.fc(self.norm(mixed).mean(1))

    calls = layers.record_calls(Windows(), (16, 16))
    assert [call.name for call in calls if call.is_tokens] == ["norm"]


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
