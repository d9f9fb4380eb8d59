"""How long the report of a run of many values takes, and how much memory: on made-up values, in files as a run writes
them.

    python scripts/bench_report.py --values 1e6 4e6 40e6

The run folder has one network, 20 methods and 40 metrics, and as many images as that takes: heavy tails, values that
are 0 or 1, every precondition failing somewhere, images that can't be read, two commands' record files a shard. It has
no curves, no values of whole data sets and no pictures. Linux alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from axiom_bench import report
from axiom_bench.columns import CURVE_COLUMNS, LAYER, OK, UNKNOWN_CLASS
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import value_names, whole_set_value_names
from axiom_bench.records import artefacts, holdings, manifest, store
from axiom_bench.records.keys import key, shard_key, value_key
from axiom_bench.report import stamp

SHARD, BATCH = 64, 32  # images
CLASSES, BAD = 1000, 2000  # one image in so many can't be read
PLACE = {"experiment": "made_up", "model": "network", "layer": "layer4", "data": "images"}
OF_A_METRIC = ("title", "unit", "better", "tolerance", "of", "needs", "note", "definition", "reference")
FIRST = ("sensitivity_error", "conservation_error", "single_deletion", "box_iou", "pointing_game")  # of the metrics
NO_NOTES: dict[str, Any] = {"curves": {}, "axes": {}}


def main() -> None:
    """Prints one row of a Markdown table for each size, and the seconds of each stage below it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--values", type=float, nargs="+", default=[1e6, 4e6, 40e6])
    parser.add_argument("--methods", type=int, default=20)
    parser.add_argument("--metrics", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="make the run folder there, or take the one that is there; kept")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # in a process of its own: this run folder
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(stages(options.measure)))
        return
    print("| values | images | files | MiB | seconds | processor seconds | most memory, MiB | page, MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for values in options.values:
        with tempfile.TemporaryDirectory() as name:
            folder = options.folder or Path(name)
            if not (folder / manifest.NAME).exists():
                make(folder, round(values / options.methods / options.metrics), options.methods, options.metrics)
            measure(folder)


def measure(folder: Path) -> None:
    """Writes the report of a run folder anew, and prints its row and stages."""
    for name in (stamp.FILE, "tables", "figures"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--measure", str(folder)], stdout=subprocess.PIPE)
    memory = 0
    while process.poll() is None:
        memory = max(memory, memory_of(process.pid))
        time.sleep(0.05)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    processor = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    files = list((folder / holdings.RECORDS).iterdir())
    size, page = sum(path.stat().st_size for path in files) / 2**20, (folder / stamp.PAGE).stat().st_size / 1e6
    print(
        f"| {told['values']:,} | {told['images']:,} | {len(files)} | {size:.0f} | {seconds:.0f} | {processor:.0f} "
        f"| {memory / 2**20:.0f} | {page:.1f} |"
    )
    for stage, (wall, own) in told["stages"].items():
        print(f"    {stage}: {wall:.1f} s, {own:.1f} s of this process's processor time")
    sys.stdout.flush()


def stages(folder: Path) -> dict[str, Any]:
    """Writes the report: {"stages": {name: (seconds, processor seconds)}, "values", "images"}."""
    spent: dict[str, tuple[float, float]] = {}
    last, clocks = "reading", (time.perf_counter(), time.process_time())

    def tell(step: str) -> None:
        nonlocal last, clocks
        now = (time.perf_counter(), time.process_time())
        before = spent.get(last, (0.0, 0.0))
        spent[last] = (before[0] + now[0] - clocks[0], before[1] + now[1] - clocks[1])
        last, clocks = step if not step.startswith("figure ") else "figures of this process", now

    report.write(folder, tell=tell)
    tell("end")
    read = manifest.read(folder)
    counted = sum(store.pq.read_metadata(folder / name).num_rows for name in read["records"])
    return {"stages": spent, "values": counted, "images": len(read["data"]["images"]["ids"])}


def memory_of(pid: int) -> int:
    """Bytes of memory of a process and its children, pages that they share counted in each."""
    total = 0
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        total = 1024 * int(status.partition("VmRSS:")[2].split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, IndexError):  # it has ended
        return total
    return total + sum(memory_of(int(child)) for child in children)


def make(folder: Path, images: int, methods: int, metrics: int) -> None:
    """A finished run: record files, two of each shard as two commands leave them, and the manifest."""
    about_methods, about_metrics = chosen_methods(methods), chosen_metrics(metrics)
    values = keys(about_methods, about_metrics)
    ids = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, images + 1)]
    names = [
        write_shard(folder, first, ids[first : first + SHARD], about_methods, about_metrics, part)
        for first in range(0, images, SHARD)
        for part in halved(values)
    ]
    job = {"job": "network at layer4 on images", "config": {}, "images": images, "left_out": []}
    count = {"images": {"images": {"chosen": images, "kept": images, "others": ""}}}
    weights = {"weights": "made up", "weights_sha256": "ab" * 32, "random_weights": False}
    about = {
        **{"experiment": "made_up", "run": folder.name, "created": "2026-01-01T00:00:00+00:00", "overrides": []},
        **{"config": {"target": "label"}, "methods": about_methods, "metrics": about_metrics, "axes": {}},
        "models": {"network": {"layer": "layer4", "layers": ["layer4"], "depths": {"layer4": 4}, **weights, **count}},
        "data": {"images": {"ids": ids, "fingerprint": "cd" * 32, "classes": [f"c{i}" for i in range(CLASSES)]}},
        **{"device": "none", "precision": {"trunk": "fp32", "head": "fp32"}, "versions": {}, "git_commit": None},
        **{**{kind: [] for kind in artefacts.listed()}, "records": names, "failures": []},
        "jobs": [{**job, "records": names, "values": values}],
    }
    manifest.write(folder, about)


