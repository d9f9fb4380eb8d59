"""Measure many networks at their default layer: how they are split, and their drops.

    python scripts/network_table.py OUTPUT.csv [NAME ...] [--batch 8] [--seconds 600]

Without names the table has torchvision's classifiers, a member of each family of timm, and
classifiers of transformers and MONAI, with random weights. Then come models of conf/model with
their weights. A name may also be LIBRARY:NAME, such as transformers:ResNet, monai:ResNet or
trained:vgg16_mri. A network that OUTPUT.csv already has isn't measured again.

The cost is that of a trace and all drops, in forward passes of the same batch: the median of three
repeats that alternate with the pass. The error is the largest of 16 channels against passes through
the head of a float64 copy, as a share of the largest drop.
"""

from __future__ import annotations

# before torch, whose idle threads would otherwise take a core from the ones that work
import axiom_bench as ab

# isort: split
import argparse
import copy
import csv
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from axiom_bench.data.torchvision_import import torchvision as torchvision
from axiom_bench.models.load import load_model
from axiom_bench.models.spec import model_config
from axiom_bench.run.composing.composition import composed

SMALL = (  # parts of the names of small networks, the smallest first
    "atto", "femto", "pico", "nano", "xxs", "xx_small", "x_small", "micro", "tiny", "_t_", "small",
    "xs", "b0", "18", "_050", "s0", "_s",
)  # fmt: skip
TORCHVISION = """
alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t
mnasnet0_5 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large regnet_x_400mf regnet_y_400mf resnet18
resnet50 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_0 squeezenet1_1 swin_t swin_v2_t vgg11
vgg16_bn vit_b_16 wide_resnet50_2
"""
TRANSFORMERS = """
Beit Bit ConvNext ConvNextV2 Cvt DeiT Dinov2 EfficientNet FocalNet MobileNetV1 MobileNetV2 MobileViT
MobileViTV2 PoolFormer Pvt PvtV2 RegNet ResNet SwiftFormer Swin Swinv2 ViT
"""
MONAI = "DenseNet121 EfficientNetBN ResNet SEResNet50"
TRAINED = "vgg16_mri inception_v3_five efficientnet_lite0 own_model"
CLASSES = 1000
LARGE = ("large", "264d", "412m", "167m", "300m", "naflexvit")  # these take minutes on two cores
PER_MODULE = 2  # networks of each of timm's modules
CHECKED = 16  # channels whose drops are compared
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

    def size_rank(name: str) -> int:
        ranks = (rank for rank, word in enumerate(SMALL) if word in name)
        return next(ranks, len(SMALL))

    for module in timm.list_modules():
        names = [
            name
            for name in timm.list_models(module=module)
            if not any(word in name for word in LARGE)
        ]
        smallest_by_family: dict[str, str] = {}
        for name in sorted(names, key=lambda name: (size_rank(name), len(name), name)):
            family = name.partition("_")[0].rstrip("0123456789")
            smallest_by_family.setdefault(family, name)
        yield from list(smallest_by_family.values())[:PER_MODULE]


def transformers_network(config: str) -> nn.Module:
    """Build an image classifier of transformers with random weights.

    `config` is the name before `Config`.
    """
    import transformers  # here: an extra

    settings = getattr(transformers, f"{config}Config")(num_labels=CLASSES)
    network: nn.Module = transformers.AutoModelForImageClassification.from_config(settings)
    return network


def monai_network(name: str) -> nn.Module:
    """Build a classifier of MONAI for grey images, with random weights."""
    nets = import_module("monai.networks.nets")  # here: MONAI is no dependency

    builders: dict[str, Callable[[], nn.Module]] = {
        "DenseNet121": partial(
            nets.DenseNet121, spatial_dims=2, in_channels=1, out_channels=CLASSES
        ),
        "EfficientNetBN": partial(
            nets.EfficientNetBN,
            "efficientnet-b0",
            spatial_dims=2,
            in_channels=1,
            num_classes=CLASSES,
            pretrained=False,
        ),
        "ResNet": partial(nets.resnet18, spatial_dims=2, n_input_channels=1, num_classes=CLASSES),
        "SEResNet50": partial(nets.SEResNet50, spatial_dims=2, in_channels=1, num_classes=CLASSES),
    }
    return builders[name]()


