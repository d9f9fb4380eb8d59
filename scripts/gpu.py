"""Run all checks and measurements for a machine with a GPU, in ten minutes, into one page.

    scripts/gpu.sh [FOLDER] [--only TEXT] [--seconds 600]
    scripts/gpu.sh --cpu [FOLDER]      on the CPU, with a few images: shows that everything runs

FOLDER (default: build/gpu) has the output of each step (NAME.txt), the measurements of each run
(NAME.json) with its run folder, and page.md, which is rewritten after each step. A step that fails,
or takes longer than its limit, doesn't stop the others. Steps that would begin after --seconds are
left out. The exit code is 1 if one failed.

Runs are measured as they are, and, with a few images, once more with a profile of their kernels,
which takes memory for each kernel's start. The large run uses made-up images: photographs of
AXIOM_BENCH_REAL (../shared) under other names, by hard links. The page compares its stages with the
budget for 50,000 images in 30 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("AXIOM_BENCH_REAL", ROOT.parent / "shared"))
SCRIPTS = ROOT / "scripts"
NO_PICTURES = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")
PAPER = "method=[ablation_cam,cam,grad_cam,grad_cam_pp,guided_xgrad_cam,xgrad_cam]"
AXIOMS = "metric=[conservation_error,sensitivity_error]"
KERNELS = 10  # the number of kernels on the page, those that take longest
LAST = 40  # lines of a step's output on the page
PAGE = "page.md"
MADE = "made_images"  # the folder of the made-up images
LARGE = "large_fp32"  # the run with a budget
BUDGET = {  # seconds for 50,000 images on an H200 with 16 cores; the parts run in parallel
    "start": "5",
    "loading, waited for": "0",
    "starting kernels": "5.2 to 17",
    "kernels": "19",
    "report": "12 to 15",
    "the whole command": "30",
}
STARTS_KERNEL = re.compile("cu(da)?Launch")
TAKE = "take"  # this word in place of a folder measures a run in this process


class Sizes(NamedTuple):
    """The sizes that decide how much each step computes."""

    device: str
    made: int  # made-up images
    batch: int
    workers: int
    speed_batches: tuple[int, ...]
    repeats: int
    images: int | None
    all_metrics: int
    profiled: int  # images of a run whose kernels are listed


GPU = Sizes("cuda", 50_000, 256, 16, (64, 256), 5, None, 64, 64)
CPU = Sizes("cpu", 8, 4, 1, (1,), 1, 2, 1, 1)


class Step(NamedTuple):
    """A command with its limit."""

    name: str
    command: tuple[str, ...]
    seconds: float  # the limit
    run: bool = False  # True if the command writes NAME.json


class Outcome(NamedTuple):
    """The result of a step."""

    step: Step
    status: str  # "done", "failed (exit code 1)", "stopped after 60 s" or "left out"
    seconds: float = 0.0


def steps(sizes: Sizes, folder: Path) -> Iterator[Step]:
    """Yield the steps, the most informative ones first."""
    python = sys.executable
    yield Step("machine", (python, "-m", "torch.utils.collect_env"), 60)
    tests = "-m pytest -m cuda -q -rs -p no:cacheprovider tests/test_cuda.py"
    yield Step("tests", (python, *tests.split()), 150)
    for name, (seconds, overrides) in runs(sizes, folder).items():
        yield Step(name, _taking(name, overrides, folder), seconds, run=True)
    for precision in ("fp32", "tf32", "bf16"):
        for batch in sizes.speed_batches:
            command = [python, str(SCRIPTS / "bench_speed.py"), "--device", sizes.device]
            command += ["--precision", precision, "--batch", str(batch)]
            command += ["--repeats", str(sizes.repeats)]
            yield Step(f"speed_{precision}_{batch}", tuple(command), 60)
    for name, (seconds, overrides) in runs(sizes, folder).items():
        few_images = (*overrides, f"data.size={_profiled(name, sizes)}")
        kernels_name = f"{name}_kernels"
        command_of_run = _taking(kernels_name, few_images, folder, "--kernels")
        yield Step(kernels_name, command_of_run, seconds, run=True)


def _profiled(name: str, sizes: Sizes) -> int:
    """Return the images of a run whose kernels are listed; a large run has one batch of them."""
    return sizes.batch if name.startswith("large") else sizes.profiled


def runs(sizes: Sizes, folder: Path) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Return the limit in seconds and the overrides of each run, by its name."""
    device = f"device={sizes.device}"
    few_images = () if sizes.images is None else (f"data.size={sizes.images}",)
    real = (f"real_root={REAL}", f"data.workers={sizes.workers}")
    # Random weights are enough, because only the speed of the large run is measured.
    large = (
        *real,
        "model=vgg16",
        "model.weights=null",
        "data=imagenet",
        "data.size=null",
        f"data.root={folder / MADE}",
        f"data.batch_size={sizes.batch}",
        f"shard_size={8 * sizes.batch}",
        PAPER,
        AXIOMS,
        *NO_PICTURES,
    )
    all_metrics = ("metric=all", device, f"data.size={sizes.all_metrics}", "data=scenes")
    return {
        "default": (60, (device, *few_images)),
        LARGE: (120, (device, *large)),
        "large_tf32": (120, (device, "device.precision=tf32", *large)),
        "real": (120, ("experiment=real", device, *real, *few_images)),
        "all_metrics": (150, (*all_metrics, *NO_PICTURES)),
    }


