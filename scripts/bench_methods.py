"""What methods that run the network again cost: time compared with as many plain forward passes, and peak memory.

    python scripts/bench_methods.py [--network squeezenet1_1] [--methods score_cam,is_cam] [--images 1] [--channels 64]
                                    [--batches 2,4,8,16,32] [--repeats 3] [--device cpu] [--processor-time] [--peers]

A method's ratio is its time divided by that of as many plain forward passes, at the fastest of --batches: of the user's
model, and of its cut, whose pooling is faster on a CPU. All cases run in turn in one process, repeat after repeat; a
time is the median over the repeats. --processor-time counts the processor time of this process, all threads together:
with OMP_NUM_THREADS=1 the measure for a machine with other load.
--channels keeps only that many live channels of each image, the others are set to zero. --peers (extra `peers`) runs
grad-cam's ScoreCAM on the same images and channels.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
import copy
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial

import torch
from bench_speed import Network, embedded, trained, vgg16
from timing import Calls, timed
from torch import Tensor

from axiom_bench import methods
from axiom_bench.cutting.division import dead_channels
from axiom_bench.evaluation.method_costs import peak_memory
from axiom_bench.run.composing.device import keep_freed_memory

LAYERS = {
    "squeezenet1_1": "features.12",
    "shufflenet_v2_x0_5": "conv5",
    "mobilenet_v2": "features.18",
    "resnet18": "layer4",
    "resnet50": "layer4",
}
EMBEDDED = ("scenes_vgg", "scenes_resnet")
MEBIBYTE = 2**20
SCORE_CAM = "grad-cam's ScoreCAM"


def load_network(name: str, images: int, device: torch.device) -> Network:
    """VGG-16 with random weights, an embedded network with scenes, or one of REAL_ROOT with photographs."""
    if name in EMBEDDED:
        return embedded(name, images, device)
    return vgg16(images, device) if name == "vgg16" else trained(name, "data/imagenet", LAYERS[name], images, device)


def with_channels(trace: ab.Trace, channels: int | None) -> ab.Trace:
    """The trace with all but the first live channels of each image set to zero."""
    live = ~dead_channels(trace.activations)
    kept = live if channels is None else live & (live.cumsum(1) <= channels)
    return replace(trace, activations=trace.activations * kept[..., None, None])


def run_forward(model: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> None:
    """Plain forward passes, batch by batch."""
    with torch.inference_mode():
        for rows in images.split(batch):
            model(rows)


def forward_passes(network: Network, cut_model: ab.CutModel, rows: int, batches: Sequence[int]) -> Calls:
    """Plain forward passes of so many rows, for each model and batch size."""
    images = network.images[torch.arange(rows) % len(network.images)]
    models: Mapping[str, Callable[[Tensor], Tensor]] = {"model": network.model, "cut": cut_model.forward}
    return {
        f"plain forward of the {name}, batch {batch}": partial(run_forward, model, images, batch)
        for name, model in models.items()
        for batch in batches
        if batch <= rows
    }


def number_of_passes(name: str, trace: ab.Trace) -> int:
    """The forward passes through the trunk that the method makes for all images."""
    before = trace.passes.trunk_forward
    methods.get(name)(trace[:])
    return trace.passes.trunk_forward - before


def peer_score_cam(network: Network, trace: ab.Trace) -> Callable[[], object]:
    """grad-cam's ScoreCAM given the trace's activations: its weights alone, without its own first forward pass."""
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(network.model)
    layer = model.get_submodule(network.layer)
    cam = ScoreCAM(model, [layer])
    targets = [ClassifierOutputTarget(int(target)) for target in trace.targets]
    live = ~dead_channels(trace.activations)
    assert (live == live[:1]).all() or len(trace) == 1, "grad-cam takes the same channels of all images: --images 1"
    maps = trace.activations[:, live[0]].cpu().numpy()

    def run() -> object:
        with redirect_stderr(io.StringIO()):  # its progress bar
            return cam.get_cam_weights(trace.images, layer, targets, maps, None)

    return run


def show(
    times: Mapping[str, float], passes: Mapping[str, int], plain: Calls, rows: int, peaks: Mapping[str, float]
) -> None:
    """One line a case. times: median seconds by case; passes, peaks (bytes): by method; rows: of each of plain."""
    for name in plain:
        print(f"  {name:44s} {1000 * times[name] / rows:9.2f} ms/pass")
    fastest = {kind: min(times[name] for name in plain if kind in name) / rows for kind in ("model", "cut")}
    for name, count in passes.items():
        ratios = [f"{times[name] / count / seconds:.3f}x the {kind}'s, " for kind, seconds in fastest.items() if count]
        peak = f"{peaks[name] / MEBIBYTE:.0f} MiB peak"
        print(f"  {name:20s} {times[name]:9.3f} s, {count:5d} passes, {''.join(ratios)}{peak}")
    if SCORE_CAM in times:
        first = next(iter(passes))
        print(f"  {SCORE_CAM:20s} {times[SCORE_CAM]:9.3f} s  {times[SCORE_CAM] / times[first]:.2f}x {first}")


def arguments() -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="squeezenet1_1", choices=["vgg16", *EMBEDDED, *LAYERS])
    parser.add_argument("--methods", default="score_cam", type=lambda text: text.split(","))
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--channels", type=int)
    parser.add_argument("--batches", default="2,4,8,16,32", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processor-time", action="store_true", help="of this process, instead of wall time")
    parser.add_argument("--peers", action="store_true", help="also grad-cam's ScoreCAM")
    return parser.parse_args()


def main() -> None:
    """Time all cases and print them."""
    options = arguments()
    device = torch.device(options.device)
    keep_freed_memory()  # as a run does
    network = load_network(options.network, options.images, device)
    cut_model = ab.cut(network.model, network.layer)
    trace = with_channels(cut_model.trace(network.images), options.channels)
    passes = {name: number_of_passes(name, trace) for name in options.methods}
    rows = min(max([*passes.values(), min(options.batches)]), 2 * max(options.batches))
    plain = forward_passes(network, cut_model, rows, options.batches)
    own: Calls = {name: partial(_explain, name, trace) for name in options.methods}
    peers: Calls = {SCORE_CAM: peer_score_cam(network, trace)} if options.peers else {}
    clock = time.process_time if options.processor_time else time.perf_counter
    seconds = timed({**plain, **own, **peers}, options.repeats, clock, device)

    live = int((~dead_channels(trace.activations)).sum())
    device_name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(
        f"torch {torch.__version__}, {device_name}; {network.title}, {len(trace)} images, {live} live channels in all"
    )
    peaks = {name: peak_memory(call, device) for name, call in own.items()}
    show({name: statistics.median(times) for name, times in seconds.items()}, passes, plain, rows, peaks)


def _explain(name: str, trace: ab.Trace) -> object:
    """The method on a fresh copy of the trace, which shares nothing that was computed on first use."""
    return methods.get(name)(trace[:])


if __name__ == "__main__":
    main()
