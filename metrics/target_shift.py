"""The shift of a map's mass to another object when that object's class is explained.

The definition follows the target sensitivity of Hesse et al., FunnyBirds, ICCV 2023,
arXiv:2308.06248.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import (
    Parts,
    indices_of_other_classes,
    mass_shares,
    parts_of,
    positive_masses,
)


def target_shift(explanation: Explanation) -> MetricGenerator[dict[str, Tensor]]:
    """Compute how far the mass moves to another object when its class is explained.

    o are all objects of the class of the largest object of another class; of equal objects, the
    first counts. target_shift is o's share of the heatmap that explains o's class, less its share
    of the heatmap of the explained class. target_shift_objects is the same, but of the mass only on
    o and on the objects of the explained class. A map that doesn't depend on the class has 0, and a
    map without mass has share 0. The metric costs one other trace per image, shared by all methods.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and a trace with interventions.

    Returns:
        target_shift and target_shift_objects, each (B,) in [-1, 1]; higher is better. Both are NaN
        without an object of another class, the second also without one of the explained class.

    Raises:
        BenchError: If the explanation has no interventions.
    """
    trace = explanation.required_trace
    rows = parts_of(explanation)
    targets = trace.targets.tolist()
    num_classes = trace.logits.shape[1]
    other: list[int | None] = []
    explained = []  # rows without another class keep their own
    for parts, target in zip(rows, targets, strict=True):
        other_class = _other_class(parts, target, num_classes)
        other.append(other_class)
        explained.append(target if other_class is None else other_class)

    def other_trace() -> Trace:
        return trace.again(targets=torch.tensor(explained))

    def read(changed: Explanation) -> Tensor:
        shares_of_changed = _shares(changed, other, targets)
        return shares_of_changed.masked_fill(~changed.finite.cpu()[:, None], torch.inf)

    after = yield Reexplanation(other_trace, read, key="class of the largest other object")
    shift = after - _shares(explanation, other, targets)
    return {"target_shift": shift[:, 0], "target_shift_objects": shift[:, 1]}


def _other_class(parts: Parts, target: int, classes: int) -> int | None:
    """Return the class of the largest object of another class, or None if there is none."""
    indices = indices_of_other_classes(parts, target, classes)
    if not indices:
        return None
    largest = max(indices, key=lambda index: int(parts[index].region.sum()))
    return parts[largest].label


def _shares(explanation: Explanation, other: list[int | None], targets: list[int]) -> Tensor:
    """Return the other class's share of each image's mass, and of that on both classes: (B, 2)."""
    rows = zip(parts_of(explanation), positive_masses(explanation), other, targets, strict=True)
    return torch.stack([_share(parts, mass, o, target) for parts, mass, o, target in rows])


def _share(parts: Parts, mass: Tensor, other: int | None, target: int) -> Tensor:
    """Return the other class's two shares of one image: (2,)."""
    # A part without a label, such as a mark, is no object of the other class if that is None.
    labels = [part.label for part in parts]
    is_other = torch.tensor(
        [label is not None and label == other for label in labels], dtype=torch.bool
    )
    is_target = torch.tensor([label == target for label in labels], dtype=torch.bool)
    share_of_all = share_of_objects = mass.new_tensor(torch.nan)
    if is_other.any():
        share_of_all = mass_shares(mass)[is_other].sum()
    if is_other.any() and is_target.any():
        object_mass = mass.where(is_other | is_target, 0.0)
        share_of_objects = mass_shares(object_mass)[is_other].sum()
    return torch.stack([share_of_all, share_of_objects])
