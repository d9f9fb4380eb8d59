"""What metrics declare to cost, merged where they share passes, and the budget that refuses a run."""

from __future__ import annotations

import pytest

from axiom_bench import metrics
from axiom_bench.columns import OK
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measuring import measure
from axiom_bench.evaluation.plugins import Plugin, forwards_of, from_config
from axiom_bench.evaluation.specs import MetricSpec
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.run.costs import Cost, check
from axiom_bench.testing import Case


def metric(name: str, forwards: object, params: dict | None = None, **about: object) -> Plugin:
    return Plugin(name, f"m.{name}", lambda _: None, MetricSpec(forwards=forwards, **about), params or {})


def test_forwards_are_numbers_expressions_or_named_passes():
    assert forwards_of(metric("one", 3)) == {"one": 3}
    assert forwards_of(metric("free", 0)) == {"free": 0}
    assert forwards_of(metric("curve", "2 * steps + len(at)", {"steps": 10, "at": [1, 2]})) == {"curve": 22}
    assert forwards_of(metric("both", {"up": "steps", "down": 1}, {"steps": 5})) == {"up": 5, "down": 1}
    assert forwards_of(Plugin("mine", "m.mine", lambda _: None, MetricSpec())) == {"mine": 0}


def test_shared_passes_and_passes_of_the_image_count_once():
    several = [
        metric("a", {"kept": 1}),
        metric("b", {"kept": 1}),
        metric("c", 10),
        metric("d", 100, forwards_for="image"),
        metric("e", 5, of="layer"),
    ]
    cost = Cost.of(several, methods=3)
    assert (cost.per_image_and_method, cost.per_image) == (11, 3 * 11 + 105)
    line = cost.line(images=20, rows=20)
    assert "11 per image and method (c 10, kept 1)" in line
    assert "105 per image for all methods (d 100, e 5)" in line
    assert "2,760 for 20 images x 3 methods" in line
    line = cost.line(images=20, rows=50)
    assert "11 per label and method (c 10, kept 1)" in line
    assert "105 per label for all methods (d 100, e 5)" in line
    assert "6,900 for 50 labels of 20 images x 3 methods" in line


def test_passes_of_one_name_are_shared_at_equal_parameters_alone():
    steps = {"steps": 10, "fill": "zero"}
    one, same = metric("one", {"curve": "steps"}, steps), metric("same", {"curve": "steps"}, dict(steps))
    other = metric("other", {"curve": "steps"}, steps | {"fill": "mean"})
    assert Cost.of([one, same], 1).per_image == 10
    assert Cost.of([one, same, other], 1).per_image == 20
    assert "20 per image and method (curve 20)" in Cost.of([one, same, other], 1).line(1, 1)


def test_a_parameter_that_starts_with_a_pass_s_name_is_of_that_pass():
    both = metric("both", {"up": 5, "down": 5}, {"steps": 5, "up_fill": "blur", "down_fill": "zero"})
    up, down = (
        metric(name, {name: 5}, {"steps": 5, "fill": fill}) for name, fill in (("up", "blur"), ("down", "zero"))
    )
    assert Cost.of([both, up, down], 1).per_image == 10
    assert Cost.of([both, metric("up", {"up": 5}, {"steps": 5, "fill": "zero"})], 1).per_image == 15


@pytest.mark.parametrize(
    ("changed", "beside", "said"),
    [
        ("road_morf", ["road_combined"], {"fractions": [0.3, 0.6], "noise": 0.02}),
        ("road_lerf", ["road_combined"], {"fractions": [0.3, 0.6]}),
        ("deletion_auc", ["insertion_minus_deletion", "insertion_auc"], {"steps": 4, "fill": "mean"}),
        ("deletion_auc", ["insertion_minus_deletion", "insertion_auc"], {"steps": 4}),
        ("average_drop", ["increase_in_confidence", "average_gain"], {"fill": "mean"}),
        ("average_drop", ["increase_in_confidence", "average_gain"], {}),
    ],
)
def test_no_more_passes_are_run_than_are_said_at_other_parameters(changed, beside, said):
    """And no fewer: what is equal is shared, also by a metric of other parameter names."""
    same = {key: value for key, value in said.items() if key in ("fractions", "steps")}
    chosen = [with_params(changed, said), *(with_params(name, same) for name in beside)]
    trace = Case().trace()
    explanation = Explanation.of(trace, trace.gradients, method=lambda again: again.gradients)
    before = trace.passes.trunk_forward
    for entry in chosen:
        measure(entry, explanation, True)
    assert (trace.passes.trunk_forward - before) / len(trace) == Cost.of(chosen, 1).per_image


def with_params(name: str, params: dict) -> Plugin:
    known = metrics.get(name)
    about = {"_target_": known.target, "params": {**known.params, **params}, **known.spec.as_dict()}
    return from_config("metric", name, about)


def test_budget_names_the_metrics_their_cost_and_the_way_out():
    several = [metric("cheap", 1), metric("dear", 50)]
    check(several, 2, None)
    check(several, 2, 102)
    with pytest.raises(BenchError, match=r"102 forward passes.*is 101: dear 100, cheap 2\..*~metric\.dear"):
        check(several, 2, 101)


def test_all_metrics_together_cost_no_more_than_is_said():
    """Of one method: every metric of conf/metric/ that applies, on one explanation, counted."""
    trace = Case().trace()
    one = Explanation.of(trace, trace.gradients, method=lambda again: again.gradients)
    before, measures = trace.passes.trunk_forward, []
    for entry in (metrics.get(name) for name in metrics.names()):
        explanation = one if entry.spec.of == "method" else Explanation(trace=trace)
        if any(OK in statuses for _, statuses in measure(entry, explanation, True).values()):
            measures.append(entry)
    counted = (trace.passes.trunk_forward - before) / len(trace)
    assert counted == Cost.of(measures, 1).per_image


def test_a_run_over_its_budget_is_refused_before_anything_is_computed(run, results):
    with pytest.raises(BenchError, match=r"max_forwards_per_image is 1: confidence_drop 2\."):
        run("metrics.max_forwards_per_image=1")
    assert not results.exists()
    assert run("metrics.max_forwards_per_image=1", "~metric.confidence_drop")[0].failure is None
    with pytest.raises(BenchError, match="or null for no budget"):
        run("metrics.max_forwards_per_image=-1")


def test_the_cost_is_said_before_a_run_and_not_where_nothing_is_left_to_do(run, capsys):
    run()
    said = "at most: 1 per image and method (confidence_drop 1), 10 for 5 images x 2 methods"
    run("target=label")
    assert said in capsys.readouterr().out
    run("target=label")
    assert "forward passes" not in capsys.readouterr().out


def test_each_label_is_a_row_and_costs_its_own_passes(run, rows, capsys):
    outcomes = run("target=each_label")
    said = capsys.readouterr().out
    measured = rows(outcomes)
    explained = len(measured[measured["metric"] == "confidence_drop"])  # with both methods
    assert explained > 10
    total = f"{explained} for {explained // 2} labels of 5 images x 2 methods"
    assert f"at most: 1 per label and method (confidence_drop 1), {total}" in said
