"""What drops cost by network and layer: what `bench_speed.py --networks`, `--layers` and `--budget` print.

Processor time of one thread; of the first two with random weights, the cases in turn, as ratios to a forward pass of
the same batch.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import time
from collections.abc import Callable, Iterator

import torch
from measuring import markdown, ratio, timed
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from axiom_bench.cutting.ablation.batched import channelwise_differences
from axiom_bench.cutting.ablation.graph import CLAMP, HeadGraph, Values
from axiom_bench.data.torchvision_import import torchvision

SHARE_ON = 0.15  # of the units of hidden layers, as in trained networks
LAST = {
    "alexnet": "features.12",
    "vgg16": "features.30",
    "vgg19": "features.36",
    "inception_v3": "Mixed_7c",
    "resnet101": "layer4",
}
LAYERS = {  # the last layer, one stage earlier, two earlier
    "alexnet": ("features.12", "features.5", "features.2"),
    "vgg16": ("features.30", "features.23", "features.16"),
    "resnet18": ("layer4", "layer3", "layer2"),
    "resnet50": ("layer4", "layer3", "layer2"),
    "squeezenet1_1": ("features.12", "features.8", "features.5"),
    "mobilenet_v2": ("features.18", "features.13", "features.6"),
    "shufflenet_v2_x0_5": ("conv5", "stage3", "stage2"),
    "densenet121": ("features.norm5", "features.denseblock3", "features.denseblock2"),
    "convnext_tiny": ("features.7", "features.5", "features.3"),
    "vit_b_16": tuple(f"encoder.layers.encoder_layer_{block}.ln_1" for block in (11, 10, 8)),
}
BUDGETS = (16, 64)
INNER = (("resnet18", "layer3"), ("squeezenet1_1", "features.8"), ("mobilenet_v2", "features.13"))
OF_BUDGETS = ("network, layer", "K", "budget", "ablated", "time", "error", "bound", "below the bound", "first order")
HEADER = ("network", "layer", "K", "units on", "trace", "trace and drops", "K + 1 passes", "dense limit")


def network(name: str) -> nn.Module:
    """torchvision's with random weights, in eval mode."""
    torch.manual_seed(0)
    options = {"init_weights": True} if name == "inception_v3" else {}
    model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return model.eval()


def images_of(name: str, batch: int) -> Tensor:
    """(B, 3, H', W') of normal noise."""
    size = 299 if name == "inception_v3" else 224
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def switch_off(model: nn.Module, images: Tensor, share: float) -> None:
    """Lowers the hidden linear layers' biases until this share of their units is on."""
    features, pool, classifier = model.children()
    x = pool(features(images)).flatten(1)
    for layer in [layer for layer in classifier.children() if isinstance(layer, nn.Linear)][:-1]:
        layer.bias.copy_(layer.bias - layer(x).quantile(1 - share))
        x = layer(x).relu()


