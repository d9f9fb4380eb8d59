"""Speed as ratios: trace, exact ablations, methods and axioms against one forward pass of the same batch.

    python scripts/bench_speed.py [--device cuda] [--batch 8] [--repeats 7] [--precision fp32] [--peers] [--passes]

All cases of a network run in turn in one process, repeat after repeat, so that other load on the machine affects all of
them alike. A ratio is the median, over the repeats, of a case's time divided by the forward pass's of the same repeat.
--passes times Ablation-CAM by K + 1 passes of the whole network, as its paper has it, and says how far its drops are.
--peers (extra `peers`) also times grad-cam's AblationCAM, on a tenth of the channels, its time times ten: minutes.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from axiom_bench import methods, metrics
from axiom_bench.cutting.passes import PRECISIONS, arithmetic
from axiom_bench.data.base import subset
from axiom_bench.data.loading import batches
from axiom_bench.data.registry import load_dataset
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config

FIVE = ("grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "ablation_cam")
SIXTEEN = (
    *(*FIVE, "ablation_cam_axiomatic", "layer_cam", "eigen_cam", "eigen_grad_cam", "kpca_cam"),
    *("shapley_cam", "finer_cam", "lift_cam", "axiom_cam", "uniform", "random"),
)
AXIOMS = ("sensitivity_error", "conservation_error")
FORWARD = "one forward pass"
PEER_SHARE = 10  # grad-cam's AblationCAM runs on one channel in ten
TRAINED = ("squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v2", "resnet18", "resnet50")
ROWS = 32  # channels that one pass leaves out
REAL_ROOT = Path(os.environ.get("AXIOM_BENCH_REAL", "../shared"))
Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Network:
    """A network in eval mode, its target layer and a batch."""

    title: str
    model: nn.Module
    layer: str
    images: Tensor


def vgg16(batch: int, device: torch.device) -> Network:
    """VGG-16 with random weights at its last pool, the paper's layer."""
    torch.manual_seed(0)
    model = torchvision.models.vgg16(weights=None).eval().to(device)
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return Network("VGG-16 (random weights) at features.30", model, "features.30", images.to(device))


def trained(name: str, root: str, layer: str, batch: int, device: torch.device) -> Network:
    """A trained network below REAL_ROOT, and photographs of its data set."""
    config: dict[str, Any] = {**model_config(name), "layer": layer}
    if config["source"] == "torchvision":
        config["weights_folder"] = "${real_root}/weights"
    settings = OmegaConf.to_container(OmegaConf.create({"real_root": str(REAL_ROOT), "model": config}), resolve=True)
    assert isinstance(settings, dict)
    loaded = load_model(settings["model"])
    photographs = {"kind": "imagenet", "root": str(REAL_ROOT / root), "classes": settings["model"]["classes"]}
    dataset = load_dataset(photographs)
    (rows,) = batches(dataset, subset(dataset, batch, 0), loaded.preprocessing, "label", batch, 0)
    assert isinstance(rows, ab.Batch)
    return Network(
        f"{name} (trained) at {loaded.layer}", loaded.module.to(device), loaded.layer, rows.images.to(device)
    )


def networks(batch: int, device: torch.device) -> Iterator[Network]:
    """VGG-16, and the trained networks where REAL_ROOT exists."""
    yield vgg16(batch, device)
    if not REAL_ROOT.is_dir():
        print(f"no trained networks: {REAL_ROOT} does not exist (set AXIOM_BENCH_REAL)")
        return
    yield trained("own_model", "own_model/images", "features.12", batch, device)
    yield trained("squeezenet1_1", "data/imagenet", "features.12", batch, device)


def trace_and_axioms(
    cut_model: ab.CutModel, images: Tensor, names: Sequence[str], axioms: Sequence[str] = AXIOMS
) -> list[Tensor]:
    """The trace, the methods, and the axioms of each that has contributions."""
    trace = cut_model.trace(images)
    explanations = [ab.Explanation.of(trace, methods.get(name)(trace)) for name in names]
    weighted = [explanation for explanation in explanations if explanation.contributions is not None]
    return [metrics.get(axiom)(explanation) for explanation in weighted for axiom in axioms]


