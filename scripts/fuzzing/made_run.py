"""A small finished run folder of made-up values, with every kind of file; and all that readers make of one."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from axiom_bench.columns import RUNTIME_COLUMNS
from axiom_bench.gate.baseline import Baseline
from axiom_bench.records import gallery, holdings, manifest, pictures, reading, store
from axiom_bench.report.figures.pictures import load
from axiom_bench.report.last_lines import last_lines
from axiom_bench.statistics.run_folder import RunFolder

PLACE = {"model": "net", "layer": "last", "data": "scenes"}
METHODS, METRICS = ("cam", "grad_cam"), ("error", "iou")
VALUES = {**{method: {name: f"{method} {name}" for name in METRICS} for method in METHODS}, "-": {"zeta": "zeta"}}
SHARDS = {"a" * 32: ("i0", "i1", "i2"), "b" * 32: ("i3", "i4")}


@cache
def files() -> Mapping[str, bytes]:
    """{name: content} of the run folder; made once a process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@cache
def undisturbed() -> Mapping[str, pd.DataFrame]:
    """What readers make of it."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        return tables(RunFolder.read(Path(name)))


def write(folder: Path) -> None:
    """Writes the run folder's files."""
    for name, content in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def check_read(folder: Path, deep: bool) -> None:
    """Reads a run folder with a file that is damaged: raises BenchError, and AssertionError where a value is another
    than it was. deep: see `summaries`."""
    run = RunFolder.read(folder)
    for name, table in tables(run).items():
        assert table.equals(undisturbed()[name]), f"other {name} were read"
    if deep:
        summaries(run)


def tables(run: RunFolder) -> dict[str, pd.DataFrame]:
    """All values of a run folder that report, gate and game read. Raises BenchError."""
    curves = [part.table.to_pandas() for part in reading.read_curves(run.path, run.manifest)]
    records = run.records.frame()
    names = [name for name in records if records[name].dtype == "category"]
    return {
        "records": records.astype(dict.fromkeys(names, str)),
        "runtime": run.runtime.astype(dict.fromkeys(("model", "layer", "data", "method"), str)),
        "whole_set": run.whole_set,
        "curves": pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
        "gallery": pd.DataFrame(gallery.read(run.path, run.manifest)),
        "pictures": pd.DataFrame([{"images": each.images.tobytes(), "of": str(each.methods)} for each in load(run)]),
    }


def summaries(run: RunFolder) -> None:
    """What is made of the values; it takes ten times as long as reading them. Raises BenchError."""
    last_lines(run)
    Baseline.of(run)


def make(folder: Path) -> None:
    """Writes such a run folder anew."""
    generator = np.random.default_rng(0)
    held = [_shard(folder, shard, ids, generator) for shard, ids in SHARDS.items()]
    own = {
        "whole_set": ["whole_set/one.parquet"], "runtime": ["runtime/one.parquet"], "pictures": ["pictures/one.npz"],
        "gallery": ["gallery/one.parquet"],
    }  # fmt: skip
    store.write(folder / own["whole_set"][0], _whole_set(generator), schema=None)
    store.write(folder / own["runtime"][0], _runtime(), schema=None)
    store.write(folder / own["gallery"][0], _gallery(), schema=None)
    pictures.write(folder / own["pictures"][0], _pictures(generator))
    records = [file.name for file in held]
    listed = {**own, "records": records, "curves": [str(file.curve_file) for file in held]}
    manifest.write(folder, {**_about(), **listed, "jobs": [{"job": "net", "records": records, "values": VALUES}]})


