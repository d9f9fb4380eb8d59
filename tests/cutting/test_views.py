"""Layers that a pass calls several times: on views of the image, whose maps are put back, or on one
map after another.

Drops and contributions are compared with passes of the network itself, in which a hook changes one
call.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
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


def largest(net: Any, x: Tensor) -> Tensor:
    return torch.stack([net.part(window) for window in windows(x)]).amax(0)


def total(net: Any, x: Tensor) -> Tensor:
    return sum(net.part(window) for window in windows(x))


def mean(net: Any, x: Tensor) -> Tensor:
    return total(net, x) / 4


def concatenated(net: Any, x: Tensor) -> Tensor:
    return net.fc(torch.cat([net.part(window) for window in windows(x)], 1))


def checkpointed(net: Any, x: Tensor) -> Tensor:
    return sum(checkpoint(net.part, window, use_reentrant=False) for window in windows(x))


def stem() -> nn.Module:
    return nn.Conv2d(3, 3, 3, padding=1)


def last_convolution() -> nn.Module:
    return nn.Conv2d(5, 5, 3)


def classifier(features: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(features, 3)


@dataclass(frozen=True)
class View:
    """A network that calls its layer on several views of the image."""

    forward: Callable[..., Tensor]
    calls: int = 4  # the calls that are explained
    modules: dict[str, Any] = field(default_factory=dict)
    layer: str = "part.0"
    grid: int = 8  # the side of the maps


VIEWS = {
    "the largest window": View(largest),
    "hooks": View(preallocated),
    "the mean": View(mean, layer="part.0.0"),
    "pooled": View(total, modules={"layer_part": part(pool=True)}, grid=4),
    "overlapping": View(lambda net, x: net.part(x[..., :6]) - net.part(x[..., 2:]), 2),
    "one below the other": View(
        lambda net, x: net.part(x[..., :4, :]) * net.part(x[..., 4:, :]), 2
    ),
    "concatenated": View(concatenated, modules={"fc": classifier(12)}),
    "mirrored": View(lambda net, x: net.part(x) + 2 * net.part(x.flip(-1)), 2),
    "turned upside down": View(lambda net, x: net.part(x).exp() + net.part(x.flip((-1, -2))), 2),
    "normalised": View(
        lambda net, x: net.part(x) + net.part(net.mirror(x)),
        2,
        {"mirror": Mirror, "layer_part": Normalised(part())},
        "part.net.0",
    ),
    "pairs in channels": View(
        lambda net, x: net.part(x[:, :2]) - 2 * net.part(x[:, 1:]), 2, {"layer_part": part(2)}
    ),
    "of a map": View(lambda net, x: total(net, net.stem(x)), modules={"stem": stem}),
    "stitched": View(stitched, modules={"last": last_convolution, "fc": classifier(5)}),
    "checkpointed": View(checkpointed),
}


def drops_by_hand(network: nn.Module, layer: str, views: int, channels: int = 5) -> Tensor:
    """Compute the drops of setting a channel to zero in one call only: (B, views * channels)."""
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
    view = VIEWS[name]
    network = network_of(view.forward, **view.modules)
    trace = ab.trace(network, view.layer, IMAGES, TARGETS)
    assert trace.activations.shape == (2, 5 * view.calls, view.grid, view.grid)
    with torch.no_grad():
        torch.testing.assert_close(trace.logits, network.eval()(IMAGES), rtol=0, atol=1e-12)
    torch.testing.assert_close(trace.head(trace.activations), trace.logits, rtol=0, atol=1e-12)
    expected = drops_by_hand(network, view.layer, view.calls)
    assert expected.abs().amax(0).gt(1e-6).any()
    torch.testing.assert_close(trace.ablation_drops, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("forward", [largest, preallocated], ids=["torch.fx", "hooks"])
def test_heat_lies_on_the_window_that_makes_the_score(forward):
    network = network_of(forward)
    network.part[0][1] = nn.ReLU()
    for name, parameter in network.named_parameters():
        nn.init.constant_(parameter, 1 if "weight" in name else 0)
    for top, left in CORNERS:
        image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
        image[..., top + 1 : top + 3, left + 1 : left + 3] = 1
        maps = ab.explain(network, "part.0", image, methods=["grad_cam"], targets=[0])
        heatmap = maps["grad_cam"][0]
        assert heatmap[top : top + 4, left : left + 4].sum() == heatmap.sum() > 0
    parts = ab.trace(network, "part.0", image).cut_model.trunk_and_head.parts
    assert isinstance(parts, GraphParts) == (forward is not preallocated)


def test_a_mirrored_view_is_mirrored_back():
    network = network_of(lambda net, x: net.part(x.flip(-1)) * 0.5 + net.part(x) * 0.5)
    trace = ab.trace(network, "part.0", IMAGES)
    maps = network.part[0](IMAGES).detach()
    mirrored = network.part[0](IMAGES.flip(-1)).flip(-1).detach()
    expected = torch.cat([mirrored, maps], 1)
    torch.testing.assert_close(trace.activations, expected, rtol=0, atol=1e-12)


def test_windows_of_signals_are_put_back():
    def forward(net: Any, x: Tensor) -> Tensor:
        halves = [x[..., :4], x[..., 4:]]
        return sum(net.fc(net.c(half).tanh().mean(2)) for half in halves)

    layer = nn.Conv1d(1, 4, 3, padding=1)
    network = Network(forward, c=layer, fc=nn.Linear(4, 2)).double()
    signals = IMAGES[:, :1, 0]
    trace = ab.trace(network, "c", signals)
    assert trace.activations.shape == (2, 8, 8)
    expected = layer(signals[..., :4]).detach()
    torch.testing.assert_close(trace.activations[:, :4, :4], expected, rtol=0, atol=1e-12)
    assert not trace.activations[:, :4, 4:].any()


def test_the_default_layer_is_put_back_and_the_examination_says_so():
    network = network_of(mean)
    answers = ab.check(network, layers.default_layer(layers.record_calls(network, (8, 8))), IMAGES)
    (sentence,) = [answer.sentence for answer in answers if answer.question == "layer"]
    assert "20 maps of 8 x 8, 5 for each of 4 views of the image" in sentence


def recurrent(net: Any, x: Tensor) -> Tensor:
    """Compute the scores from each step, and each step from the one before."""
    maps = x
    scores = 0
    for _ in range(3):
        maps = net.refine(maps).tanh()
        scores = scores + net.fc(maps.mean((2, 3)))
    return scores


def two_pools(net: Any, x: Tensor) -> Tensor:
    mean_pool = net.part[0](x).mean((2, 3))
    max_pool = net.part[0](x).amax((2, 3))
    return net.fc(torch.cat((mean_pool, max_pool), 1))


def two_branches(net: Any, x: Tensor) -> Tensor:
    product = net.act(net.a(x)) * net.act(net.b(x))
    return net.fc(product.mean((2, 3)))


# name: (forward, its modules, the layer, the number of its last call)
ONE_MAP: dict[str, tuple[Callable[..., Tensor], dict[str, Any], str, int]] = {
    "its own output": (recurrent, {"refine": stem, "fc": classifier(3)}, "refine", 2),
    "the same map": (two_pools, {"fc": classifier(10)}, "part.0", 1),
    "branches of other weights": (
        two_branches,
        {"a": stem, "b": stem, "act": nn.Sigmoid, "fc": classifier(3)},
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


def levels_of_one_map(net: Any, x: Tensor) -> Tensor:
    maps = net.stem(x)
    return net.part(maps) + net.part(half(maps))


def merged_levels(net: Any, x: Tensor) -> Tensor:
    maps = half(net.part[0](x)) + net.part[0](half(x))
    return net.fc(net.last(maps).tanh().mean((2, 3)))


def convolved_twice(net: Any, x: Tensor) -> Tensor:
    return net.fc(net.c(x).mean((2, 3)) + net.c(half(x)).mean((2, 3)))


# name: (forward, its modules); these networks are explained by their part
WITH_A_PART: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "another scale": (lambda net, x: net.part(x) + net.part(half(x)), {}),
    "a turned view": (lambda net, x: net.part(x) + net.part(x.rot90(1, (2, 3))), {}),
    "windows between cells": (
        lambda net, x: net.part(x[..., :6]) + net.part(x[..., 1:7]),
        {"layer_part": part(pool=True)},
    ),
    "a view that the image chooses": (chosen, {}),
    "levels of a pyramid": (
        lambda net, x: net.part(net.stem(x)) + net.part(half(net.stem(x))),
        {"stem": stem},
    ),
    "views of maps that are computed twice": (
        lambda net, x: net.part(net.stem(x)) + net.part(net.stem(x).flip(-1)),
        {"stem": stem},
    ),
}


def assert_called_twice(network: nn.Module, layer: str, advice: str) -> None:
    sentence = rf"{layer!r} is called 2 times for an image, .*{advice}"
    with pytest.raises(ab.BenchError, match=sentence):
        ab.explain(network, layer, IMAGES)


@pytest.mark.parametrize("name", WITH_A_PART)
def test_views_on_no_common_grid_are_explained_by_their_part(name):
    forward, modules = WITH_A_PART[name]
    network = network_of(forward, **modules)
    advice = r"axiom_bench\.explain\(network\.get_submodule\('part'\), '0', view\)"
    assert_called_twice(network, "part.0", advice)
    maps = ab.explain(network.get_submodule("part"), "0", IMAGES, methods=["eigen_cam"])
    assert maps["eigen_cam"].any()


@pytest.mark.parametrize(
    ("forward", "modules", "layer"),
    [
        (levels_of_one_map, {"stem": stem}, "stem"),
        (merged_levels, {"last": last_convolution, "fc": classifier(5)}, "last"),
    ],
)
def test_levels_are_explained_at_a_layer_that_is_called_once(forward, modules, layer):
    network = network_of(forward, **modules)
    assert_called_twice(network, "part.0", f"choose '{layer}', which is called once")
    maps = ab.explain(network, layer, IMAGES, methods=["eigen_cam"])
    assert maps["eigen_cam"].any()


def test_a_network_without_a_part_of_one_view_is_refused():
    network = network_of(convolved_twice, c=stem, fc=classifier(3))
    assert_called_twice(network, "c", r"put the pass of one view into a module of its own")


def test_a_layer_of_vectors_is_refused_as_of_one_view():
    with pytest.raises(ab.BenchError, match=r"'part\.3' gives shape \(1, 3\), not maps"):
        ab.trace(network_of(mean), "part.3", IMAGES)


def test_another_number_of_views_is_refused():
    def forward(net: Any, x: Tensor) -> Tensor:
        scores = [net.part(window) for window in windows(x)]
        if x.sum() <= 0:
            other = net.part(x)
            scores = [*scores[:3], other, other]
        return torch.stack(scores).amax(0)

    cut_model = ab.cut(network_of(forward), "part.0")
    cut_model.trace(IMAGES)
    sentence = r"called 4 times for the first image and 5 times for another"
    with pytest.raises(ab.BenchError, match=sentence):
        cut_model.trace(-IMAGES)


def test_views_without_a_gradient_are_refused():
    network = network_of(torch.no_grad()(largest))
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

    images = torch.linspace(0, 1, 32).expand(1, 3, 16, 32)
    sentence = "'layer' is called several times.*pixels are 0 to 1.*last call"
    with pytest.warns(UserWarning, match=sentence):
        trace = ab.trace(Picky(), "layer", images, [0])
    assert trace.activations.shape == (1, 4, 16, 16)