def config_of(library: str, name: str) -> dict[str, Any]:
    """Return the configuration of a network, with random weights unless it is one of conf/model."""
    if library == "trained":
        with composed([f"model={name}"]) as composition:
            config: dict[str, Any] = composition.plain_job()["model"]
            return config
    if library not in ("transformers", "monai"):
        return {**model_config(name), "weights": None}
    config = {**model_config("user"), "name": name, "weights": None}
    if library == "transformers":
        config["architecture"] = f"{__file__}:transformers_network"
        config["kwargs"] = {"config": name}
    else:
        config["architecture"] = f"{__file__}:monai_network"
        config["kwargs"] = {"name": name}
        config |= {"mean": [0.5], "std": [0.5]}  # grey images
    return config


def median(repeats: int, calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of calls that take turns, after one warm-up turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def largest_error(
    network: nn.Module, layer: str, reshape: Any, output: Any, image: Tensor, drops: Tensor
) -> float:
    """Return the largest error of some channels' drops (K,), as a share of the largest drop.

    The reference is a copy of the network in float64, in which two scores can be subtracted.
    """
    exact_model = copy.deepcopy(network).double()
    exact = ab.cut(exact_model, layer, reshape=reshape, output=output).trace(image.double())
    target = exact.targets[0]
    score = exact.head(exact.activations)[0, target]
    errors = []
    for channel in torch.linspace(0, len(drops) - 1, CHECKED).long().unique():
        ablated = exact.activations.clone()
        ablated[:, channel] = 0
        errors.append((score - exact.head(ablated)[0, target] - drops[channel]).abs())
    return float(torch.stack(errors).max() / drops.abs().max())


def measured(library: str, name: str, batch: int) -> Row:
    """Measure one network."""
    torch.manual_seed(0)
    loaded = load_model(config_of(library, name))
    network = loaded.module.eval()
    for layer in network.modules():
        # some networks begin with weights of 0, so that all scores are 0
        if isinstance(layer, nn.Linear) and not layer.weight.any():
            nn.init.normal_(layer.weight, std=0.02)
    size = loaded.preprocessing.size or (224, 224)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, loaded.preprocessing.channels, *size, generator=generator)
    cut_model = ab.cut(network, loaded.layer, reshape=loaded.reshape, output=loaded.output)
    trace = cut_model.trace(images)

    def forward() -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(images)
            return logits

    def trace_and_drops() -> Tensor:
        return cut_model.trace(images).ablation_drops

    error = largest_error(
        network, loaded.layer, loaded.reshape, loaded.output, images[:1], trace.ablation_drops[0]
    )
    seconds = median(REPEATS, {"forward": forward, "drops": trace_and_drops})
    ratio = seconds["drops"] / seconds["forward"]
    return Row(
        library,
        name,
        loaded.layer,
        trace.activations.shape[1],
        trace.capture.step.name.lower(),
        f"{ratio:.2f}",
        f"{error:.1e}",
        f"{trace.drops_cost:.1f}",
        str(trace.capture),
    )


def all_networks() -> Iterator[tuple[str, str]]:
    """Yield the library and name of each network of the table."""
    for name in TORCHVISION.split():
        yield "torchvision", name
    for name in TRANSFORMERS.split():
        yield "transformers", name
    for name in MONAI.split():
        yield "monai", name
    for name in timm_names():
        yield "timm", name
    for name in TRAINED.split():
        yield "trained", name


def split_name(name: str) -> tuple[str, str]:
    """Return the library and name of NAME or LIBRARY:NAME."""
    library, _, rest = name.rpartition(":")
    return library, rest


def main() -> None:
    """Write the table, network by network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    # Networks that the file already has are skipped, so that a repeated command continues it.
    known = set()
    if options.output.exists():
        known = {row["network"] for row in csv.DictReader(options.output.open(encoding="utf-8"))}
    pairs = [split_name(name) for name in options.names] or [*all_networks()]
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
                note = f"{type(error).__name__}: {error}"[:300]
                row = Row(library, name, "", 0, "failed", "", "", "", note)
            writer.writerow(asdict(row))
            file.flush()
            print(*asdict(row).values(), flush=True)


if __name__ == "__main__":
    main()