def timed(calls: Calls, repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every case in every repeat, the device synchronised, after one warm-up turn."""
    seconds: dict[str, list[float]] = {title: [] for title in calls}
    synchronise = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for repeat in range(repeats + 1):
        for title, call in calls.items():
            synchronise()
            start = time.perf_counter()
            call()
            synchronise()
            if repeat:
                seconds[title].append(time.perf_counter() - start)
    return seconds


def cases(network: Network, precision: str) -> Calls:
    """The cases by the name that is printed; the plain forward pass first."""
    cut_model = ab.cut(network.model, network.layer, precision=precision)

    def forward() -> Tensor:
        with torch.inference_mode(), arithmetic(precision, network.images.device):
            return network.model(network.images)

    return {
        FORWARD: forward,
        "trace": lambda: cut_model.trace(network.images),
        "trace + all drops": lambda: cut_model.trace(network.images).ablation_drops,
        "trace + 5 methods + both axioms": lambda: trace_and_axioms(cut_model, network.images, FIVE),
        f"trace + {len(SIXTEEN)} methods + both axioms": lambda: trace_and_axioms(cut_model, network.images, SIXTEEN),
    }


def show(title: str, seconds: dict[str, list[float]], batch: int) -> None:
    """One line a case: median milliseconds an image, and the median ratio to the forward pass of the same round."""
    print(f"\n{title}, batch {batch}")
    for name, times in seconds.items():
        over = [time / forward for time, forward in zip(times, seconds[FORWARD], strict=True)]
        share = f"{statistics.median(over):7.2f}x one forward ({min(over):.2f} to {max(over):.2f})"
        print(f"  {name:33s} {1000 * statistics.median(times) / batch:9.2f} ms/image {share}", flush=True)


def drops_by_passes(network: Network, image: Tensor, target: int) -> Tensor:
    """(K,): by how much the target's logit falls without each channel, by K + 1 passes of the whole network."""
    layer, left_out = network.model.get_submodule(network.layer), torch.empty(0, dtype=torch.long)

    def leave_out(module: nn.Module, inputs: object, activations: Tensor) -> Tensor:
        kept = torch.ones(
            len(activations), activations.shape[1], 1, 1, dtype=activations.dtype, device=activations.device
        )
        kept[torch.arange(len(left_out)), left_out] = 0
        return activations * kept

    with torch.inference_mode():
        score = network.model(image)[0, target]
        channels = torch.arange(ab.cut(network.model, network.layer).trace(image).activations.shape[1])
        hook = layer.register_forward_hook(leave_out)
        parts = []
        for left_out in channels.split(ROWS):
            parts.append(score - network.model(image.expand(len(left_out), -1, -1, -1))[:, target])
        hook.remove()
    return torch.cat(parts)


def show_passes(network: Network, repeats: int, device: torch.device) -> None:
    """One line: the exact drops and those of K + 1 passes, one image, in turn."""
    image, cut_model = network.images[:1], ab.cut(network.model, network.layer)
    exact = cut_model.trace(image)
    target = int(exact.targets[0])
    with arithmetic("fp32", device):
        by_passes = drops_by_passes(network, image, target)
        calls = {
            FORWARD: lambda: network.model(image),
            "exact": lambda: cut_model.trace(image).ablation_drops,
            "passes": lambda: drops_by_passes(network, image, target),
        }
        with torch.no_grad():
            forward, ours, theirs = map(statistics.median, timed(calls, repeats, device).values())
    apart = float((by_passes - exact.ablation_drops[0]).abs().max() / by_passes.abs().max())
    print(
        f"{network.title}, {len(by_passes)} channels: trace and exact drops {ours / forward:.2f} forward passes, "
        f"{len(by_passes)} + 1 passes {theirs / forward:.0f}, {theirs / ours:.0f} times slower; drops differ by at "
        f"most {apart:.0e} of the largest",
        flush=True,
    )


def show_peer(network: Network, precision: str, device: torch.device) -> None:
    """Time grad-cam's AblationCAM and `ablation_cam`, one image each, in turn."""
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    image, model = network.images[:1], copy.deepcopy(network.model)
    cut_model = ab.cut(network.model, network.layer, precision=precision)
    share, layers = 1 / PEER_SHARE, [model.get_submodule(network.layer)]
    peer = AblationCAM(model, layers, batch_size=32, ratio_channels_to_ablate=share)
    calls = {
        "ours": lambda: methods.get("ablation_cam")(cut_model.trace(image)),
        "theirs": lambda: peer(image, [ClassifierOutputTarget(0)]),
    }
    with arithmetic(precision, device):
        seconds = {name: statistics.median(times) for name, times in timed(calls, 2, device).items()}
    ours, theirs = seconds["ours"], PEER_SHARE * seconds["theirs"]
    print(f"\n{network.title}, one image: grad-cam's AblationCAM on one channel in {PEER_SHARE}, times {PEER_SHARE}")
    print(f"  ablation_cam {ours:.3f} s, AblationCAM {theirs:.1f} s: {theirs / ours:.0f} times slower")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of forward pass and trunk")
    parser.add_argument("--peers", action="store_true", help="also grad-cam's AblationCAM (minutes)")
    parser.add_argument("--passes", action="store_true", help="only Ablation-CAM by K + 1 passes (minutes)")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"torch {torch.__version__}, {name}, {options.precision} (head in fp32), median of {options.repeats} rounds")
    if options.passes:
        show_passes(trained("own_model", "own_model/images", "features.12", 1, device), options.repeats, device)
        for name in TRAINED:
            show_passes(trained(name, "data/imagenet", "default", 1, device), options.repeats, device)
        return
    for network in networks(options.batch, device):
        show(network.title, timed(cases(network, options.precision), options.repeats, device), options.batch)
    if options.peers:
        show_peer(vgg16(1, device), options.precision, device)


if __name__ == "__main__":
    main()
