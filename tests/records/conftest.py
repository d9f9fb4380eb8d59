"""The fixtures that write small record files of made-up values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from axiom_bench.columns import CURVE_COLUMNS
from axiom_bench.records import record_files
from axiom_bench.records.entries import Manifest, parse
from axiom_bench.records.record_files import RecordFile, Values
from tests.made_runs import usual_run  # noqa: F401

SHARD = "0" * 32


def rows(values: Values, images: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Return a row per image and value. The metric "pair" has the values pair_a and pair_b."""
    generator = np.random.default_rng(seed)
    names = {"experiment": "quick", "model": "net", "layer": "last", "data": "scenes"}
    frames = []
    for method, metrics in values.items():
        value_names = [name for metric in metrics for name in names_of(metric)]
        for name in value_names:
            frame = pd.DataFrame({"image_id": images, "value": generator.random(len(images))})
            frame = frame.assign(target_class=1, predicted_class=2, status="ok")
            frames.append(frame.assign(method=method, metric=name, **names))
    return pd.concat(frames, ignore_index=True)


def names_of(metric: str) -> list[str]:
    return ["pair_a", "pair_b"] if metric == "pair" else [metric]


def curves(values: Values, images: Sequence[str]) -> pd.DataFrame:
    """Return a curve of three points per image for each method with the metric "pair"."""
    listed = []
    methods_with_curves = [method for method, metrics in values.items() if "pair" in metrics]
    for method in methods_with_curves:
        for number, image in enumerate(images):
            curve = {
                "image_id": image,
                "target_class": 1,
                "method": method,
                "curve": "pair_curve",
                "points": [0.0, 0.5, number],
                "status": "ok",
            }
            listed.append(curve)
    return pd.DataFrame(listed, columns=list(CURVE_COLUMNS))


@pytest.fixture
def write_file(tmp_path):
    """Return a function that writes a record file into the folder tmp_path."""

    def write(values, shard=SHARD, images=("a", "b", "c"), seed=0, more=None):
        used = {metric for metrics in values.values() for metric in metrics}
        notes = {
            "names": {metric: names_of(metric) for metric in used},
            "curves": {"pair": ["pair_curve"]} if "pair" in used else {},
            "axes": {"pair_curve": {"title": "Pair"}} if "pair" in used else {},
            **(more or {}),
        }
        return record_files.write(
            tmp_path, shard, values, rows(values, images, seed), curves(values, images), notes
        )

    return write


def manifest_of(*jobs: tuple[Sequence[RecordFile], Values]) -> Manifest:
    """A manifest that counts these files, for each job with the values to take from them."""
    entries = [
        {"job": "net", "records": [file.name for file in files], "values": values}
        for files, values in jobs
    ]
    return parse(
        {
            "experiment": "quick",
            "run": "default",
            "jobs": entries,
            "sha256": {},
            "records": [name for entry in entries for name in entry["records"]],
            "curves": [file.curve_file for files, _ in jobs for file in files if file.curve_file],
        }
    )
