"""What a job costs in forward passes of the whole model: printed before it starts, and compared with a budget."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch

from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.answers import dry_run
from axiom_bench.evaluation.method_costs import fresh, passes_of_methods, versions_of
from axiom_bench.evaluation.plugins import Plugin, needs_of
from axiom_bench.evaluation.queries import PerturbedImages
from axiom_bench.explanation.explanation import Explanation

MAX_NAMES = 5  # methods and metrics that a sentence names


@dataclass(frozen=True)
class Cost:
    """Forward passes of one image and explained class, beside the one of its trace. of_methods: of each method,
    explaining one trace by itself. together: of all methods on one trace. of_method: of each metric, for each method.
    of_image: of each metric, once for all methods. shared_traces: the other traces that all methods explain again.
    own_traces: the other traces that each method has of its own."""

    of_methods: Mapping[str, float]
    together: float
    of_method: Mapping[str, float]
    of_image: Mapping[str, float]
    shared_traces: int = 0
    own_traces: int = 0

    @staticmethod
    def of(methods: Sequence[Plugin], metrics: Sequence[Plugin], trace: Trace, versions: float | None = None) -> Cost:
        """Counted: metrics' requests are answered by zeros, and methods are run on a stand-in of the layer's size.
        trace: of the real model; its first row is looked at. versions: of an image without its parts, on average, each
        a pass of `part_effects`; None: as many as the first row has."""
        row = fresh(trace[:1])
        alone, together = passes_of_methods(methods, row, versions)
        explanation = _explanation(row)
        seen: set[Hashable] = set()
        of_method: dict[str, float] = {}
        of_image: dict[str, float] = {}
        shared_traces = own_traces = 0
        for metric in metrics:
            if row.interventions is None and "interventions" in needs_of(metric):
                continue  # it won't be called
            had_effects = "part_effects" in vars(row)
            requests = dry_run(metric, explanation)
            if "part_effects" in vars(row) and not had_effects:
                of_image[metric.name] = versions_of(row) if versions is None else versions
            for request in requests:
                is_trace = not isinstance(request, PerturbedImages)
                if isinstance(request, PerturbedImages):
                    key: Hashable = ("perturbed", request.of_image, request.key)
                    passes, of_all = request.count, request.of_image
                else:
                    key = ("trace", request.of_map, request.key) if request.key is not None else object()
                    passes, of_all = 1, request.key is not None and not request.of_map
                if key not in seen:
                    seen.add(key)
                    into = of_image if of_all else of_method
                    into[metric.name] = into.get(metric.name, 0) + passes
                    shared_traces += is_trace and of_all
                    own_traces += is_trace and not of_all
        return Cost(alone, together, of_method, of_image, shared_traces, own_traces)

    @property
    def per_image_and_method(self) -> float:
        """Of the metrics, for each method."""
        return sum(self.of_method.values())

    @property
    def explaining(self) -> float:
        """Of the methods, once for the trace and again for every other trace."""
        return self.together * (1 + self.shared_traces) + sum(self.of_methods.values()) * self.own_traces

    @property
    def per_image(self) -> float:
        """Of all methods and metrics together."""
        return self.explaining + len(self.of_methods) * self.per_image_and_method + sum(self.of_image.values())

    def by_name(self) -> dict[str, float]:
        """The passes of each method and each metric for one image. Methods count as if none shared passes."""
        traces = 1 + self.shared_traces + self.own_traces
        metrics = {name: len(self.of_methods) * passes for name, passes in self.of_method.items()}
        for name, passes in self.of_image.items():
            metrics[name] = metrics.get(name, 0) + passes
        return {**{name: traces * passes for name, passes in self.of_methods.items()}, **metrics}

    def line(self, images: int, rows: int) -> str:
        """For the user, before a run: how many passes, and what most are of. rows: number of explained labels of the
        images, each of which costs as much as an image of one."""
        unit = "image" if rows == images else "label"
        return f"at most {rows * self.per_image:,.0f} forward passes beside those of the traces ({self.of_each(unit)})"

    def of_each(self, unit: str) -> str:
        """How many passes one image or label costs, and what most are of."""
        return f"{self.per_image:,.0f} for each {unit}: {_largest(self.by_name())}"


def check(cost: Cost, metrics: Sequence[Plugin], budget: int | None) -> None:
    """Raises BenchError, naming what costs most, where an image costs more passes than the budget."""
    if budget is None or cost.per_image <= budget:
        return
    by_name = cost.by_name()
    most_expensive = max(by_name, key=lambda name: by_name[name])
    kind = "metric" if most_expensive in [metric.name for metric in metrics] else "method"
    raise BenchError(
        f"Methods and metrics cost {cost.per_image:,.0f} forward passes for each image and explained class with "
        f"{len(cost.of_methods)} methods, and the budget metrics.max_forwards_per_image is {budget:,}: "
        f"{_largest(by_name)}. Leave some out, as with ~{kind}.{most_expensive}, lower their params, or raise the "
        "budget."
    )


def _explanation(trace: Trace) -> Explanation:
    """An explanation of one row by its gradients, with box, cell and mask of its class and a box of another class."""
    height, width = trace.images.shape[-2:]
    target = int(trace.targets[0])
    box = torch.tensor([0.0, 0.0, float(width), float(height)])
    labels = torch.tensor([target, (target + 1) % trace.logits.shape[1]])
    annotation = Annotation(labels, torch.stack([box, box]), torch.full((height, width), target), cells=True)
    batch = Batch(trace.images, ("",), trace.targets, (annotation,))
    return Explanation.of(trace, trace.gradients, batch, lambda other: other.gradients)


def _largest(passes: Mapping[str, float]) -> str:
    costly = sorted((name for name in passes if passes[name]), key=lambda name: (-passes[name], name))
    named = [f"{name} {passes[name]:,.0f}" for name in costly[:MAX_NAMES]]
    return ", ".join([*named, f"and {len(costly) - MAX_NAMES} more"] if len(costly) > MAX_NAMES else named)
