"""What a run's metrics cost in forward passes of the whole model: said before it starts, and held to a budget."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin, forwards_of

NAMED = 5  # metrics that a sentence names
Pass = tuple[str, str]  # a name, and the parameters that it depends on


@dataclass(frozen=True)
class Cost:
    """Forward passes that metrics add to an image (for each of its explained classes), beside the methods' own.

    of_method: of each method. of_image: once for all methods. Metrics share passes of one name and equal parameters.
    """

    methods: int
    of_method: Mapping[Pass, float]
    of_image: Mapping[Pass, float]

    @staticmethod
    def of(metrics: Iterable[Plugin], methods: int) -> Cost:
        """What the metrics' YAML files declare."""
        of_method: dict[Pass, float] = {}
        of_image: dict[Pass, float] = {}
        for metric in metrics:
            once = metric.spec.forwards_for == "image" or metric.spec.of == "layer"
            into = of_image if once else of_method
            named = forwards_of(metric)
            for name, forwards in named.items():
                key = (name, _parameters(metric.params, name, named))
                into[key] = max(forwards, into.get(key, 0))
        return Cost(methods, of_method, of_image)

    @property
    def per_image_and_method(self) -> float:
        return sum(self.of_method.values())

    @property
    def per_image(self) -> float:
        """Of all methods together."""
        return self.methods * self.per_image_and_method + sum(self.of_image.values())

    def line(self, images: int, rows: int) -> str:
        """For the user, before a run: passes per image and method, per image, and their total.

        rows: how many labels of the images are explained, each of which costs as much as an image of one.
        """
        one, all_of_them = ("image", "") if rows == images else ("label", f"{rows:,} labels of ")
        parts = []
        if self.per_image_and_method:
            most = _largest(_by_name(self.of_method))
            parts.append(f"{self.per_image_and_method:,.0f} per {one} and method ({most})")
        if any(self.of_image.values()):
            most = _largest(_by_name(self.of_image))
            parts.append(f"{sum(self.of_image.values()):,.0f} per {one} for all methods ({most})")
        total = f"{rows * self.per_image:,.0f} for {all_of_them}{images:,} images x {self.methods} methods"
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
        f"The metrics cost {cost.per_image:,.0f} forward passes an image and explained class for {methods} methods, "
        f"and the budget metrics.max_forwards_per_image is {budget:,}: {_largest(each)}. Leave some out, as with "
        f"~metric.{first}, choose fewer methods, lower their params, or raise the budget."
    )


def _parameters(params: Mapping[str, Any], name: str, every: Iterable[str]) -> str:
    """The parameters that one of a metric's passes depends on, as text; every: the names of all its passes.

    What begins with the pass's name is its own, `insertion_fill` the `fill` of `insertion`; with another's, not its.
    """
    others = tuple(f"{other}_" for other in every if other != name)
    own = {key.removeprefix(f"{name}_"): value for key, value in params.items() if not key.startswith(others)}
    return json.dumps(own, sort_keys=True, default=str)


def _by_name(passes: Mapping[Pass, float]) -> dict[str, float]:
    """All passes of one name added up."""
    names = dict.fromkeys(name for name, _ in passes)
    return {name: sum(count for key, count in passes.items() if key[0] == name) for name in names}


def _largest(forwards: Mapping[str, float]) -> str:
    """The most expensive entries, in words."""
    costly = sorted((name for name in forwards if forwards[name]), key=lambda name: (-forwards[name], name))
    named = [f"{name} {forwards[name]:,.0f}" for name in costly[:NAMED]]
    return ", ".join([*named, f"and {len(costly) - NAMED} more"] if len(costly) > NAMED else named)
