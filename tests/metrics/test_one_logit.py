"""A model of one logit: its softmax is 1 whatever it sees, so metrics of a probability are undefined."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.evaluation.measurement import measure
from axiom_bench.evaluation.plugins import Plugin, with_params
from axiom_bench.explanation.explanation import Explanation

OF_PROBABILITY = ("adcc", "arcc", "average_drop", "average_gain", "effective_complexity", "increase_in_confidence")
WITH_OUTPUT = [name for name in metrics.names() if "output" in metrics.get(name).params]


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    trace = ab.trace(net.double().eval(), "1", torch.randn(2, 3, 12, 12, dtype=torch.float64))

    def method(trace: ab.Trace) -> torch.Tensor:
        return trace.gradients.abs()

    return Explanation.of(trace, method(trace), method=method)


def with_output(name: str, output: str) -> Plugin:
    return with_params("metric", name, {"output": output})


def statuses(metric: Plugin, explanation: Explanation) -> set[str]:
    return {status for _, row in measure(metric, explanation, True).values() for status in row}


@pytest.mark.parametrize("name", OF_PROBABILITY)
def test_metrics_of_a_probability_have_no_value(name, explanation):
    assert statuses(metrics.get(name), explanation) == {"one_logit"}


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_metrics_with_an_output_have_a_value_for_the_logit_alone(name, explanation):
    assert statuses(with_output(name, "probability"), explanation) == {"one_logit"}
    assert statuses(with_output(name, "accuracy"), explanation) == {"one_logit"}
    assert statuses(with_output(name, "logit"), explanation) == {"ok"}
