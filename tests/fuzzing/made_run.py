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

from axiom_bench.gate.baseline import Baseline
from axiom_bench.records import artefacts, reading, record_files, store
from axiom_bench.report.charts.pictures import load
from axiom_bench.report.tables.text import last_lines
from axiom_bench.statistics.run_folder import RunFolder
from tests.made_runs import pictures_of, runtime_of

PLACE = {"model": "net", "layer": "last", "data": "scenes"}
METHODS, METRICS = ("cam", "grad_cam"), ("error", "iou")
VALUES = {**{method: {name: f"{method} {name}" for name in METRICS} for method in METHODS}, "-": {"zeta": "zeta"}}
SHARDS = {"a" * 32: ("i0", "i1", "i2"), "b" * 32: ("i3", "i4")}


@cache
def files() -> Mapping[str, bytes]:
    """{name: content} of the run folder; made once a process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make(folder)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(folder: Path) -> None:
    """Writes the run folder's files."""
    for name, content in files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@cache
def undisturbed() -> Mapping[str, pd.DataFrame]:
    """What readers make of it."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        return tables(Path(name))


@cache
def baseline() -> bytes:
    """Its baseline's file."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        Baseline.of(RunFolder.read(Path(name))).write(Path(name) / "baseline.csv")
        return (Path(name) / "baseline.csv").read_bytes()


def check_same(folder: Path) -> None:
    """Reads a run folder of which a file is damaged: raises BenchError, or a value is as it was."""
    for name, table in tables(folder).items():
        assert table.equals(undisturbed()[name]), f"other {name} were read"


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """All values of a run folder that report, gate and game read. Raises BenchError."""
    run = RunFolder.read(folder)
    curves = [part.table.to_pandas() for part in reading.read_curves(run.path, run.manifest)]
    records = run.records.frame()
    names = [name for name in records if records[name].dtype == "category"]
    return {
        "records": records.astype(dict.fromkeys(names, str)),
        "runtime": run.runtime.astype(dict.fromkeys(("model", "layer", "data", "method"), str)),
        "whole_set": run.whole_set,
        "curves": pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
        "gallery": pd.DataFrame(store.read_gallery(run.path, run.manifest)),
        "pictures": pd.DataFrame([{"images": each.images.tobytes(), "of": str(each.methods)} for each in load(run)]),
    }


def summarise(folder: Path) -> None:
    """What is made of the values; it takes several times as long as reading them. Raises BenchError."""
    run = RunFolder.read(folder)
    last_lines(run)
    Baseline.of(run)


def _make(folder: Path) -> None:
    generator = np.random.default_rng(0)
    shards = [_shard(folder, shard, ids, generator) for shard, ids in SHARDS.items()]
    written = {kind: [f"{kind}/one.parquet"] for kind in ("whole_set", "runtime", "gallery")}
    tables = {"whole_set": _whole_set(generator), "gallery": _gallery()}
    tables["runtime"] = runtime_of({"net": ("last",)}, METHODS)
    for kind, table in tables.items():
        store.write(folder / written[kind][0], table, schema=None)
    store.write_arrays(folder / "pictures/one.npz", pictures_of("net", METHODS, 1, 8))
    written |= {"pictures": ["pictures/one.npz"], "curves": [str(file.curve_file) for file in shards]}
    written["records"] = records = [file.name for file in shards]
    metric = {
        "unit": "ratio",
        "kind": "ratio",
        "better": "lower",
        "tolerance": "median:0.5%",
        "of": "method",
        "needs": ["boxes"],
    }
    network = {"layer": "last", "layers": ["last"], "depths": {"last": 3}, "output": "logits"}
    weights = {"weights": "net.pth", "weights_sha256": "ab" * 32, "random_weights": False}
    metrics = {name: {"title": name, "metric": name, **metric} for name in (*METRICS, "zeta", "best_iou")}
    ids = [name for shard in SHARDS.values() for name in shard]
    about = {
        **{"experiment": "quick", "run": "default", "created": "2026-01-01T00:00:00", "overrides": ["model=net"]},
        "config": {"target": "label", "report": {"headline": list(METRICS)}},
        "methods": {name: {"title": name, "params": {}, "on_score_scale": True} for name in METHODS},
        **{"metrics": metrics, "axes": {"iou_curve": {"title": "IoU", "x": [0, 1]}}},
        "models": {"net": {**network, **weights, "images": {"scenes": {"chosen": 5, "kept": 5, "others": None}}}},
        "data": {"scenes": {"ids": ids, "fingerprint": "cd", "classes": ["x", "y"]}},
        **{"device": "cpu", "precision": {"trunk": "fp32"}, "versions": {"torch": "2.9.0"}, "git_commit": None},
        **{"failures": [], "seconds": {"net": {"values": 1.5}}, **written},
        "jobs": [{"job": "net", "records": records, "values": VALUES}],
    }
    artefacts.write(folder, about)


def _shard(folder: Path, shard: str, ids: tuple[str, ...], generator: np.random.Generator) -> record_files.RecordFile:
    """Writes the records and curves of some images."""
    classes = [{"image_id": name, "target_class": 1, "predicted_class": place % 2} for place, name in enumerate(ids)]
    rows = [
        {"experiment": "quick", **PLACE, **of_image, "method": method, "metric": metric}
        | {"value": generator.random(), "status": "ok"}
        for method, metrics in VALUES.items()
        for metric in metrics
        for of_image in classes
    ]
    curves = [
        {"image_id": name, "target_class": 1, "method": method, "curve": "iou_curve"}
        | {"points": [0.0, generator.random(), 1.0], "status": "ok"}
        for method in METHODS
        for name in ids
    ]
    notes: dict[str, Any] = {"names": {name: [name] for name in (*METRICS, "zeta")}, "curves": {"iou": ["iou_curve"]}}
    notes["axes"] = {"iou_curve": {"title": "IoU"}}
    return record_files.write(folder, shard, VALUES, pd.DataFrame(rows), pd.DataFrame(curves), notes)


def _whole_set(generator: np.random.Generator) -> pd.DataFrame:
    counts = {"images": 5, "rows": 5, "common_images": 5, "common_rows": 5}
    rows = [
        {**PLACE, "method": method, "metric": "best_iou", "status": "ok", **counts}
        | {name: generator.random() for name in ("value", "common_value")}
        | {name: list(generator.random(20)) for name in ("replicates", "common_replicates")}
        for method in METHODS
    ]
    return pd.DataFrame(rows)


def _gallery() -> pa.Table:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "WEBP")
    row: dict[str, Any] = dict.fromkeys(store.GALLERY.names)
    row |= {**PLACE, "image_id": "i0", "picture": buffer.getvalue(), "maps": [buffer.getvalue()], "methods": ["cam"]}
    row |= {"target_class": 1, "target_name": "y", "predicted_class": 0, "predicted_name": "x", "width": 8, "height": 8}
    return pa.Table.from_pylist([row], store.GALLERY)