def multiplications(call: Callable[[], object]) -> int:
    """Of products and convolutions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops() // 2


def head_multiplications(head: HeadGraph, values: Values) -> float:
    """Of all K ablations of one image, no zero left out.

    The first layer that mixes channels does its own work once for all K, every layer behind it K times, and of the
    layer of the classes one row counts.
    """
    channelwise, moved, total = channelwise_differences(head, values), {head.activations}, 0.0
    channels = values[head.activations].shape[1]
    for node in head.nodes:
        sources = moved.intersection(node.all_input_nodes)
        if not sources or node.op == "output":
            continue
        moved.add(node)
        work = multiplications(lambda node=node: head.apply(node, values.__getitem__))  # type: ignore[misc]
        is_once = node in channelwise or all(source in channelwise for source in sources)
        rows = values[node].shape[1] if node is head.class_layer else 1
        total += work * (1 if is_once else channels) / rows
    return total


def row(name: str, layer: str, model: nn.Module, images: Tensor, repeats: int) -> tuple[str, ...]:
    """A network's or a layer's: see HEADER."""
    cut_model = ab.cut(model, layer, reshape="tokens" if name.startswith("vit") else None)
    trace = cut_model.trace(images[:1])
    head = cut_model.head_graph(trace.activations, trace.network.sides)
    assert head is not None
    with torch.no_grad():
        values = head.evaluate(trace.activations, trace.network.sides)
        limit = head_multiplications(head, values) / multiplications(lambda: model(images[:1]))
    on = [(values[node] > 0).float().mean() for node in head.nodes if head.operation(node) in CLAMP]

    def forward() -> Tensor:
        with torch.inference_mode():
            return model(images)

    calls = {
        "forward": forward,
        "trace": lambda: cut_model.trace(images),
        "drops": lambda: cut_model.trace(images).ablation_drops,
    }
    seconds = timed(calls, repeats, clock=time.process_time)
    over = [f"{ratio(seconds[case], seconds['forward']):.2f}" for case in ("trace", "drops")]
    channels, share = trace.activations.shape[1], f"{float(torch.stack(on).mean()):.0%}" if on else ""
    return name, f"`{layer}`", str(channels), share, *over, str(channels + 1), f"{1 + limit:.1f}"


def last_layers(batch: int) -> Iterator[tuple[str, str, nn.Module, Tensor]]:
    """(name, layer, network, images) of each network's last layer; AlexNet and VGG-16 with few units on, too."""
    for name, layer in LAST.items():
        model, images = network(name), images_of(name, batch)
        yield name, layer, model, images
        if name in ("alexnet", "vgg16"):
            switch_off(model, images, SHARE_ON)
            yield name, layer, model, images


def inner_layers(batch: int) -> Iterator[tuple[str, str, nn.Module, Tensor]]:
    """(name, layer, network, images) of three layers of each network."""
    for name, layers in LAYERS.items():
        model, images = network(name), images_of(name, batch)
        for layer in layers:
            yield name, layer, model, images


def budgets_of(title: str, model: nn.Module, layer: str, images: Tensor) -> Iterator[tuple[str, ...]]:
    """A row for each budget: see OF_BUDGETS; medians over the images, shares of sum |d_k|."""

    def drops(budget: int | None) -> tuple[ab.Trace, float]:
        trace = ab.cut(model, layer, ablation_channels=budget).trace(images)
        start = time.process_time()
        _ = trace.drops
        return trace, time.process_time() - start

    exact, seconds = drops(None)
    d = exact.ablation_drops
    first_order = (exact.gradients * exact.activations).sum((2, 3))
    for budget in BUDGETS:
        trace, taken = drops(budget)
        error, bound, alone = (
            values / d.abs().sum(1)
            for values in ((trace.ablation_drops - d).abs().sum(1), trace.drops.error, (first_order - d).abs().sum(1))
        )
        ablated = (trace.drops.exact & trace.activations.any(-1).any(-1)).sum(1).double().mean()
        shares = [f"{float(share.median()):.3f}" for share in (error, bound)]
        below = f"{int((error <= bound).sum())} of {len(d)}"
        counts = str(d.shape[1]), str(budget), f"{ablated:.0f}"
        yield title, *counts, f"{taken / seconds:.2f}", *shares, below, f"{float(alone.median()):.3f}"


def show_budgets(cases: Iterator[tuple[str, nn.Module, str, Tensor]]) -> None:
    """One line a network and budget, as soon as it is measured."""
    torch.set_num_threads(1)
    print(markdown([OF_BUDGETS], "| --- |" + " ---: |" * (len(OF_BUDGETS) - 1)))
    for case in cases:
        for line in budgets_of(*case):
            print("| " + " | ".join(line) + " |", flush=True)


def show(cases: Iterator[tuple[str, str, nn.Module, Tensor]], repeats: int) -> None:
    """One line a case, as soon as it is measured."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    print(markdown([HEADER], "| --- | --- |" + " ---: |" * (len(HEADER) - 2)))
    for case in cases:
        print("| " + " | ".join(row(*case, repeats)) + " |", flush=True)
    torch.set_num_threads(threads)
