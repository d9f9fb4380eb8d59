"""Small run folders with two models, three methods and three metrics, which the gate compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from axiom_bench.gate import write_baseline
from tests.made_runs import RECORD, write_entries, write_records

N = 40
METHODS = ("grad_cam", "xgrad_cam", "uniform")
TOLERANCES = {"error": "median:0.5%", "iou": "mean:0.002", "drop": "mean:1% median:1%"}


def records_of() -> pd.DataFrame:
    """Return records of positive values with a spread, as errors have.

    Every model, method and metric has one row with status zero_map.
    """
    generator = np.random.default_rng(0)
    keys = {
        "experiment": "quick",
        "layer": "last",
        "data": "scenes",
        "image_id": [f"{i:03d}" for i in range(N)],
        "target_class": 1,
        "predicted_class": 1,
        "status": ["ok"] * (N - 1) + ["zero_map"],
    }
    frames = []
    for model in ("one", "two"):
        for method in METHODS:
            for metric in TOLERANCES:
                frame = pd.DataFrame({**keys, "model": model, "method": method, "metric": metric})
                frames.append(frame)
    records = pd.concat(frames, ignore_index=True)
    values = generator.uniform(0.2, 0.8, len(records))
    return records.assign(value=np.where(records["status"] == "ok", values, np.nan))


def rows_of(
    records: pd.DataFrame,
    method: str = "xgrad_cam",
    metric: str = "error",
) -> pd.Series:
    """Return a mask of the rows of this method and metric."""
    return (records["method"] == method) & (records["metric"] == metric)


def shifted(records: pd.DataFrame, by: float, metric: str = "iou") -> pd.DataFrame:
    """Return the records with XGrad-CAM's values of the metric shifted by `by`."""
    return records.assign(value=records["value"] + by * rows_of(records, metric=metric))


def times(factor, method="xgrad_cam", metric="error"):
    """Return a function that multiplies every value of one method's metric by a factor."""

    def change(records):
        value = records["value"]
        return records.assign(
            value=value.where(~rows_of(records, method, metric), value * factor),
        )

    return change


def write_run(folder: Path, records: pd.DataFrame, **changes: Any) -> Path:
    """Write a run folder with these records; `changes` are keys of the manifest."""
    metrics = {
        name: {"title": name, "tolerance": tolerance} for name, tolerance in TOLERANCES.items()
    }
    ids = [f"{i:03d}" for i in range(N)]
    manifest = {
        "experiment": "quick",
        "run": "default",
        "config": {"target": "label"},
        "records": [RECORD],
        "metrics": metrics,
        "methods": {name: {} for name in METHODS},
        "models": {},
        "precision": "fp32",
        "data": {"scenes": {"ids": ids, "fingerprint": "ab"}},
        "jobs": [write_records(folder, records)],
    }
    write_entries(folder, manifest | changes)
    return folder


@pytest.fixture
def records():
    return records_of()


@pytest.fixture(scope="session")
def usual(tmp_path_factory):
    """A run of `records`, which tests only read."""
    return write_run(tmp_path_factory.mktemp("usual"), records_of())


@pytest.fixture(scope="session")
def usual_baseline(usual):
    """The baseline of `usual`, which tests only read."""
    return write_baseline(usual, usual / "baseline.csv")


@pytest.fixture
def make_run(tmp_path):
    """A function (records, **changes of the manifest) that writes another run folder each time."""
    folders = []

    def make(records, **changes):
        folder = write_run(tmp_path / f"run_{len(folders)}", records, **changes)
        folders.append(folder)
        return folder

    return make
