"""Layers that a pass calls several times: on views of the image, whose maps are put back, or on one
map after another.

Drops and contributions are compared with passes of the network itself, in which a hook changes one
call.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import axiom_bench as ab
from axiom_bench.cutting.graph_parts import GraphParts
from axiom_bench.models import layers
from tests.cutting.conftest import Network

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.tensor([0, 2])
CORNERS = ((0, 0), (0, 4), (4, 0), (4, 4))


class Normalised(nn.Module):
    """A network that normalises its images itself."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x - 0.4) / torch.tensor([0.2, 0.3, 0.4]).to(x)[:, None, None])


class Mirror(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(-1)


def part(channels: int = 3, pool: bool = False) -> nn.Sequential:
    """A network of one view: its layer "0" has five maps."""
    torch.manual_seed(0)
    pooling = [nn.MaxPool2d(2)] if pool else []
    maps = nn.Sequential(nn.Conv2d(channels, 5, 3, padding=1), nn.Sigmoid(), *pooling)
    return nn.Sequential(maps, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))


def windows(x: Tensor) -> list[Tensor]:
    return [x[..., top : top + 4, left : left + 4] for top, left in CORNERS]


def network_of(
    forward: Callable[[Any, Tensor], Tensor], layer_part: nn.Module | None = None, **modules: Any
) -> Network:
    torch.manual_seed(1)
    built = {name: build() for name, build in modules.items()}
    return Network(forward, part=layer_part or part(), **built).double()


def preallocated(net: Any, x: Tensor) -> Tensor:
    scores = x.new_zeros(len(x), 3, 4)
    for number, window in enumerate(windows(x)):
        scores[..., number] = net.part(window)  # which torch.fx can't follow
    return scores.amax(2)


def stitched(net: Any, x: Tensor) -> Tensor:
    maps = [net.part[0](window) for window in windows(x)]
    rows = [torch.cat(maps[:2], 3), torch.cat(maps[2:], 3)]
    return net.fc(net.last(torch.cat(rows, 2)).tanh().mean((2, 3)))


# name: (forward, its modules, the layer, the calls that are explained, the grid)
VIEWS: dict[str, tuple[Callable[..., Tensor], dict[str, Any], str, int, int]] = {
    "the largest window": (
        lambda net, x: torch.stack([net.part(w) for w in windows(x)]).amax(0),
        {},
        "part.0",
        4,
        8,
    ),
    "hooks": (preallocated, {}, "part.0", 4, 8),
    "the mean": (lambda net, x: sum(net.part(w) for w in windows(x)) / 4, {}, "part.0.0", 4, 8),
    "pooled": (
        lambda net, x: sum(net.part(w) for w in windows(x)),
        {"layer_part": part(pool=True)},
        "part.0",
        4,
        4,
    ),
    "overlapping": (lambda net, x: net.part(x[..., :6]) - net.part(x[..., 2:]), {}, "part.0", 2, 8),
    "one below the other": (
        lambda net, x: net.part(x[..., :4, :]) * net.part(x[..., 4:, :]),
        {},
        "part.0",
        2,
        8,
    ),
    "concatenated": (
        lambda net, x: net.fc(torch.cat([net.part(w) for w in windows(x)], 1)),
        {"fc": lambda: nn.Linear(12, 3)},
        "part.0",
        4,
        8,
    ),
    "mirrored": (lambda net, x: net.part(x) + 2 * net.part(x.flip(-1)), {}, "part.0", 2, 8),
    "turned upside down": (
        lambda net, x: net.part(x).exp() + net.part(x.flip((-1, -2))),
        {},
        "part.0",
        2,
        8,
    ),
    "normalised": (
        lambda net, x: net.part(x) + net.part(net.mirror(x)),
        {"mirror": Mirror, "layer_part": Normalised(part())},
        "part.net.0",
        2,
        8,
    ),
    "pairs in channels": (
        lambda net, x: net.part(x[:, :2]) - 2 * net.part(x[:, 1:]),
        {"layer_part": part(2)},
        "part.0",
        2,
        8,
    ),
    "of a map": (
        lambda net, x: sum(net.part(w) for w in windows(net.stem(x))),
        {"stem": lambda: nn.Conv2d(3, 3, 3, padding=1)},
        "part.0",
        4,
        8,
    ),
    "stitched": (
        stitched,
        {"last": lambda: nn.Conv2d(5, 5, 3), "fc": lambda: nn.Linear(5, 3)},
        "part.0",
        4,
        8,
    ),
    "checkpointed": (
        lambda net, x: sum(checkpoint(net.part, w, use_reentrant=False) for w in windows(x)),
        {},
        "part.0",
        4,
        8,
    ),
}


