"""A network and an image with a known explanation, which a metric should prefer to a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from axiom_bench.columns import OK
from axiom_bench.cutting.cut_model import CutModel, cut
from axiom_bench.cutting.interventions import Part
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Metric
from axiom_bench.evaluation.whole_set import aggregate
from axiom_bench.explanation.explanation import Explanation, Method

SIDE = 12  # pixels
TOLERANCE = 1e-12  # float64, of values of the size of 1
GAIN = 1e-6  # more than that is better
Value = tuple[float, str]  # a number and its status


@dataclass(frozen=True)
class TwoColours:
    """An image with a red corner, of class 0, on a green ground, of class 1.

    The layer's channels are the red and the green of each pixel, and the logit of a class is the
    sum of its channel. So the map of a class's own channel is exact.

    Attributes:
        cut_model: The network, cut behind its two channels.
        images: (1, 3, SIDE, SIDE).
        annotation: One box of class 0, two other boxes, and a mask of both classes.
    """

    cut_model: CutModel
    images: Tensor
    annotation: Annotation

    def explain(self, method: Method) -> Explanation:
        """Explain class 0 by a method, with annotations and versions without each part."""
        image = self.images[0]
        mask = self.annotation.mask
        assert mask is not None
        parts = []
        for label in (0, 1):
            region = mask.eq(label)
            parts.append(Part(f"class {label}", label, region, image.masked_fill(region, 0)[None]))
        ground = Part("ground", None, torch.zeros(SIDE, SIDE, dtype=torch.bool), image[None])
        trace = self.cut_model.trace(
            self.images, torch.tensor([0]), interventions=[(*parts, ground)]
        )
        batch = Batch(trace.images, ("",), trace.targets, (self.annotation,))
        return Explanation.of(trace, method(trace), batch, method)


class TwoColourNetwork(nn.Sequential):
    """A network whose channels are each pixel's red and green, and whose logits are their sums."""

    def __init__(self) -> None:
        colours = nn.Conv2d(3, 2, 1, bias=False)
        sums = nn.Linear(2 * SIDE**2, 2, bias=False)
        with torch.no_grad():
            colours.weight.copy_(torch.eye(3)[:2, :, None, None])
            sums.weight.copy_(torch.eye(2).repeat_interleave(SIDE**2, dim=1))
        super().__init__(colours, nn.ReLU(), nn.Flatten(), sums)

    def true_contributions(self, activations: Tensor, targets: Tensor) -> Tensor:
        """Return what each activation adds to the class's logit; only its own channel does."""
        return activations * torch.eye(2)[targets][..., None, None]


@cache
def two_colours() -> TwoColours:
    """Return the network and its image, made once for all metrics."""
    image = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64)
    image[0, 0, :4, :4] = 0.2
    image[0, 1] = 0.01
    image[0, 1, :4, :4] = 0
    mask = torch.ones(SIDE, SIDE, dtype=torch.long)
    mask[:4, :4] = 0
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 4, 12, 12], [6, 0, 12, 4]])
    annotation = Annotation(torch.tensor([0, 1, 0]), boxes, mask, cells=True, explained=0)
    cut_model = cut(TwoColourNetwork().double().eval(), "1")
    cut_model.finetuned = cut_model.model
    return TwoColours(cut_model, image, annotation)


def exact_weights(trace: Trace) -> Tensor:
    """Return the gradients (1, 2, SIDE, SIDE): 1 for the explained class's channel, otherwise 0."""
    return trace.gradients


def wrong_weights(trace: Trace) -> Tensor:
    """Return (1, 2, 1, 1): 1 for the channel of class 1, whatever class is explained."""
    weights = torch.tensor([0.0, 1.0], dtype=torch.float64)[None, :, None, None]
    return weights.expand(len(trace), -1, 1, 1)


def gains(metric: Metric, good: Method, bad: Method) -> Mapping[str, float]:
    """Return by how much the good map is better than the bad one: {value: gain}.

    Values without a direction are left out, and so are those that not both maps have.
    """
    good_values = _values(metric, good)
    bad_values = _values(metric, bad)
    gain_by_value = {}
    for name, (number, status) in good_values.items():
        other_number, other_status = bad_values[name]
        better = metric.spec.about(name).better
        if better != "none" and status == other_status == OK:
            gain_by_value[name] = (number - other_number) * (1 if better == "higher" else -1)
    return gain_by_value


def is_better(gain_by_value: Mapping[str, float]) -> bool:
    """Return True if a value is better for the good map than for the bad one, and none is worse."""
    found = gain_by_value.values()
    return min(found, default=0) > -TOLERANCE and max(found, default=0) > GAIN


def _values(metric: Metric, method: Method) -> Mapping[str, Value]:
    """Return the metric's values of the image, and of the data set of only this image."""
    measured = measure(metric, two_colours().explain(method), True)
    values = {}
    curves = {}
    for name, (result, statuses) in measured.items():
        if result.ndim == 1:
            values[name] = (float(result), statuses[0])
        elif result.ndim == 2:
            curves[name] = result.numpy()
    if metric.spec.aggregate is not None:
        for name, value in aggregate(metric)(curves).items():
            values[name] = (float(value), OK)
    return values
