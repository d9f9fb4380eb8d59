"""What metrics cost beside the network: what `bench_speed.py --metrics` prints.

First, in ms of one core (processor time), what each localization metric takes for one map of 224 x 224, alone and
all together, which share one pass over the pixels: for smooth maps, as CAM methods make them from 7 x 7 and 14 x 14,
and for noise. Then, on ResNet-50 (random weights, made-up boxes and masks), all metrics that run no model, for ten
methods, divided by one forward pass of the same batch; and for metrics that run the model on perturbed images, what
they take beside those passes. Both in processor time on one thread, which other load on the machine hardly changes, and
in seconds on as many threads as torch takes: some work has one thread only, while the model uses all of them.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import inspect
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import torch
from measuring import Calls, ratio, timed
from torch import Tensor, nn

from axiom_bench import methods, metrics
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.evaluation.plugins import Plugin, with_params

Clock = Callable[[], float]
LOCALIZATION = (
    "box_iou", "max_box_acc", "max_box_acc_v2", "pxap", "mask_iou",
    "pointing_game", "energy_pointing_game", "mass_accuracy", "top_k_intersection",
)  # fmt: skip
TWO_PROTOCOLS = ("max_box_acc", "max_box_acc_v2", "pxap")  # the first is the default, the other protocol=heatmap
TEN_METHODS = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "ablation_cam",
    "ablation_cam_axiomatic", "layer_cam", "eigen_cam", "uniform", "random",
)  # fmt: skip
SIDE = 224
LAYER = "layer4"
FORWARD, TOGETHER = "one forward pass", "all together"
STEPS = 32  # of insertion and deletion instead of 224: this weighs the work once an image more, and the model less
IMAGES = 4  # of metrics that run the model


def show(batch: int, repeats: int) -> None:
    """Measure and print everything. torch's number of threads is as before afterwards."""
    threads = torch.get_num_threads()
    conditions = ((1, time.process_time, "processor time, 1 thread"),
                  (threads, time.perf_counter, f"seconds, {threads} threads"))  # fmt: skip
    try:
        torch.set_num_threads(1)
        for kind, side in (("from 7 x 7", 7), ("from 14 x 14", 14), ("noise", SIDE)):
            show_localization(kind, maps(batch, side), repeats)
        torch.manual_seed(0)
        model = torchvision.models.resnet50(weights=None).eval()
        images = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        all_methods = explanations(model, images, TEN_METHODS)
        (several,) = explanations(model, images[:IMAGES], TEN_METHODS[:1])
        (single,) = explanations(model, images[:1], TEN_METHODS[:1])
        for count, clock, title in conditions:
            torch.set_num_threads(count)
            with torch.no_grad():
                show_without_passes(lambda: model(images), all_methods, repeats, clock, title)
                show_with_passes(several, single, repeats, clock, title)
    finally:
        torch.set_num_threads(threads)


def show_localization(kind: str, fresh: Callable[[], ab.Explanation], repeats: int) -> None:
    """ms a map on one core, for each metric alone and for all together."""
    chosen = {name: [metrics.get(name)] for name in LOCALIZATION}
    others = {f"{name}, heatmap": [with_params("metric", name, {"protocol": "heatmap"})] for name in TWO_PROTOCOLS}
    together = {TOGETHER: [metric for (metric,) in chosen.values()]}
    calls = {
        title: partial(_measure, measured, lambda: [fresh()])
        for title, measured in {**chosen, **others, **together}.items()
    }
    seconds = timed(calls, repeats, time.process_time)
    print(f"\nLocalization, ms a map of {SIDE} x {SIDE} on one core, {kind}")
    for title, times in seconds.items():
        median, minimum = (1e3 * figure / len(fresh()) for figure in (statistics.median(times), min(times)))
        print(f"  {title:28} {median:7.3f}   minimum {minimum:7.3f}", flush=True)


def show_without_passes(
    forward: Callable[[], object], explained: Sequence[ab.Explanation], repeats: int, clock: Clock, condition: str
) -> None:
    """Every metric that runs no model, for all methods, divided by one forward pass."""
    fresh = partial(map, replace, explained)
    chosen = [metric for metric in map(metrics.get, metrics.names()) if _is_of_maps_alone(metric)]
    single: Calls = {metric.name: partial(_measure, [metric], fresh) for metric in chosen}
    seconds = timed({FORWARD: forward, **single, TOGETHER: partial(_measure, chosen, fresh)}, repeats, clock)
    passes = seconds.pop(FORWARD)
    print(f"\n{len(chosen)} metrics without passes for {len(explained)} methods, ResNet-50, batch {len(explained[0])}")
    print(f"  share of a forward pass of {statistics.median(passes):.3f} s, {condition}")
    for title, times in seconds.items():
        print(f"  {title:24} {ratio(times, passes):7.3f}", flush=True)


