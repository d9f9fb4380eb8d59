"""The scores pass through the default layer, or a note says that branches go around it."""

import re

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.models import layers
from tests.models.small_networks import ByClassToken, choose, conv, head, resnet


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
def test_the_last_map_is_the_default_if_the_graph_shows_no_other(network, layer):
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
        scores = self.heads[0](one.mean((2, 3)))
        other_scores = self.heads[1](two.mean((2, 3)))
        return torch.stack([scores, other_scores]).mean(0)


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