def _taking(name: str, overrides: Sequence[str], folder: Path, *options: str) -> tuple[str, ...]:
    """Return the command that measures a run in a process of its own."""
    script = (sys.executable, str(SCRIPTS / "gpu.py"), *options)
    output = ("--out", str(folder / f"{name}.json"))
    return (
        *script,
        *output,
        TAKE,
        "--",
        *overrides,
        f"results={folder / 'results'}",
        f"run={name}",
    )


def measured(overrides: Sequence[str], with_kernels: bool) -> dict[str, Any]:
    """Compute a run in this process and return its measurements.

    Returns:
        exit_code; seconds; peak_memory in bytes, on a CPU of the process; kernels, [name,
        milliseconds, calls] of the KERNELS kernels or operations that take longest; kernel_seconds
        of all kernels; starting, the processor's seconds to start them, 0 on a CPU.
    """
    # before torch, whose idle threads would take a core
    from axiom_bench.cli.main import main as axiom_bench_main

    # isort: split
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    start = time.perf_counter()
    with profile(activities=[activity]) if with_kernels else nullcontext() as profiler:
        code = axiom_bench_main(list(overrides))
        if on_gpu:
            torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    process_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    memory = torch.cuda.max_memory_allocated() if on_gpu else process_memory
    kernels = []
    start_microseconds = 0
    for event in profiler.key_averages() if profiler else ():
        microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        kernels.append((event.key, microseconds / 1000, event.count))
        if STARTS_KERNEL.match(event.key):
            start_microseconds += event.self_cpu_time_total
    slowest = sorted(kernels, key=lambda kernel: -kernel[1])[:KERNELS]
    kernel_milliseconds = sum(milliseconds for _, milliseconds, _ in kernels)
    return {
        "exit_code": code,
        "seconds": seconds,
        "peak_memory": memory,
        "kernels": slowest,
        "kernel_seconds": kernel_milliseconds / 1000,
        "starting": start_microseconds / 1e6,
    }


def stages(out: Path) -> dict[str, float]:
    """Return the seconds per stage of the run that wrote this JSON, and of its report."""
    seconds: Counter[str] = Counter()
    report = 0.0
    for manifest in out.parent.glob(f"results/*/{out.stem}/manifest.json"):
        seconds_by_job = json.loads(manifest.read_text(encoding="utf-8"))["seconds"]
        for job_seconds in seconds_by_job.values():
            seconds.update(job_seconds)
        # A command writes the manifest before its report, and report.json after it.
        report += manifest.with_name("report.json").stat().st_mtime - manifest.stat().st_mtime
    return {**seconds, "report": report}


