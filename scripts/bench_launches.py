"""What a batch asks of a GPU, counted on a CPU: kernels to launch, waits, and the bytes that kernels read and write.

    python scripts/bench_launches.py [--batches 8,32] [--operations 10]

VGG-16 with random weights, each case with those above it. A launch is an operation that reaches torch's kernels and is
neither a view nor an empty tensor; some are several kernels on a GPU. Bytes are those of its tensors, each once, as if
no cache kept any. Waits are those of the stand-in for a GPU (`axiom_bench.testing.other_device`). What the code does on
a CPU alone is left out where it multiplies launches: products in blocks, which fit into a processor's cache.
--operations also names the most frequent ones, and the waits' lines.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

from bench_speed import FIVE, Network, trace_and_axioms, vgg16
from measuring import CPU, markdown
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from axiom_bench.cutting.ablation import batched
from axiom_bench.cutting.split_model import GIBIBYTE
from axiom_bench.testing.other_device import OtherDevice

ABLATION_MEMORY = 8 * GIBIBYTE  # of conf/device/cuda.yaml
NO_KERNEL = ("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::_unsafe_view",
             "aten::lift_fresh", "aten::resize_", "aten::set_")  # fmt: skip


class Launches(TorchDispatchMode):
    """Counts while it is entered, in `device`. operations: how often each was called. bytes: of all tensors that they
    took and returned."""

    def __init__(self, device: OtherDevice) -> None:
        super().__init__()
        self.device, self.operations, self.bytes = device, Counter[str](), 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = {id(leaf): leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)}
        is_launch = not func.is_view and func._schema.name not in NO_KERNEL
        if is_launch and any(map(self.device.holds, tensors.values())):
            self.operations[func._schema.name.removeprefix("aten::")] += 1
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        return result


class Counts(NamedTuple):
    """Of one batch. operations: {name: launches}. waits: {operation and line: how often}."""

    operations: Counter[str]
    bytes: int
    waits: Counter[str]


def counts(network: Network) -> dict[str, Counts]:
    """Of each case, by its name. What is found out once for a model isn't counted."""
    cut_model = ab.cut(network.model, network.layer, ablation_memory=ABLATION_MEMORY)
    list(CASES.values())[-1](cut_model, network.images)
    return {name: _counts(cut_model, network, case) for name, case in CASES.items()}


def _counts(cut_model: ab.CutModel, network: Network, case: Callable[[ab.CutModel, Tensor], object]) -> Counts:
    with (
        mock.patch.object(batched, "OF_PROCESSOR", batched.OF_GPU),
        OtherDevice() as device,
        Launches(device) as launches,
    ):
        device.put(network.images, *network.model.parameters(), *network.model.buffers())
        case(cut_model, network.images)
    return Counts(launches.operations, launches.bytes, device.waits)


CASES: Mapping[str, Callable[[ab.CutModel, Tensor], object]] = {
    "trace": lambda cut_model, images: cut_model.trace(images),
    "and all drops": lambda cut_model, images: cut_model.trace(images).ablation_drops,
    "and five methods": lambda cut_model, images: trace_and_axioms(cut_model, images, FIVE, axioms=()),
    "and both axioms": lambda cut_model, images: trace_and_axioms(cut_model, images, FIVE),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", default="8,32", help="numbers of images, with commas")
    parser.add_argument("--operations", type=int, default=0, help="name so many, the most frequent")
    options = parser.parse_args()
    rows = [["VGG-16", "images", "launches", "waits", "GB"]]
    for batch in map(int, options.batches.split(",")):
        network = vgg16(batch, CPU)
        for name, counted in counts(network).items():
            numbers = (batch, counted.operations.total(), counted.waits.total(), f"{counted.bytes / 1e9:.2f}")
            rows.append([name, *map(str, numbers)])
            for kind, calls in counted.operations.most_common(options.operations):
                print(f"{name}, {batch} images: {calls} {kind}")
            for place, calls in counted.waits.items() if options.operations else ():
                print(f"{name}, {batch} images: {calls} waits, {place}")
    print(markdown(rows, "| --- | ---: | ---: | ---: | ---: |"))


if __name__ == "__main__":
    main()
