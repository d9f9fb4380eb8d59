"""The explanations to measure: chosen numbers, and a tiny float64 network with biases."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.testing.metric_checks import parts_of


@pytest.fixture(scope="session")
def axiom_explanation() -> Callable[[Tensor, Tensor, Tensor], Explanation]:
    """A function that builds the explanation with scores S (B,), drops d and channel totals m.

    Drops and totals are (B, K). Each total is spread over two pixels of opposite signs.
    """

    def build(S: Tensor, d: Tensor, m: Tensor) -> Explanation:
        two_pixels = torch.stack([m + 1, -torch.ones_like(m)], dim=-1)  # (B, K, 2), sums to m
        trace = SimpleNamespace(scores=S, ablation_drops=d)
        contributions = two_pixels[:, :, None]
        return Explanation(trace=trace, contributions=contributions)  # type: ignore[arg-type]

    return build


@pytest.fixture(scope="session")
def trace() -> ab.Trace:
    """A trace of four images of 12 x 12 pixels by a network of six channels with a ReLU head."""
    torch.manual_seed(3)
    features = [nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU()]
    classifier = [nn.Flatten(), nn.Linear(6 * 36, 16), nn.ReLU(), nn.Linear(16, 5)]
    net = nn.Sequential(*features, *classifier)
    channel_weights = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None, None]

    def true_contributions(activations: Tensor, targets: Tensor) -> Tensor:
        return channel_weights * activations

    net.true_contributions = true_contributions  # for metrics that need the truth
    images = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    parts = [parts_of(image, target) for target, image in enumerate(images)]
    cut_model = ab.cut(net.double().eval(), "1")
    cut_model.finetuned = deepcopy(net).requires_grad_(False).apply(_add_noise)
    return cut_model.trace(images, torch.arange(4), interventions=parts)


def _add_noise(module: nn.Module) -> None:
    for weights in module.parameters(recurse=False):
        weights += 0.1 * torch.randn_like(weights)


@pytest.fixture(scope="session")
def explain() -> Callable[[ab.Trace], Explanation]:
    """A function that explains a trace by HiResCAM, with annotations.

    Each image has a box of the explained object, one of the next class and one of another object
    of its own class.
    """

    def build(trace: ab.Trace) -> Explanation:
        first_box = [2.0, 3.0, 9.0, 11.0]
        second_box = [0.0, 0.0, 6.0, 12.0]
        boxes = torch.tensor([first_box, second_box])
        mask = torch.full((12, 12), -1)
        mask[3:11, 2:9] = 0  # replaced by the image's class below
        annotations = []
        for target in trace.targets:
            annotation = ab.Annotation(
                labels=torch.stack([target, (target + 1) % 5]),
                boxes=boxes,
                mask=mask.where(mask < 0, target),
                cells=True,
            )
            annotations.append(annotation)
        batch = ab.Batch(trace.images, ("",) * len(trace), trace.targets, tuple(annotations))
        explanation = Explanation.of(trace, trace.gradients, batch, lambda trace: trace.gradients)
        return replace(explanation, same_class=(boxes[1:] + 3,) * len(trace))

    return build


@pytest.fixture
def explanation(trace: ab.Trace, explain: Callable[[ab.Trace], Explanation]) -> Explanation:
    built = explain(trace)
    assert (built.heatmap.amax((1, 2)) > 0).all()  # type: ignore[union-attr]
    return built
