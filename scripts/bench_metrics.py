"""What metrics without perturbed input cost: localization of one map, and all of them against a forward pass.

    python scripts/bench_metrics.py [--batch 16] [--repeats 9] [--threads 1] [--metrics box_iou,pxap]

First, in ms of one core (processor time), what each localization metric takes for one map of 224 x 224, alone and
all together, which share one pass over the pixels: for smooth maps, as CAM methods make them from 7 x 7 and 14 x 14,
and for noise. Then all metrics that need no forward pass, for ten methods on ResNet-50 (random weights, made-up boxes
and masks), as a ratio to one forward pass of the same batch, likewise of processor time: where the pass has two cores
and the metrics one, twice that. Cases run in turn, repeat after repeat, so that whatever else the machine does falls on
all of them.
"""

from __future__ import annotations

import bench  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor

import methods
import metrics
from bench import Annotation, Batch
from bench.evaluation import measured
from bench.explanation import Explanation
from bench.plugins import Plugin, forwards_of
from bench.torchvision_import import torchvision

LOCALIZATION = (
    "box_iou", "max_box_acc", "max_box_acc_v2", "pxap", "mask_iou",
    "pointing_game", "energy_pointing_game", "mass_accuracy", "top_k_intersection",
)  # fmt: skip
TEN = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "ablation_cam",
    "ablation_cam_axiomatic", "layer_cam", "eigen_cam", "uniform", "random",
)  # fmt: skip
SIDE = 224
FORWARD, LAYER = "one forward pass", "layer4"


@dataclass(frozen=True)
class Case:
    """Something to time. prepare: makes what `run` takes, out of the time."""

    title: str
    prepare: Callable[[], object]
    run: Callable[[object], object]


def timed(
    cases: Sequence[Case], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every case in every repeat, cases in turn, after one turn that isn't counted."""
    seconds: dict[str, list[float]] = {case.title: [] for case in cases}
    for turn in range(repeats + 1):
        for case in cases:
            given = case.prepare()
            start = clock()
            case.run(given)
            if turn:
                seconds[case.title].append(clock() - start)
    return seconds


def localization(batch: int, repeats: int) -> None:
    """ms a map on one core, for each metric alone and for all together."""
    torch.set_num_threads(1)
    chosen = [metrics.get(name) for name in LOCALIZATION]
    for kind, side in (("from 7 x 7", 7), ("from 14 x 14", 14), ("noise", SIDE)):
        fresh = maps(batch, side)
        cases = [_case(metric.name, [metric], fresh) for metric in chosen]
        seconds = timed([*cases, _case("all together", chosen, fresh)], repeats, time.process_time)
        print(f"\nLocalization, ms a map of {SIDE} x {SIDE} on one core, {kind}")
        for title, times in seconds.items():
            print(f"  {title:24} {1e3 * statistics.median(times) / batch:7.3f}   least {1e3 * min(times) / batch:7.3f}")


def maps(batch: int, side: int) -> Callable[[], Explanation]:
    """A maker of explanations of the same maps, with one box and mask each, that hold nothing computed yet."""
    generator = torch.Generator().manual_seed(side)
    raw = torch.randn(batch, 1, side, side, generator=generator).clamp(min=0)
    resized = functional.interpolate(raw, size=(SIDE, SIDE), mode="bilinear")[:, 0]
    heatmap = resized / resized.amax((1, 2), keepdim=True)
    notes = annotations(torch.zeros(batch, dtype=torch.long))
    masks = torch.stack([_mask(note) for note in notes]) == 0
    return lambda: Explanation(heatmap=heatmap, boxes=tuple(note.boxes_of(0) for note in notes), masks=masks)


def annotations(targets: Tensor) -> tuple[Annotation, ...]:
    """For each image an object of its class, and one of the next class beside it."""
    boxes = torch.tensor([[40.0, 50.0, 150.0, 180.0], [150.0, 20.0, 215.0, 120.0]])
    return tuple(Annotation(torch.stack([target, target + 1]), boxes, _drawn(target, boxes)) for target in targets)


def _drawn(target: Tensor, boxes: Tensor) -> Tensor:
    mask = torch.full((SIDE, SIDE), -1)
    for i, (x0, y0, x1, y1) in enumerate(boxes.long().tolist()):
        mask[y0:y1, x0:x1] = target + i
    return mask


def _mask(note: Annotation) -> Tensor:
    assert note.mask is not None
    return note.mask


def _case(title: str, chosen: Sequence[Plugin], fresh: Callable[[], Explanation]) -> Case:
    return Case(title, fresh, lambda explanation: measured(chosen, explanation, True))  # type: ignore[arg-type]


def against_forward(batch: int, repeats: int, threads: int, names: Sequence[str]) -> None:
    """Every metric without forward passes, for all ten methods, over one forward pass of ResNet-50."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval()
    images = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(batch) % 10
    trace = bench.trace(model, LAYER, images, targets)
    _ = trace.ablation_drops
    rows = Batch(images, tuple(map(str, range(batch))), targets, annotations(targets))
    explained = [Explanation.of(trace, methods.get(name)(trace), rows, methods.get(name)) for name in TEN]
    chosen = [metrics.get(name) for name in names]
    of_method = [metric for metric in chosen if metric.about.get("of") != "layer"]

    def fresh() -> list[Explanation]:
        return [replace(one) for one in explained]

    def run(metrics_of: Sequence[Plugin]) -> Callable[[object], object]:
        return lambda made: [measured(metrics_of, one, True) for one in made]  # type: ignore[attr-defined]

    with torch.no_grad():
        forward = Case(FORWARD, lambda: images, model)
        each = [Case(metric.name, fresh, run([metric])) for metric in of_method]
        seconds = timed([forward, *each, Case("all together", fresh, run(of_method))], repeats, time.process_time)
    report(seconds, batch, threads)


def report(seconds: Mapping[str, Sequence[float]], batch: int, threads: int) -> None:
    """Each case as a share of the forward pass of the same repeat."""
    passes = seconds[FORWARD]
    print(f"\n{len(TEN)} methods, ResNet-50 at {LAYER}, batch {batch}, {threads} threads: share of a forward pass")
    print(f"  {FORWARD:24} {statistics.median(passes):7.3f} s")
    for title, times in seconds.items():
        if title != FORWARD:
            print(f"  {title:24} {statistics.median(a / b for a, b in zip(times, passes, strict=True)):7.3f}")


def without_passes() -> list[str]:
    """Metrics whose YAML claims no forward pass."""
    return [name for name in metrics.names() if not sum(forwards_of(metrics.get(name)).values())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--metrics", type=lambda text: text.split(","), default=None, help="default: all without passes"
    )
    options = parser.parse_args()
    localization(options.batch, options.repeats)
    against_forward(options.batch, options.repeats, options.threads, options.metrics or without_passes())


if __name__ == "__main__":
    main()
