"""The run times of methods: milliseconds per image of the trace, of the ablation drops and of each
method alone.

A trace computes lazily and keeps the results, so every step gets a fresh trace. The steps take
turns, so that the machine's drift affects all of them alike. Each time is also reported in plain
forward passes of the same round, which can be compared between machines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.cutting.trace import Trace, compute_trace
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Method
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.notes import WARNINGS, MethodNotTimed, Notes

MAX_SECONDS = 20.0  # no further round begins after this time


def fresh(trace: Trace) -> Trace:
    """Return a trace with the same tensors, without results that were computed from them."""
    return replace(trace)


@dataclass(frozen=True, eq=False)
class Step:
    """A step to time."""

    name: str
    """forward, trace, ablation_drops or method."""
    run: Callable[[Trace], object]
    """The computation. It is called with a fresh trace."""
    method: str = "-"
    """The method's name, if the step is a method."""


def measure_runtime(
    trace: Trace,
    methods: Sequence[Method],
    repeats: int = 5,
    notes: Notes = WARNINGS,
) -> pd.DataFrame:
    """Time every step on one batch, and return a table with RUNTIME_COLUMNS and a row per step.

    A first round, which isn't timed, counts the passes and warms up. A method's time goes from the
    trace to the heatmap, with the ablation drops if it needs them. A method that doesn't apply to
    the model has no row, and a note says so.

    Steps that belong to no method have the method "-". The columns model and data are "-", so that
    the caller can set them. Other columns are:

    - milliseconds_per_image: the median over `repeats` rounds, or over those that begin within
      MAX_SECONDS.
    - forwards: the median over the rounds of the time divided by the time of that round's plain
      forward pass.
    - the passes, per image.
    - peak_memory_bytes: the maximum that a step allocated beyond its start, NaN if that can't be
      measured.

    Args:
        trace: the trace of the batch.
        methods: the methods to time.
        repeats: the number of timed rounds.
        notes: get the methods that aren't timed.
    """
    device = trace.images.device
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    passes: dict[Step, dict[str, float]] = {}
    for step in _steps(trace, methods):
        counted = _passes(step, trace, notes)
        if counted is not None:
            passes[step] = counted
    steps = list(passes)
    # each round times every step, so that a machine that slows down slows all of them
    timed_rounds: list[list[float]] = []
    while len(timed_rounds) < repeats and sum(map(sum, timed_rounds)) < MAX_SECONDS:
        timed_rounds.append([_seconds(step, trace) for step in steps])
    seconds = np.array(timed_rounds)
    milliseconds = 1000 * np.median(seconds, axis=0)
    forward_seconds = seconds[:, :1]
    rows = []
    for step in steps:
        row: dict[str, object] = {"method": step.method, "step": step.name, **passes[step]}
        row["peak_memory_bytes"] = peak_memory(partial(step.run, fresh(trace)), device)
        rows.append(row)
    table = pd.DataFrame(rows).assign(
        model="-",
        layer=trace.layer,
        data="-",
        milliseconds_per_image=milliseconds / len(trace),
        forwards=np.median(seconds / forward_seconds, axis=0),
        batch_size=len(trace),
        device=device_name,
    )
    return table[list(RUNTIME_COLUMNS)]


def _steps(trace: Trace, methods: Sequence[Method]) -> list[Step]:
    """Return the steps. The plain forward pass is the first, and the times of the others are
    divided by its time.
    """

    # no step may use a result that an earlier step has left in the trace
    def forward(_: Trace) -> Tensor:
        with torch.no_grad():
            return trace.cut_model.forward(trace.images, *trace.other_inputs)

    def trace_again(_: Trace) -> Trace:
        return compute_trace(
            trace.cut_model, trace.images, trace.targets, others=trace.other_inputs
        )

    def ablation_drops(fresh_trace: Trace) -> Tensor:
        return fresh_trace.ablation_drops

    def heatmap(method: Method, fresh_trace: Trace) -> Tensor | None:
        return Explanation.of(fresh_trace, method(fresh_trace)).heatmap

    steps = [
        Step("forward", forward),
        Step("trace", trace_again),
        Step("ablation_drops", ablation_drops),
    ]
    for method in methods:
        steps.append(Step("method", partial(heatmap, method), method.name))
    return steps


def _passes(step: Step, trace: Trace, notes: Notes) -> dict[str, float] | None:
    """Return the passes of one run, per image. If a method doesn't apply to the model, add a note
    and return None.
    """
    before = asdict(trace.passes)
    try:
        step.run(fresh(trace))
    except BenchError as error:
        notes.add(MethodNotTimed(f"No run time for the method {step.method!r}: {error}"))
        return None
    return {
        name: (count - before[name]) / len(trace) for name, count in asdict(trace.passes).items()
    }


def _seconds(step: Step, trace: Trace) -> float:
    """Return the seconds of one run of a step."""
    fresh_trace = fresh(trace)
    _synchronise(trace.images.device)
    start = time.perf_counter()
    answer = step.run(fresh_trace)
    _synchronise(trace.images.device)
    seconds = time.perf_counter() - start
    del answer  # the time of freeing it isn't part of the step
    return seconds


def _synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(run: Callable[[], object], device: torch.device) -> float:
    """Return the most bytes that one run allocated beyond those at its start; NaN if that can't be
    measured.
    """
    if device.type == "cuda":
        _synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return float(torch.cuda.max_memory_allocated(device) - before)
    # the profiler logs each start and stop on stderr otherwise
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=False) as profile:
        run()
    if profile.kineto_results is None:
        return float("nan")
    sizes = [
        event.nbytes() for event in profile.kineto_results.events() if event.name() == "[memory]"
    ]
    # events are in order of time; freed memory is negative
    return float(np.cumsum([0, *sizes]).max())
