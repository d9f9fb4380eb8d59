"""A run keeps perturbation curves beside its records, says where their points are, and draws them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from axiom_bench.cli.finish import finish
from axiom_bench.records import reading

CURVES = (
    "model.seed=27",  # of the random weights: with most other seeds some maps are zero, which have no curve
    "metric=[deletion_auc,road_morf]",
    "metric.deletion_auc.params.steps=4",
    "metric.road_morf.params.fractions=[0.3,0.6]",
)


def test_curves_are_kept_listed_and_drawn(run, results):
    outcomes = run(*CURVES)
    folder = results / "quick" / "default"
    code, _ = finish({"results": str(results), "experiment": "quick", "run": "default"}, outcomes)
    assert code == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["axes"]["deletion"]["at"] == [0, 0.25, 0.5, 0.75, 1]
    assert manifest["axes"]["morf"]["at"] == [0.3, 0.6]
    assert [manifest["axes"][name]["y"] for name in ("deletion", "morf")] == ["probability", "accuracy"]
    curves = pd.concat(part.table.to_pandas() for part in reading.read_curves(folder, manifest))
    values = reading.read_records(folder, manifest)
    for curve, metric, area in (
        ("deletion", "deletion_auc", lambda points: np.trapezoid(points, dx=0.25)),
        ("morf", "road_morf", np.mean),
    ):
        own = curves[curves["curve"] == curve].set_index(["method", "image_id", "target_class"])["points"].map(area)
        areas = values[values["metric"] == metric].set_index(["method", "image_id", "target_class"])["value"]
        np.testing.assert_allclose(own.sort_index(), areas.sort_index(), rtol=1e-9, atol=1e-12)
        assert (folder / f"figures/perturbation_{curve}.png").is_file()