def drops_by_hand(network: nn.Module, layer: str, views: int, channels: int = 5) -> Tensor:
    """Of each call and channel, set to zero in this call alone: (B, views * channels)."""
    drops = torch.zeros(len(IMAGES), views * channels, dtype=torch.float64)
    target = network.eval().get_submodule(layer)

    def score(number: int, channel: int) -> Tensor:
        calls = []

        def change(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            calls.append(output)
            changed = output.clone()
            if len(calls) == number + 1:
                changed[:, channel] = 0
            return changed

        handle = target.register_forward_hook(change)
        with torch.no_grad():
            scores = network(IMAGES).gather(1, TARGETS[:, None])[:, 0]
        handle.remove()
        return scores

    for number in range(views):
        for channel in range(channels):
            drops[:, number * channels + channel] = score(-2, channel) - score(number, channel)
    return drops


@pytest.mark.parametrize("name", VIEWS)
def test_each_call_on_a_view_is_explained(name):
    forward, modules, layer, views, grid = VIEWS[name]
    network = network_of(forward, **modules)
    trace = ab.trace(network, layer, IMAGES, TARGETS)
    assert trace.activations.shape == (2, 5 * views, grid, grid)
    with torch.no_grad():
        torch.testing.assert_close(trace.logits, network.eval()(IMAGES), rtol=0, atol=1e-12)
    torch.testing.assert_close(trace.head(trace.activations), trace.logits, rtol=0, atol=1e-12)
    expected = drops_by_hand(network, layer, views)
    assert expected.abs().amax(0).gt(1e-6).any()
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "forward", [VIEWS["the largest window"][0], preallocated], ids=["torch.fx", "hooks"]
)
def test_heat_lies_on_the_window_that_makes_the_score(forward):
    network = network_of(forward)
    network.part[0][1] = nn.ReLU()
    for name, parameter in network.named_parameters():
        nn.init.constant_(parameter, 1 if "weight" in name else 0)
    for top, left in CORNERS:
        image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
        image[..., top + 1 : top + 3, left + 1 : left + 3] = 1
        heatmap = ab.explain(network, "part.0", image, methods=["grad_cam"], targets=[0])[
            "grad_cam"
        ][0]
        assert heatmap[top : top + 4, left : left + 4].sum() == heatmap.sum() > 0
    graph = isinstance(
        ab.trace(network, "part.0", image).cut_model.trunk_and_head.parts, GraphParts
    )
    assert graph == (forward is not preallocated)


def test_a_mirrored_view_is_mirrored_back():
    network = network_of(lambda net, x: net.part(x.flip(-1)) * 0.5 + net.part(x) * 0.5)
    trace = ab.trace(network, "part.0", IMAGES)
    maps = network.part[0](IMAGES).detach()
    mirrored = network.part[0](IMAGES.flip(-1)).flip(-1).detach()
    torch.testing.assert_close(
        trace.activations, torch.cat([mirrored, maps], 1), rtol=0, atol=1e-12
    )


