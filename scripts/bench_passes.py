"""How many rows a forward pass should have: what the rule in axiom_bench.evaluation.answering rests on.

    python scripts/bench_passes.py --device cpu --threads 2

Prints milliseconds a row for passes of 1, 2, 4, ... rows, by network and image size, the median over rounds in which
all sizes take turns; and the rule's choice. Passes are never timed in a run: the rule is fixed, so that values are too.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

import axiom_bench as ab
from axiom_bench.data.torchvision_import import torchvision
from axiom_bench.evaluation.answering import rows_per_pass

CASES = (("resnet18", "layer4", 96), ("resnet18", "layer4", 224), ("vgg11", "features", 96), ("vgg11", "features", 224))
ROWS = (1, 2, 4, 8, 16, 23, 32, 64, 128, 256)
MOST_PIXELS = {"cpu": 32 * 224 * 224, "cuda": 256 * 224 * 224}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2, help="of a CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=2**30, help="bytes that ablations may take, as device.memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, layer, side in CASES:
        model = torchvision.models.get_model(name, weights=None).eval().to(options.device)
        cut_model = ab.cut(model, layer, ablation_memory=options.memory)
        images = torch.randn(max(ROWS), 3, side, side, device=options.device)
        trace = cut_model.trace(images[:1])
        sizes = [rows for rows in ROWS if rows * side * side <= MOST_PIXELS[options.device]]
        times = {rows: [_milliseconds(trace, images[:rows]) for _ in range(1 + options.rounds)][1:] for rows in sizes}
        table = "  ".join(f"{rows}: {statistics.median(times[rows]):.2f}" for rows in sizes)
        print(f"{name}, {side} x {side}: {table}; rule: {rows_per_pass(trace, 10_000)} rows", flush=True)


@torch.no_grad()
def _milliseconds(trace: ab.Trace, images: torch.Tensor) -> float:
    """Of one pass, for each row."""
    start = time.perf_counter()
    trace.forward_logits(images).sum().item()
    return 1000 * (time.perf_counter() - start) / len(images)


if __name__ == "__main__":
    main()
