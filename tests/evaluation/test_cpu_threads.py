"""Metrics that read maps alone are measured by threads: the next batch doesn't wait, and nothing else changes."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import axiom_bench as ab
from axiom_bench import metrics
from axiom_bench.cutting.trace import cut
from axiom_bench.data.base import BadImage
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import measurement, plugins, shard
from axiom_bench.evaluation.batch import Columns, begun_rows
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.shard import MethodsByMetrics, one_behind, shard_rows

MAPS_METRICS = ("box_iou", "entropy", "max_box_acc", "negative_share", "pointing_game", "pxap")
SECONDS = 20.0  # of patience


def mean_of_map(explanation: ab.Explanation) -> Tensor:
    return explanation.heatmap.mean((1, 2))  # type: ignore[union-attr]


def of_maps(function: Callable[..., Any] = mean_of_map, name: str = "mine") -> Plugin:
    """A metric with `reads: maps`."""
    metric = plugins.of("metric", function)
    return replace(metric, name=name, bare=False, spec=replace(metric.spec, reads="maps"))


def method(function: Callable[[ab.Trace], Tensor], name: str = "gradients") -> Plugin:
    found = plugins.of("method", function)
    return replace(found, name=name, spec=replace(found.spec, on_score_scale=False))


def raising(error: Exception) -> Callable[[Any], Tensor]:
    def function(argument: Any) -> Tensor:
        raise error

    return function


GRADIENTS = method(lambda trace: trace.gradients)


@pytest.fixture
def use_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(shard, "thread_count", lambda device: 2)


def rows(net, parts, measured, methods=(GRADIENTS,), batch_rows=2) -> list[Columns]:
    return list(shard_rows(cut(net, "1"), parts, [MethodsByMetrics(tuple(methods), tuple(measured))], batch_rows))


def assert_equal(actual: Sequence[Columns], expected: Sequence[Columns]) -> None:
    for part, other in zip(actual, expected, strict=True):
        assert part.keys() == other.keys()
        for name in part.keys() - {"points"}:
            np.testing.assert_array_equal(part[name], other[name])
        for points, other_points in zip(part.get("points", ()), other.get("points", ()), strict=True):
            np.testing.assert_array_equal(points, other_points)


def assert_no_thread_is_left() -> None:
    assert not [thread for thread in threading.enumerate() if "axiom-bench maps" in thread.name]


def test_rows_and_their_order_are_the_same(net, batch, use_threads):
    parts = [batch[:2], BadImage("bad", "why", "bad_image"), batch[2:], batch[1:3], batch[:1]]
    chosen = [*map(metrics.get, (*MAPS_METRICS, "sensitivity_error", "confidence_drop", "zeta"))]
    chosen.insert(2, of_maps(lambda explanation: (time.sleep(0.01 * len(explanation)), mean_of_map(explanation))[1]))
    methods = [method(lambda trace: trace.gradients, name) for name in ("first", "second", "third")]
    methods.append(method(raising(BenchError("not for this model")), "left out"))
    with pytest.warns(match="left out"):
        expected = rows(net, parts, chosen, methods)
    use_threads()
    with pytest.warns(match="left out"):
        actual = rows(net, parts, chosen, methods)
    assert_equal(actual, expected)
    assert_no_thread_is_left()


def test_the_next_batch_does_not_wait(net, batch, use_threads):
    """The metric of the first batch ends when the second batch is explained: one after the other would never end."""
    explained: list[int] = []
    second = threading.Event()

    def explaining(trace: ab.Trace) -> Tensor:
        explained.append(len(trace))
        if len(explained) == 2:
            second.set()
        return trace.gradients

    def waits(explanation: ab.Explanation) -> Tensor:
        assert second.wait(SECONDS), "the next batch waits for this one's metrics"
        return mean_of_map(explanation)

    use_threads()
    assert len(rows(net, [batch[:2], batch[2:]], [of_maps(waits)], [method(explaining)])) == 2


def test_two_batches_at_most_are_held():
    made: list[int] = []

    def items() -> Iterable[int]:
        for item in range(4):
            made.append(item)
            yield item

    assert [(item, made[-1]) for item in one_behind(items())] == [(0, 1), (1, 2), (2, 3), (3, 3)]
    assert not list(one_behind([]))


def test_what_is_held_refers_to_no_pass(net, batch):
    trace = cut(net, "1").trace(batch.images, batch.targets)
    held = weakref.ref(trace)
    chosen = [*map(metrics.get, MAPS_METRICS), metrics.get("confidence_drop"), metrics.get("zeta")]
    with measurement.cpu_threads(1) as threads:
        later = list(begun_rows(trace, batch, [GRADIENTS], chosen, threads=threads))
        del trace
        list(later[-1]())  # a thread that is at work refers to maps alone
        gc.collect()
        assert held() is None


@pytest.mark.parametrize("threads", [False, True])
def test_errors_name_their_metric_which_may_not_ask_the_model(net, batch, use_threads, threads):
    if threads:
        use_threads()
    with pytest.raises(ZeroDivisionError, match="of mine") as caught:
        rows(net, [batch[:2], batch[2:]], [of_maps(raising(ZeroDivisionError("of mine")))])
    assert any("raised by 'mine'" in note for note in caught.value.__notes__)
    asking = metrics.get("confidence_drop")
    metric = replace(asking, spec=replace(asking.spec, reads="maps"))
    for mistake, sentence in ((of_maps(raising(BenchError("nothing to see"))), "mine.*nothing to see"),
                              (metric, "confidence_drop.*" + ("trace" if threads else "asks the model"))):  # fmt: skip
        with pytest.raises(BenchError, match=sentence):
            rows(net, [batch[:2], batch[2:]], [mistake])
    assert_no_thread_is_left()


def test_a_run_that_is_stopped_leaves_no_thread(net, batch, use_threads):
    """Ctrl-C while the second batch is explained, and a caller that takes no further row."""
    begun: list[int] = []

    def stopped(trace: ab.Trace) -> Tensor:
        begun.append(len(trace))
        if len(begun) == 2:
            raise KeyboardInterrupt
        return trace.gradients

    use_threads()
    with pytest.raises(KeyboardInterrupt):
        rows(net, [batch[:2], batch[2:]], [of_maps()], [method(stopped)])
    assert_no_thread_is_left()
    request = MethodsByMetrics((GRADIENTS,), (of_maps(),))
    taken = shard_rows(cut(net, "1"), [batch[:2], batch[2:]], [request], 2)
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    assert_no_thread_is_left()


def test_a_pass_without_memory_is_halved(net, batch, use_threads):
    def hungry(trace: ab.Trace) -> Tensor:
        if len(trace) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return trace.gradients

    chosen = [*map(metrics.get, (*MAPS_METRICS, "confidence_drop"))]
    expected = rows(net, [batch], chosen, [method(hungry)], 4)
    use_threads()
    assert_equal(rows(net, [batch], chosen, [method(hungry)], 4), expected)


def test_a_cpu_needs_no_threads_and_those_of_torch_stay_as_they_are():
    assert measurement.thread_count(torch.device("cpu")) == 0
    assert 1 <= measurement.thread_count(torch.device("cuda")) <= measurement.MAX_THREADS
    before = torch.get_num_threads()
    with measurement.cpu_threads(1) as threads:
        assert threads is not None
        assert threads.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before