def test_windows_of_signals_are_put_back():
    layer = nn.Conv1d(1, 4, 3, padding=1)
    network = Network(
        lambda net, x: sum(net.fc(net.c(x[..., i : i + 4]).tanh().mean(2)) for i in (0, 4)),
        c=layer,
        fc=nn.Linear(4, 2),
    ).double()
    signals = IMAGES[:, :1, 0]
    trace = ab.trace(network, "c", signals)
    assert trace.activations.shape == (2, 8, 8)
    torch.testing.assert_close(
        trace.activations[:, :4, :4], layer(signals[..., :4]).detach(), rtol=0, atol=1e-12
    )
    assert not trace.activations[:, :4, 4:].any()


def test_the_default_layer_is_put_back_and_the_examination_says_so():
    network = network_of(VIEWS["the mean"][0])
    answers = ab.check(network, layers.default_layer(layers.record_calls(network, (8, 8))), IMAGES)
    (sentence,) = [answer.sentence for answer in answers if answer.question == "layer"]
    assert "20 maps of 8 x 8, 5 for each of 4 views of the image" in sentence


def recurrent(net: Any, x: Tensor) -> Tensor:
    """Scores are made of each step, and each step of the one before."""
    maps, scores = x, 0
    for _ in range(3):
        maps = net.refine(maps).tanh()
        scores = scores + net.fc(maps.mean((2, 3)))
    return scores


def refine() -> nn.Module:
    return nn.Conv2d(3, 3, 3, padding=1)


ONE_MAP: dict[str, tuple[Callable[..., Tensor], dict[str, Any], str, int]] = {
    "its own output": (recurrent, {"refine": refine, "fc": lambda: nn.Linear(3, 3)}, "refine", 2),
    "the same map": (
        lambda net, x: net.fc(
            torch.cat([net.part[0](x).mean((2, 3)), net.part[0](x).amax((2, 3))], 1)
        ),
        {"fc": lambda: nn.Linear(10, 3)},
        "part.0",
        1,
    ),
    "branches of other weights": (
        lambda net, x: net.fc((net.act(net.a(x)) * net.act(net.b(x))).mean((2, 3))),
        {"a": refine, "b": refine, "act": nn.Sigmoid, "fc": lambda: nn.Linear(3, 3)},
        "act",
        1,
    ),
    "a template": (
        lambda net, x: net.part(x) - net.part(net.template),
        {"template": lambda: nn.Parameter(torch.rand(1, 3, 8, 8))},
        "part.0",
        0,
    ),
}


@pytest.mark.parametrize("name", ONE_MAP)
def test_repeated_calls_on_one_map_are_cut_at_the_last(name):
    forward, modules, layer, call = ONE_MAP[name]
    network = network_of(forward, **modules)
    trace = ab.trace(network, layer, IMAGES, TARGETS)
    channels = trace.activations.shape[1]
    expected = drops_by_hand(network, layer, call + 1, channels)[:, -channels:]
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=0, atol=1e-12)


def half(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 2)


def chosen(net: Any, x: Tensor) -> Tensor:
    place = int(x[0].mean((0, 1)).argmax()) % 4
    return net.part(x[..., place : place + 4]) + net.part(x[..., 4:])


