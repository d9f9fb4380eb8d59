"""Explanations to measure, and short forms of calls and comparisons, for the tests of this room."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from scipy import ndimage
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.testing import answered
from axiom_bench.testing.cases import Check, run_checks
from axiom_bench.testing.metric_checks import MetricCase

# Parameters that decide how often a metric runs the network, not what it does.
FEWER = {"steps": 8, "passes": 4, "samples": 3, "subsets": 10, "squares": 10}

Box = tuple[int, int, int, int]


@cache
def with_fewer(name: str) -> Plugin:
    """The metric of conf/metric, with FEWER where it has such parameters."""
    params = metrics.get(name).params
    return plugins.with_params("metric", name, {key: FEWER[key] for key in FEWER.keys() & params})


def run_each(
    metric: Plugin, checks: Iterable[Check[MetricCase]], cases: Mapping[str, MetricCase]
) -> None:
    """Run each check; a check that the metric's YAML exempts must fail on one of the cases."""
    for check in checks:
        reasons = {
            name: reason for name, reason in metric.spec.exempt.items() if name == check.__name__
        }
        run_checks(metric, [check], cases, reasons)


def functions(*names: str) -> list[Callable[..., Any]]:
    """The functions of metrics, with what they ask the model answered; curves as points."""
    return [answered(metrics.get(name).call.func) for name in names]


def values_of(answer: Any) -> list[Tensor]:
    """The values that a metric returned, curves as points."""
    values = answer.values() if isinstance(answer, dict) else [answer]
    return [getattr(value, "points", value) for value in values]


def statuses(name: str, explanation: Explanation, **params: Any) -> dict[str, tuple[str, ...]]:
    """Why each image has a value or none, for each value; there is a number exactly where the
    status is "ok".
    """
    measured = measure(plugins.with_params("metric", name, params), explanation, True)
    for values, why in measured.values():
        assert all(row.isfinite().all() if status == "ok" else row.isnan().all()
                   for row, status in zip(values, why, strict=True))  # fmt: skip
    return {value: why for value, (_, why) in measured.items()}


def status(name: str, explanation: Explanation, **params: Any) -> set[str]:
    """The statuses of all values and images."""
    return {why for row in statuses(name, explanation, **params).values() for why in row}


def close(actual: Any, expected: Any, atol: float = 1e-12, rtol: float = 1e-12) -> None:
    """Numbers, lists or tensors that are equal but for rounding; a single expected number stands
    for all.
    """
    actual, expected = (torch.as_tensor(each, dtype=torch.float64) for each in (actual, expected))
    torch.testing.assert_close(actual, expected.expand_as(actual), rtol=rtol, atol=atol)


def tensor(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def with_copy(cut_model: ab.CutModel) -> ab.CutModel:
    """The same, which is its own fine-tuned copy."""
    cut_model.finetuned = cut_model.model
    return cut_model


def explained(trace: ab.Trace, method: Callable[[ab.Trace], Any]) -> Explanation:
    return Explanation.of(trace, method(trace), method=method)


def of_map(trace: ab.Trace, raw_map: Tensor) -> Explanation:
    """The same map (h, w) or (B, h, w) for every image, whatever the model."""
    return explained(
        trace, lambda trace: ab.Map(raw_map.double().expand(len(trace), *raw_map.shape[-2:]))
    )


def pooled_network(classes: int, *first: nn.Module) -> nn.Module:
    """A convolution, ReLU, global average pooling and a linear layer, behind other modules, from
    seed 0.
    """
    torch.manual_seed(0)
    return nn.Sequential(
        *first,
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, classes),
    ).eval()


def additive(red: Tensor) -> ab.Trace:
    """Of an image of these red pixels (8, 8), whose sum is S: each pixel's share is what removing
    it takes away.
    """
    net = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
        net[2].weight.copy_(torch.tensor([[1.0], [0.0]]).expand(2, 64))
    image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    image[0, 0] = red
    return ab.trace(net.double().eval(), "0", image, torch.tensor([0]))


def resized(raw_map: Tensor) -> Tensor:
    """Maps at the 12 x 12 pixels of the `trace` fixture's images."""
    return functional.interpolate(raw_map[:, None], (12, 12), mode="bilinear", align_corners=False)[
        :, 0
    ]


def confidence_of(trace: ab.Trace, row: int, image: Tensor, output: str = "probability") -> float:
    """The probability, or the logit, of a row's class in another image (3, H', W')."""
    logits = trace.forward(image[None])[0]
    return float((logits if output == "logit" else logits.softmax(0))[trace.targets[row]])


def picture(*rectangles: tuple[float, ...], size: tuple[int, int] = (10, 12)) -> Tensor:
    """A map with x0 y0 x1 y1 value drawn into it."""
    canvas = torch.zeros(size, dtype=torch.float64)
    for x0, y0, x1, y1, value in rectangles:
        canvas[int(y0) : int(y1), int(x0) : int(x1)] = value
    return canvas


def boxed(heatmap: Tensor, *boxes: tuple[float, ...]) -> Explanation:
    """One image, with boxes of its class."""
    return Explanation(heatmap=heatmap[None], boxes=(tensor(*boxes).reshape(-1, 4),))


def overlap(box: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union."""
    (x0, y0, x1, y1), (a0, b0, a1, b1) = box, other
    shared = max(0, min(x1, a1) - max(x0, a0)) * max(0, min(y1, b1) - max(y0, b0))
    return shared / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - shared)


def labelled(above: np.ndarray, connectivity: int) -> tuple[Box | None, list[Box]]:
    """(box of the largest component, boxes of all), the first of equals in reading order, by
    scipy.
    """
    labels, count = ndimage.label(above, ndimage.generate_binary_structure(2, connectivity // 4))
    slices = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    return (slices[int(np.bincount(labels.ravel())[1:].argmax())] if count else None), slices


def all_boxed(maps: list[Tensor], boxes: list[list[tuple[float, ...]]]) -> Explanation:
    """Several images, each with boxes of its class."""
    return Explanation(
        heatmap=torch.stack(maps), boxes=tuple(tensor(*each).reshape(-1, 4) for each in boxes)
    )


def masked(maps: list[Tensor], masks: list[Tensor]) -> Explanation:
    """Images whose class is where their mask is positive."""
    return Explanation(heatmap=torch.stack(maps), masks=torch.stack(masks) > 0)
