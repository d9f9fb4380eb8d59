"""Measure trace, ablations, methods and axioms relative to one forward pass of the same batch.

    python scripts/bench_speed.py [--device cuda] [--batch 8] [--repeats 7] [--precision fp32]
    [--axes]

--axes measures networks of signals and volumes instead, with the error of their drops.

All cases of a network run in turn in one process, repeat after repeat, so that other load on the
machine affects all of them alike. A ratio is the median, over the repeats, of a case's time divided
by the forward pass's time in the same repeat.
"""

from __future__ import annotations

# before torch, whose idle threads would otherwise take a core from the ones that work
import axiom_bench as ab

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
    *FIVE, "ablation_cam_axiomatic", "layer_cam", "eigen_cam", "eigen_grad_cam", "kpca_cam",
    "shapley_cam", "finer_cam", "lift_cam", "axiom_cam", "uniform", "random",
)  # fmt: skip
AXIOMS = ("sensitivity_error", "conservation_error")
FORWARD = "one forward pass"
REAL_ROOT = Path(os.environ.get("AXIOM_BENCH_REAL", "../shared"))
Calls = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Network:
    """The network to measure, in eval mode, with its target layer and a batch."""

    title: str
    model: nn.Module
    layer: str
    images: Tensor


def trained(name: str, root: str, layer: str, batch: int, device: torch.device) -> Network:
    """Return a trained network below REAL_ROOT, with photographs of its data set."""
    config: dict[str, Any] = {**model_config(name), "layer": layer}
    if config["source"] == "torchvision":
        config["weights_folder"] = "${real_root}/weights"
    settings = OmegaConf.to_container(
        OmegaConf.create({"real_root": str(REAL_ROOT), "model": config}), resolve=True
    )
    assert isinstance(settings, dict)
    loaded = load_model(settings["model"])
    photographs = {
        "kind": "imagenet",
        "root": str(REAL_ROOT / root),
        "classes": settings["model"]["classes"],
    }
    dataset = load_dataset(photographs)
    (rows,) = batches(dataset, subset(dataset, batch, 0), loaded.preprocessing, "label", batch, 0)
    assert isinstance(rows, ab.Batch)
    return Network(
        f"{name} (trained) at {loaded.layer}",
        loaded.module.to(device),
        loaded.layer,
        rows.images.to(device),
    )


def networks(batch: int, device: torch.device) -> Iterator[Network]:
    """Yield VGG-16 with random weights at the paper's layer, and the trained networks if available.

    The paper's layer is the last pool. The trained networks need the folder REAL_ROOT.
    """
    torch.manual_seed(0)
    model = torchvision.models.vgg16(weights=None).eval().to(device)
    images = torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    yield Network("VGG-16 (random weights) at features.30", model, "features.30", images.to(device))
    if not REAL_ROOT.is_dir():
        print(f"no trained networks: {REAL_ROOT} does not exist (set AXIOM_BENCH_REAL)")
        return
    yield trained("own_model", "own_model/images", "features.12", batch, device)
    yield trained("squeezenet1_1", "data/imagenet", "features.12", batch, device)


def networks_of_other_axes(batch: int, device: torch.device) -> Iterator[Network]:
    """Yield torchvision's networks of videos, and the embedded ones of signals and volumes.

    The networks of videos have random weights.
    """
    sizes: dict[str, tuple[int, ...] | None] = {
        "r3d_18": (16, 112, 112),
        "mc3_18": (16, 112, 112),
        "s3d": (16, 224, 224),
        "signals_cnn": None,
        "volumes_cnn": None,
    }
    for name, size in sizes.items():
        loaded = load_model({**model_config(name), "weights": None if size else "default"})
        space = size or loaded.preprocessing.size or ()
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch, loaded.preprocessing.channels, *space, generator=generator).to(
            device
        )
        title = f"{name} at {loaded.layer}"
        yield Network(title, loaded.module.to(device), loaded.layer, images)


def drops_error(network: Network, channels: int = 4) -> float:
    """Return the largest error of some channels' drops, divided by the largest drop, of one image.

    The reference is a loop in float64.
    """
    image = network.images[:1]
    drops = ab.trace(network.model, network.layer, image).ablation_drops[0].double()
    exact = ab.trace(copy.deepcopy(network.model).double(), network.layer, image.double())
    differences = []
    for channel in drops.abs().topk(channels).indices.tolist():
        ablated = exact.activations.clone()
        ablated[:, channel] = 0
        score = exact.head(ablated)[0, exact.targets[0]]
        differences.append((drops[channel] - (exact.scores[0] - score)).abs())
    return float(torch.stack(differences).max() / drops.abs().max())


def trace_and_axioms(
    cut_model: ab.CutModel, images: Tensor, names: Sequence[str], axioms: Sequence[str] = AXIOMS
) -> list[Tensor]:
    """Trace the images, run the methods, and return the axioms of those with contributions."""
    trace = cut_model.trace(images)
    explanations = [ab.Explanation.of(trace, methods.get(name)(trace)) for name in names]
    values = []
    for explanation in explanations:
        if explanation.contributions is not None:
            values += [metrics.get(axiom)(explanation) for axiom in axioms]
    return values


def timed(calls: Calls, repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of every case in every repeat, after one warm-up turn.

    The device is synchronised before and after each call.
    """
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
    """Return the cases by the name that is printed; the plain forward pass is the first."""
    cut_model = ab.cut(network.model, network.layer, precision=precision)
    images = network.images
    data = [(images, None)]

    def forward() -> Tensor:
        with torch.inference_mode(), arithmetic(precision, images.device):
            logits: Tensor = network.model(images)
            return logits

    def evaluate() -> object:
        return ab.evaluate(network.model, network.layer, data, FIVE, AXIOMS)

    return {
        FORWARD: forward,
        "trace": lambda: cut_model.trace(images),
        "trace + all drops": lambda: cut_model.trace(images).ablation_drops,
        "trace + 5 methods + both axioms": lambda: trace_and_axioms(cut_model, images, FIVE),
        f"trace + {len(SIXTEEN)} methods + both axioms": lambda: trace_and_axioms(
            cut_model, images, SIXTEEN
        ),
        "evaluate 5 methods + both axioms": evaluate,
        "the same of the cut model": lambda: ab.evaluate(cut_model, None, data, FIVE, AXIOMS),
    }


def show(title: str, seconds: dict[str, list[float]], batch: int) -> None:
    """Print a line per case: median milliseconds per image, and the ratio to the forward pass."""
    print(f"\n{title}, batch {batch}")
    for name, times in seconds.items():
        ratios = [time / forward for time, forward in zip(times, seconds[FORWARD], strict=True)]
        milliseconds = 1000 * statistics.median(times) / batch
        print(
            f"  {name:33s} {milliseconds:9.2f} ms/image {statistics.median(ratios):7.2f}x one "
            f"forward ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


def main() -> None:
    """Print the table of every network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--precision", default="fp32", choices=PRECISIONS, help="of forward pass and trunk"
    )
    parser.add_argument("--axes", action="store_true", help="networks of signals and volumes")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = f"{torch.get_num_threads()} CPU threads"
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
    print(
        f"torch {torch.__version__}, {name}, {options.precision} (head in fp32), median of "
        f"{options.repeats} rounds"
    )
    measured_networks = networks_of_other_axes if options.axes else networks
    for network in measured_networks(options.batch, device):
        seconds = timed(cases(network, options.precision), options.repeats, device)
        show(network.title, seconds, options.batch)
        if options.axes:
            print(f"  error of the drops: {drops_error(network):.1e} of the largest")


if __name__ == "__main__":
    main()
