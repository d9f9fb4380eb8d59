"""The time of methods, and the part of an evaluation that time is charged to.

The tests check what is timed, on which trace, and what is counted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.evaluation import plugins, runtime
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.queries import PerturbedImages, Reexplanation
from axiom_bench.evaluation.runtime import measure_runtime
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.evaluation.stopwatch import MAX_LAPS, PARTS, Stopwatch, between_events


def plugin(function, name):
    return Plugin(name, f"tests.{name}", function, MethodSpec())


def measured(net, batch, *methods, repeats=2):
    trace = ab.trace(net, "1", batch.images, batch.targets)
    table = measure_runtime(trace, methods, repeats=repeats)
    names = table.step.where(table.step != "method", table.method)
    return table.set_index([names])


def test_slow_methods_are_timed_in_fewer_rounds(net, batch, monkeypatch):
    calls = []
    slow = plugin(lambda trace: calls.append(1) or trace.gradients, "slow")
    for seconds, rounds in ((1e9, 4), (1e-9, 1)):
        monkeypatch.setattr(runtime, "MAX_SECONDS", seconds)
        calls.clear()
        assert measured(net, batch, slow, repeats=4)["milliseconds_per_image"]["slow"] > 0
        assert len(calls) == rounds + 2  # one call counts passes, and one measures memory


def test_a_row_per_step_with_its_passes_and_memory(net, batch):
    had_drops = []

    def head_twice(trace):
        trace.head(trace.activations)
        trace.head(trace.activations[:1], rows=torch.tensor([2]))
        return trace.gradients

    def of_drops(trace):
        had_drops.append("ablation_drops" in vars(trace))
        return trace.ablation_drops[..., None, None]

    def greedy(trace):
        for _ in range(3):
            torch.ones(1000, 1000)  # 4 MB, freed before the next
        return trace.gradients

    def refuses(trace):
        raise ab.BenchError("not this model")

    functions = {
        "head_twice": head_twice,
        "free": lambda trace: trace.gradients,
        "first": of_drops,
        "second": of_drops,
        "greedy": greedy,
        "refuses": refuses,
    }
    methods = [plugin(function, name) for name, function in functions.items()]

    with pytest.warns(UserWarning, match="'refuses': not this model"):
        table = measured(net, batch, *methods)

    assert tuple(table.columns) == RUNTIME_COLUMNS
    steps = ["forward", "trace", "ablation_drops", *functions]
    steps.remove("refuses")
    assert list(table.index) == steps
    passes = table.loc[
        ["forward", "trace", "head_twice", "free"],
        ["trunk_forward", "trunk_backward", "head_forward"],
    ]
    assert passes.to_numpy().tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 1.25], [0, 0, 0]]
    assert set(table.batch_size) == {4}
    assert set(table.device) == {"cpu"}
    assert (table.milliseconds_per_image > 0).all()
    assert table.forwards["forward"] == 1
    assert len(had_drops) >= 2 * (1 + 2)
    assert not any(had_drops)  # every run gets a trace without drops
    # The maps of the tiny network are kilobytes.
    assert table.peak_memory_bytes["greedy"] == pytest.approx(4e6, rel=0.01)


class Clock:
    """A replacement of `time` that gains a millisecond at each reading.

    Whatever lies between two readings takes one millisecond.
    """

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.001
        return self.now

    def __call__(self) -> float:
        return self.now


def test_time_is_the_median_after_warm_up_per_image_and_per_forward(net, batch, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("axiom_bench.evaluation.runtime.time", clock)
    # Counting the passes, which also warms up; three rounds; measuring memory.
    naps = iter([9, 0.019, 9, 0.019, 9])

    def nap(trace):
        clock.now += next(naps)
        return trace.gradients

    table = measured(net, batch, plugin(nap, "nap"), repeats=3)

    assert table.milliseconds_per_image["forward"] == pytest.approx(1 / 4)
    assert table.milliseconds_per_image["nap"] == pytest.approx(20 / 4)
    assert table.forwards["nap"] == pytest.approx(20)


# The seconds of one call.
LOAD = 1
TRUNK = 10
METHOD = 1_000
METRIC = 100_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_part_inside_another_takes_its_time_from_it(clock: Clock):
    watch = Stopwatch(clock)
    for _ in range(2):
        with watch.measure("metrics"):
            clock.now += 1
            with suppress(ValueError), watch.measure("metrics' passes"):
                clock.now += 10
                raise ValueError("a pass failed")
            clock.now += 100
        clock.now += 1000  # in no part
    expected = dict.fromkeys(PARTS, 0.0)
    expected["metrics"] = 202.0
    expected["metrics' passes"] = 20.0
    assert watch.seconds() == expected


def test_marks_are_read_long_after_they_are_set():
    """Check marks such as a GPU's, which lag behind: reading the last ones stops the process."""
    marks = iter(range(10**6))
    latest = [0]
    waits = []

    def mark() -> int:
        latest[0] = next(marks)
        return latest[0]

    def between(start: int, end: int) -> float:
        waits.append(latest[0] - end)
        return end - start

    watch = Stopwatch(mark, between)
    for _ in range(3 * MAX_LAPS):
        with watch.measure("trace"):
            pass
    assert min(waits) >= MAX_LAPS // 2
    assert watch.seconds()["trace"] == len(waits) == 3 * MAX_LAPS


