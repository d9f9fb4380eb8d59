"""Synthetic run folders that take a second to write.

They have what the runner writes: values with heavy tails, statuses, run times and pictures.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup, escape
from PIL import Image

from axiom_bench.columns import CURVE_COLUMNS
from axiom_bench.records import artefacts, files, record_files, store
from axiom_bench.records.entries import parse
from axiom_bench.report.charts.drawing import Figure
from axiom_bench.statistics.run_folder import RunFolder

KINDS = {"ratio": "ratio", "logit": "unbounded"}
METRIC_ROWS = [  # the name, the title, the unit, which values are better, and what has a value
    ("sensitivity_error", "Sensitivity error", "ratio", "lower", "method"),
    ("conservation_error", "Conservation error", "ratio", "lower", "method"),
    ("conservation_error_raw", "Conservation error, raw", "logit", "none", "method"),
    ("confidence_drop", "Confidence drop", "probability", "higher", "method"),
    ("box_iou", "Box IoU", "IoU", "higher", "method"),
    ("zeta", "Normalised zeta", "ratio", "none", "layer"),
    ("epsilon", "Normalised epsilon", "ratio", "none", "layer"),
    ("axiom_floor_sensitivity", "Axiom floor, sensitivity", "ratio", "none", "layer"),
    ("axiom_floor_conservation", "Axiom floor, conservation", "ratio", "none", "layer"),
]
METRICS: dict[str, dict[str, Any]] = {}
for metric_name, title, unit, better, subject in METRIC_ROWS:
    METRICS[metric_name] = {
        "title": title,
        "unit": unit,
        "kind": KINDS.get(unit, "bounded"),
        "better": better,
        "of": subject,
    }
ON_SCALE = {"on_score_scale": True}
OFF_SCALE = {"on_score_scale": False}
METHODS = {
    **dict.fromkeys(("grad_cam", "xgrad_cam", "hires_cam", "ablation_cam_axiomatic"), ON_SCALE),
    **dict.fromkeys(("guided_xgrad_cam", "random"), OFF_SCALE),
}
MODELS = {"scenes_fc": ("features.9",), "scenes_residual": ("stages.2",)}
Layers = Mapping[str, tuple[str, ...]]
Methods = Mapping[str, Any]
RECORD = f"records/{'0' * 32}-00000000.parquet"  # the first record file


def _axioms(generator: np.random.Generator, ids: list[str]) -> dict[tuple[str, str], np.ndarray]:
    """Return (n,) errors of each (method, metric), with the heavy tail of a division by a score
    near zero.
    """
    n = len(ids)
    tail = 1 / np.abs(generator.normal(0.4, 0.5, n))
    gap = np.abs(generator.normal(0.5, 0.2, n))
    drops = generator.uniform(1, 3, n)
    values = {
        ("-", "zeta"): 0.2 * generator.lognormal(0, 0.5, n),
        ("-", "epsilon"): 0.4 * gap * tail,
        ("-", "axiom_floor_sensitivity"): 0.3 * gap / drops,
        ("-", "axiom_floor_conservation"): 0.3 * gap * tail,
    }
    for number, method in enumerate(METHODS):
        # hires_cam ties with xgrad_cam, as in theory.
        worse = 1.2 if method == "hires_cam" else 1 + 0.2 * number
        values[method, "sensitivity_error"] = worse * values["-", "zeta"]
        values[method, "conservation_error"] = worse * values["-", "epsilon"]
        values[method, "conservation_error_raw"] = worse * gap * 4
        confidence_drops = generator.normal(0.5 - 0.05 * number, 0.25, n)
        values[method, "confidence_drop"] = np.clip(confidence_drops, -0.3, 1)
        values[method, "box_iou"] = generator.beta(5 - 0.4 * number, 4, n)
    return values


def records_of(
    n: int = 120, layers: Layers = MODELS, methods: Methods = METHODS, seed: int = 0
) -> pd.DataFrame:
    """Return records of n images x models x methods x metrics.

    Each precondition fails somewhere.
    """
    generator = np.random.default_rng(seed)
    ids = [f"scene_{i:05d}" for i in range(n)]
    target = generator.integers(0, 10, n)
    predicted = np.where(generator.random(n) < 0.9, target, (target + 1) % 10)
    frames = []
    layers_of_models: list[tuple[str, str]] = []
    for model, names in layers.items():
        layers_of_models += [(model, layer) for layer in names]
    for model, layer in layers_of_models:
        for (method, metric), value in _axioms(generator, ids).items():
            if method != "-" and method not in methods:
                continue
            status = np.full(n, "ok", dtype=object)
            is_error = metric in ("sensitivity_error", "conservation_error")
            if is_error and METHODS.get(method) == OFF_SCALE:
                status[:] = "not_on_score_scale"
            if metric == "box_iou":
                status[: n // 20] = "no_annotation"
            if metric == "confidence_drop" and method == "grad_cam":
                status[-(n // 15) :] = "zero_map"
            columns = {
                "experiment": "synthetic",
                "model": model,
                "layer": layer,
                "data": "scenes",
                "method": method,
                "metric": metric,
                "image_id": ids,
                "target_class": target,
                "predicted_class": predicted,
                "status": status,
                "value": np.where(status == "ok", value, np.nan),
            }
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def rows_of(
    metric: str, values: Mapping[str, Any], status: str = "zero_map", **names: Any
) -> pd.DataFrame:
    """Return records of a metric from each method's values per image. NaN has the other status."""
    keys = {
        "experiment": "synthetic",
        "model": "net",
        "layer": "last",
        "data": "scenes",
        "metric": metric,
        **names,
    }
    frames = []
    for method, column in values.items():
        image_ids = [f"{number:02d}" for number in range(len(column))]
        columns = {
            **keys,
            "method": method,
            "image_id": image_ids,
            "target_class": 1,
            "predicted_class": 1,
            "value": column,
            "status": np.where(np.isfinite(column), "ok", status),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def runtime_of(layers: Layers, methods: Methods) -> pd.DataFrame:
    """Return run times: 10 ms for the trace, 20 for all drops, and 1, 2, 3, ... per method."""
    steps = [("forward", "-", 8.0), ("trace", "-", 10.0), ("ablation_drops", "-", 20.0)]
    steps += [("method", method, float(i + 1)) for i, method in enumerate(methods)]
    passes = {
        "trunk_forward": 0.0,
        "trunk_backward": 0.0,
        "head_forward": 1.0,
        "head_backward": 0.0,
    }
    rows = []
    for model, names in layers.items():
        for step, method, milliseconds in steps:
            row = {
                "model": model,
                "layer": names[0],
                "data": "scenes",
                "method": method,
                "step": step,
                **passes,
                "milliseconds_per_image": milliseconds,
                "forwards": milliseconds / 8,
                "batch_size": 8,
                "device": "cpu (2 threads)",
                "peak_memory_bytes": float("nan"),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def pictures_of(model: str, methods: Methods, n: int = 4, size: int = 64) -> dict[str, Any]:
    """Return ramps as images and one blob per map.

    They show if a picture is flipped or has the wrong name.
    """
    generator = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size] / size
    images = np.stack([np.stack([x, y, np.full_like(x, i / n)], -1) for i in range(n)])
    centres = generator.uniform(0.25, 0.75, (len(methods), n, 2))
    heat = np.exp(-((x - centres[..., :1, None]) ** 2 + (y - centres[..., 1:, None]) ** 2) / 0.03)
    images8 = (255 * images).astype(np.uint8)
    class_names = ["seven", "nine, hand-written, on a striped ground", "one", "four"]
    return {
        "images": images8,
        "image_ids": np.array([f"scene_{i:05d}" for i in range(n)]),
        "class_names": np.array(class_names[:n]),
        "methods": np.array(list(methods)),
        "heatmaps": np.round(255 * heat).astype(np.uint8),
        "perturbed": (images8[None] * (1 - heat[..., None])).astype(np.uint8),
        "confidence": np.linspace(0.95, 0.6, n),
        "confidence_perturbed": generator.uniform(0.02, 0.5, (len(methods), n)),
        "model": np.array(model),
        "layer": np.array(MODELS.get(model, ("layer",))[0]),
        "confidence_of": np.array("probability"),
    }


def write_records(folder: Path, rows: pd.DataFrame, number: int = 0) -> dict[str, Any]:
    """Write the record file `number` of a folder as a run does. Return its job in the manifest."""
    values: dict[str, dict[str, str]] = {}
    pairs = rows[["method", "metric"]].astype(str).drop_duplicates()
    for method, metric in pairs.itertuples(index=False):
        values.setdefault(method, {})[metric] = "key"
    names = {metric: [metric] for metrics in values.values() for metric in metrics}
    curves = pd.DataFrame(columns=list(CURVE_COLUMNS))
    notes = {"names": names, "curves": {}, "axes": {}}
    file = _record_file(folder, number, values, rows, curves, notes)
    return {"job": f"job {number}", "records": [file.name], "values": values}


def write_curves(
    folder: Path, place: Mapping[str, str], curves: pd.DataFrame, number: int
) -> dict[str, Any]:
    """Write a file of curves as a run does.

    Args:
        folder: The run folder.
        place: The model, layer and data set of the curves.
        curves: The curves.
        number: The number of the file.

    Returns:
        The job in the manifest, with the entry "curves".
    """
    key = {
        "image_id": "a",
        "target_class": 0,
        "predicted_class": 0,
        "method": "-",
        "metric": "curves",
        "value": 0.0,
    }
    rows = pd.DataFrame([{"experiment": "synthetic", **place, **key, "status": "ok"}])
    names = dict.fromkeys(curves["method"])
    values = {method: {"curves": "key", "not counted": "key"} for method in names}
    notes = {
        "names": {"curves": []},
        "curves": {"curves": list(dict.fromkeys(curves["curve"]))},
        "axes": {},
    }
    file = _record_file(folder, number, values, rows, curves, notes)
    counted = {method: {"curves": "key"} for method in values}
    return {
        "job": f"job {number}",
        "records": [file.name],
        "values": counted,
        "curves": [file.curve_file],
    }


def _record_file(folder: Path, number: int, *content: Any) -> record_files.RecordFile:
    """Write a file whose name ends in zeros, unlike that of a file that a run writes.

    The manifest contains its hash.
    """
    file = record_files.write(folder, f"{number:032x}", *content)
    named = file.model_copy(update={"name": f"records/{number:032x}-00000000.parquet"})
    (folder / file.name).rename(folder / named.name)
    if file.curve_file and named.curve_file:
        (folder / file.curve_file).rename(folder / named.curve_file)
    return named


def write_run(
    folder: Path,
    records: pd.DataFrame,
    methods: Methods = METHODS,
    layers: Layers = MODELS,
    runtime: bool = True,
    pictures: bool = True,
) -> Path:
    """Write a folder as the runner does, with one record file per model."""
    files: dict[str, list[str]] = {"runtime": [], "pictures": []}
    groups = records.groupby(["model"], sort=False)
    jobs = [write_records(folder, rows, number) for number, (_, rows) in enumerate(groups)]
    files["records"] = [name for job in jobs for name in job["records"]]
    if runtime:
        files["runtime"] = ["runtime/one.parquet"]
        store.write(folder / "runtime/one.parquet", runtime_of(layers, methods), schema=None)
    for model in layers if pictures else ():
        files["pictures"].append(f"pictures/{model}.npz")
        store.write_arrays(folder / files["pictures"][-1], pictures_of(model, methods))
    write_entries(folder, {**manifest_of(records, methods, layers), **files, "jobs": jobs})
    return folder


def manifest_of(records: pd.DataFrame, methods: Methods, layers: Layers) -> dict[str, Any]:
    figures = {"perturbed": "xgrad_cam", "pair": ["xgrad_cam", "guided_xgrad_cam"]}
    metrics = {}
    for name, about in METRICS.items():
        metrics[name] = {"tolerance": "median:0.5%", "metric": name, **about}
    models = {}
    for name, names in layers.items():
        models[name] = {
            "layer": names[0],
            "layers": list(names),
            "weights": "embedded",
            "weights_sha256": "ab" * 32,
        }
    return {
        "experiment": "synthetic",
        "run": "default",
        "created": "2026-01-02T03:04:05+00:00",
        "overrides": ["experiment=synthetic", "method=[grad_cam,xgrad_cam]"],
        "config": {
            "target": "label",
            "report": {"headline": ["conservation_error", "box_iou"], "figures": figures},
        },
        "methods": dict(methods),
        "metrics": metrics,
        "models": models,
        "data": {"scenes": {"ids": sorted(records["image_id"].unique()), "fingerprint": "cd" * 32}},
        "versions": {"python": "3.12.3", "torch": "2.13.0", "pandas": "3.1.1"},
        "device": "cpu",
        "precision": {"trunk": "fp32", "head": "fp32"},
        "git_commit": "0123456789abcdef",
        "failures": [],
    }


@pytest.fixture
def make_records() -> Callable[..., pd.DataFrame]:
    return records_of


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A function (records, folder="run", **options) that writes a run folder below tmp_path."""
    return lambda records, folder="run", **options: write_run(tmp_path / folder, records, **options)


@pytest.fixture(scope="session")
def usual_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models, six methods and 120 images.

    Tests only read it. A test that writes makes a run of its own.
    """
    return write_run(tmp_path_factory.mktemp("usual") / "run", records_of(120, MODELS, METHODS))


@pytest.fixture(scope="session")
def usual(usual_run: Path) -> RunFolder:
    """The usual run, whose summary and comparisons are computed once."""
    return RunFolder.read(usual_run)


def entries_of(folder: Path) -> dict[str, Any]:
    """Return the manifest of a run folder as plain data."""
    return files.read_json(folder / artefacts.NAME)


def write_entries(folder: Path, entries: Mapping[str, Any]) -> None:
    """Write a manifest of plain data as a run does.

    A manifest that no run can have is written too, with a correct checksum.
    """
    try:
        artefacts.write(folder, parse(entries))
    except ValueError:
        content = {**entries, "format": artefacts.FORMAT, artefacts.HASHES: {}}
        files.write_json(folder / artefacts.NAME, content, indent=1)


@pytest.fixture
def edit_manifest() -> Callable[..., None]:
    """A function (folder, **changes) that changes keys of manifest.json."""
    return lambda folder, **changes: write_entries(folder, entries_of(folder) | changes)


def undraw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write figures of one pixel, since drawing them takes most of a report's time."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")

    def save(
        figure: Figure, folder: Path, formats: Sequence[str] = ("png",), places: Any = None
    ) -> str:
        for kind in formats:
            files.write(folder / f"{figure.file_name}.{kind}", buffer.getvalue())
        if figure.chart is None:
            return ""
        return Markup(f'<svg role="img" aria-label="{escape(figure.title)}"></svg>')

    monkeypatch.setattr(Figure, "save", save)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    undraw(monkeypatch)


@pytest.fixture
def write(make_run, edit_manifest):
    """Return a function (records, layers, **changes of the manifest) that reads a run folder."""

    def make(records, layers, **changes):
        methods = {name: {"title": name.title()} for name in records["method"].unique()}
        folder = make_run(records, methods=methods, layers=layers, runtime=False, pictures=False)
        edit_manifest(folder, **changes)
        return RunFolder.read(folder)

    return make


ERROR = "conservation_error"
# {method: what its errors have in addition to errors between 1 and 3}
SHIFTS = {"low": 0.0, "twin": 0.0, "near": 0.02, "far": 1.0}


@pytest.fixture
def make_told(write):
    """Return a function that reads a run of methods with known errors on 40 images per network.

    Its `changes` are those of the manifest.
    """

    def make(shifts=SHIFTS, networks=("one", "two"), **changes):
        generator = np.random.default_rng(0)
        frames = []
        for model in networks:
            errors = {name: generator.uniform(1, 3, 40) + shift for name, shift in shifts.items()}
            errors["twin"] = errors["low"]
            if "near" in shifts:
                errors["near"] = errors["low"] + 0.02 + generator.normal(0, 0.5, 40)
            frames.append(rows_of(ERROR, errors, model=model))
        return write(pd.concat(frames), dict.fromkeys(networks, ("last",)), **changes)

    return make