def show_with_passes(
    several: ab.Explanation, single: ab.Explanation, repeats: int, clock: Clock, condition: str
) -> None:
    """ROAD's imputation (its noise and order included) over the passes that follow it, and the model's share of
    insertion and deletion."""
    road = metrics.get("road_morf")
    curves = {name: with_params("metric", name, {"steps": STEPS}) for name in ("insertion_auc", "deletion_auc")}
    calls: Calls = {
        "road_passes": _passes(several, len(road.params["fractions"])),
        "road": partial(_measure, [road], lambda: [anew(several)]),
        "passes": _passes(single, STEPS),
        **{name: partial(_measure, [metric], lambda: [anew(single)]) for name, metric in curves.items()},
    }
    seconds = timed(calls, repeats, clock)
    print(f"\nMetrics with passes, ResNet-50, {condition}")
    imputation = ratio(seconds["road"], seconds["road_passes"]) - 1
    print(f"  ROAD's imputation over the forward passes that follow: {imputation:.3f}")
    for title in curves:
        print(f"  {title}, {STEPS} steps: {ratio(seconds['passes'], seconds[title]):.3f} of its time in the model")


def anew(explanation: ab.Explanation) -> ab.Explanation:
    """The same, of which nothing has been computed: a trace keeps what the model answered."""
    assert explanation.trace is not None
    return replace(explanation, trace=replace(explanation.trace))


def maps(batch: int, side: int) -> Callable[[], ab.Explanation]:
    """A function that makes explanations of the same maps, with boxes and masks, in which nothing is computed yet."""
    generator = torch.Generator().manual_seed(side)
    raw = torch.randn(batch, side, side, generator=generator)
    rows = made_up_batch(torch.zeros(batch, 3, SIDE, SIDE))
    assert rows.targets is not None
    boxes, masks = rows.boxes(rows.targets), rows.masks(rows.targets)
    explanation = ab.Explanation(raw_map=raw, heatmap=ab.heatmap(raw, (SIDE, SIDE)), boxes=boxes, masks=masks)
    return lambda: replace(explanation)


def explanations(model: nn.Module, images: Tensor, names: Sequence[str]) -> list[ab.Explanation]:
    """Explanations of images by all methods, with boxes and masks; the drops are computed already."""
    batch = made_up_batch(images)
    trace = ab.trace(model, LAYER, images, batch.targets)
    _ = trace.ablation_drops
    return [ab.Explanation.of(trace, methods.get(name)(trace), batch, methods.get(name)) for name in names]


def made_up_batch(images: Tensor) -> ab.Batch:
    """Images with ids, classes, and two objects each: one of the image's class and one of the next class beside it."""
    targets = torch.arange(len(images)) % 10
    boxes = torch.tensor([[40.0, 50.0, 150.0, 180.0], [150.0, 20.0, 215.0, 120.0]])
    mask = torch.full((SIDE, SIDE), -1)
    for number, (x0, y0, x1, y1) in enumerate(boxes.long().tolist()):
        mask[y0:y1, x0:x1] = number
    notes = tuple(
        ab.Annotation(torch.stack([target, target + 1]), boxes, mask + target * (mask >= 0)) for target in targets
    )
    return ab.Batch(images, tuple(map(str, range(len(images)))), targets, notes)


def _measure(chosen: Sequence[Plugin], fresh: Callable[[], Iterable[ab.Explanation]]) -> list[object]:
    return [metric(explanation) for explanation in fresh() for metric in chosen]


def _is_of_maps_alone(metric: Plugin) -> bool:
    """Whether a metric is of a method, and runs no model: one that does is a generator."""
    call = metric.call.func if isinstance(metric.call, partial) else metric.call
    return metric.spec.of == "method" and not inspect.isgeneratorfunction(call)


def _passes(explanation: ab.Explanation, count: int) -> Callable[[], object]:
    """Forward passes of `count` copies of each image, without the perturbation, as many rows at once as a metric's."""
    trace = explanation.trace
    assert trace is not None
    parts = trace.images.repeat_interleave(count, dim=0).split(trace.cut_model.rows_at_once(trace.images[0]))
    return lambda: [trace.network.forward_logits(rows) for rows in parts]
