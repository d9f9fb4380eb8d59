"""The rule for the default layer, on small networks."""

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
    return layers.choose(module, layer, layers.record(module, (size, size)))


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5)]


class Residual(nn.Module):
    """A ReLU that is called twice, and whose last output is the block's own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second, self.relu = (
            conv(channels, channels),
            conv(channels, channels),
            nn.ReLU(inplace=True),
        )

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
    features = nn.Sequential(
        conv(3, 4), nn.ReLU(True), nn.MaxPool2d(2), conv(4, 8), nn.ReLU(True), nn.MaxPool2d(2)
    )
    return nn.Sequential(
        features, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(), nn.Linear(72, 5)
    )


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
        (
            vgg(),
            "0.5",
            "0.4",
        ),  # the pool, not the container of the first layer, the adaptive pool or the dropout
        (resnet(), "1", "1"),  # the stage: the last output of the ReLU that is called four times
        (Functional(), "body.3", "body.3"),  # the last weight matrix makes features, not scores
        (squeezenet(), "1", None),  # not the maps of classes
        (fully_convolutional(), "3", "3"),
        (
            nn.Sequential(nn.Sequential(conv(3, 4)), *head(4)),
            "0.0",
            None,
        ),  # not the container of the first layer
        (Tokens(stem=4, tokens=2), "patches", None),
        (
            nn.Sequential(
                conv(3, 4), nn.MaxPool2d(16), nn.ZeroPad2d(1), nn.Conv2d(4, 4, 3), *head(4)
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
        (resnet(), "zz", r"no layer 'zz'; there are: 0, 1\."),  # which give maps
        (resnet(), "1.0.secnd.4", r"did you mean '1\.0\.second'"),
        (resnet(), "4", r"'4' gives \(1, 5\), not maps .* as '1' is"),
        (resnet(), "2", r"'2' gives \(1, 4, 1, 1\), not maps"),
        (idle(), "idle", "'idle' isn't called"),
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
    with pytest.raises(
        BenchError, match=r"images of 4 channels, and pictures have 3.*\(4, H, W\).*data=arrays"
    ):
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
        self.blocks, self.norm, self.fc = (
            nn.Sequential(Block(), Block()),
            nn.LayerNorm(8),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.fc(self.norm(self.blocks(tokens))[:, 0])


class ByMean(ByClassToken):
    """The mean of all tokens makes the scores."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.fc(self.norm(self.blocks(tokens)).mean(1))


class ByPooling(ByMean):
    """A query that attends to all tokens makes the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.blocks(self.patches(x).flatten(2).transpose(1, 2)))
        query = self.token.expand(len(x), -1, -1)
        return self.fc(self.pool(query, tokens, tokens, need_weights=False)[0][:, 0])


class Grids(ByMean):
    """Its tokens are a grid (B, H, W, K)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.patches(x).permute(0, 2, 3, 1)).mean((1, 2)))


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
    with pytest.warns(
        UserWarning, match=rf"layer '{layer}' returns tokens, which become maps \(reshape=tokens\)"
    ):
        maps = ab.explain(network, images=images, methods=["grad_cam"])
    assert maps.layer == layer
    trace = ab.trace(network, layer, images, [0, 1], reshape="tokens")
    assert trace.activations.shape == (2, 8, 4, 4)
    assert trace.gradients.abs().amax(1).all()

    def without(channel: int) -> Tensor:
        def ablate(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            ablated = output.clone()
            ablated[:, int(output.shape[1] == 17) :, ..., channel] = 0  # not of the class token
            return ablated

        handle = network.get_submodule(layer).register_forward_hook(ablate)
        try:
            return network(images)[[0, 1], [0, 1]]
        finally:
            handle.remove()

    with torch.no_grad():
        expected = torch.stack(
            [network(images)[[0, 1], [0, 1]] - without(channel) for channel in range(8)], 1
        )
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=1e-9, atol=1e-12)
    assert trace.ablation_drops.abs().max() > 1e-3


