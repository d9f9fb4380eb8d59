"""Changes of a network or an image that change no explanation, and the metric values under them.

Each relation makes a network and images from given ones. The right values under it are those of the
given network and images. A metric whose YAML names the relation under `changes_under` gives the
reason why its values change. Such a reason is checked, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Metric
from axiom_bench.judging.tests import SANITY, Row
from axiom_bench.statistics.labels import number
from axiom_bench.testing.cases import CLASSES, cached_cut
from axiom_bench.testing.metric_checks import METRIC_CASES

SIZE = 20  # pixels, which are 4 and 5 equal cells
CHANNELS = 5
IMAGES = 3
LAYER = "features.4"
# float64: sums of some hundred terms of the size of 1, in another order.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


class Relation(NamedTuple):
    """A change of a network, its images or its batch."""

    name: str
    """The name, as a metric's `changes_under` has it."""
    change_network: Callable[[nn.Sequential], None]
    """Changes a copy of the network in place."""
    is_mirrored: bool = False
    """Whether images and annotations are mirrored, too."""
    times: int = 1
    """The number of times that each image is in the batch."""

    def model(self) -> nn.Sequential:
        """Return the changed network."""
        changed = network()
        self.change_network(changed)
        return changed

    @property
    def layer(self) -> str:
        """The layer at which the network is cut."""
        return LAYER


def network() -> nn.Sequential:
    """Build a seeded network of two convolutions with ReLUs, pooling and a linear layer.

    There is pooling between the convolutions, and global average pooling before the linear layer.
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
    """Swap left and right of the filters, so that a mirrored image has the mirrored maps."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight = nn.Parameter(module.weight.flip(3), requires_grad=False)


def add_dead_channel(model: nn.Sequential) -> None:
    """Add a channel at the layer that is 0 everywhere, and that the head reads.

    A metric that counts channels, or divides by a channel's sum, would change.
    """
    convolution = model.get_submodule("features.3")
    head = model.get_submodule("head")
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(head, nn.Linear)
    _widen(convolution, "weight", 0, 0.0)
    _widen(convolution, "bias", 0, 0.0)
    _widen(head, "weight", 1, 1.0)


def double_logits(model: nn.Sequential) -> None:
    """Multiply all logits by 2, which changes the score's unit and no explanation."""
    for parameter in model.get_submodule("head").parameters():
        parameter.mul_(2)


def add_constant(model: nn.Sequential) -> None:
    """Add 3 to all logits, which no channel and no pixel contributes."""
    model.get_submodule("head").get_parameter("bias").add_(3)


def leave_unchanged(model: nn.Sequential) -> None:
    """Leave the network unchanged, for the relation that shows the images twice in a batch."""


RELATIONS = (
    Relation("mirrored", mirror, is_mirrored=True),
    Relation("dead_channel", add_dead_channel),
    Relation("double_logits", double_logits),
    Relation("constant_added", add_constant),
    Relation("shown_twice", leave_unchanged, times=2),
)


def sanity(metric: Metric, names: Collection[str]) -> list[Row]:
    """Return the scorecard's rows of these values of the metric under each relation."""
    unchanged = _values(metric, Relation("none", leave_unchanged))
    rows = []
    for relation in RELATIONS:
        reason = str(metric.spec.changes_under.get(relation.name, ""))
        for name, values in _values(metric, relation).items():
            if name not in names:
                continue
            expected = unchanged[name].repeat(relation.times)
            holds = torch.allclose(values, expected, equal_nan=True, **CLOSE)
            about = reason
            if not holds and not reason:
                about = f"changes by {number(_difference(values, expected))}"
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


def _values(metric: Metric, relation: Relation) -> dict[str, Tensor]:
    """Return each value under a relation, (times B,) in float64, for an explanation by weights."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    other_images = images.roll(1, 0)
    if relation.is_mirrored:
        images = images.flip(3)
        other_images = other_images.flip(3)
    times = relation.times
    images = images.repeat(times, 1, 1, 1)
    other_images = other_images.repeat(times, 1, 1, 1)
    targets = torch.arange(IMAGES).repeat(times) % CLASSES
    trace = replace(cached_cut(relation).trace(images, targets), other_images=other_images)
    weights_case = METRIC_CASES["weights"]
    case = replace(weights_case, case=replace(weights_case.case, size=(SIZE, SIZE)))
    ids = tuple(map(str, range(IMAGES))) * times
    explanation = case.explain(trace, mirrored=relation.is_mirrored, ids=ids)
    measured = measure(metric, explanation, True)
    return {name: values.double() for name, (values, _) in measured.items() if values.ndim == 1}


def _difference(values: Tensor, expected: Tensor) -> float:
    """Return the largest difference of an image, relative to an expected value above 1."""
    size = expected.abs().nan_to_num().clamp(min=1)
    return float(((values - expected).abs() / size).nan_to_num().max())


def _widen(module: nn.Module, name: str, dimension: int, fill: float) -> None:
    """Add one row or column of `fill` to a parameter."""
    old = module.get_parameter(name)
    more = torch.full_like(old.narrow(dimension, 0, 1), fill)
    setattr(module, name, nn.Parameter(torch.cat([old, more], dimension), requires_grad=False))
