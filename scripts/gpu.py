"""All that a machine with a GPU is to tell, in ten minutes at most, in one folder with one page.

    scripts/gpu.sh [FOLDER] [--only TEXT] [--seconds 600]
    scripts/gpu.sh --cpu [FOLDER]      on the CPU, with a few images: shows that everything runs

FOLDER (default: build/gpu) has for each step its output (NAME.txt), for each run what it took
(NAME.json) and its run folder, and page.md, which is written anew after each step. A step that
fails, or takes longer than its limit, doesn't stop the others; steps that begin after --seconds are
left out. The exit code is 1 where one failed.

Runs are measured as they are, and, with a few images, once more with a profile of their kernels,
which takes memory for each kernel's start. The large run is of made-up images: photographs of
AXIOM_BENCH_REAL (../shared) under other names, by hard links. Its stages stand on the page beside
the budget for 50,000 images in 30 seconds.
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
KERNELS = 10  # those that take longest
LAST = 40  # lines of a step's output on the page
PAGE = "page.md"
MADE = "made_images"  # the folder of the made-up images
LARGE = "large_fp32"  # the run with a budget
BUDGET = {  # seconds for 50,000 images on an H200 with 16 cores; the parts go on beside each other
    "start": "5",
    "loading, waited for": "0",
    "starting kernels": "5.2 to 17",
    "kernels": "19",
    "report": "12 to 15",
    "the whole command": "30",
}
STARTS_KERNEL = re.compile("cu(da)?Launch")
TAKE = "take"  # in the place of a folder: a run is measured in this process


class Sizes(NamedTuple):
    """How much each step computes. made: made-up images. profiled: images of a run whose kernels
    are listed.
    """

    device: str
    made: int
    batch: int
    workers: int
    speed_batches: tuple[int, ...]
    repeats: int
    images: int | None
    all_metrics: int
    profiled: int


GPU = Sizes("cuda", 50_000, 256, 16, (64, 256), 5, None, 64, 64)
CPU = Sizes("cpu", 8, 4, 1, (1,), 1, 2, 1, 1)


class Step(NamedTuple):
    """A command with its limit in seconds. run: whether it writes NAME.json."""

    name: str
    command: tuple[str, ...]
    seconds: float
    run: bool = False


class Outcome(NamedTuple):
    """What became of a step. status: "done", "failed (exit code 1)", "stopped after 60 s", "left
    out".
    """

    step: Step
    status: str
    seconds: float = 0.0


def steps(sizes: Sizes, folder: Path) -> Iterator[Step]:
    """The steps, those that tell most first."""
    python = sys.executable
    yield Step("machine", (python, "-m", "torch.utils.collect_env"), 60)
    tests = (
        "-m",
        "pytest",
        "-m",
        "cuda",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        "tests/test_cuda.py",
    )
    yield Step("tests", (python, *tests), 150)
    for name, (seconds, overrides) in runs(sizes, folder).items():
        yield Step(name, _taking(name, overrides, folder), seconds, run=True)
    for precision in ("fp32", "tf32", "bf16"):
        for batch in sizes.speed_batches:
            options = (
                "--precision",
                precision,
                "--batch",
                str(batch),
                "--repeats",
                str(sizes.repeats),
            )
            command = (python, str(SCRIPTS / "bench_speed.py"), "--device", sizes.device, *options)
            yield Step(f"speed_{precision}_{batch}", command, 60)
    for name, (seconds, overrides) in runs(sizes, folder).items():
        few = (*overrides, f"data.size={_profiled(name, sizes)}")
        yield Step(
            f"{name}_kernels",
            _taking(f"{name}_kernels", few, folder, "--kernels"),
            seconds,
            run=True,
        )


def _profiled(name: str, sizes: Sizes) -> int:
    """The images of a run whose kernels are listed: one batch of a large one."""
    return sizes.batch if name.startswith("large") else sizes.profiled


def runs(sizes: Sizes, folder: Path) -> dict[str, tuple[float, tuple[str, ...]]]:
    """{name: (its limit in seconds, overrides)} of the runs."""
    device, few = (
        f"device={sizes.device}",
        () if sizes.images is None else (f"data.size={sizes.images}",),
    )
    real = (f"real_root={REAL}", f"data.workers={sizes.workers}")
    of_made = (
        f"data.root={folder / MADE}",
        f"data.batch_size={sizes.batch}",
        f"shard_size={8 * sizes.batch}",
    )
    large = (
        "model=vgg16",
        "model.weights=null",
        "data=imagenet",
        "data.size=null",
        *of_made,
        PAPER,
        AXIOMS,
    )
    return {
        "default": (60, (device, *few)),
        LARGE: (120, (device, *real, *large, *NO_PICTURES)),
        "large_tf32": (120, (device, "device.precision=tf32", *real, *large, *NO_PICTURES)),
        "real": (120, ("experiment=real", device, *real, *few)),
        "all_metrics": (
            150,
            ("metric=all", device, f"data.size={sizes.all_metrics}", "data=scenes", *NO_PICTURES),
        ),
    }


def _taking(name: str, overrides: Sequence[str], folder: Path, *options: str) -> tuple[str, ...]:
    command = (
        sys.executable,
        str(SCRIPTS / "gpu.py"),
        *options,
        "--out",
        str(folder / f"{name}.json"),
        TAKE,
        "--",
    )
    return (*command, *overrides, f"results={folder / 'results'}", f"run={name}")


def measured(overrides: Sequence[str], with_kernels: bool) -> dict[str, Any]:
    """{exit_code, seconds, peak_memory, kernels, kernel_seconds, starting} of a run in this
    process. Memory in bytes; on a CPU it is the process's. kernels: [name, milliseconds, calls] of
    the KERNELS, or operations, that take longest. kernel_seconds: of all; starting: the processor's
    seconds to start them, 0 on a CPU.
    """
    from axiom_bench.cli.main import (
        main as axiom_bench_main,
    )  # before torch, whose idle threads would take a core

    # isort: split
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    start = time.perf_counter()
    with profile(activities=[activity]) if with_kernels else nullcontext() as profiled:
        code = axiom_bench_main(list(overrides))
        if on_gpu:
            torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    memory = (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    events = profiled.key_averages() if profiled else ()
    kernels = [
        (
            event.key,
            (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1000,
            event.count,
        )
        for event in events
    ]
    return {
        **{"exit_code": code, "seconds": seconds, "peak_memory": memory},
        **{"kernels": sorted(kernels, key=lambda kernel: -kernel[1])[:KERNELS]},
        **{"kernel_seconds": sum(ms for _, ms, _ in kernels) / 1000},
        **{
            "starting": sum(
                each.self_cpu_time_total for each in events if STARTS_KERNEL.match(each.key)
            )
            / 1e6
        },
    }


def stages(out: Path) -> dict[str, float]:
    """Return {stage: seconds} of the run that wrote this JSON, from its manifest, and of its
    report.
    """
    seconds: Counter[str] = Counter()
    report = 0.0
    for manifest in out.parent.glob(f"results/*/{out.stem}/manifest.json"):
        for of_job in json.loads(manifest.read_text(encoding="utf-8"))["seconds"].values():
            seconds.update(of_job)
        # A command writes the manifest before its report, and report.json after it.
        report += manifest.with_name("report.json").stat().st_mtime - manifest.stat().st_mtime
    return {**seconds, "report": report}


def measured_budget(results: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
    """{what BUDGET names: seconds} of the large run, as far as its steps are done. Kernels are
    those of one batch, times the batches.
    """
    seconds: dict[str, float] = {}
    if run := results.get(LARGE):
        others = {name: each for name, each in run["stages"].items() if name != "start"}
        seconds |= {
            "start": run["seconds"] - sum(others.values()),
            "loading, waited for": others.get("loading", 0),
        }
        seconds |= {"report": others.get("report", 0), "the whole command": run["seconds"]}
    if batch := results.get(f"{LARGE}_kernels"):
        batches = sizes.made / sizes.batch
        seconds |= {
            "starting kernels": batches * batch["starting"],
            "kernels": batches * batch["kernel_seconds"],
        }
    return seconds


def take(step: Step, folder: Path, device: str, left: float) -> Outcome:
    """Runs a step, which may take no more seconds than are left, with its output in NAME.txt."""
    if left <= 0:
        return Outcome(step, "left out")
    limit, start = min(step.seconds, left), time.monotonic()
    environment = {**os.environ, "AXIOM_BENCH_REAL": str(REAL), "AXIOM_BENCH_TEST_DEVICE": device}
    with (folder / f"{step.name}.txt").open("w", encoding="utf-8") as output:
        output.write(f"$ {' '.join(step.command)}\n")
        output.flush()
        settings: dict[str, Any] = {"cwd": ROOT, "env": environment, "start_new_session": True}
        process = subprocess.Popen(
            step.command, stdout=output, stderr=subprocess.STDOUT, **settings
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
    """`count` images in ImageNet's layout: hard links to photographs, with their boxes; links where
    they lie on another file system.
    """
    source, boxes = REAL / "data" / "imagenet", Path("Annotations", "CLS-LOC", "val")
    photographs = sorted((source / "val").rglob("*.JPEG"))
    (folder / boxes).mkdir(parents=True)
    shutil.copy(source / "LOC_synset_mapping.txt", folder)
    for number in range(count):
        photograph, stem = photographs[number % len(photographs)], f"made_{number:08d}"
        image = folder / "val" / photograph.parent.name / f"{stem}.JPEG"
        box_file = source / boxes / f"{photograph.stem}.xml"
        for of_photograph, path in (
            (photograph, image),
            (box_file, folder / boxes / f"{stem}.xml"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(of_photograph, path)
            except OSError:
                path.symlink_to(of_photograph.resolve())


def page(outcomes: Sequence[Outcome], folder: Path, sizes: Sizes) -> str:
    """Markdown: a table of the steps, of the runs with their memory, the kernels, and what the
    others printed.
    """
    lines = ["# On a GPU" if sizes.device == "cuda" else "# On the CPU, with a few images", ""]
    lines += ["| step | status | s |", "| --- | --- | ---: |"]
    lines += [f"| {each.step.name} | {each.status} | {each.seconds:.0f} |" for each in outcomes]
    written = {
        each.step.name: folder / f"{each.step.name}.json" for each in outcomes if each.step.run
    }
    results = {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in written.items()
        if path.exists()
    }
    lines += ["", "## Runs", "", "| run | s | peak memory |", "| --- | ---: | ---: |"]
    lines += [
        f"| {name} | {run['seconds']:.1f} | {run['peak_memory'] / 2**30:.2f} GiB |"
        for name, run in results.items() if not run["kernels"]
    ]  # fmt: skip
    seconds = measured_budget(results, sizes)
    lines += ["", f"## Budget: {LARGE}, {sizes.made:,} images", ""]
    lines += ["| stage | budget of 50,000, s | measured, s |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {most} | {f'{seconds[name]:.1f}' if name in seconds else ''} |"
              for name, most in BUDGET.items()]  # fmt: skip
    for name, run in results.items():
        if run["kernels"]:
            of_run = name.removesuffix("_kernels")
            lines += ["", f"## Kernels of {of_run}, {_profiled(of_run, sizes)} images", ""]
            lines += ["| kernel | ms | calls |", "| --- | ---: | ---: |"]
            lines += [
                f"| `{kernel[:100]}` | {ms:.2f} | {calls} |" for kernel, ms, calls in run["kernels"]
            ]
    for each in outcomes:
        output = folder / f"{each.step.name}.txt"
        if output.exists() and (each.status != "done" or not each.step.run):
            last = output.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST:]
            lines += ["", f"## {each.step.name}", "", "```", *last, "```"]
    return "\n".join(lines) + "\n"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
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
    options = arguments()
    if options.folder == TAKE:
        result = measured(options.overrides, options.kernels) | {"stages": stages(options.out)}
        options.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
        return int(result["exit_code"])
    sizes, folder, end = (
        CPU if options.cpu else GPU,
        Path(options.folder).resolve(),
        time.monotonic() + options.seconds,
    )
    if folder.exists() and any(folder.iterdir()) and not (folder / PAGE).exists():
        print(f"{folder} holds something else; name a new folder.", file=sys.stderr)
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / PAGE).touch()
    make_images(folder / MADE, sizes.made)
    outcomes: list[Outcome] = []
    for step in (step for step in steps(sizes, folder) if options.only in step.name):
        outcomes.append(take(step, folder, sizes.device, end - time.monotonic()))
        print(f"{step.name}: {outcomes[-1].status}, {outcomes[-1].seconds:.0f} s", flush=True)
        (folder / PAGE).write_text(page(outcomes, folder, sizes), encoding="utf-8")
    shutil.rmtree(folder / MADE)
    return int(any(each.status != "done" for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
