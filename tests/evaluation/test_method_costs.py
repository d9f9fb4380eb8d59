"""Run time: what is timed, on which trace, and what is counted. Seconds themselves are no test's business."""

from __future__ import annotations

import pytest
import torch

import axiom_bench as ab
from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.evaluation.method_costs import measure_runtime
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MethodSpec


def plugin(function, name):
    return Plugin(name, f"tests.{name}", function, MethodSpec())


def measured(net, batch, *methods, repeats=2):
    table = measure_runtime(ab.trace(net, "1", batch.images, batch.targets), methods, repeats=repeats)
    return table.set_index([table.step.where(table.step != "method", table.method)])


def test_a_row_per_step_with_its_passes(net, batch):
    def head_twice(trace):
        trace.head(trace.activations)
        trace.head(trace.activations[:1], rows=torch.tensor([2]))
        return trace.gradients

    table = measured(net, batch, plugin(head_twice, "head_twice"), plugin(lambda trace: trace.gradients, "free"))
    assert tuple(table.columns) == RUNTIME_COLUMNS
    assert list(table.index) == ["forward", "trace", "ablation_drops", "head_twice", "free"]
    passes = ["trunk_forward", "trunk_backward", "head_forward"]
    assert table.loc["forward", passes].tolist() == [1, 0, 1]
    assert table.loc["trace", passes].tolist() == [1, 0, 1]
    assert table.loc["head_twice", passes].tolist() == [0, 0, 1.25]
    assert table.loc["free", passes].tolist() == [0, 0, 0]
    assert set(table.batch_size) == {4}
    assert set(table.device) == {"cpu"}
    assert (table.milliseconds_per_image > 0).all()
    assert table.forwards["forward"] == 1


def test_every_run_gets_a_trace_without_drops(net, batch):
    seen = []

    def method(trace):
        seen.append("ablation_drops" in vars(trace))
        return trace.ablation_drops[..., None, None]

    measured(net, batch, plugin(method, "first"), plugin(method, "second"))
    assert len(seen) >= 2 * (1 + 2)
    assert not any(seen)


class Clock:
    """A clock that gains a millisecond each time it is read, so that whatever lies between two readings takes one."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.001
        return self.now


def test_time_is_the_median_after_warm_up_per_image_and_per_forward(net, batch, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("axiom_bench.evaluation.method_costs.time", clock)
    naps = iter([9, 9, 0.019, 9, 0.019, 9])  # counting the passes, warm-up, three rounds, memory

    def nap(trace):
        clock.now += next(naps)
        return trace.gradients

    table = measured(net, batch, plugin(nap, "nap"), repeats=3)
    assert table.milliseconds_per_image["forward"] == pytest.approx(1 / 4)
    assert table.milliseconds_per_image["nap"] == pytest.approx(20 / 4)
    assert table.forwards["nap"] == pytest.approx(20)


def test_peak_memory_is_what_the_step_holds_at_once(net, batch):
    def greedy(trace):
        for _ in range(3):
            torch.ones(1000, 1000)  # 4 MB, freed before the next
        return trace.gradients

    peak = measured(net, batch, plugin(greedy, "greedy")).peak_memory_bytes["greedy"]
    assert peak == pytest.approx(4e6, rel=0.01)  # contributions and heatmap of the tiny net are some kilobytes


def test_a_method_that_does_not_apply_has_no_row(net, batch):
    def refuses(trace):
        raise ab.BenchError("not this model")

    with pytest.warns(UserWarning, match="'refuses': not this model"):
        assert "refuses" not in measured(net, batch, plugin(refuses, "refuses")).index
