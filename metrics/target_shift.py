"""Whether a map's mass moves to another object when that object's class is explained; after the
target sensitivity of Hesse et al., FunnyBirds, ICCV 2023, arXiv:2308.06248.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import (
    Parts,
    classes_besides,
    parts_of,
    positive_masses,
    shares,
)


def target_shift(explanation: Explanation) -> MetricGenerator[dict[str, Tensor]]:
    """How far the mass moves to another object when its class is explained -> two values (B,) in
    [-1, 1], high is good.

    o: all objects of the class of the largest object of another class, of equals the first.
    target_shift: o's share of the heatmap that explains o's class, less its share of that of the
    explained class. target_shift_objects: the same of the mass on o and on the objects of the
    explained class alone, whatever lies elsewhere. A map that doesn't depend on the class has 0. A
    map without mass has share 0. NaN without an object of another class, the second also without
    one of the explained class. One other trace per image, shared by all methods.
    """
    trace = explanation.required_trace
    rows = parts_of(explanation)
    targets = trace.targets.tolist()
    other = [
        _other_class(parts, target, trace.logits.shape[1])
        for parts, target in zip(rows, targets, strict=True)
    ]
    explained = [target if o is None else o for o, target in zip(other, targets, strict=True)]

    def other_trace() -> Trace:
        return trace.again(targets=torch.tensor(explained))

    def read(changed: Explanation) -> Tensor:
        return _shares(changed, other, targets).masked_fill(
            ~changed.finite.cpu()[:, None], torch.inf
        )

    after = yield Reexplanation(other_trace, read, key="class of the largest other object")
    shift = after - _shares(explanation, other, targets)
    return {"target_shift": shift[:, 0], "target_shift_objects": shift[:, 1]}


def _other_class(parts: Parts, target: int, classes: int) -> int | None:
    """The class of the largest object of another class; None where there is none."""
    places = classes_besides(parts, target, classes)
    return (
        parts[max(places, key=lambda place: int(parts[place].region.sum()))].label
        if places
        else None
    )


def _shares(explanation: Explanation, other: list[int | None], targets: list[int]) -> Tensor:
    """The other class's share of each image's mass, and of the mass on objects of both classes: (B,
    2).
    """
    rows = zip(parts_of(explanation), positive_masses(explanation), other, targets, strict=True)
    return torch.stack([_share(parts, mass, o, target) for parts, mass, o, target in rows])


def _share(parts: Parts, mass: Tensor, other: int | None, target: int) -> Tensor:
    of_other = torch.tensor(
        [part.label is not None and part.label == other for part in parts], dtype=torch.bool
    )
    of_target = torch.tensor([part.label == target for part in parts], dtype=torch.bool)
    nothing = mass.new_tensor(torch.nan)
    both = of_other | of_target
    return torch.stack([
        shares(mass)[of_other].sum() if of_other.any() else nothing,
        shares(mass.where(both, 0.0))[of_other].sum() if of_other.any() and of_target.any() else nothing,
    ])  # fmt: skip
