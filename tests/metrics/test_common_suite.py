"""Every metric that conf/metric names: the checks that users run on theirs, its metadata, needs,
costs and requests.
"""

import inspect
from dataclasses import replace

import pytest
import torch
import yaml

from axiom_bench import metrics
from axiom_bench.columns import OK
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.measurement import measure, measure_all
from axiom_bench.evaluation.plugins import conf_folder, needs_of
from axiom_bench.evaluation.preconditions import PRECONDITIONS
from axiom_bench.evaluation.specs import Need
from axiom_bench.testing import METRIC_CASES, METRIC_CHECKS, metric_checks
from axiom_bench.testing.metric_checks import with_row
from tests import copies
from tests.metrics.build import run_each, with_fewer

OF_MAPS = (
    metric_checks.returns_declared_values,
    metric_checks.values_are_finite,
    metric_checks.broken_row_changes_no_other,
)
WITH_DEFAULTS = (metric_checks.passes_claim_holds, metric_checks.prefers_an_exact_map)
WITH_FEWER = [check for check in METRIC_CHECKS if check not in WITH_DEFAULTS]


@pytest.mark.parametrize("name", metrics.names())
def test_metric(name):
    """Also of a map, an explanation without contributions; what is the same with them runs in `make
    test-all`.
    """
    run_each(with_fewer(name), WITH_FEWER, {"weights": METRIC_CASES["weights"]})
    run_each(with_fewer(name), OF_MAPS, {"a map": METRIC_CASES["map"]})


@pytest.mark.parametrize("name", metrics.names())
def test_what_the_yaml_claims_of_the_default_parameters(name):
    run_each(metrics.get(name), WITH_DEFAULTS, {"weights": METRIC_CASES["weights"]})


@pytest.mark.slow
@pytest.mark.parametrize("name", metrics.names())
def test_metric_of_a_map(name):
    others = [
        check
        for check in WITH_FEWER
        if check not in (*OF_MAPS, metric_checks.ignores_the_maps_scale)
    ]
    run_each(with_fewer(name), others, {"a map": METRIC_CASES["map"]})


@pytest.mark.parametrize("name", metrics.names())
def test_a_row_s_place_in_the_batch_changes_no_bit(name):
    """So that neither do shards. Of nine samples: eight and more are added in another order for
    some rows.
    """
    samples = {"samples": 9} if "samples" in metrics.get(name).params else {}
    metric = plugins.with_params("metric", name, {**with_fewer(name).params, **samples})
    case = METRIC_CASES["weights"]
    explanation = case.explain(
        copies.of_first_image(replace(case.case, head="pooled", dtype=torch.float32))
    )
    apart = {
        value: copies.rows_apart(values)
        for value, (values, _) in measure(metric, explanation, True).items()
    }
    assert apart == {value: [] for value in apart}


REQUIRED_KEYS = {"_target_", "params", "title", "unit", "better", "tolerance", "needs", "reference"}


def a_row_that_is_not_finite_has_that_status(metric, explanation, explain):
    for _, statuses in measure(metric, with_row(explanation, 1, float("nan")), True).values():
        assert statuses == (OK, "not_finite", OK, OK)


def every_unmet_need_has_its_status(metric, explanation, explain):
    zero, trace = with_row(explanation, 1, 0.0), explanation.trace
    without_parts = replace(explanation, trace=replace(trace, interventions=((),) * 4))
    broken = {
        **dict.fromkeys(("nonzero_score", "nonzero_map", "boxes"), zero),
        **dict.fromkeys(("mark", "positive_effect"), without_parts),
        "contributions": replace(explanation, contributions=None),
        "masks": replace(explanation, masks=None),
        "interventions": replace(explanation, trace=replace(trace, interventions=None)),
        "other_logits": replace(explanation, trace=replace(trace, logits=trace.logits[:, :1])),
    }
    for need in broken.keys() & set(needs_of(metric)):
        only = replace(metric, spec=replace(metric.spec, needs=(Need(need),)))
        for value, why in measure(only, broken[need], True).values():
            assert why[1] == PRECONDITIONS[need].status
            assert value[1].isnan().all()


def yaml_has_every_required_key(metric, explanation, explain):
    entry = yaml.safe_load((conf_folder() / "metric" / f"{metric.name}.yaml").read_text())[
        metric.name
    ]
    missing = sorted(REQUIRED_KEYS - set(entry))
    assert not missing, (
        f"conf/metric/{metric.name}.yaml has no {missing[0]!r}; write `{missing[0]}: ...`"
    )
    assert metric.description, (
        f"{metric.target} has no docstring; its first line stands in docs/metrics.md"
    )


def writes_down_every_parameter_at_its_default(metric):
    """A variant of another metric has its parameters, and other values."""
    _, *parameters = inspect.signature(metric.call.func).parameters.values()
    listed = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in metric.params.items()
    }
    defaults = {parameter.name: parameter.default for parameter in parameters}
    is_variant = metric.name != metric.call.func.__name__
    assert list(listed) == list(defaults)
    assert is_variant or listed == defaults


def is_the_same_beside_another_method(metric, explanation, explain):
    """Of two explanations together, each other trace is made once, and each copy of equal maps is
    classified once; the values are the same, bit by bit.
    """
    trace = replace(explanation.trace)
    before = trace.passes.trunk_forward
    alone = measure(metric, explain(trace), True)
    passes = trace.passes.trunk_forward - before
    trace = replace(explanation.trace)
    both = [explain(trace), explain(trace)]
    before = trace.passes.trunk_forward
    together = measure_all([metric], [(explanation, True) for explanation in both])
    counted = trace.passes.trunk_forward - before
    assert passes <= counted <= 2 * passes
    for name, (value, _) in alone.items():
        for actual in together:
            torch.testing.assert_close(
                {**actual.values, **actual.curves}[name][0], value, rtol=0, atol=0
            )


CHECKS = [
    a_row_that_is_not_finite_has_that_status,
    every_unmet_need_has_its_status, yaml_has_every_required_key, is_the_same_beside_another_method,
]  # fmt: skip


@pytest.mark.parametrize("name", metrics.names())
def test_what_the_yaml_says(name, explanation, explain):
    writes_down_every_parameter_at_its_default(metrics.get(name))
    for check in CHECKS:
        check(with_fewer(name), explanation, explain)