def test_marks_of_a_gpu_are_milliseconds_and_are_waited_for():
    class Mark:
        waited = False

        def synchronize(self):
            self.waited = True

        def elapsed_time(self, end):
            assert end.waited
            return 250.0

    assert between_events(Mark(), Mark()) == 0.25


def test_the_loop_charges_each_part(clock: Clock, net: nn.Module, batch: ab.Batch):
    """Charge two batches and two methods, with two metrics.

    One metric asks about perturbed images, and one explains again.
    """

    def method(trace: ab.Trace) -> Tensor:
        clock.now += METHOD
        return trace.gradients

    def perturbing(explanation: ab.Explanation):
        clock.now += METRIC
        images = explanation.trace.images
        scores = yield PerturbedImages(
            "same",
            1,
            lambda rows, copies: images[rows, None],
            depends_on_image_only=True,
        )
        clock.now += METRIC
        return scores[:, 0, 0]

    def explaining(explanation: ab.Explanation):
        other = yield Reexplanation(
            explanation.trace.again,
            lambda again: again.heatmap,
            key="again",
        )
        return other.sum((1, 2))

    def loaded():
        for part in (batch[:2], batch[2:]):
            clock.now += LOAD
            yield part

    cut_model = ab.cut(net, "1")
    watch = Stopwatch(clock)
    cut_model.split(batch.images)  # its passes aren't those of the loop
    trunk = cut_model.trunk

    def counted(images: Tensor) -> tuple[Tensor, tuple]:
        clock.now += TRUNK
        return trunk(images)

    cut_model.trunk = counted  # type: ignore[method-assign]
    method_plugin = plugins.plugin_for("method", method)
    spec = replace(method_plugin.spec, on_score_scale=False)
    methods = [replace(method_plugin, name=name, spec=spec) for name in ("first", "second")]
    metrics = [plugins.plugin_for("metric", function) for function in (perturbing, explaining)]
    requests = [MethodsByMetrics(tuple(methods), tuple(metrics))]

    assert list(shard_rows(cut_model, loaded(), requests, 2, watch=watch.measure))

    expected = {
        "loading": 2 * LOAD,
        "trace": 2 * TRUNK,
        "methods": 2 * 2 * METHOD,
        "metrics": 2 * 2 * 2 * METRIC,
        "metrics' passes": 2 * (TRUNK + TRUNK + 2 * METHOD),
    }
    assert {part: watch.seconds()[part] for part in expected} == expected