def test_tokens_that_fill_no_grid_need_one():
    network, images = ByMean(), torch.rand(1, 3, 13, 18)
    with pytest.raises(
        BenchError,
        match=r"12 tokens of an image of 13x18 pixels fill no grid .*set reshape to their",
    ):
        ab.explain(network, images=images)
    assert ab.explain(network, images=images, methods=["grad_cam"], reshape=(3, 4)).layer == "norm"


class Concatenation(nn.Module):
    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, 1)


class Mixed(nn.Module):
    """Two branches and their concatenation, a module or in the block's forward, and what may follow
    it in place.
    """

    def __init__(self, cat: nn.Module | None, last: nn.Module | None = None) -> None:
        super().__init__()
        self.wide, self.narrow, self.relu = conv(4, 6), nn.Conv2d(4, 2, 1), nn.ReLU()
        self.cat, self.last = cat, last

    def forward(self, x: Tensor) -> Tensor:
        parts = self.relu(self.wide(x)), self.relu(self.narrow(x))
        joined = torch.cat(parts, 1) if self.cat is None else self.cat(*parts)
        return joined if self.last is None else self.last(joined)


class Branches(nn.Module):
    """Maps of two branches, or of one part that is called twice, that meet as vectors."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.stem, self.one, self.fc = (
            nn.Sequential(conv(3, 4), nn.ReLU()),
            conv(4, 4),
            nn.Linear(8, 5),
        )
        self.other = self.one if shared else conv(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x)
        return self.fc(
            torch.cat(
                [self.one(maps[..., :8]).mean((2, 3)), self.other(maps[..., 8:]).mean((2, 3))], 1
            )
        )


class First(nn.Module):
    def forward(self, parts: tuple[Tensor, ...]) -> Tensor:
        return parts[0]


class Halves(nn.Module):
    """A module that returns one half of a split, and a head that reads the other half too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.fc = conv(3, 4), First(), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        halves = self.stem(x).chunk(2, 1)
        return self.fc(torch.cat([self.first(halves).relu(), halves[1]], 1).mean((2, 3)))


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
    """Without the gradients of the layer's output the scores have none at the image."""
    network, layer = NETWORKS_OF_PATHS[case]
    assert choose(network) == layer
    handle = network.get_submodule(layer).register_forward_hook(lambda *call: call[-1].detach())
    images = torch.rand(1, 3, 16, 16, requires_grad=True)
    network.requires_grad_(requires_grad=False)
    assert not network(images).requires_grad
    handle.remove()
    assert network(images).requires_grad


class Detached(nn.Module):
    """Two branches behind a stem that has no gradients. how: the reason."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.stem, self.mixed, self.head = (
            how,
            conv(3, 4),
            Mixed(None),
            nn.Sequential(*head(8)),
        )

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
    """One part that is called on both halves of a map has its maps of both as channels."""
    assert choose(network) == layer
    maps = ab.explain(network, images=torch.rand(1, 3, 16, 16), methods=["grad_cam"])
    assert maps.layer == layer
    with torch.inference_mode():
        assert choose(network) == layer


class Fused(nn.Module):
    """A stem, and two stages that each have a head of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 2, 2, 2), conv(2, 16), conv(16, 16)
        self.heads = nn.ModuleList([nn.Linear(16, 5), nn.Linear(16, 5)])

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(self.stem(x))
        both = zip(self.heads, (one, self.two(one)), strict=True)
        return torch.stack([head(maps.mean((2, 3))) for head, maps in both]).mean(0)


class Crossed(nn.Module):
    """Tokens of two sizes, each with a class token that makes part of the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = ByClassToken(), ByClassToken()
        self.coarse.patches = nn.Conv2d(3, 8, 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fine(x) + self.coarse(x)


class Forked(nn.Module):
    """Two branches that meet as vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x).flatten(1), self.two(x).flatten(1)], 1)