def chosen_methods(count: int) -> dict[str, dict[str, Any]]:
    """{name: metadata}, those on the score's scale first, so that the axiom plane has some."""
    loaded = [plugins.load("method", name) for name in plugins.names("method")]
    loaded.sort(key=lambda method: not method.spec.on_score_scale)
    return {method.name: method.as_dict() for method in loaded[:count]}


def chosen_metrics(count: int) -> dict[str, dict[str, Any]]:
    """{name: metadata} of `count` values of images and methods, and of those of the layer alone."""
    found: dict[str, dict[str, Any]] = {}
    for metric in (plugins.load("metric", name) for name in plugins.names("metric")):
        plain = metric.spec.as_dict()
        if not whole_set_value_names(metric) and "class_seen" not in value_names(metric):
            shared = {name: plain[name] for name in OF_A_METRIC if name in plain} | {"metric": metric.name}
            own = plain.get("values", {})
            found |= {name: {"title": name, **shared, **own.get(name, {})} for name in value_names(metric)}
    of_layer = {name: about for name, about in found.items() if about["of"] == "layer"}
    others = {name: found[name] for name in [*FIRST, *found] if name not in of_layer}
    return of_layer | dict(list(others.items())[:count])


def keys(methods: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """{method: {metric: key}}"""
    owners: dict[str, set[str]] = {"layer": set(), "method": set()}
    for about in metrics.values():
        owners[about["of"]].add(about["metric"])
    named = {LAYER: sorted(owners["layer"]), **dict.fromkeys(methods, sorted(owners["method"]))}
    return {
        method: {metric: value_key(key(method=method), key(metric=metric)) for metric in own}
        for method, own in named.items()
    }


def halved(values: Mapping[str, Mapping[str, str]]) -> Iterator[dict[str, dict[str, str]]]:
    """What two commands computed: all but two methods, and these."""
    later = list(values)[-2:]
    yield {method: dict(own) for method, own in values.items() if method not in later}
    yield {method: dict(values[method]) for method in later}


def write_shard(
    folder: Path, first: int, ids: list[str], methods: Mapping[str, Any], metrics: Mapping[str, Any],
    values: Mapping[str, Mapping[str, str]],
) -> str:  # fmt: skip
    """Writes one record file, rows in a run's order: by method, batch of images, metric. Its name."""
    generator = np.random.default_rng([first, len(values)])
    of_image = np.random.default_rng(first).normal(size=len(ids))  # what makes an image difficult for all methods
    owned = {name: [metric for metric in metrics if metrics[metric]["metric"] in own] for name, own in values.items()}
    names, units = list(metrics), [metrics[name]["unit"] for name in metrics]
    columns: dict[str, list[np.ndarray]] = {"image": [], "method": [], "metric": [], "value": [], "status": []}
    statuses = [OK, "not_on_score_scale", "no_annotation", "zero_map", "bad_image"]
    for place, (method, own) in enumerate(owned.items()):
        for start in range(0, len(ids), BATCH):
            images = np.arange(start, min(start + BATCH, len(ids)))
            for name in own:
                metric = names.index(name)
                value = made_up(units[metric], of_image[images] + generator.normal(0.02 * place, 1, len(images)))
                status = made_up_status(first + images, name, metrics[name], methods.get(method) or {}, generator)
                columns["image"].append(images)
                columns["method"].append(np.full(len(images), place))
                columns["metric"].append(np.full(len(images), metric))
                columns["value"].append(np.where(status == 0, value, np.nan))
                columns["status"].append(status)
    rows = {name: np.concatenate(parts) for name, parts in columns.items()}
    number = first + rows["image"]
    target, predicted = (7 * number) % CLASSES, (7 * number + (number % 4 == 0)) % CLASSES
    is_bad = number % BAD == BAD - 1

    def coded(codes: np.ndarray, texts: list[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(texts, pa.string()))

    table = pa.table(
        {
            **{name: coded(np.zeros(len(number)), [text]) for name, text in PLACE.items()},
            "image_id": coded(rows["image"], ids).cast(pa.string()),
            "target_class": np.where(is_bad, UNKNOWN_CLASS, target),
            "predicted_class": np.where(is_bad, UNKNOWN_CLASS, predicted),
            **{"method": coded(rows["method"], list(owned)), "metric": coded(rows["metric"], names)},
            **{"value": rows["value"], "status": coded(rows["status"], statuses)},
        }
    ).cast(store.SCHEMA)
    contents = [f"{first + number} of {len(ids)}" for number in range(len(ids))]
    notes = {"names": {metrics[name]["metric"]: [] for own in owned.values() for name in own}, **NO_NOTES}
    for name in dict.fromkeys(name for own in owned.values() for name in own):
        notes["names"][metrics[name]["metric"]].append(name)
    shard = shard_key(key(model="network"), contents)
    return holdings.write(folder, shard, values, table, pd.DataFrame(columns=list(CURVE_COLUMNS)), notes).name


def made_up(unit: str, normal: np.ndarray) -> np.ndarray:
    """Values of a unit from normal numbers: heavy tails of ratios, 0 and 1 of rates, shares between 0 and 1."""
    if unit == "ratio":
        return np.exp(normal)
    if unit in ("accuracy", "hit rate", "rate"):
        return (normal > 0).astype(float)
    return np.asarray(1 / (1 + np.exp(-normal)), dtype=np.float32).astype(float)


def made_up_status(
    numbers: np.ndarray, name: str, metric: Mapping[str, Any], method: Mapping[str, Any], generator: np.random.Generator
) -> np.ndarray:
    """(images,) places in the list of statuses."""
    needs = str(metric.get("needs"))
    status = np.zeros(len(numbers), dtype=int)
    if "boxes" in needs:
        status[numbers % 20 == 3] = 2
    if "nonzero_map" in needs:
        status[generator.random(len(numbers)) < 0.01] = 3
    if "score_scale" in needs and not method.get("on_score_scale"):
        status[:] = 1
    status[numbers % BAD == BAD - 1] = 4
    return status


if __name__ == "__main__":
    main()
