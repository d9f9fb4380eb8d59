"""The checks of every metric that conf/metric names.

They are the checks that users run on theirs, and checks of metadata, needs, costs and requests.
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
from axiom_bench.evaluation.plugins import conf_folder, precondition_names
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
    """Run the checks, some of them also on a map, which has no contributions.

    `make test-all` runs the other checks on a map.
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
    """Check a batch of copies of one image, so that shards change no bit either.

    There are nine samples, since eight and more are added in another order for some rows.
    """
    params = dict(with_fewer(name).params)
    if "samples" in params:
        params["samples"] = 9
    metric = plugins.with_params("metric", name, params)
    metric_case = METRIC_CASES["weights"]
    case = replace(metric_case.case, head="pooled", dtype=torch.float32)
    explanation = metric_case.explain(copies.of_first_image(case))
    for value, (values, _) in measure(metric, explanation, True).items():
        assert copies.rows_apart(values) == [], value


REQUIRED_KEYS = {"_target_", "params", "title", "unit", "better", "tolerance", "needs", "reference"}


def a_row_that_is_not_finite_has_that_status(metric, explanation, explain):
    for _, statuses in measure(metric, with_row(explanation, 1, float("nan")), True).values():
        assert statuses == (OK, "not_finite", OK, OK)


def every_unmet_need_has_its_status(metric, explanation, explain):
    trace = explanation.trace
    zero = with_row(explanation, 1, 0.0)
    without_parts = replace(explanation, trace=replace(trace, interventions=((),) * 4))
    without_interventions = replace(explanation, trace=replace(trace, interventions=None))
    with_one_logit = replace(explanation, trace=replace(trace, logits=trace.logits[:, :1]))
    broken = {
        "nonzero_score": zero,
        "nonzero_map": zero,
        "boxes": zero,
        "mark": without_parts,
        "structure": without_parts,
        "positive_effect": without_parts,
        "contributions": replace(explanation, contributions=None),
        "masks": replace(explanation, masks=None),
        "interventions": without_interventions,
        "other_logits": with_one_logit,
    }
    for need in broken.keys() & set(precondition_names(metric)):
        with_one_need = replace(metric, spec=replace(metric.spec, needs=(Need(need),)))
        for values, statuses in measure(with_one_need, broken[need], True).values():
            assert statuses[1] == PRECONDITIONS[need].status
            assert values[1].isnan().all()


def yaml_has_every_required_key(metric, explanation, explain):
    path = conf_folder() / "metric" / f"{metric.name}.yaml"
    entry = yaml.safe_load(path.read_text())[metric.name]
    missing = sorted(REQUIRED_KEYS - set(entry))
    assert not missing, (
        f"conf/metric/{metric.name}.yaml has no {missing[0]!r}; write `{missing[0]}: ...`"
    )
    assert metric.description, (
        f"{metric.target} has no docstring; its first line stands in docs/metrics/"
    )


def writes_down_every_parameter_at_its_default(metric):
    """Check that the YAML lists every parameter with its default.

    A variant of another metric has the other metric's parameters, and other values.
    """
    _, *parameters = inspect.signature(metric.call.func).parameters.values()
    listed = {}
    for name, value in metric.params.items():
        listed[name] = tuple(value) if isinstance(value, list) else value
    defaults = {parameter.name: parameter.default for parameter in parameters}
    is_variant = metric.name != metric.call.func.__name__
    assert list(listed) == list(defaults)
    assert is_variant or listed == defaults


def is_the_same_beside_another_method(metric, explanation, explain):
    """Check that the values of two explanations together are the same, bit by bit.

    Each other trace is made once, and each copy of equal maps is classified once.
    """
    trace = replace(explanation.trace)
    before = trace.passes.trunk_forward
    expected = measure(metric, explain(trace), True)
    passes = trace.passes.trunk_forward - before

    trace = replace(explanation.trace)
    explanations = [(explain(trace), True), (explain(trace), True)]
    before = trace.passes.trunk_forward
    together = measure_all([metric], explanations)
    passes_together = trace.passes.trunk_forward - before

    assert passes <= passes_together <= 2 * passes
    for name, (values, _) in expected.items():
        for measured in together:
            actual, *_ = (measured.values | measured.curves)[name]
            torch.testing.assert_close(actual, values, rtol=0, atol=0)


CHECKS = [
    a_row_that_is_not_finite_has_that_status,
    every_unmet_need_has_its_status,
    yaml_has_every_required_key,
    is_the_same_beside_another_method,
]


@pytest.mark.parametrize("name", metrics.names())
def test_what_the_yaml_says(name, explanation, explain):
    writes_down_every_parameter_at_its_default(metrics.get(name))
    for check in CHECKS:
        check(with_fewer(name), explanation, explain)
