"""Speed of loading alone, no network: from files, tar and Parquet, and from data.cache; and of hashing the files.

    python scripts/bench_loading.py [--images 64] [--workers 0,1,2,4] [--repeats 3] [--device cpu] [--root FOLDER]

--root: ImageNet's layout; the default is AXIOM_BENCH_REAL's. "tar" and "parquet" are the same images as data=webdataset
and data=parquet. All cases of a number of workers run in turn, repeat after repeat; images/s is the median over the
repeats, and the ratio that to "files" of the same repeat. ms/image is processor time, workers and their start included:
the measure for a machine with other load.
"""

from __future__ import annotations

import axiom_bench as ab  # before torch, whose idle threads would otherwise take a core from the ones that work

# isort: split
import argparse
import os
import shutil
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench_speed import REAL_ROOT
from measuring import ratio

from axiom_bench.data.base import DataSet, FileHashes, fingerprints, subset
from axiom_bench.data.layouts.imagenet import ImageNet
from axiom_bench.data.loading import batches
from axiom_bench.data.preprocessing import Preprocessing
from axiom_bench.data.registry import load_dataset
from axiom_bench.run.inputs.images import ImageCache

IMAGENET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BATCH = 32
ROWS_OF_A_GROUP = 100  # as Hugging Face writes images


def packed(dataset: ImageNet, indices: Sequence[int], folder: Path) -> dict[str, DataSet]:
    """The same images as a tar of WebDataset's layout, and as Parquet of Hugging Face's."""
    contents = [dataset.path(index).read_bytes() for index in indices]
    labels = [dataset.labels(index)[0] for index in indices]
    with tarfile.open(folder / "images.tar", "w") as tar:
        for number, (content, label) in enumerate(zip(contents, labels, strict=True)):
            for ending, text in (("cls", str(label).encode()), ("jpg", content)):
                member = tarfile.TarInfo(f"{number:06}.{ending}")
                member.size = len(text)
                tar.addfile(member, BytesIO(text))
    table = pa.table({"image": [{"bytes": content, "path": None} for content in contents], "label": labels})
    pq.write_table(table, folder / "images.parquet", row_group_size=ROWS_OF_A_GROUP)
    kinds = {"tar": ("webdataset", "images.tar"), "parquet": ("parquet", "images.parquet")}
    return {
        name: load_dataset({"kind": kind, "path": str(folder / file), "classes": list(dataset.classes)})
        for name, (kind, file) in kinds.items()
    }


def cases(dataset: ImageNet, indices: Sequence[int], workers: int, device: str, folder: Path) -> Mapping[str, Callable]:
    """Each loads all images once, or hashes their files. "cache, written" finds an empty folder, "cache, read" a full
    one; hashes are "known" from an earlier run."""
    in_cache = folder / "cache"
    cache = ImageCache(in_cache, "", {index: dataset.ids[index] for index in indices})
    forms, known = packed(dataset, indices, folder), FileHashes()

    def load(kept: ImageCache | None = None, form: str = "") -> None:
        images, places = (forms[form], range(len(indices))) if form else (dataset, indices)
        loaded = batches(images, places, IMAGENET, "label", BATCH, workers, (), device, kept)
        assert sum(len(batch.image_ids) for batch in loaded if isinstance(batch, ab.Batch)) == len(indices)

    def written() -> None:
        shutil.rmtree(in_cache, ignore_errors=True)
        load(cache)

    def hashed(hashes: FileHashes) -> None:
        list(fingerprints(dataset, indices, hashes))

    hashed(known)
    return {
        "files": load,
        "tar": lambda: load(form="tar"),
        "parquet": lambda: load(form="parquet"),
        "cache, written": written,
        "cache, read": lambda: load(cache),
        "hashes": lambda: hashed(FileHashes()),
        "hashes, known": lambda: hashed(FileHashes(known.current)),
    }


def timed(call: Callable[[], None]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor with all processes that have ended meanwhile."""
    before, start = os.times(), time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


def show(times: Mapping[str, Sequence[tuple[float, float]]], count: int) -> None:
    """One line a case."""
    seconds = {name: list(zip(*of_case, strict=True)) for name, of_case in times.items()}
    for name, (wall, processor) in seconds.items():
        speed = f"{count / statistics.median(wall):8.1f} images/s {ratio(seconds['files'][0], wall):6.2f}x files"
        cost = f"{1000 * statistics.median(processor) / count:7.2f} ms/image of the processor"
        print(f"  {name:15s} {speed} {cost}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--workers", default="0,1,2,4", help="numbers of processes, with commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--root", type=Path, default=REAL_ROOT / "data/imagenet")
    options = parser.parse_args()
    dataset = ImageNet(str(options.root), "val", None, None, "imagenet")
    indices = subset(dataset, min(options.images, len(dataset)), 0)
    on = torch.cuda.get_device_name() if options.device == "cuda" else f"{os.cpu_count()} cores"
    print(f"{len(indices)} images to {on}, torch {torch.__version__}, median of {options.repeats} rounds")
    for workers in map(int, options.workers.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            calls = cases(dataset, indices, workers, options.device, Path(folder))
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
            for _ in range(options.repeats):
                for name, call in calls.items():
                    times[name].append(timed(call))
        print(f"\n{workers} workers", flush=True)
        show(times, len(indices))


if __name__ == "__main__":
    main()