class TokensBehindMaps(nn.Module):
    """A block over the positions of the last map, or only a norm of them."""

    def __init__(self, mixing: nn.Module) -> None:
        super().__init__()
        self.maps = nn.Sequential(*[conv(3, 3) for _ in range(8)], nn.Conv2d(3, 8, 4, 4))
        self.mixing, self.norm, self.fc = mixing, nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.mixing(self.maps(x).flatten(2).transpose(1, 2))).mean(1))


@pytest.mark.parametrize(
    ("network", "layer"), [(Fused(), "two"), (Crossed(), "coarse.blocks.1.before")]
)
def test_a_network_of_branches_has_its_last_layer_with_a_note(network, layer):
    """The layer through which everything passes is of the stem, or there is none."""
    note = (
        rf"branches that no late layer joins.*doesn't pass through the layer '{re.escape(layer)}'"
    )
    with pytest.warns(UserWarning, match=note):
        maps = ab.explain(network, images=torch.rand(1, 3, 16, 16), methods=["grad_cam"])
    assert maps.layer == layer


def test_a_large_head_makes_no_layer_early():
    """Everything passes through the last map, before which few of the parameters lie, and no note
    is of branches.
    """
    head = nn.Sequential(nn.Flatten(), nn.Linear(1024, 300), nn.ReLU(), nn.Linear(300, 5))
    for network, layer in (
        (nn.Sequential(conv(3, 4), nn.Sequential(conv(4, 4), nn.ReLU()), head), "1"),
        (nn.Sequential(conv(3, 4), conv(4, 4), Forked(), head), "1"),
    ):
        assert choose(network) == layer
        assert not layers.default_notes(layer, layers.record(network, (16, 16)))


@pytest.mark.parametrize(("mixing", "layer"), [(Block(), "norm"), (nn.Identity(), "maps.8")])
def test_tokens_of_a_block_behind_the_last_map_are_the_default(mixing, layer):
    network = TokensBehindMaps(mixing)
    assert choose(network) == layer
    notes = layers.default_notes(layer, layers.record(network, (16, 16)))
    assert [("tokens" in note, "branches" in note) for note in notes] == [(True, False)] * (
        layer == "norm"
    )


def test_a_refusal_names_a_layer_of_tokens_that_works():
    network = Tokens(stem=0, tokens=4)
    with pytest.raises(BenchError, match=r"such as '(mixing\.3|mixing)'") as refusal:
        choose(network)
    named = re.search("such as '(.+?)'", str(refusal.value))
    assert named is not None
    trace = ab.trace(network, named[1], torch.rand(1, 3, 16, 16), reshape="tokens")
    assert trace.activations.shape == (1, 8, 4, 4)


def test_tokens_of_windows_are_no_tokens_of_the_image():
    """The first norm in a block of TNT is over the pixels of each patch."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.norm, self.fc = nn.LayerNorm(48), nn.LayerNorm(48), nn.Linear(48, 5)

        def forward(self, x: Tensor) -> Tensor:
            patches = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
            pixels = self.inner(patches.reshape(-1, 1, 48).expand(-1, 4, -1))
            return self.fc(self.norm(patches + pixels.mean(1).reshape_as(patches)).mean(1))

    calls = layers.record(Windows(), (16, 16))
    assert [call.name for call in calls if call.is_tokens] == ["norm"]


class Copies(nn.Module):
    """Runs its part on an image and its mirror image as one batch. named: whether the part is a
    module of its own.
    """

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
        BenchError,
        match=r"maps of 2 images for one.*explain the part .*network\.get_submodule\('part'\)",
    ):
        choose(Copies(named=True))
    assert choose(Copies(named=True).get_submodule("part")) == "1"
    with pytest.raises(BenchError, match=r"maps of 2 images for one.* explain a network of one"):
        choose(Copies(named=False))
