"""What a metric's definition implies when the network or the image changes in a way that changes no
explanation.

Each relation makes a network and images from given ones, under which the right values are those of
the given ones. A metric whose YAML names the relation under `changes_under` says why its values
change; such a reason is checked too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.judging.tests import SANITY, Row
from axiom_bench.statistics.labels import number
from axiom_bench.testing.cases import CLASSES, own_cut
from axiom_bench.testing.metric_checks import METRIC_CASES

SIZE, CHANNELS, IMAGES, LAYER = 20, 5, 3, "features.4"  # 20 pixels: in 4 and 5 equal cells
# float64: sums of some hundred terms of the size of 1, in another order.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


class Relation(NamedTuple):
    """name. of_network: changes a copy of the network in place. is_mirrored: whether images and
    annotations are too. times: how often each image is in the batch.
    """

    name: str
    of_network: Callable[[nn.Sequential], None]
    is_mirrored: bool = False
    times: int = 1

    def model(self) -> nn.Sequential:
        """The network, changed."""
        changed = network()
        self.of_network(changed)
        return changed

    @property
    def layer(self) -> str:
        """At which it is cut."""
        return LAYER


def network() -> nn.Sequential:
    """Two convolutions with ReLUs and pooling between, global average pooling and a linear layer;
    seeded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, CHANNELS, 3, padding=1),
            nn.ReLU(),
        )
        head = nn.Linear(CHANNELS, CLASSES)
    parts = {
        "features": features,
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "head": head,
    }
    model = nn.Sequential()
    for name, module in parts.items():
        model.add_module(name, module)
    return model.double().eval().requires_grad_(False)


def mirror(model: nn.Sequential) -> None:
    """Filters with left and right swapped: the maps of a mirrored image are the mirrored maps."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(module.weight.flip(3), requires_grad=False)


def add_dead_channel(model: nn.Sequential) -> None:
    """One more channel at the layer, which is 0 everywhere, and which the head reads."""
    convolution, head = model.get_submodule("features.3"), model.get_submodule("head")
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(head, nn.Linear)
    _widen(convolution, "weight", 0, 0.0)
    _widen(convolution, "bias", 0, 0.0)
    _widen(head, "weight", 1, 1.0)


def double_logits(model: nn.Sequential) -> None:
    """All logits times 2."""
    for parameter in model.get_submodule("head").parameters():
        parameter.mul_(2)


def add_constant(model: nn.Sequential) -> None:
    """All logits plus 3."""
    model.get_submodule("head").get_parameter("bias").add_(3)


def leave(model: nn.Sequential) -> None:
    """The network as it is."""


RELATIONS = (
    Relation("mirrored", mirror, is_mirrored=True),
    Relation("dead_channel", add_dead_channel),
    Relation("double_logits", double_logits),
    Relation("constant_added", add_constant),
    Relation("shown_twice", leave, times=2),
)


def sanity(metric: Plugin, names: Collection[str]) -> list[Row]:
    """Return the scorecard's rows of these values of the metric under each relation."""
    once, rows = _values(metric, Relation("none", leave)), []
    for relation in RELATIONS:
        reason = str(metric.spec.changes_under.get(relation.name, ""))
        for name, values in _values(metric, relation).items():
            if name not in names:
                continue
            expected = once[name].repeat(relation.times)
            holds = torch.allclose(values, expected, equal_nan=True, **CLOSE)
            about = reason or (
                "" if holds else f"changes by {number(_difference(values, expected))}"
            )
            row = Row(
                name,
                SANITY,
                "a made-up network",
                relation.name,
                float(holds),
                n=IMAGES,
                about=about,
            )
            rows.append(row._replace(passes=holds or bool(reason)))
    return rows


def _values(metric: Plugin, relation: Relation) -> dict[str, Tensor]:
    """(times B,) of each value, in float64; of the two cases of the common suite that by
    weights.
    """
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    others, times = images.roll(1, 0), relation.times
    if relation.is_mirrored:
        images, others = images.flip(3), others.flip(3)
    images, others = images.repeat(times, 1, 1, 1), others.repeat(times, 1, 1, 1)
    trace = own_cut(relation).trace(images, torch.arange(IMAGES).repeat(times) % CLASSES)
    case = replace(
        METRIC_CASES["weights"], case=replace(METRIC_CASES["weights"].case, size=(SIZE, SIZE))
    )
    ids = tuple(map(str, range(IMAGES))) * times
    measured = measure(
        metric, case.explain(replace(trace, other_images=others), relation.is_mirrored, ids), True
    )
    return {name: values.double() for name, (values, _) in measured.items() if values.ndim == 1}


def _difference(values: Tensor, expected: Tensor) -> float:
    """The largest difference of an image, relative where the value is above 1."""
    size = expected.abs().nan_to_num().clamp(min=1)
    return float(((values - expected).abs() / size).nan_to_num().max())


def _widen(module: nn.Module, name: str, dimension: int, fill: float) -> None:
    """A parameter with one more row or column of `fill`."""
    old = module.get_parameter(name)
    more = torch.full_like(old.narrow(dimension, 0, 1), fill)
    setattr(module, name, nn.Parameter(torch.cat([old, more], dimension), requires_grad=False))
