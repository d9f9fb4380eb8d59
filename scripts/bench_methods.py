"""What methods that run the network again cost: time against as many plain forward passes, and peak memory.

    python scripts/bench_methods.py [--network squeezenet1_1] [--methods score_cam,is_cam] [--images 1] [--channels 64]
                                    [--batches 2,4,8,16,32] [--repeats 3] [--device cpu] [--processor-time] [--peers]

A method's ratio is its seconds against as many plain forward passes as it counts passes, at the best of --batches: of
the user's model, and of its cut, whose pooling is faster on a CPU. All cases run in turn in one process, repeat after
repeat; seconds are medians over the repeats. --processor-time counts the seconds of this process alone, all threads
together: with OMP_NUM_THREADS=1 the measure for a machine that others use too.
--channels leaves only that many live channels of each image, the others are set to zero. --peers (extra `peers`) runs
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
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial

import torch
from bench_speed import Network, trained, vgg16
from timing import Calls, timed
from torch import Tensor

from axiom_bench import methods
from axiom_bench.cutting.division import dead_channels
from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.runtime import peak_memory

LAYERS = {"squeezenet1_1": "features.12", "resnet18": "layer4", "mobilenet_v2": "features.18"}
MEBIBYTE = 2**20


def network(name: str, images: int, device: torch.device) -> Network:
    """VGG-16 with random weights, or a trained network of real_root with photographs."""
    return vgg16(images, device) if name == "vgg16" else trained(name, "data/imagenet", LAYERS[name], images, device)


def with_channels(trace: Trace, channels: int | None) -> Trace:
    """The trace with all but the first live channels of each image set to zero."""
    live = ~dead_channels(trace.activations)
    kept = live if channels is None else live & (live.cumsum(1) <= channels)
    return replace(trace, activations=trace.activations * kept[..., None, None])


def forwards(model: Callable[[Tensor], Tensor], images: Tensor, batch: int) -> None:
    with torch.inference_mode():
        for rows in images.split(batch):
            model(rows)


def yardsticks(one: Network, cut: ab.CutModel, rows: int, batches: list[int]) -> Calls:
    """Plain forward passes of so many rows, by model and batch size."""
    images = one.images[torch.arange(rows) % len(one.images)]
    runs = {"model": one.model, "cut": cut.forward}
    return {
        f"plain forward of the {name}, batch {batch}": partial(forwards, model, images, batch)
        for name, model in runs.items()
        for batch in batches
        if batch <= rows
    }


def rows_of(name: str, trace: Trace) -> int:
    """The forward passes through the trunk that the method counts for all images."""
    before = trace.passes.trunk_forward
    methods.get(name)(trace[:])
    return trace.passes.trunk_forward - before


def peer(one: Network, trace: Trace) -> Callable[[], object]:
    """grad-cam's ScoreCAM on what the trace holds: its weights alone, which leaves its own forward pass out."""
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(one.model)
    layer = model.get_submodule(one.layer)
    cam = ScoreCAM(model, [layer])
    targets = [ClassifierOutputTarget(int(target)) for target in trace.targets]
    live = ~dead_channels(trace.activations)
    assert (live == live[:1]).all() or len(trace) == 1, "grad-cam takes the same channels of all images: --images 1"
    maps = trace.activations[:, live[0]].cpu().numpy()

    def run() -> object:
        with redirect_stderr(io.StringIO()):  # its progress bar
            return cam.get_cam_weights(trace.images, layer, targets, maps, None)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="squeezenet1_1", choices=["vgg16", *LAYERS])
    parser.add_argument("--methods", default="score_cam", type=lambda text: text.split(","))
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--channels", type=int)
    parser.add_argument("--batches", default="2,4,8,16,32", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processor-time", action="store_true", help="of this process, in place of the wall's")
    parser.add_argument("--peers", action="store_true", help="also grad-cam's ScoreCAM")
    options = parser.parse_args()
    device = torch.device(options.device)
    one = network(options.network, options.images, device)
    cut = ab.cut(one.model, one.layer)
    trace = with_channels(cut.trace(one.images), options.channels)
    rows = {name: rows_of(name, trace) for name in options.methods}
    most = min(max([*rows.values(), min(options.batches)]), 2 * max(options.batches))
    plain = yardsticks(one, cut, most, options.batches)
    ours: Calls = {name: lambda name=name: methods.get(name)(trace[:]) for name in options.methods}  # type: ignore[misc]
    peers: Calls = {"grad-cam's ScoreCAM": peer(one, trace)} if options.peers else {}
    clock = time.process_time if options.processor_time else time.perf_counter
    seconds = timed({**plain, **ours, **peers}, options.repeats, clock, device)
    taken = {name: statistics.median(times) for name, times in seconds.items()}

    best = {kind: min(taken[name] for name in plain if kind in name) / most for kind in ("model", "cut")}
    live = int((~dead_channels(trace.activations)).sum())
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {where}; {one.title}, {len(trace)} images with {live} live channels in all")
    for name in plain:
        print(f"  {name:44s} {1000 * taken[name] / most:9.2f} ms/pass")
    for name in ours:
        ratios = [
            f"{taken[name] / rows[name] / one_pass:.3f}x the {kind}'s, "
            for kind, one_pass in best.items()
            if rows[name]
        ]
        peak = peak_memory(ours[name], device) / MEBIBYTE
        print(f"  {name:20s} {taken[name]:9.3f} s, {rows[name]:5d} passes, {''.join(ratios)}{peak:.0f} MiB peak")
    for name in peers:
        print(f"  {name:20s} {taken[name]:9.3f} s  {taken[name] / taken[options.methods[0]]:.2f}x {options.methods[0]}")


if __name__ == "__main__":
    main()
