"""Speed of loading alone, no network: images handed over as floats and as bytes, and read from data.cache.

    python scripts/bench_loading.py [--images 64] [--workers 0,1,2,4] [--repeats 3] [--device cpu] [--root FOLDER]

--root: ImageNet's layout; the default is AXIOM_BENCH_REAL's. "floats" is how it was: each worker scales the values and
sends four bytes for each. All cases of a number of workers run in turn, repeat after repeat; images/s is the median
over the repeats, and the ratio that to "floats" of the same repeat. ms/image is processor time, workers included: the
measure for a machine with other load.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from bench_speed import REAL_ROOT
from timing import ratios
from torch import Tensor

from axiom_bench.data.base import DataSet, Sample, subset
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing, transforms
from axiom_bench.data.registry import load_dataset
from axiom_bench.run.image_cache import ImageCache

IMAGENET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BATCH = 32


class Floats(Preprocessing):
    """Values are scaled where images are decoded, and travel as floats."""

    def pixels(self, sample: Sample) -> Tensor:
        tensor: Tensor = transforms().normalize(transforms().to_tensor(self.picture(sample)), self.mean, self.std)
        return tensor

    def normalised(self, pixels: Tensor) -> Tensor:
        return pixels


FLOATS = Floats(IMAGENET.resize, IMAGENET.crop, IMAGENET.mean, IMAGENET.std)


@dataclass(frozen=True)
class Time:
    """Seconds of a loading: on the clock, and of the processor."""

    wall: float
    processor: float


def cases(dataset: DataSet, indices: Sequence[int], workers: int, device: str, folder: Path) -> Mapping[str, Callable]:
    """Each loads all images once. "cache, written" finds an empty folder, "cache, read" a full one."""
    cache = ImageCache(folder, "", {index: dataset.ids[index] for index in indices})

    def load(preprocessing: Preprocessing, kept: ImageCache | None) -> None:
        loaded = batches(dataset, indices, preprocessing, "label", BATCH, workers, (), device, kept)
        assert sum(len(batch.image_ids) for batch in loaded if isinstance(batch, ab.Batch)) == len(indices)

    def written() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        load(IMAGENET, cache)

    return {
        "floats": lambda: load(FLOATS, None),
        "bytes": lambda: load(IMAGENET, None),
        "cache, written": written,
        "cache, read": lambda: load(IMAGENET, cache),
    }


def timed(call: Callable[[], None]) -> Time:
    """With all processes that have ended meanwhile."""
    before, start = os.times(), time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, after = time.perf_counter() - start, os.times()
    return Time(wall, sum(after[:4]) - sum(before[:4]))


def show(times: Mapping[str, Sequence[Time]], count: int) -> None:
    """One line a case."""
    floats = [each.wall for each in times["floats"]]
    for name, of_case in times.items():
        wall = [each.wall for each in of_case]
        faster = statistics.median(ratios(floats, wall))
        processor = 1000 * statistics.median(each.processor for each in of_case) / count
        print(
            f"  {name:15s} {count / statistics.median(wall):8.1f} images/s {faster:6.2f}x floats "
            f"{processor:7.2f} ms/image of the processor",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--workers", default="0,1,2,4", help="numbers of processes, with commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--root", type=Path, default=REAL_ROOT / "data/imagenet")
    options = parser.parse_args()
    dataset = load_dataset({"kind": "imagenet", "root": str(options.root)})
    indices = subset(dataset, min(options.images, len(dataset)), 0)
    device_name = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} cores"
    print(f"{len(indices)} images to {device_name}, torch {torch.__version__}, median of {options.repeats} rounds")
    for workers in map(int, options.workers.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            calls = cases(dataset, indices, workers, options.device, Path(folder, "cache"))
            times: dict[str, list[Time]] = {name: [] for name in calls}
            for _ in range(options.repeats):
                for name, call in calls.items():
                    times[name].append(timed(call))
        print(f"\n{workers} workers", flush=True)
        show(times, len(indices))


if __name__ == "__main__":
    main()
