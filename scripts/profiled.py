"""Run axiom-bench in this process, and write seconds, peak memory and the ten kernels that take longest.

    python scripts/profiled.py [--kernels] OUT.json -- [HYDRA OVERRIDES]

--kernels also profiles, which takes memory for each kernel's start: for runs of a few batches. On a CPU the operations
are listed, and the memory is the process's.
"""

from __future__ import annotations

import axiom_bench  # noqa: F401 - before torch, whose idle threads would otherwise take a core

# isort: split
import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from axiom_bench.cli.main import main as axiom_bench_main

KERNELS = 10


def measured(overrides: Sequence[str], with_kernels: bool) -> dict[str, Any]:
    """{exit_code, seconds, peak_memory, kernels} of a run. Memory in bytes; kernels: [[name, milliseconds, calls]]."""
    on_gpu = torch.cuda.is_available()
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    start = time.perf_counter()
    with profile(activities=[activity]) if with_kernels else nullcontext() as profiled:
        code = axiom_bench_main(list(overrides))
        if on_gpu:
            torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    kernels = [] if profiled is None else largest(profiled, on_gpu)
    return {"exit_code": code, "seconds": seconds, "peak_memory": memory, "kernels": kernels}


def largest(profiled: profile, on_gpu: bool) -> list[tuple[str, float, int]]:
    """(name, milliseconds, calls) of the kernels that take longest."""
    events = [
        (event.key, (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1000, event.count)
        for event in profiled.key_averages()
    ]
    return sorted(events, key=lambda event: -event[1])[:KERNELS]


def arguments(line: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("out", type=Path)
    parser.add_argument("overrides", nargs="*", help="behind --")
    return parser.parse_args(line)


def main() -> int:
    options = arguments()
    result = measured(options.overrides, options.kernels)
    options.out.write_text(json.dumps(result, indent=1))
    return int(result["exit_code"])


if __name__ == "__main__":
    sys.exit(main())