def _about() -> dict[str, Any]:
    metric = {"unit": "ratio", "better": "lower", "tolerance": "median:0.5%", "of": "method", "needs": ["boxes"]}
    names = (*METRICS, "zeta", "best_iou")
    return {
        **{"experiment": "quick", "run": "default", "created": "2026-01-01T00:00:00", "overrides": ["model=net"]},
        "config": {"target": "label", "report": {"headline": ["error", "iou"]}},
        "methods": {name: {"title": name.title(), "params": {}, "on_score_scale": True} for name in METHODS},
        "metrics": {name: {"title": name.title(), "metric": name, **metric} for name in names},
        "models": {"net": {"layer": "last", "layers": ["last"], "depths": {"last": 3}, "weights": "net.pth",
                           "weights_sha256": "ab" * 32, "random_weights": False, "output": "logits",
                           "images": {"scenes": {"chosen": 5, "kept": 5, "others": None}}}},
        "data": {"scenes": {"ids": [f"i{place}" for place in range(5)], "fingerprint": "cd", "classes": ["x", "y"]}},
        **{"axes": {"iou_curve": {"title": "IoU", "x": [0, 1]}}, "device": "cpu", "precision": {"trunk": "fp32"}},
        **{"versions": {"torch": "2.9.0"}, "git_commit": None, "format": manifest.FORMAT, "failures": []},
        "seconds": {"net": {"values": 1.5}},
    }  # fmt: skip


def _shard(folder: Path, shard: str, ids: tuple[str, ...], generator: np.random.Generator) -> holdings.RecordFile:
    rows = [
        {"experiment": "quick", **PLACE, "image_id": name, "target_class": 1, "predicted_class": place % 2,
         "method": method, "metric": metric, "value": generator.random(), "status": "ok"}
        for method, metrics in VALUES.items() for metric in metrics for place, name in enumerate(ids)
    ]  # fmt: skip
    curves = [
        {"image_id": name, "target_class": 1, "method": method, "curve": "iou_curve",
         "points": [0.0, generator.random(), 1.0], "status": "ok"}
        for method in METHODS for name in ids
    ]  # fmt: skip
    notes: dict[str, Any] = {
        **{"names": {name: [name] for name in (*METRICS, "zeta")}, "curves": {"iou": ["iou_curve"]}},
        "axes": {"iou_curve": {"title": "IoU"}},
    }
    return holdings.write(folder, shard, VALUES, pd.DataFrame(rows), pd.DataFrame(curves), notes)


def _whole_set(generator: np.random.Generator) -> pd.DataFrame:
    rows = [
        {**PLACE, "method": method, "metric": "best_iou", "value": generator.random(), "status": "ok", "images": 5,
         "rows": 5, "common_value": generator.random(), "common_images": 5, "common_rows": 5,
         "replicates": list(generator.random(20)), "common_replicates": list(generator.random(20))}
        for method in METHODS
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _runtime() -> pd.DataFrame:
    numbers = dict.fromkeys(RUNTIME_COLUMNS[5:], 1.0) | {"device": "cpu"}
    steps = [("-", "forward"), ("-", "trace"), *((method, "method") for method in METHODS)]
    return pd.DataFrame([{**PLACE, "method": method, "step": step, **numbers} for method, step in steps])


def _gallery() -> pa.Table:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "WEBP")
    row: dict[str, Any] = dict.fromkeys(gallery.SCHEMA.names)
    row |= {**PLACE, "image_id": "i0", "picture": buffer.getvalue(), "maps": [buffer.getvalue()], "methods": ["cam"]}
    row |= {"target_class": 1, "target_name": "y", "predicted_class": 0, "predicted_name": "x", "width": 8, "height": 8}
    return pa.Table.from_pylist([row], gallery.SCHEMA)


def _pictures(generator: np.random.Generator) -> dict[str, np.ndarray]:
    images = generator.integers(0, 255, (1, 8, 8, 3)).astype(np.uint8)
    return {
        "images": images, "image_ids": np.array(["i0"]), "class_names": np.array(["y"]), "methods": np.array(METHODS),
        "heatmaps": np.repeat(images[None, ..., 0], 2, 0), "perturbed": np.repeat(images[None], 2, 0),
        "confidence": np.array([0.5]), "confidence_perturbed": np.zeros((2, 1)), "confidence_of": np.array("score"),
        "model": np.array("net"), "layer": np.array("last"),
    }  # fmt: skip
