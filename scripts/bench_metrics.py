"""What metrics cost beside the network: what `bench_speed.py --metrics` prints.

First, in ms of one core (processor time), what each localization metric takes for one map of 224 x 224, alone and
all together, which share one pass over the pixels: for smooth maps, as CAM methods make them from 7 x 7 and 14 x 14,
and for noise. Then, on ResNet-50 (random weights, made-up boxes and masks), all metrics that need no forward pass, for
ten methods, over one forward pass of the same batch; and for metrics that run the model on perturbed images, what they
take beside those passes. Both in processor time on one thread, which others on the machine hardly change, and in
seconds on as many threads as torch takes: some work has one thread only, while the model has all of them.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from timing import Calls, ratios, timed
from torch import Tensor

from axiom_bench import methods, metrics
from axiom_bench.data.batch import Annotation, Batch
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.evaluation.evaluate import measured, rows_of
from axiom_bench.evaluation.plugins import Plugin, forwards_of
from axiom_bench.evaluation.queries import Copies, in_blocks
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.deletion_auc import deletion_auc
from axiom_bench.metrics.insertion_auc import insertion_auc
from axiom_bench.metrics.road import FRACTIONS, road_morf
from axiom_bench.metrics.shared.perturbation import judged

LOCALIZATION = (
    "box_iou", "max_box_acc", "max_box_acc_v2", "pxap", "mask_iou",
    "pointing_game", "energy_pointing_game", "mass_accuracy", "top_k_intersection",
)  # fmt: skip
TEN = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "ablation_cam",
    "ablation_cam_axiomatic", "layer_cam", "eigen_cam", "uniform", "random",
)  # fmt: skip
SIDE = 224
LAYER = "layer4"
FORWARD, TOGETHER = "one forward pass", "all together"
STEPS = 32  # of insertion and deletion, not 224: what is done once an image weighs more, the model less
TOGETHER_METRICS = (
    ("confidence_drop", "average_drop"),
    ("random_logit", "class_correlation"),
)
IMAGES = 4  # of ROAD; whatever the batch, the cut's memory bounds a pass's rows


@dataclass(frozen=True)
class Condition:
    """How times are taken."""

    title: str
    threads: int
    clock: Callable[[], float]


def show(batch: int, repeats: int) -> None:
    """All that this file measures, printed. torch's threads are as before afterwards."""
    threads = torch.get_num_threads()
    one = Condition("processor time, 1 thread", 1, time.process_time)
    seconds = Condition(f"seconds, {threads} threads", threads, time.perf_counter)
    try:
        torch.set_num_threads(1)
        for kind, side in (("from 7 x 7", 7), ("from 14 x 14", 14), ("noise", SIDE)):
            localization(kind, maps(batch, side), repeats)
        torch.manual_seed(0)
        model = torchvision.models.resnet50(weights=None).eval()
        images = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        explained = explanations(model, images)
        perturbed = explanations(model, images[:IMAGES], TEN[:1])[0], explanations(model, images[:1], TEN[:1])[0]
        for condition in (one, seconds):
            torch.set_num_threads(condition.threads)
            with torch.no_grad():
                without_passes(lambda: model(images), explained, repeats, condition)
                with_passes(*perturbed, repeats, condition)
                together(model, images[:IMAGES], repeats, condition)
    finally:
        torch.set_num_threads(threads)


def localization(kind: str, fresh: Callable[[], Explanation], repeats: int) -> None:
    """ms a map on one core, for each metric alone and for all together."""
    chosen = [metrics.get(name) for name in LOCALIZATION]
    calls: Calls = {metric.name: _measuring([metric], lambda: [fresh()]) for metric in chosen}
    seconds = timed({**calls, TOGETHER: _measuring(chosen, lambda: [fresh()])}, repeats, time.process_time)
    print(f"\nLocalization, ms a map of {SIDE} x {SIDE} on one core, {kind}")
    for title, times in seconds.items():
        median, least = (1e3 * figure / len(fresh()) for figure in (statistics.median(times), min(times)))
        print(f"  {title:24} {median:7.3f}   least {least:7.3f}", flush=True)


def maps(batch: int, side: int) -> Callable[[], Explanation]:
    """A maker of explanations of the same maps, with one box and mask each, that hold nothing computed yet."""
    generator = torch.Generator().manual_seed(side)
    raw = torch.randn(batch, 1, side, side, generator=generator).clamp(min=0)
    resized = functional.interpolate(raw, size=(SIDE, SIDE), mode="bilinear")[:, 0]
    heatmap = resized / resized.amax((1, 2), keepdim=True)
    targets = torch.zeros(batch, dtype=torch.long)
    rows = Batch(torch.zeros(batch, 3, SIDE, SIDE), ("",) * batch, targets, drawn_objects(targets))
    whole = Explanation(heatmap=heatmap, boxes=rows.boxes(targets), masks=rows.masks(targets))
    return lambda: replace(whole)


def drawn_objects(targets: Tensor) -> tuple[Annotation, ...]:
    """For each image an object of its class, and one of the next class beside it."""
    boxes = torch.tensor([[40.0, 50.0, 150.0, 180.0], [150.0, 20.0, 215.0, 120.0]])
    return tuple(Annotation(torch.stack([target, target + 1]), boxes, _drawn(target, boxes)) for target in targets)


