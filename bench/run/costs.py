"""What a run's metrics cost in forward passes of the whole model: said before it starts, and held to a budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.errors import BenchError
from bench.plugins import Plugin, forwards_of

NAMED = 5  # metrics that a sentence names


@dataclass(frozen=True)
class Cost:
    """Forward passes that metrics add to an image (for each of its explained classes), beside the methods' own.

    of_method: of each method, by the name of the passes, which metrics may share. of_image: once for all methods.
    """

    methods: int
    of_method: Mapping[str, float]
    of_image: Mapping[str, float]

    @staticmethod
    def of(metrics: Iterable[Plugin], methods: int) -> Cost:
        """What the metrics' YAML files declare."""
        of_method: dict[str, float] = {}
        of_image: dict[str, float] = {}
        for metric in metrics:
            once = metric.about.get("forwards_for") == "image" or metric.about.get("of") == "layer"
            into = of_image if once else of_method
            for name, forwards in forwards_of(metric).items():
                into[name] = max(forwards, into.get(name, 0))
        return Cost(methods, of_method, of_image)

    @property
    def per_image_and_method(self) -> float:
        return sum(self.of_method.values())

    @property
    def per_image(self) -> float:
        """Of all methods together."""
        return self.methods * self.per_image_and_method + sum(self.of_image.values())

    def line(self, images: int) -> str:
        """For the user, before a run: passes per image and method, per image, and their total for so many images."""
        parts = []
        if self.per_image_and_method:
            parts.append(f"{self.per_image_and_method:,.0f} per image and method ({_largest(self.of_method)})")
        if any(self.of_image.values()):
            parts.append(f"{sum(self.of_image.values()):,.0f} per image for all methods ({_largest(self.of_image)})")
        total = f"{images * self.per_image:,.0f} for {images:,} images x {self.methods} methods"
        return f"forward passes of the metrics, at most: {', '.join([*parts, total])}"


def check(metrics: Iterable[Plugin], methods: int, budget: int | None) -> None:
    """Raises BenchError, naming the metrics and their cost, where an image would cost more passes than the budget."""
    metrics = tuple(metrics)
    cost = Cost.of(metrics, methods)
    if budget is None or cost.per_image <= budget:
        return
    each = {metric.name: Cost.of([metric], methods).per_image for metric in metrics}
    first = max(each, key=lambda name: each[name])
    raise BenchError(
        f"The metrics cost {cost.per_image:,.0f} forward passes an image for {methods} methods, and the budget "
        f"metrics.max_forwards_per_image is {budget:,}: {_largest(each)}. Leave some out, as with ~metric.{first}, "
        "choose fewer methods, lower their params, or raise the budget."
    )


def _largest(forwards: Mapping[str, float]) -> str:
    """The most expensive entries, in words."""
    costly = sorted((name for name in forwards if forwards[name]), key=lambda name: (-forwards[name], name))
    named = [f"{name} {forwards[name]:,.0f}" for name in costly[:NAMED]]
    return ", ".join([*named, f"and {len(costly) - NAMED} more"] if len(costly) > NAMED else named)