def measured_budget(results: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
    """Return the large run's seconds by the names of BUDGET, as far as its steps are done."""
    seconds: dict[str, float] = {}
    if run := results.get(LARGE):
        later_stages = {name: took for name, took in run["stages"].items() if name != "start"}
        seconds["start"] = run["seconds"] - sum(later_stages.values())
        seconds["loading, waited for"] = later_stages.get("loading", 0)
        seconds["report"] = later_stages.get("report", 0)
        seconds["the whole command"] = run["seconds"]
    if batch := results.get(f"{LARGE}_kernels"):
        # the kernels of one batch, times the batches
        batches = sizes.made / sizes.batch
        seconds["starting kernels"] = batches * batch["starting"]
        seconds["kernels"] = batches * batch["kernel_seconds"]
    return seconds


def take(step: Step, folder: Path, device: str, left: float) -> Outcome:
    """Run a step for at most the seconds that are left, and write its output to NAME.txt."""
    if left <= 0:
        return Outcome(step, "left out")
    limit = min(step.seconds, left)
    start = time.monotonic()
    environment = {**os.environ, "AXIOM_BENCH_REAL": str(REAL), "AXIOM_BENCH_TEST_DEVICE": device}
    with (folder / f"{step.name}.txt").open("w", encoding="utf-8") as output:
        output.write(f"$ {' '.join(step.command)}\n")
        output.flush()
        process = subprocess.Popen(
            step.command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            status = "done" if code == 0 else f"failed (exit code {code})"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with the processes that it has started
            process.wait()
            status = f"stopped after {limit:.0f} s"
    return Outcome(step, status, time.monotonic() - start)


def make_images(folder: Path, count: int) -> None:
    """Write `count` images with their boxes in ImageNet's layout, as links to photographs."""
    source = REAL / "data" / "imagenet"
    boxes = Path("Annotations", "CLS-LOC", "val")
    photographs = sorted((source / "val").rglob("*.JPEG"))
    (folder / boxes).mkdir(parents=True)
    shutil.copy(source / "LOC_synset_mapping.txt", folder)
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        stem = f"made_{number:08d}"
        links = {
            folder / "val" / photograph.parent.name / f"{stem}.JPEG": photograph,
            folder / boxes / f"{stem}.xml": source / boxes / f"{photograph.stem}.xml",
        }
        for link, target in links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(target, link)
            except OSError:  # the photographs lie on another file system
                link.symlink_to(target.resolve())


def page(outcomes: Sequence[Outcome], folder: Path, sizes: Sizes) -> str:
    """Return Markdown: tables of steps, runs, budget and kernels, and what other steps printed."""
    lines = ["# On a GPU" if sizes.device == "cuda" else "# On the CPU, with a few images", ""]
    lines += ["| step | status | s |", "| --- | --- | ---: |"]
    results = {}
    for outcome in outcomes:
        name = outcome.step.name
        lines.append(f"| {name} | {outcome.status} | {outcome.seconds:.0f} |")
        path = folder / f"{name}.json"
        if outcome.step.run and path.exists():
            results[name] = json.loads(path.read_text(encoding="utf-8"))

    # A profile takes time and memory, so profiled runs have tables of their own.
    lines += ["", "## Runs", "", "| run | s | peak memory |", "| --- | ---: | ---: |"]
    for name, run in results.items():
        if not run["kernels"]:
            memory = run["peak_memory"] / 2**30
            lines.append(f"| {name} | {run['seconds']:.1f} | {memory:.2f} GiB |")

    seconds = measured_budget(results, sizes)
    lines += ["", f"## Budget: {LARGE}, {sizes.made:,} images", ""]
    lines += ["| stage | budget of 50,000, s | measured, s |", "| --- | ---: | ---: |"]
    for name, budget in BUDGET.items():
        lines.append(f"| {name} | {budget} | {f'{seconds[name]:.1f}' if name in seconds else ''} |")

    for name, run in results.items():
        if run["kernels"]:
            run_name = name.removesuffix("_kernels")
            lines += ["", f"## Kernels of {run_name}, {_profiled(run_name, sizes)} images", ""]
            lines += ["| kernel | ms | calls |", "| --- | ---: | ---: |"]
            for kernel, milliseconds, calls in run["kernels"]:
                lines.append(f"| `{kernel[:100]}` | {milliseconds:.2f} | {calls} |")

    for outcome in outcomes:
        output = folder / f"{outcome.step.name}.txt"
        if output.exists() and (outcome.status != "done" or not outcome.step.run):
            last = output.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST:]
            lines += ["", f"## {outcome.step.name}", "", "```", *last, "```"]
    return "\n".join(lines) + "\n"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=str(ROOT / "build" / "gpu"), help=f"or {TAKE}")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, with a few images")
    parser.add_argument("--only", default="", help="the steps whose name has this text")
    parser.add_argument("--seconds", type=float, default=600, help="no step goes on after that")
    parser.add_argument("--kernels", action="store_true", help=f"of {TAKE}: list them")
    parser.add_argument("--out", type=Path, help=f"of {TAKE}: the JSON that is written")
    parser.add_argument("overrides", nargs="*", help=f"of {TAKE}: of axiom-bench, behind --")
    return parser.parse_args(argv)


def main() -> int:
    """Run the steps, or measure one run. Return the exit code."""
    options = arguments()
    if options.folder == TAKE:
        result = measured(options.overrides, options.kernels) | {"stages": stages(options.out)}
        options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
        return int(result["exit_code"])
    sizes = CPU if options.cpu else GPU
    folder = Path(options.folder).resolve()
    end = time.monotonic() + options.seconds
    # The folder is emptied, so it must be new or have this script's page.
    if folder.exists() and any(folder.iterdir()) and not (folder / PAGE).exists():
        print(f"{folder} holds something else; name a new folder.", file=sys.stderr)
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / PAGE).touch()
    make_images(folder / MADE, sizes.made)
    outcomes: list[Outcome] = []
    for step in steps(sizes, folder):
        if options.only not in step.name:
            continue
        outcome = take(step, folder, sizes.device, end - time.monotonic())
        outcomes.append(outcome)
        print(f"{step.name}: {outcome.status}, {outcome.seconds:.0f} s", flush=True)
        (folder / PAGE).write_text(page(outcomes, folder, sizes), encoding="utf-8")
    shutil.rmtree(folder / MADE)
    return int(any(outcome.status != "done" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
