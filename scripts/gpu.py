"""All that a machine with a GPU is to tell, in ten minutes at most, in one folder with one page.

    scripts/gpu.sh [FOLDER] [--only TEXT] [--seconds 600]
    scripts/gpu.sh --cpu [FOLDER]      on the CPU, with a few images: shows that everything runs

FOLDER (default: build/gpu) has for each step its output (NAME.txt), for each run what it took (NAME.json) and its run
folder, and page.md, which is written anew after each step. A step that fails, or takes longer than its limit, doesn't
stop the others; steps that begin after --seconds are left out. The exit code is 1 where one failed.

Runs are measured as they are, and, with a few images, once more with a profile of their kernels. The large run is of
made-up images: photographs of AXIOM_BENCH_REAL (../shared) under other names, by hard links.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("AXIOM_BENCH_REAL", ROOT.parent / "shared"))
SCRIPTS = ROOT / "scripts"
NO_PICTURES = ("runtime.repeats=0", "pictures.rows=0", "pictures.gallery=0")
PAPER = "method=[ablation_cam,cam,grad_cam,grad_cam_pp,guided_xgrad_cam,xgrad_cam]"
AXIOMS = "metric=[conservation_error,sensitivity_error]"
LAST = 40  # lines of a step's output on the page
PAGE = "page.md"
MADE = "made_images"  # the folder of the made-up images


@dataclass(frozen=True)
class Sizes:
    """How much each step computes. device: cuda or cpu. made: number of made-up images. profiled: images of a run
    whose kernels are listed."""

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


@dataclass(frozen=True)
class Step:
    """A command with its limit in seconds. run: whether it writes NAME.json."""

    name: str
    command: tuple[str, ...]
    seconds: float
    run: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a step. status: "done", "failed (exit code 1)", "stopped after 60 s", "left out"."""

    step: Step
    status: str
    seconds: float = 0.0


def steps(sizes: Sizes, folder: Path) -> Iterator[Step]:
    """The steps, those that tell most first."""
    python = sys.executable
    yield Step("machine", (python, "-m", "torch.utils.collect_env"), 60)
    yield Step("tests", (python, "-m", "pytest", "-m", "cuda", "-q", "-rs", "-p", "no:cacheprovider", "tests"), 150)
    for name, (seconds, overrides) in runs(sizes, folder).items():
        yield _run(name, overrides, seconds, folder, ())
    for precision in ("fp32", "tf32", "bf16"):
        for batch in sizes.speed_batches:
            options = ("--precision", precision, "--batch", str(batch), "--repeats", str(sizes.repeats))
            command = (python, str(SCRIPTS / "bench_speed.py"), "--device", sizes.device, *options)
            yield Step(f"speed_{precision}_{batch}", command, 60)
    loading = ("--device", sizes.device, "--images", str(sizes.images or 400), "--workers", f"0,{sizes.workers}")
    yield Step("loading", (python, str(SCRIPTS / "bench_loading.py"), *loading, "--repeats", str(sizes.repeats)), 60)
    for name, (seconds, overrides) in runs(sizes, folder).items():
        profiled = (*overrides, f"data.size={sizes.profiled}")
        yield _run(f"{name}_kernels", profiled, seconds, folder, ("--kernels",))


def runs(sizes: Sizes, folder: Path) -> dict[str, tuple[float, tuple[str, ...]]]:
    """{name: (its limit in seconds, overrides)} of the runs."""
    device, few = f"device={sizes.device}", () if sizes.images is None else (f"data.size={sizes.images}",)
    real = (f"real_root={REAL}", f"data.workers={sizes.workers}")
    of_made = (f"data.root={folder / MADE}", f"data.batch_size={sizes.batch}", f"shard_size={8 * sizes.batch}")
    large = ("model=vgg16", "model.weights=null", "data=imagenet", "data.size=null", *of_made, PAPER, AXIOMS)
    return {
        "default": (60, (device, *few)),
        "large_fp32": (120, (device, *real, *large, *NO_PICTURES)),
        "large_tf32": (120, (device, "device.precision=tf32", *real, *large, *NO_PICTURES)),
        "real": (120, ("experiment=real", device, *real, *few)),
        "all_metrics": (150, ("metric=all", device, f"data.size={sizes.all_metrics}", "data=scenes", *NO_PICTURES)),
    }


def _run(name: str, overrides: Sequence[str], seconds: float, folder: Path, options: Sequence[str]) -> Step:
    command = (sys.executable, str(SCRIPTS / "profiled.py"), *options, str(folder / f"{name}.json"), "--")
    return Step(name, (*command, *overrides, f"results={folder / 'results'}", f"run={name}"), seconds, run=True)


