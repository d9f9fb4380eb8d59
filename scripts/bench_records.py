"""How much a run of many images keeps, and how long it takes to find that nothing of it is missing.

    python scripts/bench_records.py --images 1000 10000 50000

Records are made up: images x methods x metrics of one network, in files as a run writes them, one for each shard of 64
images. Each size is measured in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from axiom_bench.columns import CURVE_COLUMNS
from axiom_bench.data.base import FileHashes
from axiom_bench.records import holdings, reading
from axiom_bench.records.holdings import key, shard_key, value_key

SHARD_SIZE = 64
MIB = 2**20


def main() -> None:
    """Prints one row of a Markdown table for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--methods", type=int, default=11)
    parser.add_argument("--metrics", type=int, default=14)
    options = parser.parse_args()
    print("| images | values | files | MiB | seconds to find nothing missing | seconds to read all | peak MiB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for images in options.images:
        with tempfile.TemporaryDirectory() as name:
            print(row(Path(name), images, options.methods, options.metrics), flush=True)


def row(folder: Path, images: int, methods: int, metrics: int) -> str:
    """Makes up a run folder of one size, and measures it in a process of its own."""
    make(folder, images, methods, metrics)
    paths = list((folder / "records").iterdir())
    size, values = sum(path.stat().st_size for path in paths) / MIB, images * methods * metrics
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        taken = process.submit(measure, folder, images, methods, metrics).result()
    peaks = f"{taken['find_mib']:.0f}, {taken['read_mib']:.0f} with reading"
    seconds = f"{taken['find']:.1f} | {taken['read']:.1f}"
    return f"| {images:,} | {values:,} | {len(paths)} | {size:.0f} | {seconds} | {peaks} |"


def make(folder: Path, images: int, methods: int, metrics: int) -> None:
    """A run folder: image files of one byte, and records of random values."""
    (folder / "images").mkdir()
    for number in range(images):
        image_file(folder, number).write_bytes(b"-")
    expected, generator = values(methods, metrics), np.random.default_rng(0)
    notes = {"names": {f"metric_{number}": [f"metric_{number}"] for number in range(metrics)}, "curves": {}, "axes": {}}
    for shard, ids in shards(folder, images, FileHashes()):
        count = len(ids)
        rows = pd.DataFrame(
            {
                **{"experiment": "made_up", "model": "network", "layer": "layer4", "data": "images"},
                "image_id": np.tile(np.array(ids, dtype=object), methods * metrics),
                **{"target_class": 1, "predicted_class": 1},
                "method": np.repeat(np.array(list(expected), dtype=object), metrics * count),
                "metric": np.tile(np.repeat(np.array(list(notes["names"]), dtype=object), count), methods),
                **{"value": generator.random(methods * metrics * count), "status": "ok"},
            }
        )
        holdings.write(folder, shard, expected, rows, pd.DataFrame(columns=list(CURVE_COLUMNS)), notes)


def measure(folder: Path, images: int, methods: int, metrics: int) -> dict[str, float]:
    """Seconds and peak memory: of naming all keys, with cached hashes of images, and looking for them; of reading."""
    cached = FileHashes()
    list(shards(folder, images, cached))  # the run before has read them
    before = time.perf_counter()
    hashes = FileHashes(json.loads(json.dumps(cached.current)))
    expected = values(methods, metrics)
    keys = [shard for shard, _ in shards(folder, images, hashes)]
    held = holdings.read(folder, set(keys))
    assert not any(held.missing(shard, expected) for shard in keys)
    checked = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    files = [file.name for shard in keys for file in held.needed(shard, expected)]
    manifest = {"experiment": "made_up", "run": "default", "jobs": [{"records": files, "values": expected}]}
    table = reading.read_records(folder, manifest)
    assert len(table) == images * methods * metrics
    read = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"find": checked - before, "read": read - checked, "find_mib": peak, "read_mib": after}


def shards(folder: Path, images: int, hashes: FileHashes) -> Iterator[tuple[str, list[str]]]:
    """The key and the image ids of each shard."""
    common = key(model="network")
    for first in range(0, images, SHARD_SIZE):
        numbers = range(first, min(first + SHARD_SIZE, images))
        contents = [f"{number:08d} {hashes.of([image_file(folder, number)], lambda: 'ab' * 32)}" for number in numbers]
        yield shard_key(common, contents), [f"images_{number:08d}.JPEG" for number in numbers]


def image_file(folder: Path, number: int) -> Path:
    return folder / "images" / f"{number:08d}.JPEG"


def values(methods: int, metrics: int) -> dict[str, dict[str, str]]:
    """{method: {metric: key}}."""
    names = [f"metric_{number}" for number in range(metrics)]
    return {f"method_{row}": {name: value_key(key(method=row), key(metric=name)) for name in names}
            for row in range(methods)}  # fmt: skip


if __name__ == "__main__":
    main()
