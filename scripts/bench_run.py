"""Whole runs: where their time goes, and how much more they take than the passes of the model that they count.

    python scripts/bench_run.py [--images 16] [--all-methods] [--no-scenes] [--no-photographs] [--no-report]
                                [--guards] [KEY=VALUE ...]

The scenes are the default run, the photographs experiment=real (real_root, as `real_root=FOLDER` or ../shared). The
overhead is the time of the loop over the images, from loading to writing, divided by that of the bare passes: as many
forward passes and gradients as the run counted, each at what it takes on a batch of the run's images, on the same
threads, in the faster of two batch sizes. Once by the clock on the wall, and once by processor time, which other load
on the machine changes less; processes that load images aren't in it. --guards: instead, the processor time of the
scenes' run with and without what guards against users' own plug-ins, in turns, without any and with three of them.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measuring import timed
from torch import Tensor

from axiom_bench.cli.benchmark import benchmark, compute
from axiom_bench.evaluation.answers import rows_per_pass
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.run.inputs.images import rows
from axiom_bench.run.job import Job, cut_of

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
LOOP = ("loading", "trace", "methods", "metrics' passes", "metrics", "writing")


def bare_seconds(job: Job, work: Mapping[str, float], repeats: int, clock: Callable[[], float]) -> float:
    """Seconds of the passes that a run has counted."""
    cut_model = cut_of(job.model, job.device)
    batch = next(part for part in rows(job, job.indices) if isinstance(part, ab.Batch))
    trace = cut_model.trace(batch.images, batch.targets)
    sizes = sorted({len(batch), min(len(batch), rows_per_pass(trace, 1))})
    best: dict[str, float] = {}

    def trunk(images: Tensor) -> Tensor:
        return cut_model.trunk(images)[0]

    for size in sizes:
        images, part = batch.images[:size], trace[:size]
        calls = {
            "forward": lambda images=images: torch.inference_mode()(job.model.module)(images),
            "trunk": lambda images=images: _pass(trunk, images, gradient=False),
            "trunk and gradient": lambda images=images: _pass(trunk, images, gradient=True),
            "head": lambda part=part: _pass(part.head, part.activations, gradient=False),
            "head and gradient": lambda part=part: _pass(part.head, part.activations, gradient=True),
        }
        for name, times in timed(calls, repeats, clock, job.device.device).items():
            best[name] = min(best.get(name, float("inf")), statistics.median(times) / size)
    return (
        work["trunk_forward"] * best["forward"]
        + max(0, work["head_forward"] - work["trunk_forward"]) * best["head"]
        + work["head_backward"] * max(0.0, best["head and gradient"] - best["head"])
        + work["trunk_backward"] * max(0.0, best["trunk and gradient"] - best["trunk"])
    )


def _pass(call: Callable[[Tensor], Tensor], inputs: Tensor, gradient: bool) -> object:
    with torch.set_grad_enabled(gradient):
        inputs = inputs.clone().requires_grad_(gradient)
        outputs = call(inputs)
        return torch.autograd.grad(outputs.sum(), inputs) if gradient else outputs


def show(title: str, overrides: Sequence[str], repeats: int, report: bool) -> None:
    """Runs a command line in a folder of its own and prints a line and a table for each of its models."""
    with tempfile.TemporaryDirectory() as results:
        start, words = time.perf_counter(), [*overrides, f"results={results}"]
        code, lines = benchmark(words) if report else compute(words)[:2]
        whole = f"{time.perf_counter() - start:.1f} s{' with its report' if report else ''}"
        found = list(Path(results).glob("*/*/manifest.json"))
        if code or len(found) != 1:
            print(f"\n{title}: exit code {code}", *lines, sep="\n")
            return
        manifest = json.loads(found[0].read_text())
        print(f"\n{title}: {whole}, {torch.get_num_threads()} threads: axiom-bench", *overrides)
        for entry in manifest["jobs"]:
            job = entry["job"]
            show_job(job, entry["config"], manifest["seconds"][job], manifest["work"][job], repeats)


def show_job(name: str, config: Any, seconds: Mapping[str, float], work: Mapping[str, float], repeats: int) -> None:
    """The overhead by both clocks, and the seconds and the share of each part of the loop."""
    job = Job.of(config)
    loop = {"wall": work["images"] / work["images_per_second"], "processor": work["processor_seconds"]}
    bare = {kind: bare_seconds(job, work, repeats, clock) for kind, clock in CLOCKS.items()}
    ratios = ", ".join(f"{loop[kind] / bare[kind]:.2f} by {kind} ({loop[kind]:.1f} s)" for kind in CLOCKS)
    kinds = {"trunk_forward": "forward passes", "trunk_backward": "trunk gradients", "head_backward": "head gradients"}
    passes = ", ".join(f"{work[kind] / work['images']:.1f} {title}" for kind, title in kinds.items())
    print(f"  {name}: overhead {ratios}; an image: {passes}")
    total = sum(seconds[part] for part in LOOP)
    print("   ", ", ".join(f"{part} {seconds[part]:.1f} s ({seconds[part] / total:.0%})" for part in LOOP), flush=True)


def own_cam(trace: ab.Trace) -> Tensor:
    """Grad-CAM, as a user's own."""
    return trace.gradients.mean((2, 3), keepdim=True)


