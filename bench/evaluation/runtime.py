"""Run times of methods: milliseconds per image of the trace, of the ablation drops and of each method alone.

A trace computes lazily and keeps the results, so every step gets a fresh trace. Steps take turns, so that the machine's
drift affects all of them alike, and each is also reported in plain forward passes of the same round.
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
from axiom_bench.cutting.trace import Trace, trace_of
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.notes import WARNINGS, MethodNotTimed, Notes

MAX_SECONDS = 20.0  # of the rounds that are timed: no other one begins after them


def fresh(trace: Trace) -> Trace:
    """The same tensors without anything computed from them."""
    return replace(trace)


@dataclass(frozen=True, eq=False)
class Step:
    """A step to time. name: forward | trace | ablation_drops | method. run: called with a fresh trace."""

    name: str
    run: Callable[[Trace], object]
    method: str = "-"


def measure_runtime(
    trace: Trace,
    methods: Sequence[Plugin],
    repeats: int = 5,
    notes: Notes = WARNINGS,
) -> pd.DataFrame:
    """Time every step on one batch: a row per step, in RUNTIME_COLUMNS; model and data are "-", for the caller to set.

    trace: of the batch. milliseconds_per_image: median over `repeats` rounds, or those that begin within MAX_SECONDS,
    after one that counts passes and warms up. forwards: the median over rounds of the time against that round's plain
    forward pass. Passes are counted per image. A method's time goes from the trace to the heatmap, with the ablation
    drops if it needs them. peak_memory_bytes: the maximum that a step allocated beyond its start, NaN where that can't
    be measured.
    A method that doesn't apply to the model has no row, and a note says so.
    """
    device = trace.images.device
    passes = {step: _passes(step, trace, notes) for step in _steps(trace, methods)}
    steps = [step for step, counted in passes.items() if counted is not None]
    timed: list[list[float]] = []
    while len(timed) < repeats and sum(map(sum, timed)) < MAX_SECONDS:
        timed.append([_seconds(step, trace) for step in steps])
    rounds = np.array(timed)
    rows = [
        {
            "method": step.method,
            "step": step.name,
            **(passes[step] or {}),
            "peak_memory_bytes": peak_memory(partial(step.run, fresh(trace)), device),
        }
        for step in steps
    ]
    table = pd.DataFrame(rows).assign(
        model="-",
        layer=trace.layer,
        data="-",
        milliseconds_per_image=1000 * np.median(rounds, axis=0) / len(trace),
        forwards=np.median(rounds / rounds[:, :1], axis=0),
        batch_size=len(trace),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    )
    return table[list(RUNTIME_COLUMNS)]


def _steps(trace: Trace, methods: Sequence[Plugin]) -> list[Step]:
    """The plain forward pass is the first: the others are measured against it."""

    def forward(_: Trace) -> Tensor:
        with torch.no_grad():
            return trace.cut_model.forward(trace.images, *trace.other_inputs)

    def heatmap(method: Plugin, trace: Trace) -> Tensor | None:
        return Explanation.of(trace, method(trace)).heatmap

    return [
        Step("forward", forward),
        Step("trace", lambda _: trace_of(trace.cut_model, trace.images, trace.targets, others=trace.other_inputs)),
        Step("ablation_drops", lambda unused: unused.ablation_drops),
        *(Step("method", partial(heatmap, method), method.name) for method in methods),
    ]


def _passes(step: Step, trace: Trace, notes: Notes) -> dict[str, float] | None:
    """Return the passes of one run, per image. If a method doesn't apply to the model, add a note and return None."""
    before = asdict(trace.passes)
    try:
        step.run(fresh(trace))
    except BenchError as error:
        notes.add(MethodNotTimed(f"No run time for the method {step.method!r}: {error}"))
        return None
    return {name: (count - before[name]) / len(trace) for name, count in asdict(trace.passes).items()}


def _seconds(step: Step, trace: Trace) -> float:
    unused = fresh(trace)
    _synchronise(trace.images.device)
    start = time.perf_counter()
    answer = step.run(unused)
    _synchronise(trace.images.device)
    seconds = time.perf_counter() - start
    del answer  # the time of freeing it isn't part of the step
    return seconds


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(run: Callable[[], object], device: torch.device) -> float:
    """Maximum of bytes that one run allocated beyond those at its start; NaN where that can't be measured."""
    if device.type == "cuda":
        _synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return float(torch.cuda.max_memory_allocated(device) - before)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler logs each start and stop on stderr otherwise
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=False) as profile:
        run()
    if profile.kineto_results is None:
        return float("nan")
    sizes = [event.nbytes() for event in profile.kineto_results.events() if event.name() == "[memory]"]
    return float(np.cumsum([0, *sizes]).max())  # in order of time; freed memory is negative
