"""Measure many networks at their default layer: the step that splits them, and the cost and error of their drops.

    python scripts/network_table.py OUTPUT.csv [NAME ...] [--batch 8] [--seconds 600]

Without names: a member of each family of timm and torchvision's classifiers, all with random weights. A network that
OUTPUT.csv has already isn't measured again. The cost is that of a trace and all drops, in forward passes of the same
batch: the median of three repeats that alternate with the pass. The error is the largest of 16 channels against passes
through the head of a float64 copy, as a share of the largest drop.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
import copy
import csv
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.data.torchvision_import import torchvision as torchvision
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config

SMALL = (
    *("atto", "femto", "pico", "nano", "xxs", "xx_small", "x_small", "micro", "tiny", "_t_", "small", "xs", "b0", "18"),
    *("_050", "s0", "_s"),
)
TORCHVISION = """
alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
mobilenet_v2 mobilenet_v3_small mobilenet_v3_large regnet_x_400mf regnet_y_400mf resnet18 resnet50 resnext50_32x4d
shufflenet_v2_x0_5 squeezenet1_0 squeezenet1_1 swin_t swin_v2_t vgg11 vgg16_bn vit_b_16 wide_resnet50_2
"""
LARGE = ("large", "264d", "412m", "167m", "300m", "naflexvit")  # minutes on two cores
PER_MODULE = 2  # networks of each of timm's modules
CHECKED = 16
REPEATS = 3


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    library: str
    network: str
    layer: str
    channels: int
    step: str
    passes: str
    error: str
    estimate: str
    note: str


def timm_names() -> Iterator[str]:
    """Yield a few small networks of each of timm's modules."""
    import timm  # behind torchvision, which needs its import of this project

    for module in timm.list_modules():
        names = [name for name in timm.list_models(module=module) if not any(word in name for word in LARGE)]
        order = {name: next((i for i, word in enumerate(SMALL) if word in name), len(SMALL)) for name in names}
        families: dict[str, str] = {}
        for name in sorted(names, key=lambda name: (order[name], len(name), name)):
            families.setdefault(name.partition("_")[0].rstrip("0123456789"), name)
        yield from list(families.values())[:PER_MODULE]


def median(repeats: int, calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of calls that take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def largest_error(network: nn.Module, layer: str, reshape: Any, output: Any, image: Tensor, drops: Tensor) -> float:
    """Return the largest error of some channels' drops (K,) of an image, as a share of its largest drop.

    The reference is a copy of the network in float64, in which two scores can be subtracted.
    """
    exact = ab.cut(copy.deepcopy(network).double(), layer, reshape=reshape, output=output).trace(image.double())
    target = exact.targets[0]
    score = exact.head(exact.activations)[0, target]
    errors = []
    for channel in torch.linspace(0, len(drops) - 1, CHECKED).long().unique():
        without = exact.activations.clone()
        without[:, channel] = 0
        errors.append((score - exact.head(without)[0, target] - drops[channel]).abs())
    return float(torch.stack(errors).max() / drops.abs().max())


def measured(library: str, name: str, batch: int) -> Row:
    """Measure one network."""
    torch.manual_seed(0)
    loaded = load_model({**model_config(name), "weights": None})
    network = loaded.module.eval()
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.any():  # as some begin, whose scores are all 0
            nn.init.normal_(layer.weight, std=0.02)
    size = loaded.preprocessing.size or (224, 224)
    images = torch.randn(batch, loaded.preprocessing.channels, *size, generator=torch.Generator().manual_seed(0))
    cut_model = ab.cut(network, loaded.layer, reshape=loaded.reshape, output=loaded.output)
    trace = cut_model.trace(images)

    def forward() -> Tensor:
        with torch.inference_mode():
            return network(images)

    def trace_and_drops() -> Tensor:
        return cut_model.trace(images).ablation_drops

    error = largest_error(network, loaded.layer, loaded.reshape, loaded.output, images[:1], trace.ablation_drops[0])
    seconds = median(REPEATS, {"forward": forward, "drops": trace_and_drops})
    return Row(
        library,
        name,
        loaded.layer,
        trace.activations.shape[1],
        trace.capture.step.name.lower(),
        f"{seconds['drops'] / seconds['forward']:.2f}",
        f"{error:.1e}",
        f"{trace.drops_cost:.1f}",
        str(trace.capture),
    )


def main() -> None:
    """Write the table, a network at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    known = set()
    if options.output.exists():
        known = {row["network"] for row in csv.DictReader(options.output.open(encoding="utf-8"))}
    pairs = [("", name) for name in options.names]
    if not pairs:
        pairs = [("torchvision", name) for name in TORCHVISION.split()] + [("timm", name) for name in timm_names()]
    with options.output.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*Row.__dataclass_fields__])
        if not known:
            writer.writeheader()
        for library, name in pairs:
            if name in known or time.perf_counter() - start > options.seconds:
                continue
            try:
                row = measured(library, name, options.batch)
            except Exception as error:  # noqa: BLE001 - a network that can't be measured is a line, too
                row = Row(library, name, "", 0, "failed", "", "", "", f"{type(error).__name__}: {error}"[:300])
            writer.writerow(asdict(row))
            file.flush()
            print(*asdict(row).values(), flush=True)


if __name__ == "__main__":
    main()