def _drawn(target: Tensor, boxes: Tensor) -> Tensor:
    mask = torch.full((SIDE, SIDE), -1)
    for i, (x0, y0, x1, y1) in enumerate(boxes.long().tolist()):
        mask[y0:y1, x0:x1] = target + i
    return mask


def explanations(model: torch.nn.Module, images: Tensor, names: Sequence[str] = TEN) -> list[Explanation]:
    """What methods say of images, with their boxes and masks; drops are computed already."""
    targets = torch.arange(len(images)) % 10
    trace = ab.trace(model, LAYER, images, targets)
    _ = trace.ablation_drops
    rows = Batch(images, tuple(map(str, range(len(images)))), targets, drawn_objects(targets))
    return [Explanation.of(trace, methods.get(name)(trace), rows, methods.get(name)) for name in names]


def _measuring(chosen: Sequence[Plugin], fresh: Callable[[], Sequence[Explanation]]) -> Callable[[], object]:
    return lambda: [measured(chosen, one, True) for one in fresh()]


def without_passes(
    forward: Callable[[], object], explained: Sequence[Explanation], repeats: int, condition: Condition
) -> None:
    """Every metric without forward passes, for all methods, over one forward pass."""

    def fresh() -> list[Explanation]:
        return [replace(one) for one in explained]

    known = [metrics.get(name) for name in metrics.names()]
    chosen = [one for one in known if not sum(forwards_of(one).values()) and one.spec.of != "layer"]
    each: Calls = {metric.name: _measuring([metric], fresh) for metric in chosen}
    calls = {FORWARD: forward, **each, TOGETHER: _measuring(chosen, fresh)}
    seconds = timed(calls, repeats, condition.clock)
    passes = seconds.pop(FORWARD)
    print(f"\n{len(chosen)} metrics without passes for {len(explained)} methods, ResNet-50, batch {len(explained[0])}")
    print(f"  share of a forward pass of {statistics.median(passes):.3f} s, {condition.title}")
    for title, times in seconds.items():
        print(f"  {title:24} {statistics.median(ratios(times, passes)):7.3f}", flush=True)


def with_passes(several: Explanation, one: Explanation, repeats: int, condition: Condition) -> None:
    """ROAD's imputation (its noise and order included) over the passes that follow it, and the model's share of
    insertion and deletion."""
    calls: Calls = {
        "road_passes": _passes(several, len(FRACTIONS)),
        "road": lambda: road_morf(replace(several)),
        "passes": _passes(one, STEPS),
        "insertion_auc": lambda: insertion_auc(replace(one), steps=STEPS),
        "deletion_auc": lambda: deletion_auc(replace(one), steps=STEPS),
    }
    seconds = timed(calls, repeats, condition.clock)
    print(f"\nMetrics with passes, ResNet-50, {condition.title}")
    imputation = statistics.median(ratios(seconds["road"], seconds["road_passes"])) - 1
    print(f"  ROAD's imputation over the forward passes that follow: {imputation:.3f}")
    for title in ("insertion_auc", "deletion_auc"):
        share = statistics.median(ratios(seconds["passes"], seconds[title]))
        print(f"  {title}, {STEPS} steps: {share:.3f} of its time in the model", flush=True)


def _passes(explanation: Explanation, count: int) -> Callable[[], object]:
    """The forward passes of a metric that looks at `count` perturbed copies of each image, without the perturbing."""
    trace, images = given(explanation.trace, "trace"), given(explanation.images, "images")

    def ready(some: slice, copies: slice) -> Tensor:
        return images[some, None].repeat(1, len(range(count)[copies]), 1, 1, 1)

    copies = Copies(trace, trace, "ready", count, in_blocks(trace, count, ready), judged(trace, "probability"))
    return lambda: replace(copies, holder=replace(trace)).answer()


def together(model: torch.nn.Module, images: Tensor, repeats: int, condition: Condition) -> None:
    """Metrics that ask the model, for ten methods: asked for all together, over one method after the other."""
    targets = torch.arange(len(images)) % 10
    rows = Batch(images, tuple(map(str, range(len(images)))), targets, drawn_objects(targets))
    trace = ab.trace(model, LAYER, images, targets)
    _ = trace.ablation_drops
    known = [methods.get(name) for name in TEN]

    def measuring(chosen: Sequence[Plugin], groups: Sequence[Sequence[Plugin]]) -> Callable[[], object]:
        return lambda: [list(rows_of(replace(trace), rows, some, chosen)) for some in groups]

    print(f"\nAsked for ten methods together, over one after the other, ResNet-50, {condition.title}")
    for names in TOGETHER_METRICS:
        chosen = [metrics.get(name) for name in names]
        calls = {"together": measuring(chosen, [known]), "apart": measuring(chosen, [[one] for one in known])}
        seconds = timed(calls, repeats, condition.clock)
        ratio = statistics.median(ratios(seconds["together"], seconds["apart"]))
        print(f"  {', '.join(names)}: {ratio:.3f}", flush=True)
