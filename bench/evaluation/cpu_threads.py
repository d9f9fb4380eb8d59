"""Metrics that read maps and annotations alone, measured on the CPU by threads while a GPU goes on.

Their values and the order of all rows are those of the metrics measured one after the other: a thread measures all of
them for one explanation, in their order, with one thread of torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from axiom_bench.cores import num_cores
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.answers import MetricCall
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MAPS, MetricSpec
from axiom_bench.explanation.explanation import Explanation

MAX_THREADS = 8
Results = Mapping[str, Any]  # what metrics returned, by their names


@dataclass(frozen=True)
class CpuThreads:
    """Measures in threads. What it holds is on the CPU."""

    threads: ThreadPoolExecutor

    def start(self, metrics: Sequence[Plugin[MetricSpec]], explanation: Explanation) -> Future[Results]:
        """Begins to measure; metrics: those that read maps. The result raises what a metric does."""
        return self.threads.submit(_measured, metrics, *maps_on_cpu(explanation))


@contextmanager
def cpu_threads(threads: int) -> Iterator[CpuThreads | None]:
    """So many threads until the end, or an error, of what is inside: then none is left, nor anything to be measured.
    None for 0 threads."""
    if not threads:
        yield None
        return
    executor = ThreadPoolExecutor(threads, "axiom-bench maps", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield CpuThreads(executor)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def thread_count(device: torch.device) -> int:
    """Half of the cores beside a GPU; none on a CPU, whose cores the model takes (docs/studies/performance.md)."""
    if device.type != "cuda":
        return 0
    return max(1, min(MAX_THREADS, num_cores() // 2))


def reads_maps(metric: Plugin[MetricSpec]) -> bool:
    """Whether the metric says that it reads maps and annotations alone."""
    return metric.spec.reads == MAPS


def started(metric: Plugin[MetricSpec], explanation: Explanation) -> MetricCall:
    """The metric up to its first request. Raises BenchError for a request of one that reads maps alone."""
    task = MetricCall.start(metric, explanation)
    if task.request is not None and reads_maps(metric):
        raise BenchError(
            f"The metric {metric.name!r} asks the model, and its `reads: {MAPS}` says that it reads maps and "
            f"annotations alone; leave metric.{metric.name}.reads out."
        )
    return task


def maps_alone(explanation: Explanation) -> Explanation:
    """What a metric with `reads: maps` may read."""
    return replace(explanation, trace=None, contributions=None, images=None, method=None)


def maps_on_cpu(explanation: Explanation) -> tuple[Explanation, Callable[[], object]]:
    """(its maps and annotations on the CPU, a function that waits until a GPU has sent them)."""
    heatmap, raw_map = (
        None if tensor is None else tensor.to("cpu", non_blocking=True)
        for tensor in (explanation.heatmap, explanation.raw_map)
    )
    alone = replace(maps_alone(explanation), heatmap=heatmap, raw_map=raw_map, made=heatmap)
    if explanation.heatmap is None or not explanation.heatmap.is_cuda:
        return alone, lambda: None
    return alone, torch.cuda.current_stream(explanation.heatmap.device).record_event().synchronize


def _measured(metrics: Sequence[Plugin[MetricSpec]], explanation: Explanation, sent: Callable[[], object]) -> Results:
    sent()
    return {metric.name: started(metric, explanation).result for metric in metrics}
