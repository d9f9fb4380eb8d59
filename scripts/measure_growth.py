"""How the cost of a run grows with images, methods, channels, layers and image size: docs/scale.md, "How cost grows".

    OMP_NUM_THREADS=1 python scripts/measure_growth.py [--only channels] [--repeats 3]

Whole runs of three sizes each. Seconds are of the processor, of the loop over the images in this one process, the least
of the repeats, which take turns: other load on the machine changes them little. The exponent p is that of the line
through log(seconds) over log(size): cost ~ size^p. The last column is p between the two larger sizes alone, where what
a run costs at any size weighs less. Prints a Markdown table.
"""

from __future__ import annotations

import axiom_bench  # noqa: F401 - before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
import json
import math
import statistics
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from axiom_bench.cli.benchmark import compute

METHODS = ("grad_cam", "xgrad_cam", "hires_cam", "grad_cam_pp", "layer_cam", "centered", "uniform", "fem")
LAYERS = ("features.13", "features.11", "features.9", "features.7")  # of scenes_vgg, the last first
BASE = (
    "data=scenes",
    "data.workers=0",
    "data.batch_size=4",
    "target=predicted",
    "device=cpu",
    "metric=[sensitivity_error,conservation_error,confidence_drop]",
    "runtime.repeats=0",
    "pictures.rows=0",
    "pictures.gallery=0",
)


@dataclass(frozen=True)
class Growth:
    """title: what grows. sizes: three. words: the settings of a run of one size, over BASE."""

    title: str
    sizes: tuple[int, int, int]
    words: Callable[[int], Sequence[str]]


def network(channels: int) -> nn.Module:
    """A convolution to so many channels of 12 x 12, and a head with a fully connected ReLU layer, as VGG's, for images
    of 96 x 96 pixels. Before the target layer there is little, so that its channels are what costs."""
    first = nn.Sequential(nn.Conv2d(3, 16, 5, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(2))
    last = nn.Sequential(nn.Conv2d(16, channels, 3, padding=1), nn.ReLU())
    head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36 * channels, 256), nn.ReLU(), nn.Linear(256, 10))
    return nn.Sequential(OrderedDict(first=first, last=last, head=head))


def few(methods: Sequence[str], images: int) -> list[str]:
    return [f"method=[{','.join(methods)}]", f"data.size={images}"]


CASES = (
    Growth("images", (32, 128, 512), lambda size: ["model=scenes_vgg", *few(METHODS[:3], size)]),
    Growth("methods", (2, 4, 8), lambda size: ["model=scenes_vgg", *few(METHODS[:size], 64)]),
    Growth(
        "channels",
        (256, 1024, 4096),
        lambda size: [
            "model=user",
            f"model.architecture={Path(__file__).resolve()}:network",
            "model.weights=null",
            "model.layer=last",
            "model.resize=96",
            "model.crop=96",
            f"+model.kwargs.channels={size}",
            *few(("xgrad_cam", "ablation_cam_axiomatic"), 32),
        ],
    ),
    Growth(
        "layers",
        (1, 2, 4),
        lambda size: ["model=scenes_vgg", f"model.layer={','.join(LAYERS[:size])}", *few(METHODS[:3], 32)],
    ),
    Growth(
        "image size (pixels a side)",
        (112, 224, 448),
        lambda size: [
            "model=squeezenet1_1",
            "model.weights=null",
            f"model.resize={size}",
            f"model.crop={size}",
            *few(METHODS[:3], 8),
        ],
    ),
)


def seconds(words: Sequence[str]) -> float:
    """Processor seconds of the loop over the images, of all jobs of a run in a folder of its own. Raises SystemExit
    where the run fails."""
    with tempfile.TemporaryDirectory() as results, redirect_stdout(sys.stderr):
        code, lines, folder = compute([*BASE, *words, f"results={results}"])
        if code:
            raise SystemExit("\n".join(lines))
        work = json.loads((folder / "manifest.json").read_text())["work"]
        return float(sum(of_job["processor_seconds"] for of_job in work.values()))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """p of cost ~ size^p: the slope of the least-squares line through the logarithms.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    logs = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    return statistics.linear_regression(*logs).slope


def row(growth: Growth, costs: Sequence[float]) -> str:
    """A line of the table."""
    sizes = ", ".join(f"{size:,}" for size in growth.sizes)
    shown = ", ".join(f"{cost:.2f}" for cost in costs)
    p, last = exponent(growth.sizes, costs), exponent(growth.sizes[1:], costs[1:])
    return f"| {growth.title} | {sizes} | {shown} | {p:.2f} | {last:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=[growth.title.split()[0] for growth in CASES])
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    chosen = [growth for growth in CASES if options.only in (None, growth.title.split()[0])]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| what grows | sizes | processor seconds | exponent | of the larger two |\n|:---|---:|---:|---:|---:|")
    for growth in chosen:
        seconds(growth.words(growth.sizes[0]))  # a warm-up, which compiles and fills caches
        rounds = [[seconds(growth.words(size)) for size in growth.sizes] for _ in range(options.repeats)]
        print(row(growth, [min(costs) for costs in zip(*rounds, strict=True)]), flush=True)


if __name__ == "__main__":
    main()