EXPLAINED_BY_ITS_PART = r"axiom_bench\.explain\(network\.get_submodule\('part'\), '0', view\)"
REFUSED: dict[str, tuple[Callable[..., Tensor], dict[str, Any], str, str]] = {
    "another scale": (
        lambda net, x: net.part(x) + net.part(half(x)),
        {},
        "part.0",
        EXPLAINED_BY_ITS_PART,
    ),
    "a turned view": (
        lambda net, x: net.part(x) + net.part(x.rot90(1, (2, 3))),
        {},
        "part.0",
        EXPLAINED_BY_ITS_PART,
    ),
    "windows between cells": (
        lambda net, x: net.part(x[..., :6]) + net.part(x[..., 1:7]),
        {"layer_part": part(pool=True)},
        "part.0",
        EXPLAINED_BY_ITS_PART,
    ),
    "a view that the image chooses": (chosen, {}, "part.0", EXPLAINED_BY_ITS_PART),
    "levels of a pyramid": (
        lambda net, x: net.part(net.stem(x)) + net.part(half(net.stem(x))),
        {"stem": refine},
        "part.0",
        EXPLAINED_BY_ITS_PART,
    ),
    "views of maps that are computed twice": (
        lambda net, x: net.part(net.stem(x)) + net.part(net.stem(x).flip(-1)),
        {"stem": refine},
        "part.0",
        EXPLAINED_BY_ITS_PART,
    ),
    "levels of one map": (
        lambda net, x: (lambda maps: net.part(maps) + net.part(half(maps)))(net.stem(x)),
        {"stem": refine},
        "part.0",
        r"choose 'stem', which is called once",
    ),
    "levels that are merged": (
        lambda net, x: net.fc(
            net.last(half(net.part[0](x)) + net.part[0](half(x))).tanh().mean((2, 3))
        ),
        {"last": lambda: nn.Conv2d(5, 5, 3), "fc": lambda: nn.Linear(5, 3)},
        "part.0",
        r"choose 'last', which is called once",
    ),
    "no part of one view": (
        lambda net, x: net.fc(net.c(x).mean((2, 3)) + net.c(half(x)).mean((2, 3))),
        {"c": refine, "fc": lambda: nn.Linear(3, 3)},
        "c",
        r"put the pass of one view into a module of its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_views_on_no_common_grid_are_refused_with_another_way(name):
    forward, modules, layer, sentence = REFUSED[name]
    network = network_of(forward, **modules)
    with pytest.raises(
        ab.BenchError, match=rf"{layer!r} is called 2 times for an image, .*{sentence}"
    ) as error:
        ab.explain(network, layer, IMAGES)
    if "choose" in sentence:  # the sentence, followed
        maps = ab.explain(
            network,
            str(error.value).split("choose '")[1].split("'")[0],
            IMAGES,
            methods=["eigen_cam"],
        )
    elif "axiom_bench" in sentence:
        maps = ab.explain(network.get_submodule("part"), "0", IMAGES, methods=["eigen_cam"])
    else:
        return
    assert maps["eigen_cam"].any()


def test_a_layer_of_vectors_is_refused_as_of_one_view():
    with pytest.raises(ab.BenchError, match=r"'part\.3' gives shape \(1, 3\), not maps"):
        ab.trace(network_of(VIEWS["the mean"][0]), "part.3", IMAGES)


def test_another_number_of_views_is_refused():
    def forward(net: Any, x: Tensor) -> Tensor:
        scores = [net.part(window) for window in windows(x)]
        return torch.stack(
            scores[: 4 if x.sum() > 0 else 3] + ([] if x.sum() > 0 else [net.part(x)] * 2)
        ).amax(0)

    cut_model = ab.cut(network_of(forward), "part.0")
    cut_model.trace(IMAGES)
    with pytest.raises(
        ab.BenchError, match=r"called 4 times for the first image and 5 times for another"
    ):
        cut_model.trace(-IMAGES)


def test_views_without_a_gradient_are_refused():
    network = network_of(torch.no_grad()(VIEWS["the largest window"][0]))
    with pytest.raises(ab.BenchError, match=r"have no gradient there"):
        ab.trace(network, "part.0", IMAGES)


def test_calls_that_no_changed_image_shows_are_noted():
    """A network that refuses other images keeps its last call, with a warning."""

    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3, padding=1)
            self.fc = nn.Linear(4, 2)

        def forward(self, images):
            if images.amax() > 1:
                raise ValueError("pixels are 0 to 1")
            views = [self.layer(images[..., :16]), self.layer(images[..., 16:])]
            return self.fc(sum(view.mean((2, 3)) for view in views))

    with pytest.warns(
        UserWarning, match="'layer' is called several times.*pixels are 0 to 1.*last call"
    ):
        trace = ab.trace(Picky(), "layer", torch.ones(1, 3, 16, 32) * torch.linspace(0, 1, 32), [0])
    assert trace.activations.shape == (1, 4, 16, 16)
