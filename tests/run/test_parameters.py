"""Wrong parameters on the command line: of a wrong kind nothing starts, out of range the job says which metric."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from axiom_bench.errors import BenchError
from axiom_bench.run.manifest import Outcome

Run = Callable[..., list[Outcome]]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("metric.deletion_auc.params.steps=abc", "a whole number, not 'abc'"),
        ("metric.deletion_auc.params.steps=null", "a whole number, not None"),
        ("metric.infidelity.params.sides=0.1", "a list of numbers, not 0.1"),
        ("metric.infidelity.params.scaled=no", "true or false, not 'no'"),
        ("metric.road_morf.params.fractions=0.5", "a list of numbers, not 0.5"),
        ("metric.confidence_drop.params.fill=3", "a text or a list of numbers, not 3"),
        ("metric.top_k_intersection.params.k=many", "a whole number, not 'many'"),
        ("method.axiom_cam.params.t=half", "a number, not 'half'"),
    ],
)
def test_a_wrong_kind_stops_before_anything(run: Run, monkeypatch: pytest.MonkeyPatch, override: str, expected: str):
    monkeypatch.setattr("axiom_bench.run.sweep.execute", lambda _: pytest.fail("a job ran"))
    kind, name, *_ = override.split(".")
    with pytest.raises(BenchError) as error:
        run(f"{kind}=[{name}]", override)
    assert str(error.value) == f"{override.partition('=')[0]} must be {expected}."


def test_a_value_out_of_range_names_its_metric(run: Run):
    (outcome,) = run("metric=[deletion_auc]", "metric.deletion_auc.params.steps=0")
    assert outcome.failure is not None
    assert outcome.failure.mendable
    assert outcome.failure.message == (
        "The metric 'deletion_auc' can't be measured: A curve needs at least one step, not steps=0."
    )
