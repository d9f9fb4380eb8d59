"""Checks of every metric in conf/metric beside the common suite: metadata, needs, costs and requests."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
import yaml
from torch import Tensor

from axiom_bench import metrics
from axiom_bench.columns import OK
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure, measure_all
from axiom_bench.evaluation.plugins import conf_folder, needs_of
from axiom_bench.evaluation.preconditions import PRECONDITIONS
from axiom_bench.evaluation.specs import Need
from axiom_bench.run.computing.costs import Cost
from axiom_bench.testing.metric_checks import with_row
from tests.every_copy import every_copy_is_classified
from tests.metrics.fewer import with_fewer

REQUIRED_KEYS = {"title", "unit", "better", "tolerance", "needs", "of", "reference", "definition"}


def values(metric, explanation) -> Mapping[str, Tensor]:
    answer = metric(explanation)
    answers = answer if isinstance(answer, Mapping) else {metric.name: answer}
    return {name: value for name, value in answers.items() if name not in (metric.spec.curves)}


def a_row_that_is_not_finite_has_that_status(metric, explanation, explain):
    for _, statuses in measure(metric, with_row(explanation, 1, float("nan")), True).values():
        assert statuses == (OK, "not_finite", OK, OK)


def every_unmet_need_has_its_status(metric, explanation, explain):
    zero = with_row(explanation, 1, 0.0)
    broken = {
        "contributions": replace(explanation, contributions=None),
        "nonzero_score": zero,
        "nonzero_map": zero,
        "boxes": zero,
        "masks": replace(explanation, masks=None),
        "interventions": replace(explanation, trace=replace(explanation.trace, interventions=None)),
        "mark": replace(explanation, trace=replace(explanation.trace, interventions=((),) * 4)),
        "positive_effect": replace(explanation, trace=replace(explanation.trace, interventions=((),) * 4)),
        "other_logits": replace(explanation, trace=replace(explanation.trace, logits=explanation.trace.logits[:, :1])),
    }
    for need in needs_of(metric):
        if need in broken:
            only = replace(metric, spec=replace(metric.spec, needs=(Need(need),)))
            for value, statuses in measure(only, broken[need], True).values():
                assert statuses[1] == PRECONDITIONS[need].status
                assert value[1].isnan().all()


def yaml_has_every_required_key(metric, explanation, explain):
    entry = yaml.safe_load((conf_folder() / "metric" / f"{metric.name}.yaml").read_text())[metric.name]
    assert set(entry) >= REQUIRED_KEYS
    assert metric.description


def writes_down_every_parameter_at_its_default(metric, explanation, explain):
    _, *parameters = inspect.signature(metric.call.func).parameters.values()
    listed = {name: tuple(value) if isinstance(value, list) else value for name, value in metric.params.items()}
    defaults = {parameter.name: parameter.default for parameter in parameters}
    if metric.name == metric.call.func.__name__:
        assert listed == defaults
    else:  # a variant of another metric
        assert list(listed) == list(defaults)


def costs_the_announced_passes(metric, explanation, explain):
    fresh = explain(replace(explanation.trace))
    before = replace(fresh.trace.passes)
    with every_copy_is_classified():
        values(metric, fresh)
    counted = (fresh.trace.passes.trunk_forward - before.trunk_forward) / len(fresh)
    assert counted == Cost.of([method("first")], [metric], fresh.trace).per_image


def is_the_same_beside_another_method(metric, explanation, explain):
    """Of two explanations together, each other trace is made once, and each copy of equal maps is classified once; the
    values are the same, bit by bit."""
    alone = measure(metric, explain(replace(explanation.trace)), True)
    trace = replace(explanation.trace)
    both = [explain(trace), explain(trace)]
    before = trace.passes.trunk_forward
    together = measure_all([metric], [(explanation, True) for explanation in both])
    counted = (trace.passes.trunk_forward - before) / len(trace)
    assert counted <= Cost.of([method("first"), method("second")], [metric], trace).per_image
    for name, (value, _) in alone.items():
        for actual in together:
            torch.testing.assert_close({**actual.values, **actual.curves}[name][0], value, rtol=0, atol=0)


def method(name: str) -> plugins.Plugin:
    """A method that runs no pass."""
    return replace(plugins.of("method", lambda trace: trace.gradients), name=name)


CHECKS = [
    a_row_that_is_not_finite_has_that_status,
    every_unmet_need_has_its_status, yaml_has_every_required_key, writes_down_every_parameter_at_its_default,
    costs_the_announced_passes, is_the_same_beside_another_method,
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", metrics.names())
def test_metric(name, check, explanation, explain):
    metric = metrics.get(name) if check is writes_down_every_parameter_at_its_default else with_fewer(name)
    check(metric, explanation, explain)
