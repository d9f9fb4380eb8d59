"""Which part of an evaluation is charged with which time, by a clock that goes on when a part says so."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from torch import Tensor, nn

import axiom_bench as ab
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.queries import PerturbedImages, Reexplanation
from axiom_bench.evaluation.shard import MethodsByMetrics, shard_rows
from axiom_bench.evaluation.stopwatch import MAX_LAPS, PARTS, Stopwatch

LOAD, TRUNK, METHOD, METRIC = 1, 10, 1_000, 100_000  # seconds of one call


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_part_inside_another_takes_its_time_from_it(clock: Clock):
    watch = Stopwatch(clock)
    for _ in range(2):
        with watch.part("metrics"):
            clock.now += 1
            with suppress(ValueError), watch.part("metrics' passes"):
                clock.now += 10
                raise ValueError("a pass failed")
            clock.now += 100
        clock.now += 1000  # of no part
    assert watch.seconds() == {**dict.fromkeys(PARTS, 0.0), "metrics": 202.0, "metrics' passes": 20.0}


def test_marks_are_read_long_after_they_are_set():
    """Those of a GPU are behind the process, and reading the last ones would stop it."""
    marks = iter(range(10**6))
    latest = read = 0

    def mark() -> int:
        nonlocal latest
        latest = next(marks)
        return latest

    def between(start: int, end: int) -> float:
        nonlocal read
        assert ended or latest - end >= MAX_LAPS // 2
        read += 1
        return end - start

    ended = False
    watch = Stopwatch(mark, between)
    for _ in range(3 * MAX_LAPS):
        with watch.part("trace"):
            pass
    ended = True
    assert watch.seconds()["trace"] == read == 3 * MAX_LAPS


def test_the_loop_charges_each_part(clock: Clock, net: nn.Module, batch: ab.Batch):
    """Two batches, two methods, a metric that asks about perturbed images and one that explains again."""

    def method(trace: ab.Trace) -> Tensor:
        clock.now += METHOD
        return trace.gradients

    def perturbing(explanation: ab.Explanation):
        clock.now += METRIC
        images = explanation.trace.images
        scores = yield PerturbedImages("same", 1, lambda rows, copies: images[rows, None], of_image=True)
        clock.now += METRIC
        return scores[:, 0, 0]

    def explaining(explanation: ab.Explanation):
        other = yield Reexplanation(explanation.trace.again, lambda again: again.heatmap, key="again")
        return other.sum((1, 2))

    def loaded():
        for part in (batch[:2], batch[2:]):
            clock.now += LOAD
            yield part

    cut_model, watch = ab.cut(net, "1"), Stopwatch(clock)
    cut_model.split(batch.images)  # whose passes aren't those of the loop
    trunk = cut_model.trunk

    def counted(images: Tensor) -> tuple[Tensor, tuple]:
        clock.now += TRUNK
        return trunk(images)

    cut_model.trunk = counted  # type: ignore[method-assign]
    of_method = plugins.of("method", method)
    spec = replace(of_method.spec, on_score_scale=False)
    methods = [replace(of_method, name=name, spec=spec) for name in ("first", "second")]
    metrics = [plugins.of("metric", function) for function in (perturbing, explaining)]
    requests = [MethodsByMetrics(tuple(methods), tuple(metrics))]
    assert list(shard_rows(cut_model, loaded(), requests, 2, watch=watch))
    seconds = watch.seconds()
    assert seconds["loading"] == 2 * LOAD
    assert seconds["trace"] == 2 * TRUNK
    assert seconds["methods"] == 2 * 2 * METHOD
    assert seconds["metrics"] == 2 * 2 * 2 * METRIC
    assert seconds["metrics' passes"] == 2 * (TRUNK + TRUNK + 2 * METHOD)