def take(step: Step, folder: Path, device: str) -> Outcome:
    """Runs a step, with its output in NAME.txt."""
    environment = {**os.environ, "AXIOM_BENCH_REAL": str(REAL), "AXIOM_BENCH_TEST_DEVICE": device}
    start = time.monotonic()
    with (folder / f"{step.name}.txt").open("w") as output:
        output.write(f"$ {' '.join(step.command)}\n")
        output.flush()
        settings: dict[str, Any] = {"cwd": ROOT, "env": environment, "start_new_session": True}
        process = subprocess.Popen(step.command, stdout=output, stderr=subprocess.STDOUT, **settings)
        try:
            code = process.wait(step.seconds)
            status = "done" if code == 0 else f"failed (exit code {code})"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # with the processes that it has started
            process.wait()
            status = f"stopped after {step.seconds:.0f} s"
    return Outcome(step, status, time.monotonic() - start)


def make_images(folder: Path, count: int) -> None:
    """`count` images in ImageNet's layout: hard links to photographs, with their boxes; links where they lie on another
    file system."""
    source = REAL / "data" / "imagenet"
    photographs = sorted((source / "val").rglob("*.JPEG"))
    boxes = source / "Annotations" / "CLS-LOC" / "val"
    made_boxes = folder / "Annotations" / "CLS-LOC" / "val"
    made_boxes.mkdir(parents=True)
    shutil.copy(source / "LOC_synset_mapping.txt", folder)
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        stem = f"made_{number:08d}"
        _link(photograph, folder / "val" / photograph.parent.name / f"{stem}.JPEG")
        _link(boxes / f"{photograph.stem}.xml", made_boxes / f"{stem}.xml")


def _link(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, path)
    except OSError:
        path.symlink_to(source.resolve())


def page(outcomes: Sequence[Outcome], folder: Path, sizes: Sizes) -> str:
    """Markdown: a table of the steps, of the runs with their memory, the kernels, and what the others printed."""
    lines = ["# On a GPU" if sizes.device == "cuda" else "# On the CPU, with a few images", ""]
    lines += ["| step | status | s |", "| --- | --- | ---: |"]
    lines += [f"| {each.step.name} | {each.status} | {each.seconds:.0f} |" for each in outcomes]
    results = {each.step.name: result for each in outcomes if (result := _result(each.step, folder)) is not None}
    plain = {name: result for name, result in results.items() if not result["kernels"]}
    lines += ["", "## Runs", "", "| run | s | peak memory |", "| --- | ---: | ---: |"]
    lines += [
        f"| {name} | {run['seconds']:.1f} | {run['peak_memory'] / 2**30:.2f} GiB |" for name, run in plain.items()
    ]
    for name, run in results.items():
        if run["kernels"]:
            lines += ["", f"## Kernels of {name.removesuffix('_kernels')}, {sizes.profiled} images", ""]
            lines += ["| kernel | ms | calls |", "| --- | ---: | ---: |"]
            lines += [f"| `{kernel[:100]}` | {ms:.2f} | {calls} |" for kernel, ms, calls in run["kernels"]]
    for each in outcomes:
        output = folder / f"{each.step.name}.txt"
        if output.exists() and (each.status != "done" or not each.step.run):
            last = output.read_text(errors="replace").splitlines()[-LAST:]
            lines += ["", f"## {each.step.name}", "", "```", *last, "```"]
    return "\n".join(lines) + "\n"


def _result(step: Step, folder: Path) -> dict[str, Any] | None:
    """What profiled.py has written; None where it hasn't."""
    path = folder / f"{step.name}.json"
    if not step.run or not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, with a few images")
    parser.add_argument("--only", default="", help="the steps whose name has this text")
    parser.add_argument("--seconds", type=float, default=600, help="no step goes on after that")
    options = parser.parse_args()
    sizes, folder, end = CPU if options.cpu else GPU, options.folder.resolve(), time.monotonic() + options.seconds
    if folder.exists() and any(folder.iterdir()) and not (folder / PAGE).exists():
        print(f"{folder} holds something else; name a new folder.", file=sys.stderr)
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / PAGE).touch()
    make_images(folder / MADE, sizes.made)
    outcomes: list[Outcome] = []
    for step in steps(sizes, folder):
        if options.only in step.name:
            outcomes.append(within(step, folder, sizes.device, end - time.monotonic()))
            print(f"{step.name}: {outcomes[-1].status}, {outcomes[-1].seconds:.0f} s", flush=True)
            (folder / PAGE).write_text(page(outcomes, folder, sizes))
    shutil.rmtree(folder / MADE)
    return int(any(each.status != "done" for each in outcomes))


def within(step: Step, folder: Path, device: str, left: float) -> Outcome:
    """The step, which may take no more seconds than are left."""
    if left <= 0:
        return Outcome(step, "left out")
    limited = Step(step.name, step.command, min(step.seconds, left), step.run)
    return take(limited, folder, device)


if __name__ == "__main__":
    sys.exit(main())