def own_product(trace: ab.Trace) -> Tensor:
    """A user's own."""
    return trace.gradients


def own_mean(explanation: ab.Explanation) -> Tensor:
    """A user's own metric: (B,)."""
    return explanation.heatmap.mean((1, 2))  # type: ignore[union-attr]


OWN = [f"+{kind}.{name}._target_=bench_run.{name}" for kind, name in
       (("method", "own_cam"), ("method", "own_product"), ("metric", "own_mean"))]  # fmt: skip


def show_guards(overrides: Sequence[str], repeats: int) -> None:
    """Medians of a run's processor time with and without the guards, and of the ratios of each turn."""
    for title, words in (("no plug-in of a user", overrides), ("three plug-ins of a user", [*overrides, *OWN])):
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for turn in range(2 * repeats + 1):
            is_on = turn % 2 == 0
            with tempfile.TemporaryDirectory() as results, ExitStack() as off:
                if not is_on:
                    off.enter_context(patch.object(Plugin, "is_foreign", False))
                start = time.process_time()
                outcomes = compute([*words, f"results={results}"])
                seconds[is_on] += [time.process_time() - start] if turn else []  # the first imports what all need
                assert not outcomes[0], outcomes[1]
        on, without = (statistics.median(seconds[key]) for key in (True, False))
        ratios = [first / second for first, second in zip(seconds[True], seconds[False], strict=True)]
        print(f"{title}: {on:.2f} s with the guards, {without:.2f} s without: {statistics.median(ratios):.3f} "
              f"({min(ratios):.3f} to {max(ratios):.3f}): axiom-bench", *words, flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--all-methods", action="store_true", help="every method of conf/method/")
    parser.add_argument("--no-scenes", action="store_true")
    parser.add_argument("--no-photographs", action="store_true")
    parser.add_argument("--no-report", action="store_true")
    parser.add_argument("--guards", action="store_true", help="what guards against users' own plug-ins costs")
    parser.add_argument("--repeats", type=int, default=3, help="of the bare passes")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    shared = [f"data.size={options.images}", *(["method=all"] if options.all_methods else []), *options.overrides]
    if options.guards:
        show_guards(shared, options.repeats)
        return
    if not options.no_scenes:
        of_scenes = [word for word in shared if not word.startswith("real_root=")]
        show("scenes", of_scenes, options.repeats, not options.no_report)
    if not options.no_photographs:
        show("photographs", ["experiment=real", *shared], options.repeats, not options.no_report)


if __name__ == "__main__":
    main()
