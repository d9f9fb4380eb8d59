"""What each executor costs a task, and how tasks that sleep scale with workers: the tables of docs/scale.md.

    python scripts/bench_executors.py [--tasks 100] [--sleep 0.2] [NAME ...]

A task sleeps where a shard is computed. Overhead is what a worker takes for a task beyond that.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from axiom_bench.environment import conf_folder
from axiom_bench.run import executors

COUNTS = (1, 2, 4)
FIRST = 4  # tasks of each worker that begin it, and aren't timed


def workers(name: str, count: int) -> dict[str, Any] | None:
    """The settings of so many workers on this machine; None where the executor can't have them."""
    if name == "local":
        return {} if count == 1 else None
    cores = os.cpu_count() or 1
    settings: dict[str, dict[str, Any]] = {
        "processes": {"count": count},
        "dask": {"workers": count},
        "ray": {"num_cpus": cores / count},
    }
    return settings[name]


def seconds(config: Mapping[str, Any], tasks: int, sleep: float, count: int) -> float:
    """Of so many tasks, once every worker has begun."""
    with tempfile.TemporaryDirectory() as folder, executors.opened(config, Path(folder)) as executor:
        for future in [executor.submit(time.sleep, 0.5) for _ in range(FIRST * count)]:
            future.result()
        start = time.perf_counter()
        for future in [executor.submit(time.sleep, sleep) for _ in range(tasks)]:
            future.result()
        return time.perf_counter() - start


def main() -> None:
    """Prints a row for each executor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["local", "processes", "dask", "ray"])
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--sleep", type=float, default=0.2)
    options = parser.parse_args()
    print(f"{options.tasks} tasks that sleep {options.sleep} s; seconds (overhead of a task, ms) with so many workers")
    print("| executor |" + "".join(f" {count} |" for count in COUNTS))
    print("| --- |" + " ---: |" * len(COUNTS))
    for name in options.names:
        config = yaml.safe_load((conf_folder() / f"executor/{name}.yaml").read_text())
        cells = []
        for count in COUNTS:
            if (settings := workers(name, count)) is None:
                cells.append("")
                continue
            taken = seconds({**config, **settings}, options.tasks, options.sleep, count)
            overhead = taken * count / options.tasks - options.sleep
            cells.append(f"{taken:.2f} ({1000 * overhead:.0f})")
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
