"""A model of one logit: its softmax is 1 whatever it sees, so that no probability and no accuracy says anything."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.evaluation.measuring import measure
from axiom_bench.evaluation.plugins import Plugin, from_config
from axiom_bench.explanation.explanation import Explanation

OF_PROBABILITY = ("adcc", "average_drop", "average_gain", "effective_complexity", "increase_in_confidence")
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
    metric = metrics.get(name)
    return from_config("metric", name, {**metric.spec.as_dict(), "_target_": metric.target,
                                        "params": {**metric.params, "output": output}})  # fmt: skip


def statuses(metric: Plugin, explanation: Explanation) -> set[str]:
    return {status for _, row in measure(metric, explanation, True).values() for status in row}


@pytest.mark.parametrize("name", OF_PROBABILITY)
def test_what_is_of_a_probability_has_no_value(name, explanation):
    assert statuses(metrics.get(name), explanation) == {"one_logit"}


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_what_may_be_of_a_logit_has_one_of_the_logit_alone(name, explanation):
    assert statuses(with_output(name, "probability"), explanation) == {"one_logit"}
    assert statuses(with_output(name, "accuracy"), explanation) == {"one_logit"}
    assert statuses(with_output(name, "logit"), explanation) == {"ok"}
