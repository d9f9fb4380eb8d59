"""What methods cost: forward passes, counted on a stand-in network, and run time.

The stand-in has the real layer's channels and positions. Run time is milliseconds per image of the trace, of the
ablation drops and of each method alone. A trace computes lazily and keeps the results, so every step gets a fresh
trace. Steps take turns, so that the machine's drift affects all of them alike, and each is also reported in plain
forward passes of the same round.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from math import prod

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.trace import Trace, cut, trace_of
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.explanation.explanation import Explanation

HIDDEN, MAX_CLASSES = 4, 16  # of the stand-in
MOST_PASSES = 20  # for the drops of an image, without a sentence about it
MAX_SECONDS = 20.0  # of the rounds that are timed: no other one begins after them


class MethodNotTimed(UserWarning):
    """A method doesn't apply to the model and has no run time. A run collects these warnings by their category."""


def passes_of_methods(
    methods: Sequence[Plugin], trace: Trace, versions: float | None = None
) -> tuple[dict[str, float], float]:
    """Forward passes of the full model that explaining one image costs beyond its trace: of each method by itself, and
    of all methods on one trace, where they may share passes.

    trace: of the real model. Only a method that the stand-ins can't run, or that explains other layers too, is run on
    it, on its first row; a method that doesn't apply to it either costs nothing. Passes of the head alone don't count.
    versions: of an image without its parts, each a pass of `part_effects`; None: as many as the first row has. Of a
    trace of one row, that row is the one trace of all methods, and keeps what they share.
    """
    row = trace if len(trace) == 1 else trace[:1]

    @cache  # made where a method needs it: the first stand-in is often enough
    def candidates(pooled: bool | None) -> tuple[Trace, Trace]:
        if pooled is None:
            return row, row
        stand_in = _stand_in(trace, pooled)
        return stand_in, stand_in[:]

    passes_by_method: dict[str, float] = {}
    total = 0.0
    for method in methods:
        for pooled in (True, False, None):
            candidate, shared_trace = candidates(pooled)
            passes = _count(method, fresh(candidate), versions, raises=candidate is row)
            if passes is not None:
                passes_by_method[method.name] = passes
                total += _count(method, shared_trace, versions, raises=True) or 0
                break
        else:
            passes_by_method[method.name] = 0
    return passes_by_method, total


def fresh(trace: Trace) -> Trace:
    """The same tensors without anything computed from them."""
    return replace(trace)


def versions_of(row: Trace) -> int:
    """The number of versions without its parts that the image of a trace of one row has: passes of `part_effects`."""
    return sum(len(part.images) for parts in row.interventions or () for part in parts)


def _count(method: Plugin, trace: Trace, versions: float | None, raises: bool) -> float | None:
    """The trunk's forward passes of one call; None where the method doesn't apply.

    raises: whether errors other than BenchError are raised; on a stand-in they mean that the method doesn't apply.
    """
    before, had_effects = trace.passes.trunk_forward, "part_effects" in vars(trace)
    try:
        method(trace)
    except Exception as error:
        if raises and not isinstance(error, BenchError):
            raise
        return None
    measured = versions_of(trace) if "part_effects" in vars(trace) and not had_effects else 0
    return trace.passes.trunk_forward - before + (0 if versions is None or not measured else versions - measured)


class _Features(nn.Module):
    """The stand-in's layer, `relu`, and a finer one that no score depends on, so that a method that explains other
    layers than the run's own is refused here. Which there are, and how many, only the real network can tell."""

    def __init__(self, channels: int, size: Sequence[int]) -> None:
        super().__init__()
        axes = len(size)
        self.finer = getattr(nn, f"AdaptiveAvgPool{axes}d")([side + 1 for side in size])
        self.convolution, self.relu = getattr(nn, f"Conv{axes}d")(3, channels, 1, bias=False), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        self.finer(images)
        features: Tensor = self.relu(self.convolution(images))
        return features


def _stand_in(trace: Trace, pooled: bool) -> Trace:
    """One image of a network whose layer has as many channels and positions as the trace's, and images of its size."""
    _, channels, *size = trace.activations.shape
    classes = min(trace.logits.shape[1], MAX_CLASSES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if pooled:
            pool = getattr(nn, f"AdaptiveAvgPool{len(size)}d")(1)
            head = nn.Sequential(pool, nn.Flatten(), nn.Linear(channels, classes))
        else:
            inputs = channels * prod(size)
            head = nn.Sequential(nn.Flatten(), nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes))
        features, images = _Features(channels, size), torch.randn(1, 3, *size)
    model = nn.Sequential(features, head).eval()
    output = Output("stand-in", are_logits=True, softmax=trace.cut_model.output.softmax, returns="logits")
    return cut(model, "0.relu", ablation_memory=trace.cut_model.ablation_memory, output=output).trace(images)


@dataclass(frozen=True, eq=False)
class Step:
    """A step to time. name: forward | trace | ablation_drops | method. run: called with a fresh trace."""

    name: str
    run: Callable[[Trace], object]
    method: str = "-"


def measure_runtime(trace: Trace, methods: Sequence[Plugin], repeats: int = 5) -> pd.DataFrame:
    """Time every step on one batch: a row per step, in RUNTIME_COLUMNS; model and data are "-", for the caller to set.

    trace: of the batch. milliseconds_per_image: median over `repeats` rounds, or those that begin within MAX_SECONDS,
    after one that counts passes and warms up. forwards: the median over rounds of the time against that round's plain
    forward pass. Passes are counted per image. A method's time goes from the trace to the heatmap, with the ablation
    drops if it needs them. peak_memory_bytes: the maximum that a step allocated beyond its start, NaN where that can't
    be measured.
    A method that doesn't apply to the model has no row, and a warning says so.
    """
    device = trace.images.device
    passes = {step: _passes(step, trace) for step in _steps(trace, methods)}
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


def _passes(step: Step, trace: Trace) -> dict[str, float] | None:
    """The passes of one run, per image; None, with a warning, for a method that doesn't apply to the model."""
    before = asdict(trace.passes)
    try:
        step.run(fresh(trace))
    except BenchError as error:
        warnings.warn(f"No run time for the method {step.method!r}: {error}", MethodNotTimed, stacklevel=2)
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
