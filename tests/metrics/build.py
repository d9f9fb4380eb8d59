"""Explanations to measure, and short forms of calls and comparisons, for the tests of metrics."""

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
    """Return the metric of conf/metric, with FEWER if it has such parameters."""
    own_params = metrics.get(name).params
    fewer = {key: FEWER[key] for key in FEWER.keys() & own_params}
    return plugins.with_params("metric", name, fewer)


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
    """Return the functions of metrics, whose requests to the model are answered at once.

    A curve is returned as its points.
    """
    return [answered(metrics.get(name).call.func) for name in names]


def values_of(answer: Any) -> list[Tensor]:
    """Return the values that a metric returned, and a curve as its points."""
    values = answer.values() if isinstance(answer, dict) else [answer]
    return [getattr(value, "points", value) for value in values]


def statuses(name: str, explanation: Explanation, **params: Any) -> dict[str, tuple[str, ...]]:
    """Return the images' statuses for each value of a metric.

    A value is a number exactly if its status is "ok".
    """
    measured = measure(plugins.with_params("metric", name, params), explanation, True)
    for values, row_statuses in measured.values():
        for row, row_status in zip(values, row_statuses, strict=True):
            if row_status == "ok":
                assert row.isfinite().all()
            else:
                assert row.isnan().all()
    return {value: row_statuses for value, (_, row_statuses) in measured.items()}


def status(name: str, explanation: Explanation, **params: Any) -> set[str]:
    """Return the set of the statuses of all values and images."""
    return set().union(*statuses(name, explanation, **params).values())


def close(actual: Any, expected: Any, atol: float = 1e-12, rtol: float = 1e-12) -> None:
    """Check that numbers, lists or tensors are equal except for rounding.

    A single expected number applies to all.
    """
    actual = torch.as_tensor(actual, dtype=torch.float64)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected.expand_as(actual), rtol=rtol, atol=atol)


def tensor(*values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def with_copy(cut_model: ab.CutModel) -> ab.CutModel:
    """Return the same cut model, which is now its own fine-tuned copy."""
    cut_model.finetuned = cut_model.model
    return cut_model


def explained(trace: ab.Trace, method: Callable[[ab.Trace], Any]) -> Explanation:
    return Explanation.of(trace, method(trace), method=method)


def of_map(trace: ab.Trace, raw_map: Tensor) -> Explanation:
    """Explain every image by the same map (h, w), or by maps (B, h, w), whatever the model."""

    def method(trace: ab.Trace) -> ab.Map:
        return ab.Map(raw_map.double().expand(len(trace), *raw_map.shape[-2:]))

    return explained(trace, method)


def pooled_network(classes: int, *first: nn.Module) -> nn.Module:
    """Build a convolution, ReLU, global average pooling and a linear layer after other modules.

    The weights are drawn from seed 0.
    """
    torch.manual_seed(0)
    features = [nn.Conv2d(3, 4, 3), nn.ReLU()]
    classifier = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)]
    return nn.Sequential(*first, *features, *classifier).eval()


def additive(red: Tensor) -> ab.Trace:
    """Trace an image with these red pixels (8, 8), whose sum is the score S.

    A pixel's share is the drop in S when the pixel is removed.
    """
    convolution = nn.Conv2d(3, 1, 1, bias=False)
    net = nn.Sequential(convolution, nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1))
        net[2].weight.copy_(torch.tensor([[1.0], [0.0]]).expand(2, 64))
    image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
    image[0, 0] = red
    return ab.trace(net.double().eval(), "0", image, torch.tensor([0]))


def resized(raw_map: Tensor) -> Tensor:
    """Resize maps to the 12 x 12 pixels of the `trace` fixture's images."""
    with_channel = raw_map[:, None]
    at_pixels = functional.interpolate(with_channel, (12, 12), mode="bilinear", align_corners=False)
    return at_pixels[:, 0]


def confidence_of(trace: ab.Trace, row: int, image: Tensor, output: str = "probability") -> float:
    """Return the probability, or the logit, of a row's class in another image (3, H', W')."""
    logits = trace.forward(image[None])[0]
    confidences = logits if output == "logit" else logits.softmax(0)
    return float(confidences[trace.targets[row]])


def picture(*rectangles: tuple[float, ...], size: tuple[int, int] = (10, 12)) -> Tensor:
    """Draw rectangles, (x0, y0, x1, y1, value), into a map of zeros."""
    canvas = torch.zeros(size, dtype=torch.float64)
    for x0, y0, x1, y1, value in rectangles:
        canvas[int(y0) : int(y1), int(x0) : int(x1)] = value
    return canvas


def boxed(heatmap: Tensor, *boxes: tuple[float, ...]) -> Explanation:
    """Return the explanation of one image with boxes of its class."""
    return Explanation(heatmap=heatmap[None], boxes=(tensor(*boxes).reshape(-1, 4),))


def overlap(box: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes."""
    x0, y0, x1, y1 = box
    a0, b0, a1, b1 = other
    shared_width = max(0, min(x1, a1) - max(x0, a0))
    shared_height = max(0, min(y1, b1) - max(y0, b0))
    shared = shared_width * shared_height
    area = (x1 - x0) * (y1 - y0)
    other_area = (a1 - a0) * (b1 - b0)
    return shared / (area + other_area - shared)


def labelled(above: np.ndarray, connectivity: int) -> tuple[Box | None, list[Box]]:
    """Return the box of the largest component and the boxes of all components, by scipy.

    The largest one is the first of equals in reading order, or None if there is no component.
    """
    structure = ndimage.generate_binary_structure(2, connectivity // 4)
    labels, count = ndimage.label(above, structure)
    component_boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    if not count:
        return None, component_boxes
    sizes = np.bincount(labels.ravel())[1:]  # without the background
    return component_boxes[int(sizes.argmax())], component_boxes


def all_boxed(maps: list[Tensor], boxes: list[list[tuple[float, ...]]]) -> Explanation:
    """Return the explanation of several images, each with boxes of its class."""
    boxes_per_image = tuple(tensor(*image_boxes).reshape(-1, 4) for image_boxes in boxes)
    return Explanation(heatmap=torch.stack(maps), boxes=boxes_per_image)


def masked(maps: list[Tensor], masks: list[Tensor]) -> Explanation:
    """Return the explanation of images whose class is at the positive pixels of their mask."""
    return Explanation(heatmap=torch.stack(maps), masks=torch.stack(masks) > 0)
